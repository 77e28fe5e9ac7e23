"""The audit trail: every event once, with what it changes, in a chain that holds."""

import csv
import hashlib
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import Result
from cryptography.fernet import Fernet
from flask import Flask, g
from flask_login import LoginManager
from flask_migrate import check
from sqlalchemy import event, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm.exc import StaleDataError

import audit
from database import db, now
from models import AuditEvent, AuditHead, Event, ExternalApplication
from models.audit import NO_HASH, content_hash
from practice_org import CONSUMER_SECRET
from tests.conftest import (
    ADMIN,
    CLICK,
    SECRET,
    StrictClient,
    add_application,
    begin,
    browser_of,
    come_back,
    load,
)
from tests.servers import ROOT, PracticeOrg
from tests.test_applications import FORM, count, statements
from tests.test_authorizations import change, meanwhile, secrets_of
from vault import fingerprint, seal

TOKEN = "00D000000000001!AQEAQSecretSessionIdThatNobodyMaySee"


def trail(app: Flask) -> list[AuditEvent]:
    with app.app_context():
        events = list(db.session.scalars(select(AuditEvent).order_by(AuditEvent.id)))
        db.session.expunge_all()
        return events


def told(app: Flask) -> list[tuple[str, dict[str, Any]]]:
    """Return each event's name and detail."""
    return [(row.event, json.loads(row.detail)) for row in trail(app)]


def add_events(app: Flask, number: int, **detail: audit.Value) -> None:
    with app.app_context():
        for _ in range(number):
            last = db.session.scalar(select(AuditHead.last_id)) or 0
            thing = audit.Thing("External Application", f"Acme {last + 1}", last + 1)
            audit.record(Event.RECORD_EDITED, thing, **detail)
        db.session.commit()


def verify(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["audit", "verify", *arguments])


def head(app: Flask) -> str:
    found = re.search(r"Head: ([0-9a-f]{64})", verify(app).output)
    assert found
    return found[1]


def run_at_once(number: int, work: Callable[[int], None]) -> None:
    failures = list[BaseException]()

    def guarded(which: int) -> None:
        try:
            work(which)
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- what is recorded ------------------------------------------------------


def test_a_record_that_is_created_edited_and_deleted(
    app: Flask, client: StrictClient
) -> None:
    client.submit("/applications/new", **FORM)
    other = FORM | {"client_id": "other", "requested_scopes": "", "consumer_secret": ""}
    client.submit("/applications/1/edit", **other)
    client.submit("/applications/1/edit", **other)
    client.submit("/applications/1/delete")
    assert told(app) == [
        ("record_created", {}),
        ("record_edited", {"fields": ["Client ID", "Scopes"]}),
        ("record_edited", {"fields": []}),
        ("record_deleted", {}),
    ]
    for row in trail(app):
        subject = (row.subject_kind, row.subject, row.subject_id)
        assert subject == ("External Application", "Acme", 1)
        assert (row.actor, row.actor_id, row.address) == (ADMIN, 1, "127.0.0.1")


