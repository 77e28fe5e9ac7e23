"""What a test of a connection asks, and what it makes of any answer."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import (
    Client,
    Probe,
    parse_domain,
    probe_host,
    probe_limits,
    probe_token,
    transport,
)
from tests.servers import PracticeOrg, free_port, practice_org
from tests.test_practice_org import CALLBACK, granted
from tests.wire import CONSUMER_SECRET as SECRET
from tests.wire import Server, Step, answer, calling, drip, last, plain, reset, serving

TOKEN = "opaque-t0ken/of+the=tests"
VERSIONS = [
    {"label": "Summer '26", "url": "/services/data/v67.0", "version": "67.0"},
    {"label": "Winter '14", "url": "/services/data/v9.0", "version": "9.0"},
]
LIMITS = {"DailyApiRequests": {"Max": 15_000, "Remaining": 14_000}}
Kind = Callable[..., Probe]


def host(client: Client, deadline: float = 20) -> Probe:
    return probe_host(client, deadline=deadline)


def token(client: Client, deadline: float = 20) -> Probe:
    return probe_token(client, TOKEN, deadline=deadline)


def limits(client: Client, deadline: float = 20) -> Probe:
    return probe_limits(client, client.domain.origin, TOKEN, deadline=deadline)


KINDS: tuple[Kind, ...] = (host, token, limits)
each = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def own_process() -> Iterator[PracticeOrg]:
    with practice_org() as org:
        yield org


@pytest.fixture
def practice(own_process: PracticeOrg) -> PracticeOrg:
    own_process.switch()
    own_process.revoke_all()
    return own_process


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture
def org(server: Server) -> Server:
    server.script, server.requests = [], []
    return server


@pytest.fixture(autouse=True)
def caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    plain(monkeypatch)
    with calling() as app:
        yield app


def client_of(org: PracticeOrg) -> Client:
    return Client(parse_domain(org.address), CLIENT_ID, CONSUMER_SECRET, CALLBACK)


def all_of(org: PracticeOrg, access_token: str) -> list[Probe]:
    client = client_of(org)
    asked = probe_host(client, org.address)
    return [
        asked,
        probe_token(client, access_token),
        probe_limits(client, org.address, access_token, asked.version),
    ]


def found(org: Server, kind: Kind, *script: Step) -> Probe:
    org.script = list(script)
    return kind(org.client)


# An org


def test_all_is_well(practice: PracticeOrg) -> None:
    practice.switch(api_used=1_234)
    access_token = granted(practice, "full")["access_token"]
    practice.reset()
    asked, alive, left = all_of(practice, access_token)
    assert [probe.ok for probe in (asked, alive, left)] == [True, True, True]
    assert asked.sentence.endswith("newest API version is 67.0 (Summer '26).")
    assert (asked.version, left.used, left.maximum) == ("67.0", 1_234, 15_000)
    assert "1,234 of the 15,000 requests" in left.sentence
    for probe in (asked, alive, left):
        assert (probe.action, probe.code) == (None, None)
        assert probe.trip
        assert probe.trip.status == 200
        assert probe.trip.seconds > 0
    assert [(seen["path"], bool(seen["sent"])) for seen in practice.state()["log"]] == [
        ("/services/data", False),
        ("/services/oauth2/userinfo", True),
        ("/services/data/v67.0/limits", True),
    ]


def test_a_dead_token_is_told_from_a_host_that_answers(practice: PracticeOrg) -> None:
    asked, alive, left = all_of(practice, "00D000000000001!dead")
    assert (asked.ok, alive.ok, left.ok) == (True, False, False)
    assert (alive.code, left.code) == ("Bad_OAuth_Token", "INVALID_SESSION_ID")
    for probe in (alive, left):
        assert "does not take the access token" in probe.sentence
        assert "new access token" in str(probe.action)


def test_a_token_without_a_scope_is_not_dead(practice: PracticeOrg) -> None:
    _, alive, left = all_of(practice, granted(practice, "web")["access_token"])
    assert (alive.ok, alive.code) == (None, "insufficient_scope")
    assert "‘openid’" in str(alive.action)
    assert (left.ok, left.code) == (False, "INVALID_SESSION_ID")
    assert "not open the REST API" in left.sentence
    assert "‘api’" in str(left.action)


def test_an_org_may_have_no_requests_left(practice: PracticeOrg) -> None:
    access_token = granted(practice, "full")["access_token"]
    practice.switch(api_used=15_000)
    *_, left = all_of(practice, access_token)
    assert (left.ok, left.code) == (False, "REQUEST_LIMIT_EXCEEDED")
    assert "used up" in left.sentence


def test_an_outage_says_nothing_of_the_token(practice: PracticeOrg) -> None:
    access_token = granted(practice, "full")["access_token"]
    practice.switch(rest="outage")
    asked, alive, left = all_of(practice, access_token)
    assert (asked.ok, alive.ok, left.ok) == (False, True, None)
    assert asked.code == left.code == "<HTTP 503>"


# What leaves


def test_a_host_is_asked_without_a_token(org: Server) -> None:
    assert found(org, host, answer(VERSIONS)).version == "67.0"
    (request,) = org.requests
    assert request.line == "GET /services/data HTTP/1.1"
    assert "authorization" not in request.headers
    assert SECRET not in str(request)


@pytest.mark.parametrize("kind", [token, limits])
def test_the_token_leaves_in_a_header_alone(org: Server, kind: Kind) -> None:
    found(org, kind, answer({}))
    (request,) = org.requests
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in request.line
    assert request.body == b""


@pytest.mark.parametrize(
    ("version", "asked"),
    [("67.0", "67.0"), (None, "65.0"), ("", "65.0"), ("1/../../x", "65.0"),
     ("67.0\n", "65.0"), ("٣.0", "65.0"), ("9999.0", "65.0"), ("67", "65.0")],
)  # fmt: skip
def test_the_version_of_the_api_is_one(
    org: Server, version: str | None, asked: str
) -> None:
    org.script = [answer(LIMITS)]
    base = f"http://127.0.0.1:{org.port}/site/"
    assert probe_limits(org.client, base, TOKEN, version).ok
    (request,) = org.requests
    assert request.line == f"GET /site/services/data/v{asked}/limits HTTP/1.1"


@pytest.mark.parametrize("unsendable", ["", "a b", "a\r\nX: y", "é"])
def test_a_token_that_is_no_header_does_not_leave(org: Server, unsendable: str) -> None:
    address = f"http://127.0.0.1:{org.port}"
    for probe in (
        probe_token(org.client, unsendable),
        probe_limits(org.client, address, unsendable),
    ):
        assert (probe.ok, probe.code, probe.trip) == (False, "<unusable token>", None)
    assert org.requests == []


@each
def test_what_no_site_covers_is_not_called(
    org: Server, caller: Flask, kind: Kind
) -> None:
    transport.init_app(caller, lambda _: None)
    probe = kind(org.client)
    assert (probe.ok, probe.code) == (None if kind is token else False,
                                      "<no Remote Site>")  # fmt: skip
    assert "Remote Site" in str(probe.action)
    assert org.requests == []


@pytest.mark.parametrize(
    "address", ["acme.example", "http://acme.example", "file:///", " "]
)
def test_an_address_that_is_none_is_not_called(org: Server, address: str) -> None:
    for probe in (
        probe_host(org.client, address),
        probe_limits(org.client, address, TOKEN),
    ):
        assert (probe.ok, probe.code) == (False, "<unusable address>")
    assert org.requests == []


# What comes back


def rest(code: object, message: object = "x") -> bytes:
    return json.dumps([{"errorCode": code, "message": message}]).encode()


NO_REST = "This session is not valid for use with the REST API"
STEPS: list[tuple[Step, str, tuple[bool | None, bool | None, bool | None]]] = [
    # answer, code, what it means for the host, the token, the limits
    (answer(rest("INVALID_SESSION_ID"), "401 x"), "INVALID_SESSION_ID",
     (None, False, False)),
    (answer(rest("INVALID_SESSION_ID", NO_REST), "401 x"), "INVALID_SESSION_ID",
     (False, None, False)),
    (answer(rest("INVALID_SESSION_ID", NO_REST), "403 x"), "INVALID_SESSION_ID",
     (False, None, False)),
    (answer(rest("INVALID_SESSION_ID", ["x"]), "401 x"), "INVALID_SESSION_ID",
     (None, False, False)),
    (answer(rest("NO_AGENT", "Connected app is not attached to Agent"), "401 x"),
     "NO_AGENT", (False, None, False)),
    (answer(rest("INSUFFICIENT_ACCESS"), "403 x"), "INSUFFICIENT_ACCESS",
     (False, None, False)),
    (answer(rest("API_DISABLED_FOR_ORG"), "403 x"), "API_DISABLED_FOR_ORG",
     (False, None, False)),
    (answer(rest("REQUEST_LIMIT_EXCEEDED"), "403 x"), "REQUEST_LIMIT_EXCEEDED",
     (False, None, False)),
    (answer(rest("request_limit_exceeded"), "403 x"), "request_limit_exceeded",
     (False, None, False)),
    (answer({"error": "invalid_token", "error_description": 7}, "401 x"),
     "invalid_token", (None, False, False)),
    (answer(b"Bad_OAuth_Token", "403 x"), "Bad_OAuth_Token", (None, False, False)),
    (answer(b" Wrong_Org\n", "403 x"), "Wrong_Org", (None, False, False)),
    (answer(b"Bad_Id", "404 x"), "Bad_Id", (False, None, False)),
    (answer(b"", "401 x"), "<HTTP 401>", (None, False, False)),
    (answer(b"<html>", "403 x"), "<HTTP 403>", (False, None, False)),
    (answer(rest(""), "403 x"), "<HTTP 403>", (False, None, False)),
    (answer(rest({"a": 1}), "403 x"), "<HTTP 403>", (False, None, False)),
    (answer([], "404 x"), "<HTTP 404>", (False, None, False)),
    (answer(b"\xff", "400 x"), "<HTTP 400>", (False, None, False)),
    (answer(b"a_b" * 10_000, "400 x"), "<HTTP 400>", (False, None, False)),
    (answer(rest("INVALID_SESSION_ID"), "302 x", b"Location: https://evil.example"),
     "<HTTP 302>", (False, None, False)),
    (answer(VERSIONS, "201 x"), "<HTTP 201>", (False, None, False)),
    (answer(b"", "429 x", b"Retry-After: 7"), "<HTTP 429>", (False, None, None)),
    (answer(rest("INVALID_SESSION_ID"), "500 x"), "<HTTP 500>", (False, None, None)),
    (answer(b"<html>", "503 x"), "<HTTP 503>", (False, None, None)),
    (answer(b"<html>"), "<unusable answer>", (False, None, None)),
    (answer(b""), "<unusable answer>", (False, None, None)),
    (answer({}), "<unusable answer>", (False, None, None)),
    (answer([]), "<unusable answer>", (False, None, None)),
    (answer(b"null"), "<unusable answer>", (False, None, None)),
    (answer(b"[" * 30_000), "<unusable answer>", (False, None, None)),
    (answer(b'[{"version":' * 2_000), "<unusable answer>", (False, None, None)),
    (answer(b" " * 40_000), "<too large>", (False, None, None)),
    (last(answer(b"[]", length=99)), "<lost>", (False, None, None)),
    (reset, "<lost>", (False, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("step", "code", "meant"), STEPS)
def test_what_is_no_success_is_told_in_words(
    org: Server, step: Step, code: str, meant: tuple[bool | None, ...]
) -> None:
    probes = [found(org, kind, step) for kind in KINDS]
    assert [(probe.ok, probe.code) for probe in probes] == [(ok, code) for ok in meant]
    for probe in probes:
        assert probe.sentence.endswith((".", ")"))
        assert "evil" not in probe.sentence
        assert probe.action or (probe.ok, probe.sentence[:8]) == (None, "The host")
        assert probe.trip
        assert (probe.version, probe.used, probe.maximum) == (None, None, None)


def test_a_wait_is_said(org: Server) -> None:
    step = answer(b"", "429 x", b"Retry-After: 7")
    for kind in KINDS:
        probe = found(org, kind, step)
        assert "in 7 seconds" in probe.sentence
        assert probe.trip
        assert probe.trip.retry_after == 7


@each
def test_nothing_answers(kind: Kind) -> None:
    domain = parse_domain(f"http://127.0.0.1:{free_port()}")
    probe = kind(Client(domain, CLIENT_ID, SECRET, CALLBACK))
    assert (probe.ok, probe.code) == (False if kind is host else None, "<unreachable>")


@each
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", answer(b"", length=99)])
def test_a_dripping_answer_ends_in_time(org: Server, kind: Kind, first: bytes) -> None:
    org.script = [drip(first, b" ", threading.Event())]
    began = time.monotonic()
    probe = kind(org.client, 0.15)
    assert time.monotonic() - began < 1
    assert (probe.ok, probe.code) == (False if kind is host else None, "<timeout>")


@each
def test_nothing_leaves_when_the_time_is_up(org: Server, kind: Kind) -> None:
    began = time.monotonic()
    assert not kind(org.client, -5).ok
    assert time.monotonic() - began < 0.5
    assert org.requests == []


@pytest.mark.parametrize(
    ("versions", "version", "words"),
    [
        ([{"version": "67.0"}], "67.0", "is 67.0."),
        ([{"version": "9.0"}, {"version": "10.0"}], "10.0", "is 10.0."),
        (["x", {}, {"version": 99.0}, {"version": "65.0", "label": 7}], "65.0",
         "is 65.0."),
        ([{"version": "65.0", "label": "<b>\x00\u202e" + "x" * 999}], "65.0",
         "(<b>\ufffd\ufffd" + "x" * 35 + ")."),
        ([{"version": "65.0", "label": SECRET}], "65.0", "(fingerprint"),
    ],
)  # fmt: skip
def test_the_newest_version_is_found(
    org: Server, versions: object, version: str, words: str
) -> None:
    probe = found(org, host, answer(versions))
    assert (probe.ok, probe.version) == (True, version)
    assert words in probe.sentence


@pytest.mark.parametrize(
    "versions",
    [["67.0"], [{"version": "67"}], [{"version": ["67.0"]}], [{"version": "67.0\n"}],
     [{"version": "x" * 999}], [{"Version": "67.0"}], {"version": "67.0"}],
)  # fmt: skip
def test_a_list_without_a_version_is_no_orgs(org: Server, versions: object) -> None:
    probe = found(org, host, answer(versions))
    assert (probe.ok, probe.code) == (False, "<unusable answer>")


@pytest.mark.parametrize(
    "daily",
    [None, [], 7, "15000", {}, {"Max": 5}, {"Remaining": 5}, {"Max": 5, "Remaining": 6},
     {"Max": -1, "Remaining": -1}, {"Max": "5", "Remaining": 5},
     {"Max": 5.0, "Remaining": 5}, {"Max": True, "Remaining": False},
     {"Max": 10**13, "Remaining": 1},
     {"Max": 5, "Remaining": -1}, {"Max": 10**400, "Remaining": 1}],
)  # fmt: skip
def test_limits_that_are_no_numbers_are_not_told(org: Server, daily: object) -> None:
    probe = found(org, limits, answer({"DailyApiRequests": daily}))
    assert (probe.ok, probe.code, probe.used) == (None, "<unusable answer>", None)


def test_all_requests_may_be_left_or_none(org: Server) -> None:
    for left, used in ((15, 0), (0, 15)):
        daily = {"Max": 15, "Remaining": left}
        probe = found(org, limits, answer({"DailyApiRequests": daily}))
        assert (probe.ok, probe.used, probe.maximum) == (True, used, 15)


@each
@pytest.mark.parametrize("status", ["200 OK", "401 x", "403 x", "503 x"])
@pytest.mark.parametrize("secret", [TOKEN, SECRET, "00D000000000001!" + "x" * 40])
def test_a_secret_that_comes_back_is_not_shown(
    org: Server, kind: Kind, status: str, secret: str
) -> None:
    for body in (
        rest(secret, secret),
        rest("a" * 75 + secret, "b" * 290 + secret),
        json.dumps([{"version": "65.0", "label": secret}]).encode(),
    ):
        probe = found(org, kind, answer(body, status))
        if kind is not host or secret != TOKEN:  # which it was not sent
            assert secret[:12] not in str(probe)


WORDS = [*(TOKEN, SECRET, "version", "67.0", "errorCode", "INVALID_SESSION_ID"),
         *("DailyApiRequests", "Max", "Remaining", "user_id", "label")]  # fmt: skip
JSON = st.recursive(
    st.sampled_from(WORDS) | st.integers() | st.booleans() | st.text(max_size=9),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(WORDS), inner),
    max_leaves=6,
)


@pytest.mark.usefixtures("caller")
@given(
    body=st.binary(max_size=30) | JSON.map(lambda value: json.dumps(value).encode()),
    status=st.sampled_from([200, 200, 201, 302, 400, 401, 403, 404, 429, 500]),
)
def test_any_answer_makes_a_probe(server: Server, body: bytes, status: int) -> None:
    for kind in (token, limits, host):
        probe = found(server, kind, answer(body, f"{status} x"))
        shown = [probe.sentence, str(probe.action), str(probe.code)]
        assert all(len(text) < 600 for text in shown)
        secrets: tuple[Any, ...] = (SECRET,) if kind is host else (SECRET, TOKEN)
        for text in shown:
            assert text.encode().decode() == text
            assert not [secret for secret in secrets if secret in text]
        assert probe.ok in (True, False, None)
        assert status == 200 or not probe.ok
