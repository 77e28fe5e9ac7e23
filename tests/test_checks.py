"""Testing a connection: four steps, one at a time, and what each finds."""

import html
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

from database import db, now
from models import ExpirySource, Role
from salesforce import State
from signed import signer
from tests.conftest import (
    SECRET,
    StrictClient,
    add_application,
    browser_of,
    load,
)
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_audit import told
from tests.test_authorizations import change
from tests.test_panel import give_token, panel, seal_in
from tests.wire import Request, Server, Step, answer, last, reset, serving, silence

CHECKS, NEXT = "/applications/1/checks", "/applications/1/checks/next"
TOKEN = "00D000000000001!anAccessTokenOfTheTests"
VERSIONS = answer([{"label": "Summer '26", "version": "67.0"}])
USER = answer({"sub": "https://login.salesforce.com/id/00D/005", "user_id": "005"})
LIMITS = answer({"DailyApiRequests": {"Max": 15_000, "Remaining": 14_000}})
NO_SCOPE = answer({"error": "insufficient_scope"}, "403 Forbidden")
HTML = b"<!doctype html><h1>Down for maintenance"
ROW = re.compile(
    r"([✓✗?–]) (Remote Site|Host|Access token|API) : (ok|failed|not known|not asked)"
)
Found = list[tuple[str, ...]]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def org_url(app: Flask, server: Server) -> str:
    """A record of an org that answers as scripted; its address."""
    address = f"http://127.0.0.1:{server.port}"
    add_application(app, salesforce_domain=address)
    give_token(
        app,
        access_token=seal_in(app, TOKEN),
        instance_url=address,
        expires_at=now() + timedelta(hours=1),
        expiry_source=ExpirySource.ASSUMED,
    )
    return address


def said(text: str) -> str:
    return " ".join(html.unescape(words(text)).split())


def found(text: str) -> list[tuple[str, str]]:
    """Return the steps that a page or a fragment shows, and what they found."""
    assert TOKEN not in text
    rows = ROW.findall(said(text))
    signs = {"ok": "✓", "failed": "✗", "not known": "?", "not asked": "–"}
    assert all(sign == signs[word] for sign, _, word in rows)
    return [(name, word) for _, name, word in rows]


def word_in(fragment: str) -> str | None:
    """Return what the browser sends to have the next step taken, if one pends."""
    pending = re.findall(r'name="done" value="([^"]+)"', fragment)
    assert len(pending) == fragment.count('hx-trigger="load"') <= 1
    return html.unescape(pending[0]) if pending else None


def walk(client: StrictClient) -> list[str]:
    """Do what htmx does; return each answer."""
    answers = [client.submit(CHECKS, htmx=True).text]
    while done := word_in(answers[-1]):
        assert len(answers) < 5
        answers.append(client.submit(NEXT, htmx=True, done=done).text)
    return answers


def press(client: StrictClient) -> TestResponse:
    """Press the button without JavaScript."""
    response = client.submit(CHECKS)
    assert response.status_code == 200
    return response


ALL_WELL = [
    ("Remote Site", "ok"),
    ("Host", "ok"),
    ("Access token", "ok"),
    ("API", "ok"),
]


