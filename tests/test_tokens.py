"""Revoking, introspecting and trying a token: what leaves, and what answers mean."""

import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from email.utils import formatdate
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

import logs
from salesforce import (
    Client,
    SalesforceError,
    State,
    introspect,
    is_alive,
    parse_domain,
    revoke,
    transport,
)
from salesforce.answers import read_introspection, read_revocation, read_userinfo
from tests.servers import free_port
from tests.wire import (
    CLIENT_ID,
    CONSUMER_SECRET,
    Server,
    Step,
    answer,
    calling,
    last,
    plain,
    reset,
    serving,
)

SECRET = "opaque-t0ken/of+the=tests"
DAY = timedelta(days=1)
ACTIVE = {"active": True, "scope": "api", "username": "a@acme.example"}


@pytest.fixture
def org() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    plain(monkeypatch)
    with calling() as app:
        yield app


def ask_about(client: Client) -> object:
    try:
        return introspect(client, SECRET, "access_token")
    except SalesforceError as error:
        return error


def end(client: Client) -> object:
    return revoke(client, SECRET)


def attempt(client: Client) -> object:
    return is_alive(client, SECRET)


each = pytest.mark.parametrize("ask", [end, ask_about, attempt])


def refusal(client: Client) -> SalesforceError:
    error = ask_about(client)
    assert isinstance(error, SalesforceError)
    return error


# What leaves


def test_a_token_is_revoked_in_the_body_of_a_post(org: Server) -> None:
    org.script = [answer(b"")]
    end(org.client)
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/revoke HTTP/1.1"
    assert request.form == {"token": SECRET}
    assert "authorization" not in request.headers


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("secret", [CONSUMER_SECRET, None])
def test_a_token_is_asked_about_with_the_app_in_the_body(
    org: Server, kind: Any, secret: str | None
) -> None:
    org.script = [answer(ACTIVE)]
    introspect(replace(org.client, client_secret=secret), SECRET, kind)
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/introspect HTTP/1.1"
    assert "authorization" not in request.headers
    assert request.form == {
        "token": SECRET,
        "token_type_hint": kind,
        "client_id": CLIENT_ID,
    } | ({"client_secret": secret} if secret else {})


def test_a_token_is_tried_in_a_header(org: Server) -> None:
    org.script = [answer({})]
    attempt(org.client)
    (request,) = org.requests
    assert request.line == "GET /services/oauth2/userinfo HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.body == b""


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é", "\ud800", "\x00"])
def test_a_token_that_makes_no_header_is_not_tried(org: Server, token: str) -> None:
    assert is_alive(org.client, token) is None
    assert org.connections == 0


@each
def test_a_site_is_asked_below_its_path(
    org: Server, ask: Callable[[Client], object]
) -> None:
    domain = parse_domain(f"localhost:{org.port}/portal")
    ask(replace(org.client, domain=domain))
    assert " /portal/services/oauth2/" in org.requests[0].line


# What comes back


@pytest.mark.parametrize("body", [b"", b"{}", b"\n", {"success": True}, b"revoked"])
def test_a_token_is_gone_with_a_200(org: Server, body: object) -> None:
    org.script = [answer(body)]
    result = revoke(org.client, SECRET)
    assert (result.gone, result.already, result.code) == (True, False, None)
    assert result.sentence == "The org revoked the token."
    assert result.trip
    assert result.trip.status == 200


def test_a_token_that_the_org_does_not_know_is_gone_already(org: Server) -> None:
    org.script = [answer({"error": "invalid_token"}, "400 Bad Request")]
    result = revoke(org.client, SECRET)
    assert (result.gone, result.already) == (True, True)
    assert result.code == "invalid_token"
    assert result.trip
    assert result.trip.status == 400


