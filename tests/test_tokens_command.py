"""`flask tokens refresh`: the way of the button, without anybody at a browser."""

import re
import sqlite3
from datetime import timedelta

import pytest
from click.testing import Result
from flask import Flask

from database import db, now
from models import Attempt
from practice_org import CONSUMER_SECRET
from tests.conftest import add_application
from tests.servers import PracticeOrg
from tests.test_authorizations import change, secrets_of


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["tokens", "refresh", *arguments])


@pytest.mark.parametrize("name", ["Practice", "PRACTICE", "1"])
def test_a_record_gets_a_fresh_token_by_name_or_id(
    app: Flask, connected: int, name: str
) -> None:
    before = secrets_of(app)
    said = run(app, name)
    assert said.output == "Practice  silent  connected  A refresh token was stored.\n"
    assert said.exit_code == 0
    assert secrets_of(app)["access"] != before["access"]
    with app.app_context():
        latest = db.session.scalars(db.select(Attempt).order_by(Attempt.id.desc()))
        assert re.fullmatch(r"command line \(\w+\)", latest.first().actor)  # type: ignore[union-attr]


def test_a_name_goes_before_an_id(app: Flask, connected: int) -> None:
    add_application(app, application_name="1")
    said = run(app, "1")
    assert said.output.startswith("1  browser  never_authorized  ")
    assert said.exit_code == 1


def test_no_token_is_printed(app: Flask, connected: int, org: PracticeOrg) -> None:
    org.switch(rotation=True)
    seen = secrets_of(app)
    said = run(app, "--all").output
    for secret in (*seen.values(), *secrets_of(app).values(), CONSUMER_SECRET):
        assert secret not in said


def test_all_are_refreshed_and_one_that_fails_is_told(
    app: Flask, connected: int
) -> None:
    add_application(app, application_name="Nobody Logged In")
    said = run(app, "--all")
    first, second = said.output.splitlines()
    assert first.startswith("Practice  silent  connected  ")
    assert second == (
        "Nobody Logged In  browser  never_authorized  No refresh token is stored."
    )
    assert said.exit_code == 1


def test_a_dead_grant_takes_a_login_that_nobody_is_there_for(
    app: Flask, connected: int, org: PracticeOrg
) -> None:
    org.revoke_all()
    said = run(app, "Practice")
    assert said.output.startswith("Practice  browser  login_required  ")
    assert "expired access/refresh token" in said.output
    assert said.output.count("\n") == 1
    assert said.exit_code == 1


def test_what_failed_is_left_alone_until_it_may_be_tried_again(
    app: Flask, connected: int, org: PracticeOrg
) -> None:
    org.switch(fault="outage")
    assert "unreachable" in run(app, "Practice").output
    asked = len(org.token_requests)
    said = run(app, "Practice")
    assert "Not tried again before" in said.output
    assert said.exit_code == 1
    assert len(org.token_requests) == asked


def test_what_is_young_is_left_alone(
    app: Flask, connected: int, org: PracticeOrg
) -> None:
    asked = len(org.token_requests)
    said = run(app, "--all", "--older-than", "60")
    assert (said.output, said.exit_code) == ("", 0)
    assert run(app, "Practice", "--older-than", "60").output == ""
    assert len(org.token_requests) == asked
    change(app, issued_at=now() - timedelta(minutes=61))
    assert run(app, "--all", "--older-than", "60").output.startswith("Practice")
    change(app, access_token=None)
    assert run(app, "--all", "--older-than", "60").output.startswith("Practice")


def test_a_record_that_is_named_twice_is_refreshed_once(
    app: Flask, connected: int
) -> None:
    assert run(app, "Practice", "1").output.count("\n") == 1


@pytest.mark.parametrize("name", ["Nowhere", "2", "9" * 30, "-", "²", ""])
def test_a_name_that_nobody_has_is_said_before_anything_is_asked(
    app: Flask, connected: int, org: PracticeOrg, name: str
) -> None:
    asked = len(org.token_requests)
    said = run(app, "Practice", name)
    assert f"Error: {name} is no External Application's name or id." in said.output
    assert said.exit_code == 1
    assert len(org.token_requests) == asked


@pytest.mark.parametrize("arguments", [(), ("--all", "Practice")])
def test_either_names_or_all(app: Flask, arguments: tuple[str, ...]) -> None:
    said = run(app, *arguments)
    assert "Name records by name or id, or say --all." in said.output
    assert said.exit_code == 2


def test_a_database_that_is_locked_gives_a_sentence(app: Flask, connected: int) -> None:
    path = app.config["SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///")
    lock = sqlite3.connect(path, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    said = run(app, "Practice")
    lock.close()
    assert "Error: The database cannot be used (database is locked)." in said.output
    assert "Traceback" not in said.output
    assert said.exit_code == 1


def test_a_database_without_tables_gives_a_sentence(app: Flask) -> None:
    with app.app_context():
        db.drop_all()
    said = run(app, "--all")
    assert "Error: The database cannot be used (no such table" in said.output
    assert said.exit_code == 1
