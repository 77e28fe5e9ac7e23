"""The counts by state: right, and never older than a minute."""

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, update

import tally
from database import db, now
from models import ExternalApplication
from salesforce import State
from tests.conftest import sql_taken

HOUR = timedelta(hours=1)


def add(app: Flask, number: int, **values: object) -> None:
    rows = [
        {
            "application_name": f"{values} {at}",
            "application_name_key": f"{values} {at}",
            "salesforce_domain": "acme.my.salesforce.com",
            "client_id": "3MVG9",
            "callback_url": "https://orgdesk.example/callback",
            "state": State.CONNECTED,
            "idle_limit": 30,
        }
        | values
        for at in range(number)
    ]
    with app.app_context():
        db.session.execute(insert(ExternalApplication), rows)
        db.session.commit()


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    with sql_taken() as taken:
        yield taken


def test_each_record_counts_once_in_the_state_that_it_is_shown_in(app: Flask) -> None:
    add(app, 2)
    add(app, 3, expires_at=now() + HOUR)
    add(app, 4, expires_at=now() - HOUR)
    add(app, 5, state=State.EXPIRED)
    add(app, 6, state=State.BLOCKED, expires_at=now() - HOUR)
    add(app, 1, lapses_at=now() + timedelta(days=6))
    add(app, 1, lapses_at=now() + timedelta(days=8))
    with app.app_context():
        found = tally.counts()
    there = {state: number for state, number in found.states.items() if number}
    assert there == {State.CONNECTED: 7, State.EXPIRED: 9, State.BLOCKED: 6}
    assert (found.total, found.lapse_soon, found.held) == (22, 1, 0)


def test_few_are_counted_each_time_by_one_statement(
    app: Flask, statements: list[tuple[str, Any]]
) -> None:
    with app.app_context():
        assert tally.counts().total == 0
    add(app, 1)
    statements.clear()
    with app.app_context():
        assert tally.counts().total == 1
    assert len(statements) == 1


def test_many_are_counted_once_a_minute(
    app: Flask, statements: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(app, tally.MANY + 1)
    with app.app_context():
        first = tally.counts()
        in_a_minute = time.monotonic() + 60
        db.session.execute(update(ExternalApplication).values(state=State.BLOCKED))
        db.session.commit()
        statements.clear()
        assert tally.counts() == first
        assert statements == []
        monkeypatch.setattr(time, "monotonic", lambda: in_a_minute)
        assert tally.counts().states[State.BLOCKED] == tally.MANY + 1


def test_a_count_goes_along_indexes_alone(app: Flask) -> None:
    add(app, 1)
    with app.app_context():
        explained = db.session.execute(
            db.text(
                "EXPLAIN QUERY PLAN "
                + str(
                    db.select(*tally.columns()).compile(
                        db.engine, compile_kwargs={"literal_binds": True}
                    )
                )
            )
        )
        scans = [line.detail for line in explained if "external" in line.detail]
    assert scans
    assert not [line for line in scans if "COVERING INDEX" not in line]