def test_a_new_secret_is_recorded_by_its_label_alone(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    form = FORM | {"client_id": "3MVG9AcmeConsumerKey", "requested_scopes": ""}
    client.submit("/applications/1/edit", **form)
    assert told(app) == [("record_edited", {"fields": ["Consumer Secret"]})]


def test_a_name_that_is_taken_leaves_no_event(app: Flask, client: StrictClient) -> None:
    add_application(app)
    assert client.submit("/applications/new", **FORM).status_code == 422
    assert trail(app) == []


def test_a_record_is_deleted_once(app: Flask, client: StrictClient) -> None:
    add_application(app)
    with app.app_context():
        first = db.session.get_one(ExternalApplication, 1)
        first.application_name  # noqa: B018
        run_at_once(1, lambda _: client.submit("/applications/1/delete"))
        with pytest.raises(StaleDataError, match="deleted in the meantime"):
            first.remove()
        db.session.rollback()
    assert client.submit("/applications/1/delete").status_code == 404
    assert told(app) == [("record_deleted", {})]


def test_a_commit_that_fails_leaves_neither_record_nor_event(
    app: Flask, client: StrictClient
) -> None:
    def fail(_: object) -> None:
        raise OperationalError("COMMIT", None, Exception("the disk is full"))

    event.listen(db.session, "before_commit", fail)
    try:
        assert client.submit("/applications/new", **FORM).status_code == 503
    finally:
        event.remove(db.session, "before_commit", fail)
    assert (count(app), trail(app)) == (0, [])
    assert "0 rows, the chain holds" in verify(app).output


def test_what_cannot_be_recorded_is_not_done(app: Flask, client: StrictClient) -> None:
    with app.app_context():
        db.session.execute(
            text(
                "CREATE TRIGGER refuse BEFORE INSERT ON audit_event"
                " BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
        )
        db.session.commit()
    assert client.submit("/applications/new", **FORM).status_code == 503
    assert (count(app), trail(app)) == (0, [])


def test_looking_records_nothing(app: Flask, client: StrictClient) -> None:
    add_application(app)
    paths = ("/", "/applications/1", "/applications/1/edit", "/audit", "/audit.csv")
    for path in (*paths, "/callback?state=x&code=y"):
        client.get(path)
        client.head(path)
    assert trail(app) == []


# --- tokens ----------------------------------------------------------------


def test_a_login_and_a_refresh(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    after_login = load(app, 1)
    client.submit(CLICK)
    with app.app_context():
        assert after_login.access_token
        assert after_login.refresh_token
        old = after_login.access_token.fingerprint
        refresh = after_login.refresh_token.fingerprint
        renewed = load(app, 1).access_token
        assert renewed
        new = renewed.fingerprint
    started, *refreshed = told(app)
    assert started == ("login_started", {"reason": "No refresh token is stored."})
    assert refreshed == [
        (
            "token_refreshed",
            {
                "lane": lane,
                "reason": reason,
                "access_token_fingerprint": token,
                "refresh_token_fingerprint": refresh,
                "refresh_token_replaced": False,
            },
        )
        for lane, reason, token in (
            ("browser", "No refresh token is stored.", old),
            ("silent", "A refresh token was stored.", new),
        )
    ]
    assert {row.subject_id for row in trail(app)} == {1}


def test_a_refresh_token_that_was_replaced(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(rotation=True)
    client.submit(CLICK)
    assert told(app)[-1][1]["refresh_token_replaced"] is True


def test_a_dead_grant_fails_and_starts_a_login(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.revoke_all()
    begin(client)
    (failed, why), (started, reason) = told(app)[2:]
    assert (failed, started) == ("refresh_failed", "login_started")
    assert (why["lane"], why["state"]) == ("silent", "login_required")
    assert why["error_code"] == "invalid_grant"
    assert why["reason"] == reason["reason"]


def test_the_user_said_no(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    come_back(client, org.log_in(begin(client), decision="deny"))
    name, detail = told(app)[-1]
    assert name == "refresh_failed"
    assert (detail["lane"], detail["error_code"]) == ("browser", "access_denied")
    assert detail["state"] == "never_authorized"
    assert len(trail(app)) == 2


def test_an_org_that_fails(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(fault="outage")
    client.submit(CLICK)
    name, detail = told(app)[-1]
    assert (name, detail["lane"], detail["state"]) == (
        "refresh_failed",
        "silent",
        "unreachable",
    )
    assert detail["superseded"] is False


def test_a_login_that_is_refused(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    url = org.log_in(begin(client))
    thief = browser_of(app)
    assert come_back(thief, url).status_code == 400
    assert come_back(client, url).status_code == 400  # it was used up: nothing new
    (name, detail) = told(app)[-1]
    assert (name, detail["error_code"]) == ("refresh_failed", "<login refused>")
    assert "another browser" in detail["reason"]
    assert len(trail(app)) == 2


def test_a_record_that_cannot_be_asked_for(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    with app.app_context():
        other = Fernet(Fernet.generate_key()).encrypt(b"x").decode()
        db.session.execute(
            text("UPDATE external_application SET consumer_secret = :it"), {"it": other}
        )
        db.session.commit()
    client.submit(CLICK)
    ((name, detail),) = told(app)
    assert (name, detail["state"]) == ("refresh_failed", "misconfigured")


def test_a_failure_that_a_newer_token_superseded(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    with meanwhile(org, lambda: client.submit(CLICK)):
        with app.app_context():
            newer = seal("a newer one")
        change(app, access_token=newer)
        org.revoke_all()
    name, detail = told(app)[-1]
    assert name == "refresh_failed"
    assert (detail["superseded"], detail["state"]) == (True, "connected")


def test_a_record_that_is_deleted_while_its_org_is_asked(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    other = browser_of(app)
    with meanwhile(org, lambda: client.submit(CLICK)):
        other.submit("/applications/1/delete")
    (deleted, _), (failed, detail) = told(app)[-2:]
    assert (deleted, failed) == ("record_deleted", "refresh_failed")
    assert detail["error_code"] == "<record deleted>"
    assert trail(app)[-1].subject == "Practice"


def test_an_answer_for_the_app_before_is_a_failure(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    with meanwhile(org, lambda: client.submit(CLICK)):
        change(app, client_id="another")
    name, detail = told(app)[-1]
    assert (name, detail["error_code"]) == ("refresh_failed", "<record changed>")


def test_no_secret_is_in_the_trail(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    client.submit(CLICK)
    org.switch(rotation=True)
    client.submit(CLICK)
    org.switch(fault="error", error="invalid_grant: expired access/refresh token")
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    client.get(f"/callback?state={state}&error={TOKEN}&error_description={TOKEN}")
    client.submit("/applications/1/edit", **FORM)
    secrets = {*secrets_of(app).values(), SECRET, CONSUMER_SECRET, TOKEN, state}
    assert len(secrets) == 7
    seen = client.get("/audit").text + client.get("/audit.csv").text
    assert seen.count("Refresh failed") == 3  # and once in the filter
    for secret in secrets:
        assert secret not in seen
        assert secret not in json.dumps(told(app))


def test_a_rotation_of_keys(app: Flask, tmp_path: Any, monkeypatch: Any) -> None:
    key_file = tmp_path / "vault.key"
    key_file.write_text(Fernet.generate_key().decode())
    ring = app.extensions["orgdesk_vault"]
    monkeypatch.setattr(ring, "file", key_file)
    add_application(app)
    old = fingerprint(ring.keys[0])
    result = app.test_cli_runner().invoke(args=["keys", "rotate", "--grace", "0"])
    assert result.exit_code == 0, result.output
    new = fingerprint(ring.keys[0])
    assert told(app) == [
        ("keys_rotated", {"added": new}),
        ("keys_rotated", {"newest": new, "retired": [old], "values_encrypted": 1}),
    ]
    assert re.fullmatch(r"command line \(.+\)", trail(app)[0].actor)
    assert (trail(app)[0].subject_kind, trail(app)[0].address) == ("Keys", "")


# --- who, and how much -----------------------------------------------------


@dataclass
class Someone:
    id: int = 7
    email: str = "ada@example.com"
    is_authenticated: bool = True


@pytest.mark.parametrize("signed_in", [True, False])
def test_who_it_was(app: Flask, signed_in: bool) -> None:
    manager = LoginManager(app)
    manager.request_loader(lambda _: Someone() if signed_in else None)
    where = {"REMOTE_ADDR": "2001:db8::1"}
    with app.test_request_context("/", environ_base=where):
        g.request_id = "abc-123"
        audit.record(Event.SIGN_OUT)
        audit.record(Event.SIGN_IN, actor=Someone(8, "eve@example.com"))
        db.session.commit()
    first, second = trail(app)
    assert (first.actor, first.actor_id) == (
        ("ada@example.com", 7) if signed_in else ("", None)
    )
    assert (second.actor, second.actor_id) == ("eve@example.com", 8)
    assert (first.address, first.request_id) == ("2001:db8::1", "abc-123")


def test_a_secret_that_is_passed_by_mistake_is_replaced(app: Flask) -> None:
    with app.app_context():
        audit.record(
            Event.SIGN_IN_FAILED,
            audit.Thing("Token", TOKEN),
            access_token="opaque-secret",
            note=f"it was {TOKEN} or opaque-secret",
            fields=[TOKEN],
        )
        db.session.commit()
    (row,) = trail(app)
    everything = row.detail + row.subject
    assert TOKEN not in everything
    assert "opaque-secret" not in everything
    assert everything.count("fingerprint") == 5


@pytest.mark.parametrize("long", ["x" * 5_000, "\U0001f600\x00\ud800" * 500])
def test_a_long_detail_is_cut(app: Flask, long: str) -> None:
    with app.app_context():
        audit.record(Event.SIGN_IN_FAILED, None, **{f"n{at}": long for at in range(9)})
        audit.record(Event.SIGN_IN_FAILED, audit.Thing(long, long), fields=[long] * 9)
        audit.record(Event.SIGN_IN_FAILED, **{f"{at}{long}": 1 for at in range(9)})
        db.session.commit()
    assert all(len(row.detail) <= 4_000 for row in trail(app))
    assert all(json.loads(row.detail) for row in trail(app))
    assert verify(app).exit_code == 0


# --- the chain -------------------------------------------------------------


def test_the_migration_makes_what_the_models_say(app: Flask) -> None:
    with app.app_context():
        check()


def test_each_row_names_the_one_before(app: Flask) -> None:
    add_events(app, 3)
    rows = trail(app)
    assert [row.id for row in rows] == [1, 2, 3]
    assert [row.previous_hash for row in rows] == [NO_HASH, rows[0].hash, rows[1].hash]
    assert all(row.at.tzinfo is UTC and row.at <= now() for row in rows)
    assert verify(app).output == f"3 rows, the chain holds. Head: {rows[2].hash}\n"


def test_a_hash_is_what_is_documented(app: Flask) -> None:
    add_events(app, 1, note="Zoë")
    (row,) = trail(app)
    text = (
        f'{{"actor":"{row.actor}","actor_id":null,"address":"",'
        f'"at":"{row.at:%Y-%m-%dT%H:%M:%S.%f}+00:00",'
        r'"detail":"{\"note\":\"Zo\u00eb\"}","event":"record_edited","id":1,'
        f'"previous_hash":"{NO_HASH}","request_id":"","subject":"Acme 1",'
        '"subject_id":1,"subject_kind":"External Application"}'
    )
    assert row.hash == hashlib.sha256(text.encode()).hexdigest()


def test_eight_at_once_make_one_chain(app: Flask) -> None:
    for number in range(2):
        add_application(app, application_name=f"Acme {number}")

    def edit(which: int) -> None:
        for _ in range(12):
            with app.app_context():
                record = db.session.get_one(ExternalApplication, which % 2 + 1)
                record.changed_at = now()
                audit.record(Event.RECORD_EDITED, record)
                db.session.commit()

    run_at_once(8, edit)
    assert [row.id for row in trail(app)] == list(range(1, 97))
    assert "96 rows, the chain holds" in verify(app).output


def test_the_chain_is_checked_while_it_grows(app: Flask) -> None:
    add_events(app, 1_100)
    stop = threading.Event()

    def append() -> None:
        while not stop.is_set():
            add_events(app, 3)

    thread = threading.Thread(target=append)
    thread.start()
    try:
        results = [verify(app) for _ in range(6)]
    finally:
        stop.set()
        thread.join()
    assert [result.exit_code for result in results] == [0] * 6, results[0].output
    assert results[0].output != results[-1].output


@pytest.fixture
def twelve(app: Flask) -> Flask:
    add_events(app, 12, note="x")
    return app


@pytest.fixture
def tamper(twelve: Flask) -> Iterator[Callable[..., None]]:
    """Runs SQL as somebody who has the database in hand."""

    def run(*sql: str, **values: object) -> None:
        with twelve.app_context():
            for statement in sql:
                db.session.execute(text(statement), values)
            db.session.commit()

    return run


def swap(columns: str) -> tuple[str, ...]:
    """Return the SQL that swaps some columns of the rows 4 and 9."""
    names = columns.split()
    from_other = ", ".join(
        f"{name} = (SELECT {name} FROM copy WHERE copy.id = 13 - audit_event.id)"
        for name in names
    )
    return (
        "CREATE TABLE copy AS SELECT * FROM audit_event",
        "UPDATE audit_event SET hash = id WHERE id IN (4, 9) AND :swaps_hashes",
        f"UPDATE audit_event SET {from_other} WHERE id IN (4, 9)",
    )


CONTENT = "at event actor actor_id subject subject_id detail"
CHANGED = "was changed: its hash is not that of what it holds."


@pytest.mark.parametrize(
    ("sql", "findings"),
    [
        pytest.param(
            ["UPDATE audit_event SET actor = 'eve' WHERE id = 5"],
            [f"Row 5 {CHANGED}"],
            id="a value",
        ),
        pytest.param(
            ["UPDATE audit_event SET at = 'nonsense', detail = x'ff' WHERE id = 5"],
            [f"Row 5 {CHANGED}"],
            id="nonsense",
        ),
        pytest.param(
            ["UPDATE audit_event SET actor = 'eve' WHERE id IN (1, 12)"],
            [f"Row 1 {CHANGED}", f"Row 12 {CHANGED}"],
            id="values at both ends",
        ),
        pytest.param(
            ["DELETE FROM audit_event WHERE id = 7"],
            ["Row 7 is missing."],
            id="a row in the middle",
        ),
        pytest.param(
            ["DELETE FROM audit_event WHERE id < 4 OR id = 9"],
            ["Rows 1 to 3 are missing.", "Row 9 is missing."],
            id="the first rows",
        ),
        pytest.param(
            ["DELETE FROM audit_event WHERE id > 10"],
            ["Rows 11 to 12 are missing at the end."],
            id="the last rows",
        ),
        pytest.param(
            ["DELETE FROM audit_event"],
            ["Rows 1 to 12 are missing at the end."],
            id="all rows",
        ),
        pytest.param(
            swap(CONTENT),
            [f"Row 4 {CHANGED}", f"Row 9 {CHANGED}"],
            id="contents swapped",
        ),
        pytest.param(
            [
                "UPDATE audit_event SET id = -4 WHERE id = 4",
                "UPDATE audit_event SET id = 4 WHERE id = 9",
                "UPDATE audit_event SET id = 9 WHERE id = -4",
            ],
            [
                "Row 4 holds what was written as row 9.",
                "Row 5 does not follow row 4",
                "Row 9 holds what was written as row 4.",
                "Row 10 does not follow row 9",
            ],
            id="ids swapped",
        ),
        pytest.param(
            [
                "UPDATE audit_event SET id = -4 WHERE id = 4",
                "UPDATE audit_event SET id = 4 WHERE id = 5",
                "UPDATE audit_event SET id = 5 WHERE id = -4",
            ],
            [
                "Row 4 holds what was written as row 5.",
                "Row 5 holds what was written as row 4.",
                "Row 6 does not follow row 5",
            ],
            id="neighbours swapped",
        ),
        pytest.param(
            ["UPDATE audit_event SET id = 40 WHERE id = 4"],
            [
                "Row 4 is missing.",
                "Rows 13 to 39 are missing.",
                "Row 40 was inserted: the last one written is 12.",
                "Row 40 holds what was written as row 4.",
            ],
            id="a row moved to the end",
        ),
        pytest.param(
            ["UPDATE audit_event SET id = 0 WHERE id = 4"],
            ["Row 0 was inserted: the first row is 1.", "Row 4 is missing."],
            id="a row moved to the front",
        ),
        pytest.param(
            ["UPDATE audit_event SET previous_hash = hash WHERE id = 6"],
            [f"Row 6 {CHANGED}", "Row 6 does not follow row 5"],
            id="a link",
        ),
        pytest.param(
            ["UPDATE audit_head SET last_hash = '" + "a" * 64 + "'"],
            ["Row 12 is not the row that was written last."],
            id="the head's hash",
        ),
        pytest.param(
            ["UPDATE audit_head SET last_id = 11"],
            ["Row 12 was inserted: the last one written is 11."],
            id="the head's number",
        ),
        pytest.param(
            ["DELETE FROM audit_head"],
            ["The head is missing: rows may be missing at the end."],
            id="the head",
        ),
    ],
)
def test_tampering_is_found_and_named(
    twelve: Flask, tamper: Callable[..., None], sql: list[str], findings: list[str]
) -> None:
    tamper(*sql, swaps_hashes=False)
    result = verify(twelve)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert len(lines) == len(findings), lines
    for line, finding in zip(lines, findings, strict=True):
        assert line.startswith(finding)


def test_rows_swapped_with_their_hashes_are_named(
    twelve: Flask, tamper: Callable[..., None]
) -> None:
    tamper(*swap(f"{CONTENT} previous_hash hash"), swaps_hashes=True)
    output = verify(twelve).output
    assert "Row 4 holds what was written as row 9." in output
    assert "Row 9 holds what was written as row 4." in output


def forge(app: Flask, row_id: int, **changes: object) -> None:
    """Store a row whose hash is right, whatever it says."""
    with app.app_context():
        table = AuditEvent.__table__
        before = db.session.get(AuditEvent, row_id - 1)
        row = dict(db.session.execute(select(table)).first()._mapping)  # type: ignore[union-attr]
        row |= {"id": row_id, "previous_hash": before.hash if before else NO_HASH}
        row |= changes
        row["hash"] = content_hash(row)
        db.session.execute(text("DELETE FROM audit_event WHERE id = :id"), row)
        db.session.execute(table.insert().values(row))  # type: ignore[attr-defined]
        db.session.commit()


def test_a_row_that_was_replaced_by_a_forged_one(twelve: Flask) -> None:
    forge(twelve, 6, actor="nobody at all")
    result = verify(twelve)
    assert result.exit_code == 1
    assert result.output.splitlines() == [
        "Row 7 does not follow row 6: the hash that it names is another."
    ]


def test_a_forged_row_behind_the_last(twelve: Flask) -> None:
    forge(twelve, 13)
    assert verify(twelve).output == (
        "Row 13 was inserted: the last one written is 12.\n"
    )


def test_a_forged_row_in_place_of_the_last(twelve: Flask) -> None:
    forge(twelve, 12)
    assert verify(twelve).output == "Row 12 is not the row that was written last.\n"


def test_a_forged_row_pushed_in_between(
    twelve: Flask, tamper: Callable[..., None]
) -> None:
    tamper(
        "UPDATE audit_event SET id = -id WHERE id > 5",
        "UPDATE audit_event SET id = 1 - id WHERE id < 0",
        "UPDATE audit_head SET last_id = 13",
    )
    forge(twelve, 6)
    lines = verify(twelve).output.splitlines()
    assert lines[0] == "Row 7 holds what was written as row 6."
    assert lines[-1] == "Row 13 holds what was written as row 12."


def test_a_duplicate_is_named(twelve: Flask, tamper: Callable[..., None]) -> None:
    columns = "at, event, actor, address, request_id, subject_kind, subject,"
    columns += " subject_id, detail, previous_hash"
    tamper(
        f"INSERT INTO audit_event (id, hash, {columns})"
        f" SELECT 13, 'x', {columns} FROM audit_event WHERE id = 5",
        "UPDATE audit_head SET last_id = 13",
    )
    lines = verify(twelve).output.splitlines()
    assert lines[0] == "Row 13 holds what was written as row 5."


def test_a_whole_new_chain_is_found_by_a_head_noted_earlier(twelve: Flask) -> None:
    noted = head(twelve)
    add_events(twelve, 3)
    assert verify(twelve, "--head", f" {noted.upper()} ").exit_code == 0
    for row_id in range(1, 16):
        forge(twelve, row_id, actor="nobody at all")
    with twelve.app_context():
        last = db.session.get_one(AuditEvent, 15).hash
        db.session.execute(text("UPDATE audit_head SET last_hash = :it"), {"it": last})
        db.session.commit()
    assert verify(twelve).exit_code == 0
    result = verify(twelve, "--head", noted)
    assert result.exit_code == 1
    assert result.output.startswith("The noted head is not in the chain")


def test_rows_and_head_cut_off_together_are_found_by_a_head_noted_earlier(
    twelve: Flask, tamper: Callable[..., None]
) -> None:
    noted = head(twelve)
    tamper(
        "DELETE FROM audit_event WHERE id > 8",
        "UPDATE audit_head SET last_id = 8,"
        " last_hash = (SELECT hash FROM audit_event WHERE id = 8)",
    )
    assert verify(twelve).exit_code == 0
    assert verify(twelve, "--head", noted).exit_code == 1


@pytest.mark.parametrize("noted", ["", "x" * 64, "ab"])
def test_what_is_no_head_is_refused(app: Flask, noted: str) -> None:
    result = verify(app, "--head", noted)
    assert result.exit_code == 2
    assert "64 hex digits" in result.output


def test_many_findings_are_cut_short(app: Flask) -> None:
    add_events(app, 40)
    with app.app_context():
        db.session.execute(text("UPDATE audit_event SET actor = 'eve'"))
        db.session.commit()
    lines = verify(app).output.splitlines()
    assert (len(lines), lines[-1]) == (21, "... and more.")


def test_a_database_without_the_tables_is_said_to_be_so(app: Flask) -> None:
    with app.app_context():
        db.session.execute(text("DROP TABLE audit_head"))
        db.session.commit()
    result = verify(app)
    assert result.exit_code == 1
    assert "flask --app app db upgrade" in result.output


# --- the page --------------------------------------------------------------


def shown(client: StrictClient, path: str) -> list[int]:
    """Return the ids on a page."""
    return [
        int(row)
        for row in re.findall(r"<small>row (\d+)</small>", client.get(path).text)
    ]


def link(client: StrictClient, path: str, label: str) -> str:
    found = re.search(
        rf'href="([^"]+)"(?: download)?>{label}</a>', client.get(path).text
    )
    assert found, label
    return found[1].replace("&amp;", "&")


def test_an_empty_trail(client: StrictClient) -> None:
    assert "Nothing has happened yet" in client.get("/audit").text
    assert "No event matches" in client.get("/audit?actor=x").text
    assert link(client, "/", "Audit Trail") == "/audit"


def test_the_newest_come_first_fifty_a_page(app: Flask, client: StrictClient) -> None:
    add_events(app, 120)
    assert shown(client, "/audit") == list(range(120, 70, -1))
    second = link(client, "/audit", "Next")
    assert shown(client, second) == list(range(70, 20, -1))
    third = link(client, second, "Next")
    assert shown(client, third) == list(range(20, 0, -1))
    assert shown(client, link(client, third, "Previous")) == list(range(70, 20, -1))
    assert shown(client, link(client, second, "Last")) == list(range(50, 0, -1))
    assert shown(client, link(client, third, "First")) == list(range(120, 70, -1))
    assert "Next</span>" in client.get(third).text
    assert len(statements(client, second)) == 2  # the sign-in's, and its own


def test_a_row_says_everything(app: Flask, client: StrictClient) -> None:
    with app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.7"}):
        g.request_id = "abc-123"
        audit.record(
            Event.TOKEN_REFRESHED,
            audit.Thing("External Application", "<b>Zürich</b>", 7),
            actor=Someone(),
            refresh_token_replaced=True,
            fields=["Client ID", "Scopes"],
            nothing=None,
        )
        db.session.commit()
    page = client.get("/audit").text
    for words in (
        "ada@example.com", "192.0.2.7", "Token refreshed", "External Application",
        "&lt;b&gt;Zürich", "refresh token replaced:</small> yes", "request abc-123",
        "fields:</small> Client ID, Scopes", "nothing:</small> none",
        'href="/audit?subject=%237"',
    ):  # fmt: skip
        assert words in page


def test_every_event_has_its_words() -> None:
    words = (ROOT / "templates/audit/_event.html").read_text()
    assert set(re.findall(r'^  "(\w+)": "[A-Z]', words, re.MULTILINE)) == set(Event)


def several(app: Flask) -> None:
    with app.test_request_context():
        for at, (kind, who, name) in enumerate(
            [
                (Event.SIGN_IN, "ada@example.com", "100% Acme"),
                (Event.SIGN_OUT, "ada@example.com", "Zürich_7"),
                (Event.SIGN_IN, "bob@example.com", "Acme #2"),
            ],
            start=1,
        ):
            audit.record(kind, audit.Thing("X", name, at), actor=Someone(at, who))
        db.session.execute(
            text("UPDATE audit_event SET at = '2026-01-0' || id || ' 23:59:59.999999'")
        )
        db.session.commit()


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("event=sign_in", [3, 1]),
        ("event=nonsense", [3, 2, 1]),
        ("actor=ADA", [2, 1]),
        ("actor=%25", []),
        ("subject=acme", [3, 1]),
        ("subject=100%25", [1]),
        ("subject=h_7", [2]),
        ("subject=%232", [2]),
        ("subject=2", [3, 2]),
        ("from=2026-01-02", [3, 2]),
        ("to=2026-01-02", [2, 1]),
        ("from=2026-01-02&to=2026-01-02", [2]),
        ("from=2026-01-03&to=2026-01-01", []),
        ("to=9999-12-31&from=0001-01-01", [3, 2, 1]),
        ("from=2026-02-30&to=yesterday&after=x&before=-1", [3, 2, 1]),
        ("event=sign_in&actor=ada&subject=acme&from=2026-01-01&to=2026-01-01", [1]),
        ("after=999999999999999999999", [3, 2, 1]),
        ("after=999999999999999999", [3, 2, 1]),
        ("after=3", [2, 1]),
        ("before=1", [3, 2]),
        ("last=1", [3, 2, 1]),
        (f"subject=%23{9 * '9'}{9 * '9'}", []),
        ("actor=a%00b%ff", []),
    ],
)
def test_filters(app: Flask, client: StrictClient, query: str, ids: list[int]) -> None:
    several(app)
    assert shown(client, f"/audit?{query}") == ids
    if not {"after", "before", "last"} & set(parse_qs(query)):
        assert [int(row["id"]) for row in export(client, query)] == ids


def test_a_filter_stays_from_page_to_page(app: Flask, client: StrictClient) -> None:
    add_events(app, 60)
    path = "/audit?event=record_edited&subject=acme&from=2020-01-01"
    following = link(client, path, "Next")
    assert parse_qs(urlsplit(following).query) == {
        "event": ["record_edited"],
        "subject": ["acme"],
        "from": ["2020-01-01"],
        "after": ["11"],
    }
    page = client.get(following).text
    assert 'value="2020-01-01"' in page
    assert 'value="record_edited" selected' in page
    assert "/audit.csv?event=record_edited&amp;subject=acme&amp;from=2020-01-01" in page
    assert "after" not in link(client, following, "Export CSV").partition("csv")[2]


def test_a_row_that_was_made_nonsense_is_shown(
    twelve: Flask, client: StrictClient, tamper: Callable[..., None]
) -> None:
    tamper(
        "UPDATE audit_event SET detail = 'no json', event = 'made_up' WHERE id = 3",
        "UPDATE audit_event SET detail = '[1]' WHERE id = 4",
    )
    page = client.get("/audit").text
    assert "unreadable:</small> no json" in page
    assert "made_up" in page


# --- the export ------------------------------------------------------------


def export(client: StrictClient, query: str = "") -> list[dict[str, str]]:
    answer = client.get(f"/audit.csv?{query}")
    assert answer.status_code == 200
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


def test_the_export_has_every_row_and_column(app: Flask, client: StrictClient) -> None:
    add_events(app, 1_030, note='Zürich, "7"')
    rows = export(client)
    assert [int(row["id"]) for row in rows] == list(range(1_030, 0, -1))
    assert set(rows[0]) == set(AuditEvent.__table__.columns.keys())
    last = trail(app)[-1]
    assert (rows[0]["hash"], rows[0]["at"]) == (
        last.hash,
        last.at.isoformat(timespec="microseconds"),
    )
    assert rows[0]["detail"] == '{"note":"Zürich, \\"7\\""}'
    assert rows[0]["actor_id"] == ""


def test_the_export_is_a_download_that_nobody_keeps(client: StrictClient) -> None:
    for answer in (client.get("/audit.csv"), client.head("/audit.csv")):
        assert answer.mimetype == "text/csv"
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Content-Disposition"].startswith("attachment;")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_the_export_is_sent_as_it_is_read(app: Flask, client: StrictClient) -> None:
    add_events(app, 1_030)
    answer = client.get("/audit.csv", buffered=False)
    chunks = list(answer.response)
    assert len(chunks) == 4
    assert not answer.content_length


@pytest.mark.parametrize(
    "name",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("x","y")'],
)
def test_no_cell_is_a_formula(app: Flask, client: StrictClient, name: str) -> None:
    with app.app_context():
        audit.record(Event.RECORD_CREATED, audit.Thing("X", name, 1))
        db.session.commit()
    (row,) = export(client)
    stored = trail(app)[0].subject
    assert row["subject"] == (stored if stored[0] == "\ufffd" else "'" + stored)
    assert not row["subject"].startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


@pytest.mark.parametrize("name", ['Zürich, "GmbH"\nHalle 7', "日本 \U0001f600; a'b"])
def test_names_come_through_whole(app: Flask, client: StrictClient, name: str) -> None:
    with app.app_context():
        audit.record(Event.RECORD_CREATED, audit.Thing("X", name, 1))
        db.session.commit()
    (row,) = export(client)
    assert row["subject"] == name


def test_what_comes_meanwhile_repeats_no_row(app: Flask, client: StrictClient) -> None:
    add_events(app, 600)
    answer = client.get("/audit.csv", buffered=False)
    chunks = iter(answer.response)
    parts = [next(chunks), next(chunks)]
    add_events(app, 5)
    lines = b"".join([*parts, *chunks]).splitlines()
    ids = [line.partition(b",")[0].decode() for line in lines[1:]]
    assert ids == [str(row) for row in range(600, 0, -1)]


def test_days_are_whole_and_of_utc(app: Flask, client: StrictClient) -> None:
    add_events(app, 1)
    today = trail(app)[0].at.date()
    yesterday = today - timedelta(days=1)
    assert shown(client, f"/audit?from={today}&to={today}") == [1]
    assert shown(client, f"/audit?to={yesterday}") == []