@pytest.mark.parametrize(
    ("step", "code"),
    [(answer({"error": "unsupported_token_type"}, "400 Bad Request"),
      "unsupported_token_type"),
     (answer({"error": "invalid_token"}, "401 Unauthorized"), "invalid_token"),
     (answer({"error": "invalid_token"}), "<unusable answer>"),
     (answer(b"<html>Maintenance</html>"), "<unusable answer>"),
     (answer(b" \n<!doctype html>"), "<unusable answer>"),
     (answer(b"<html>", "404 Not Found"), "<HTTP 404>"),
     (answer(b"", "204 No Content"), "<HTTP 204>"),
     (answer(b"", "302 Found", b"Location: /"), "<HTTP 302>"),
     (answer(b"", "503 Down", b"Retry-After: 9"), "<HTTP 503>"),
     (answer({"error": "invalid_token"}, "500 Oops"), "<HTTP 500>"),
     (answer(b" " * 40_000), "<too large>"),
     (reset, "<lost>"), (last(b"HTT"), "<lost>")],
)  # fmt: skip
def test_a_token_that_may_not_be_gone_may_still_work(
    org: Server, step: Step, code: str
) -> None:
    org.script = [step]
    result = revoke(org.client, SECRET)
    assert (result.gone, result.already, result.code) == (False, False, code)
    assert result.sentence.startswith("The token may still work, until it is revoked")
    assert len(result.sentence) > 120
    assert result.trip
    assert ("in 9 seconds" in result.sentence) == (result.trip.retry_after == 9)


def test_where_nobody_answers_nothing_is_gone(org: Server, caller: Flask) -> None:
    client = replace(org.client, domain=parse_domain(f"127.0.0.1:{free_port()}"))
    result = revoke(client, SECRET)
    assert (result.gone, result.code) == (False, "<unreachable>")
    assert result.trip
    assert is_alive(client, SECRET) is None
    error = refusal(client)
    assert (error.code, error.refused) == ("<unreachable>", False)
    transport.init_app(caller, lambda _: None)
    result = revoke(org.client, SECRET)
    assert (result.gone, result.code) == (False, "<no Remote Site>")
    assert "no Remote Site covers" in result.sentence
    assert result.trip is None
    assert is_alive(org.client, SECRET) is None
    assert (refusal(org.client).refused, org.connections) == (False, 0)


@pytest.mark.parametrize(
    ("fields", "active", "left"),
    [({"active": False}, False, None), ({"active": False, "exp": 7_200}, False, None),
     ({"active": True}, True, None), ({"active": True, "exp": None}, True, None),
     ({"active": True, "exp": 7_200}, True, timedelta(hours=2)),
     ({"active": True, "exp": "7200"}, True, timedelta(hours=2)),
     ({"active": True, "exp": 0}, True, timedelta(0)),
     ({"active": True, "exp": -1}, True, None),
     ({"active": True, "exp": 3_650 * 86_400 + 9}, True, None)],
)  # fmt: skip
@pytest.mark.parametrize("ahead", [0, 3_600, None])
def test_how_long_a_token_has_is_told_by_the_orgs_clock(
    fields: dict[str, Any],
    active: bool,
    left: timedelta | None,
    ahead: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 1_776_427_200
    monkeypatch.setattr(time, "time", lambda: clock)
    there = clock + (ahead or 0)
    if fields.get("exp") is not None:
        kind = type(fields["exp"])
        fields = fields | {"exp": kind(int(fields["exp"]) + there)}
    date = "nonsense" if ahead is None else formatdate(there, usegmt=True)
    result = read_introspection(
        200, {"Date": date}, json.dumps(fields).encode(), (), seconds=1.5
    )
    assert (result.active, result.remaining) == (active, left)
    assert result.trip.seconds == 1.5


@pytest.mark.parametrize(
    "end_", [True, 1.5, "soon", [], {}, 10**400, "9" * 20, -5, 1_776_427_200_000, ""]
)
def test_an_end_that_cannot_be_is_none(end_: object) -> None:
    body = json.dumps({"active": True, "exp": end_}).encode()
    result = read_introspection(200, {}, body, (), seconds=0)
    assert (result.active, result.remaining) == (True, None)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"<html>", {}, {"active": "true"}, {"active": 1},
             {"active": None}, {"error": "x"}, b'{"active": true', b"[" * 30_000]
)  # fmt: skip
def test_an_answer_that_does_not_tell_is_unusable(org: Server, body: object) -> None:
    org.script = [answer(body)]
    error = refusal(org.client)
    assert (error.state, error.code) == (State.UNREACHABLE, "<unusable answer>")
    assert not error.refused
    assert error.response is not None


