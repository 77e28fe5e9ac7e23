"""Whose a token is: asked of the org, shown, and never trusted."""

import html
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask

from database import db, now
from models import ExpirySource
from salesforce import State
from tests.conftest import CLICK, StrictClient, add_application, connect, load
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_authorizations import change
from tests.wire import Request, Server, Step, answer, by_path, serving, silence

PAGE = "/applications/1"


def said(client: StrictClient) -> str:
    return html.unescape(words(client.get(PAGE).text))


def test_after_a_login_the_page_says_whose_access_it_is(
    app: Flask, client: StrictClient, connected: int
) -> None:
    page = said(client)
    assert "Organization Practice Org 00D000000000001EAA" in page
    assert ("User Ada Admin STANDARD admin@practice.example 005000000000001AAA") in page
    assert load(app, 1).identity_read_at


def test_a_refresh_asks_again_after_a_week_and_not_before(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    asked = len(org.requests_of("/userinfo"))
    org.switch(organization_name="Renamed")
    client.submit(CLICK, htmx=True)
    assert len(org.requests_of("/userinfo")) == asked
    change(app, identity_read_at=now() - timedelta(days=8))
    client.submit(CLICK, htmx=True)
    assert len(org.requests_of("/userinfo")) == asked + 1
    assert load(app, 1).organization_name == "Renamed"


def test_a_page_less_token_is_asked_about_too(
    app: Flask, client: StrictClient, practice_record: int
) -> None:
    change(app, flow="client_credentials")
    client.submit(CLICK, htmx=True)
    assert load(app, 1).org_username == "integration@practice.example"


@pytest.mark.parametrize(
    ("scopes", "username", "organization"),
    [
        ("refresh_token id", "admin@practice.example", None),
        ("refresh_token api", None, "Practice Org"),
        ("refresh_token", None, None),
        ("full refresh_token", "admin@practice.example", "Practice Org"),
    ],
)
def test_no_more_is_asked_than_the_scopes_open(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    practice_record: int,
    scopes: str,
    username: str | None,
    organization: str | None,
) -> None:
    change(app, requested_scopes=scopes)
    connect(client, org)
    record = load(app, 1)
    assert (record.org_username, record.organization_name) == (username, organization)
    assert record.organization_id == "00D000000000001EAA"
    assert not [
        seen for seen in org.requests_of("/userinfo")[-1:] if seen["status"] == 403
    ]


def test_names_of_any_length_and_kind_are_cut_and_shown_as_text(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    org.switch(organization_name="<b onload=x>\u202e\x00" + "x" * 10_000)
    connect(client, org)
    page = client.get(PAGE).text
    assert "<b onload" not in page
    assert "&lt;b onload=x&gt;" in page
    assert "\x00" not in page
    assert len(load(app, 1).organization_name or "") <= 255


def test_a_token_that_the_org_calls_somebody_elses_is_said_so(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    change(app, identity_read_at=None)
    org.switch(fault="missing_fields", wrong_user=True)
    client.submit(CLICK, htmx=True)
    assert "is of somebody else than its answer named" in said(client)
    record = load(app, 1)
    assert (record.display_name, record.user_id) == (None, "005000000000001AAA")


def test_an_org_that_sends_no_id_is_asked_for_the_ids(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    change(app, flow="client_credentials", instance_url=org.address)
    org.switch(fault="missing_fields")
    client.submit(CLICK, htmx=True)
    record = load(app, 1)
    assert record.organization_id == "00D000000000001EAA"
    assert record.user_id == "005000000000002AAA"


@pytest.mark.parametrize(
    "word", ["ADMIN@practice", "ada admin", "practice org", "005000000000001AAA"]
)
def test_the_list_finds_a_record_by_whose_access_it_is(
    client: StrictClient, connected: int, word: str
) -> None:
    page = client.get("/", query_string={"q": word}).text
    assert f'href="{PAGE}"' in page


# --- names that are secrets ------------------------------------------------

ORGANIZATION, ADA, EVE = "00D000000000001EAA", "005000000000001AAA", "005000000000009"
CODE, REFRESH, HEIR = "code-of-a-login", "refresh-token-of-a-login", "heir-of-a-refresh"


@pytest.fixture
def server(app: Flask) -> Iterator[Server]:
    """An org that answers as it is told, and the only one of record 1."""
    with serving() as server:
        address = f"http://127.0.0.1:{server.port}"
        add_application(app, salesforce_domain=address, requested_scopes="id")
        yield server


def play(server: Server, refresh_token: str, user: str = ADA, **names: str) -> None:
    url = f"http://127.0.0.1:{server.port}/id/{ORGANIZATION}/{user}"
    token = {"access_token": f"access-beside-{refresh_token}", "scope": "id"}
    token |= {"refresh_token": refresh_token, "id": url}
    who = {"user_id": user, "organization_id": ORGANIZATION} | names
    answers = {"/token": answer(token), "/userinfo": answer(who)}
    server.script = [by_path(answers)] * 20


def log_in(client: StrictClient) -> None:
    url = client.submit(CLICK, log_in="1").location
    state = parse_qs(urlsplit(url).query)["state"][0]
    assert client.get(f"/callback?state={state}&code={CODE}").status_code == 303


def whatever_is_stored(app: Flask) -> str:
    tables = "external_application", "held_token", "approval", "attempt", "audit_event"
    with app.app_context():
        rows = [db.session.execute(db.text(f"SELECT * FROM {one}")) for one in tables]
        return str([row for found in rows for row in found.all()])


def test_a_secret_is_nobodys_name(
    app: Flask, client: StrictClient, server: Server
) -> None:
    play(server, REFRESH, name=f"I am {REFRESH}", preferred_username=CODE)
    log_in(client)
    record = load(app, 1)
    assert str(record.display_name).startswith("I am (fingerprint")
    for text in (client.get(PAGE).text, whatever_is_stored(app)):
        assert REFRESH not in text
        assert CODE not in text


def test_nor_is_it_the_name_of_whose_token_is_held(
    app: Flask, client: StrictClient, server: Server
) -> None:
    play(server, REFRESH)
    log_in(client)
    play(server, HEIR, EVE, name=HEIR, preferred_username=REFRESH, user_type=CODE)
    log_in(client)
    page = client.get(PAGE).text
    assert "A token is held" in page
    for text in (page, whatever_is_stored(app)):
        for secret in (CODE, REFRESH, HEIR):
            assert secret not in text


def test_nor_is_it_where_the_org_is_asked_after_a_refresh(
    app: Flask, client: StrictClient, server: Server
) -> None:
    play(server, REFRESH)
    log_in(client)
    change(app, identity_read_at=None)
    play(server, HEIR, name=HEIR, preferred_username=CODE)
    client.submit(CLICK, htmx=True)
    assert str(load(app, 1).display_name).startswith("(fingerprint")
    assert HEIR not in whatever_is_stored(app)


def test_an_id_that_is_a_secret_is_none(
    app: Flask, client: StrictClient, server: Server
) -> None:
    play(server, REFRESH, organization_id=REFRESH)
    log_in(client)
    assert load(app, 1).organization_id == ORGANIZATION
    assert REFRESH not in whatever_is_stored(app)


def test_a_token_that_is_held_is_a_secret_of_the_record_too(
    app: Flask, client: StrictClient, server: Server
) -> None:
    play(server, REFRESH)
    log_in(client)
    play(server, HEIR, EVE)
    log_in(client)
    said = {"error": "x", "error_description": f"{HEIR} access-beside-{HEIR}"}
    server.script = [by_path({"/token": answer(said, "400 Bad Request")})] * 9
    client.submit(CLICK, htmx=True)
    for text in (client.get(PAGE).text, whatever_is_stored(app)):
        assert HEIR not in text
    assert "(The org said: x: (fingerprint" in str(load(app, 1).last_error)


# --- an org that is slow ---------------------------------------------------


def slow(step: Step, seconds: float) -> Step:
    def later(line: socket.socket, request: Request) -> None:
        time.sleep(seconds)
        assert callable(step)
        step(line, request)

    return later


def asked_of(server: Server) -> list[str]:
    return [one.line.split()[1].rpartition("/")[2] for one in server.requests]


def test_what_is_only_good_to_know_is_not_asked_when_the_time_is_over(
    app: Flask, client: StrictClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempts.PATIENCE", 1.4)
    play(server, REFRESH)
    server.script[0] = slow(server.script[0], 0.7)
    log_in(client)
    assert asked_of(server) == ["token"]
    record = load(app, 1)
    assert (record.state, record.org_username) == (State.CONNECTED, None)
    assert record.expiry_source is ExpirySource.ASSUMED
    monkeypatch.undo()
    client.submit(CLICK, htmx=True)
    assert asked_of(server)[1:] == ["token", "introspect", "userinfo"]


def test_an_org_that_hangs_after_its_token_is_asked_once(
    app: Flask, client: StrictClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempts.PATIENCE", 2.0)
    play(server, REFRESH)
    cut = threading.Event()
    server.script[1:] = [silence(b"", cut)] * 9
    log_in(client)
    assert asked_of(server) == ["token", "userinfo"]
    assert cut.wait(2)
    assert load(app, 1).state is State.CONNECTED


def test_a_grant_that_has_to_end_is_revoked_however_slow_the_org_was(
    client: StrictClient, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(server, REFRESH)
    log_in(client)
    server.requests.clear()
    monkeypatch.setattr("engine.attempts.PATIENCE", 1.4)
    play(server, HEIR)
    server.script[0] = slow(server.script[0], 0.7)
    log_in(client)
    assert asked_of(server) == ["token", "revoke"]
    assert server.requests[1].form == {"token": REFRESH}