def test_the_steps_tick_off_one_by_one(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    answers = walk(client)
    assert [found(text) for text in answers] == [[one] for one in ALL_WELL]
    assert [word_in(text) is None for text in answers] == [False, False, False, True]
    assert answers[0].startswith('<div class="sheet" id="connection-test"')
    assert all(re.search(r"ok, \d\.\d\d s\.", said(text)) for text in answers[1:])
    assert "of the 15,000 requests" in answers[-1]


def test_the_first_answer_does_not_wait_for_the_org(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    asked = len(org.state()["log"])
    text = client.submit(CHECKS, htmx=True).text
    assert found(text) == [("Remote Site", "ok")]
    assert "Does the host answer?" in text
    assert len(org.state()["log"]) == asked


def test_without_javascript_one_request_takes_all_steps(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    page = press(client)
    assert found(page.text) == ALL_WELL
    assert word_in(page.text) is None
    assert "<h1>Practice</h1>" in page.text


def test_the_region_is_on_the_records_page_and_on_its_own(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    for page in (panel_and_more(client), client.get(CHECKS).text):
        assert 'id="connection-test"' in page
        assert f'action="{CHECKS}" hx-post="{CHECKS}"' in page
        assert found(page) == []
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert "connection-test" not in panel_and_more(viewer)


def panel_and_more(client: StrictClient) -> str:
    return client.get("/applications/1").text


def test_the_trail_has_one_row_with_what_each_step_found(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    before = len(told(app))
    walk(client)
    press(client)
    steps = ["site ok", "host ok", "token ok", "api ok"]
    assert told(app)[before:] == [("connection_tested", {"steps": steps})] * 2


def test_a_test_that_was_left_half_way_leaves_no_row(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    before = len(told(app))
    client.submit(CHECKS, htmx=True)
    assert len(told(app)) == before


# --- what the org answers --------------------------------------------------

REST_NOT_ASKED = [("Access token", "not asked"), ("API", "not asked")]


@pytest.mark.parametrize(
    ("script", "outcomes", "sentence"),
    [
        ([reset], ["failed", "not asked", "not asked"], "connection broke"),
        ([answer(HTML)], ["failed", "not asked", "not asked"], "Host: failed"),
        (
            [answer(HTML, "503 Service Unavailable")],
            ["failed", "not asked", "not asked"],
            "HTTP 503",
        ),
        (
            [answer(b"", "302 Found", b"Location: https://evil.example/")],
            ["failed", "not asked", "not asked"],
            "sends requests elsewhere",
        ),
        (
            [answer(b"", "401 Unauthorized"), USER, LIMITS],
            ["not known", "ok", "ok"],
            "wants a token before it says more",
        ),
        (
            [VERSIONS, answer(b"", "401 Unauthorized")],
            ["ok", "failed", "not asked"],
            "does not take the access token",
        ),
        (
            [VERSIONS, answer(b"Bad_OAuth_Token", "403 Forbidden")],
            ["ok", "failed", "not asked"],
            "The org said: Bad_OAuth_Token",
        ),
        (
            [VERSIONS, answer(HTML, "503 Service Unavailable"), LIMITS],
            ["ok", "not known", "ok"],
            "1,000 of the 15,000",
        ),
        (
            [VERSIONS, NO_SCOPE, LIMITS],
            ["ok", "not known", "ok"],
            "scopes do not open this",
        ),
        (
            [
                VERSIONS,
                USER,
                answer([{"errorCode": "REQUEST_LIMIT_EXCEEDED"}], "403 Forbidden"),
            ],
            ["ok", "ok", "failed"],
            "used up its API requests",
        ),
        ([VERSIONS, USER, answer(HTML)], ["ok", "ok", "not known"], "API: not known"),
        (
            [
                VERSIONS,
                USER,
                answer({"DailyApiRequests": {"Max": 10, "Remaining": 2}}),
            ],
            ["ok", "ok", "ok"],
            "nearly all",
        ),
    ],
)
def test_each_step_says_what_it_found(
    client: StrictClient,
    server: Server,
    org_url: str,
    script: list[Step],
    outcomes: list[str],
    sentence: str,
) -> None:
    server.script = [last(one) if isinstance(one, bytes) else one for one in script]
    answers = walk(client)
    names = ["Host", "Access token", "API"]
    rows = [row for text in answers for row in found(text)]
    assert rows == [("Remote Site", "ok"), *zip(names, outcomes, strict=True)]
    assert sentence in " ".join(map(said, answers)).replace(" : ", ": ")
    assert len(server.requests) == len(script)


def test_a_host_that_is_down_says_so_and_ends_the_test(
    client: StrictClient, server: Server, org_url: str
) -> None:
    server.server_close()
    answers = walk(client)
    assert found(answers[-1]) == [("Host", "failed"), *REST_NOT_ASKED]
    assert "The host could not be reached." in said(answers[-1])


def test_a_slow_org_shows_how_slow_it_is(
    client: StrictClient, server: Server, org_url: str
) -> None:
    def late(line: socket.socket, _: Request) -> None:
        time.sleep(0.3)
        line.sendall(VERSIONS)

    server.script = [late, last(USER), last(LIMITS)]
    assert re.search(r"Host : ok, 0\.[3-9]\d s\.", said(press(client).text))


@pytest.mark.parametrize(
    ("at", "outcomes"),
    [
        (0, ["ok", "not asked", "not asked"]),
        (1, ["ok", "ok", "not asked"]),
    ],
    ids=["host", "token"],
)
def test_one_click_waits_once_for_an_org_that_is_slow_at_each_step(
    client: StrictClient,
    server: Server,
    org_url: str,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    outcomes: list[str],
) -> None:
    monkeypatch.setattr("engine.checks.PATIENCE", 2.0)
    steps = [VERSIONS, USER, LIMITS]

    def slow(line: socket.socket, _: Request) -> None:
        time.sleep(1.2)
        line.sendall(steps[at])

    server.script = [*map(last, steps[:at]), slow, *map(last, steps[at + 1 :])]
    page = press(client)
    assert [word for _, word in found(page.text)][1:] == outcomes
    assert "The org took too long before" in said(page.text)
    assert len(server.requests) == at + 1


def test_an_org_that_hangs_is_left_when_the_time_for_all_is_over(
    client: StrictClient,
    server: Server,
    org_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.checks.PATIENCE", 2.0)
    cut = threading.Event()
    server.script = [last(VERSIONS), silence(b"", cut)]
    outcomes = [word for _, word in found(press(client).text)]
    assert outcomes == ["ok", "ok", "not known", "not asked"]
    assert cut.wait(2)
    assert len(server.requests) == 2


def test_the_token_goes_where_it_belongs_and_nowhere_else(
    client: StrictClient, server: Server, org_url: str
) -> None:
    server.script = [last(VERSIONS), last(USER), last(LIMITS)]
    walk(client)
    sent = [one.headers.get("authorization") for one in server.requests]
    assert sent == [None, f"Bearer {TOKEN}", f"Bearer {TOKEN}"]
    asked = [one.line.split()[:2] for one in server.requests]
    assert asked == [
        ["GET", "/services/data"],
        ["GET", "/services/oauth2/userinfo"],
        ["GET", "/services/data/v67.0/limits"],
    ]


def test_no_connection_to_the_database_is_held_while_the_org_is_asked(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    held: list[int] = []

    def look(line: socket.socket, _: Request) -> None:
        with app.app_context():
            assert isinstance(db.engine.pool, QueuePool)
            held.append(db.engine.pool.checkedout())
        line.sendall([VERSIONS, USER, LIMITS][len(held) - 1])

    server.script = [look] * 3
    walk(client)
    assert held == [0, 0, 0]


def test_a_host_without_a_remote_site_is_not_called(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, salesforce_domain="salesforce.acme.example")
    (text,) = walk(client)
    host = ("Host", "not asked")
    assert found(text) == [("Remote Site", "failed"), host, *REST_NOT_ASKED]
    assert "Add a Remote Site for https://salesforce.acme.example" in said(text)
    assert 'href="/sites"' in text


def test_an_instance_that_no_site_covers_is_not_called(
    app: Flask, client: StrictClient, org_url: str
) -> None:
    change(app, instance_url="https://evil.example")
    assert "no Remote Site covers https://evil.example" in said(walk(client)[0])


@pytest.mark.parametrize(
    ("token", "sentence"),
    [(None, "No access token is stored."), ("x", "No key of this server opens")],
)
def test_a_record_without_a_token_says_so(
    app: Flask,
    client: StrictClient,
    server: Server,
    org_url: str,
    token: str | None,
    sentence: str,
) -> None:
    change(app, access_token=None)
    if token:
        with app.app_context():
            db.session.execute(
                db.text("UPDATE external_application SET access_token = 'unreadable'")
            )
            db.session.commit()
    server.script = [last(VERSIONS)]
    text = press(client).text
    assert found(text)[2:] == [("Access token", "failed"), ("API", "not asked")]
    assert sentence in said(text)
    assert len(server.requests) == 1


def test_where_the_api_is_not_known_it_is_not_asked(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    change(app, instance_url=None)
    server.script = [last(VERSIONS), last(USER)]
    text = press(client).text
    assert found(text)[3] == ("API", "not asked")
    assert "Get a new access token, which brings it." in said(text)


def test_an_org_that_tells_secrets_which_it_was_not_sent_tells_nobody(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    change(app, refresh_token=seal_in(app, "a-refresh-token-of-the-tests"))
    said_of_it = {"errorCode": f"X_{SECRET}", "message": "a-refresh-token-of-the-tests"}
    server.script = [answer([said_of_it], "400 Bad Request")] * 2
    pages = [*walk(client), press(client).text]  # the client knows SECRET
    assert "The org said: X_(fingerprint" in said(pages[-1])
    for text in (*pages, json.dumps(told(app))):
        assert SECRET not in text
        assert "a-refresh-token" not in text


# --- what is noted ---------------------------------------------------------


def facts(app: Flask) -> dict[str, Any]:
    with app.app_context():
        row = db.session.execute(db.text("SELECT * FROM external_application"))
        return dict(row.mappings().one())


def test_a_test_changes_nothing_but_when_the_token_was_used(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    before = facts(app)
    walk(client)
    after = facts(app)
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["last_used_at"]


def test_a_token_that_the_org_refuses_has_ended(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    server.script = [last(VERSIONS), last(answer(b"", "401 Unauthorized"))]
    text = walk(client)[-1]
    assert 'href="/applications/1">The record now says that it has ended' in text
    record = load(app, 1)
    assert record.shown_state is State.EXPIRED
    assert record.expiry_source is ExpirySource.LEARNED
    assert "ran out" in panel(client)


def test_an_end_that_was_known_is_not_moved(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    ended = now() - timedelta(hours=1)
    change(app, expires_at=ended, expiry_source=ExpirySource.INTROSPECTED)
    server.script = [last(VERSIONS), last(answer(b"", "401 Unauthorized"))]
    walk(client)
    record = load(app, 1)
    assert (record.expires_at, record.expiry_source) == (
        ended,
        ExpirySource.INTROSPECTED,
    )


def test_a_token_that_was_replaced_meanwhile_has_not_ended(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    def replace(line: socket.socket, _: Request) -> None:
        change(app, access_token=seal_in(app, "another"))
        line.sendall(answer(b"", "401 Unauthorized"))

    server.script = [last(VERSIONS), replace]
    assert "now says" not in walk(client)[-1]
    assert load(app, 1).shown_state is State.CONNECTED
    assert load(app, 1).last_used_at is None


def test_a_record_that_is_deleted_meanwhile_is_gone(
    app: Flask, client: StrictClient, server: Server, org_url: str
) -> None:
    def remove(line: socket.socket, _: Request) -> None:
        with app.app_context():
            db.session.execute(db.text("DELETE FROM external_application"))
            db.session.commit()
        line.sendall(USER)

    server.script = [last(VERSIONS), remove]
    answered = client.submit(CHECKS)
    assert answered.status_code == 404
    assert "deleted in the meantime" in answered.text


# --- what the browser carries ----------------------------------------------


def test_what_is_carried_says_nothing_secret(
    client: StrictClient, org: PracticeOrg, connected: int, app: Flask
) -> None:
    done = word_in(client.submit(CHECKS, htmx=True).text)
    assert done
    with app.app_context():
        record, _, steps = signer("checks").loads(done)
    assert (record, [step[0] for step in steps]) == (1, ["site"])
    assert TOKEN not in json.dumps(steps)


@pytest.mark.parametrize("done", ["", "x", "a.b.c", "é", "W10.aaaaaa.bbbb"])
def test_a_forged_word_goes_nowhere(
    client: StrictClient, server: Server, org_url: str, done: str
) -> None:
    answered = client.submit(NEXT, htmx=True, done=done)
    assert answered.status_code == 400
    assert "Press Test connection again." in answered.text
    assert server.requests == []


def test_a_word_is_for_one_browser_one_record_and_some_minutes(
    app: Flask,
    client: StrictClient,
    server: Server,
    org_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_application(app, application_name="Globex")
    done = word_in(client.submit(CHECKS, htmx=True).text)
    other = browser_of(app, "ada@orgdesk.example", Role.OPERATOR)
    assert other.submit(NEXT, htmx=True, done=done).status_code == 400
    path = NEXT.replace("1", "2")
    assert client.submit(path, htmx=True, done=done).status_code == 400
    monkeypatch.setattr("blueprints.checks.LIVES", -1)
    assert client.submit(NEXT, htmx=True, done=done).status_code == 400
    assert server.requests == []


def test_a_token_is_not_sent_to_another_host_than_the_one_that_gave_it(
    app: Flask, client: StrictClient, org_url: str, server: Server
) -> None:
    """An admin has moved the record since, and no login was made there."""
    change(app, access_token_domain="acme.my.salesforce.com")
    server.script = [last(VERSIONS)]
    page = press(client).text
    assert found(page)[2:] == [("Access token", "failed"), ("API", "not asked")]
    assert "of another Salesforce Domain" in said(page)
    assert TOKEN not in str(server.requests)