@pytest.mark.parametrize(
    ("step", "refused"),
    [(answer({"error": "invalid_client"}, "401 Unauthorized"), True),
     (answer({"error": "invalid_client_id"}, "400 Bad Request"), True),
     (answer({"error": "brand_new"}, "403 Forbidden"), True),
     (answer(b"<html>", "404 Not Found"), True), (answer(b"", "405 No"), True),
     (answer(b"", "403 Forbidden"), True), (answer(b"", "302 Found"), False),
     (answer({"error": "rate_limit_exceeded"}, "400 Bad Request"), False),
     (answer(b"", "429 Slow Down"), False), (answer(b"", "503 Down"), False),
     (answer({"error": "invalid_client"}, "500 Oops"), False), (reset, False)],
)  # fmt: skip
def test_no_and_not_now_are_told_apart(org: Server, step: Step, refused: bool) -> None:
    org.script = [step]
    assert refusal(org.client).refused is refused


@pytest.mark.parametrize(
    ("step", "alive"),
    [(answer({"sub": "x"}), True), (answer({}), True), (answer({"error": "x"}), None),
     (answer(b"<html>Log in</html>"), None), (answer(b""), None), (answer([]), None),
     (answer(b"", "401 Unauthorized"), False),
     (answer([{"errorCode": "INVALID_SESSION_ID"}], "401 Unauthorized"), False),
     (answer(b"Bad_OAuth_Token", "403 Forbidden"), False),
     (answer(b"<p>Bad_OAuth_Token</p>", "403 Forbidden"), False),
     (answer(b"Missing_OAuth_Token", "403 Forbidden"), None),
     (answer(b"", "403 Forbidden"), None), (answer(b"Bad_OAuth_Token", "400 No"), None),
     (answer(b"Bad_OAuth_Token", "503 Down"), None), (answer({}, "201 Made"), None),
     (answer(b"", "302 Found"), None), (answer(b"", "404 Not Found"), None),
     (answer(b"", "429 Slow"), None), (answer(b" " * 40_000), None), (reset, None)],
)  # fmt: skip
def test_a_token_is_alive_dead_or_nobody_knows(
    org: Server, step: Step, alive: bool | None
) -> None:
    org.script = [step]
    assert is_alive(org.client, SECRET) is alive


@given(
    body=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["active", "exp", "error", "x"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode()),
    status=st.sampled_from([200, 302, 400, 401, 403, 503]),
    date=st.text(),
)
def test_any_answer_is_read_or_refused(body: bytes, status: int, date: str) -> None:
    headers = {"Date": date, "Retry-After": date}
    for read in (read_introspection, read_revocation, read_userinfo):
        with suppress(SalesforceError):
            read(status, headers, body, (SECRET,), seconds=0)


# Bounds and secrets


@pytest.mark.parametrize(
    "ask",
    [
        lambda client, seconds: revoke(client, SECRET, deadline=seconds),
        lambda client, seconds: is_alive(client, SECRET, deadline=seconds),
        lambda client, seconds: introspect(
            client, SECRET, "access_token", deadline=seconds
        ),
    ],
)
def test_the_deadline_holds(org: Server, ask: Callable[..., object]) -> None:
    org.script = [lambda line, _: line.recv(1) and None]
    began = time.monotonic()
    with suppress(SalesforceError):
        ask(org.client, 0.3)
    assert 0.3 <= time.monotonic() - began < 0.8


@each
@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "503 Down"])
def test_a_token_that_is_sent_back_is_kept_and_logged_nowhere(
    org: Server,
    ask: Callable[[Client], object],
    status: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    logs.redact_records()
    echo = {"error": f"no {SECRET}", "error_description": f"{SECRET} {CONSUMER_SECRET}"}
    # A header that cannot be parsed is logged by urllib3 as it came.
    org.script = [answer(echo, status, f"odd {SECRET} {SECRET}".encode())]
    result = ask(org.client)
    said = caplog.text + repr([vars(record) for record in caplog.records])
    shown = [repr(result), str(result), said, repr(getattr(result, "response", None))]
    assert "Failed to parse headers" in said
    assert not [text for text in shown if re.search("opaque-t0ken|consumer-sec", text)]
    assert logging.getLogger("urllib3").isEnabledFor(logging.WARNING)
