"""The requests as they leave, and answers of every bad kind, on the wire."""

import base64
import gzip
import hashlib
import ipaddress
import json
import logging
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask

from salesforce import transport
from salesforce.answers import TokenAnswer
from salesforce.errors import SalesforceError
from salesforce.hosts import parse_domain
from salesforce.oauth import (
    authorization_request,
    exchange_code,
    refresh_access_token,
)
from salesforce.session import Client
from salesforce.states import State
from salesforce.transport import LARGEST_ANSWER, quiet_loggers
from tests.servers import ROOT, free_port
from tests.wire import (
    CALLBACK,
    CLIENT_ID,
    CONSUMER_SECRET,
    TOKEN,
    Listed,
    Request,
    Server,
    Step,
    answer,
    calling,
    drip,
    last,
    plain,
    reset,
    serving,
    silence,
)

CODE = "aPrxY3.bXkZt0Q_7w=="
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
REFRESH_TOKEN = "5Aep861KIwKdekr90I4iHdZDgYwfoH7O_5RGiaLLt.JxT8v2bQ1nP5Kx0"
SECRETS = (CONSUMER_SECRET, CODE, VERIFIER, REFRESH_TOKEN, *list(TOKEN.values())[:2])
MIB = 1024 * 1024
SOON = 0.4
"""Seconds that a deadline lasts in these tests."""


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """Start servers, and end them after the test."""
    with ExitStack() as running:
        yield lambda tls=None: running.enter_context(serving(tls))


@pytest.fixture
def org(start: Callable[..., Server]) -> Server:
    return start()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    plain(monkeypatch)


@pytest.fixture(autouse=True)
def caller() -> Iterator[Flask]:
    with calling() as app:
        yield app


@pytest.fixture
def short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "DEADLINE", SOON)


def exchange(client: Client) -> TokenAnswer:
    return exchange_code(client, CODE, VERIFIER)


def refresh(client: Client) -> TokenAnswer:
    return refresh_access_token(client, REFRESH_TOKEN)


Ask = Callable[[Client], TokenAnswer]
both = pytest.mark.parametrize("ask", [exchange, refresh])


def failure(ask: Ask, client: Client) -> SalesforceError:
    with pytest.raises(SalesforceError) as failed:
        ask(client)
    error = failed.value
    shown = str(error), repr(error), error.code, str(error.response)
    assert not [secret for secret in SECRETS for text in shown if secret in text]
    return error


# What leaves


def test_the_login_page_is_asked_for_all_that_it_takes() -> None:
    client = Client(parse_domain("acme.my.site.com/portal"), "id&=", "x", CALLBACK)
    request = authorization_request(
        client, scope="api refresh_token", prompt_login=True
    )
    address, _, query = request.url.partition("?")
    assert address == "https://acme.my.site.com/portal/services/oauth2/authorize"
    digest = hashlib.sha256(request.code_verifier.encode()).digest()
    assert parse_qs(query, strict_parsing=True) == {
        "response_type": ["code"],
        "client_id": ["id&="],
        "redirect_uri": [CALLBACK],
        "scope": ["api refresh_token"],
        "state": [request.state],
        "code_challenge": [base64.urlsafe_b64encode(digest).decode().rstrip("=")],
        "code_challenge_method": ["S256"],
        "prompt": ["login"],
    }


@pytest.mark.parametrize("scope", [None, ""])
def test_without_scopes_and_prompt_the_org_decides(scope: str | None) -> None:
    client = Client(parse_domain("http://localhost:1/x"), CLIENT_ID, None, CALLBACK)
    url = authorization_request(client, scope=scope, prompt_login=False).url
    assert url.startswith("http://localhost:1/x/services/oauth2/authorize?")
    assert not {"scope", "prompt"} & set(parse_qs(urlsplit(url).query))


def test_each_login_has_a_state_and_a_verifier_that_salesforce_takes() -> None:
    client = Client(parse_domain("localhost"), CLIENT_ID, None, CALLBACK)
    logins = [
        authorization_request(client, scope=None, prompt_login=True) for _ in range(200)
    ]
    for login in logins:
        assert re.fullmatch(r"[A-Za-z0-9_-]{43,128}", login.code_verifier)
        assert re.fullmatch(r"[A-Za-z0-9_-]{43,128}", login.state)
    assert len({text for it in logins for text in (it.state, it.code_verifier)}) == 400


def test_a_code_is_exchanged_with_everything_in_the_body(org: Server) -> None:
    assert exchange(org.client).access_token == TOKEN["access_token"]
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/token HTTP/1.1"
    assert request.headers["host"] == f"127.0.0.1:{org.port}"
    assert "authorization" not in request.headers
    assert request.form == {
        "grant_type": "authorization_code",
        "code": CODE,
        "code_verifier": VERIFIER,
        "redirect_uri": CALLBACK,
        "client_id": CLIENT_ID,
        "client_secret": CONSUMER_SECRET,
    }


def test_a_refresh_has_everything_in_the_body_and_no_scope(org: Server) -> None:
    assert refresh(org.client).refresh_token == TOKEN["refresh_token"]
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/token HTTP/1.1"
    assert "authorization" not in request.headers
    assert request.headers["accept"] == "application/json"
    assert request.form == {
        "grant_type": "refresh_token",
        "refresh_token": REFRESH_TOKEN,
        "client_id": CLIENT_ID,
        "client_secret": CONSUMER_SECRET,
    }


@both
def test_an_app_without_a_secret_sends_none(org: Server, ask: Ask) -> None:
    ask(replace(org.client, client_secret=None))
    (request,) = org.requests
    assert "client_secret" not in request.form
    assert request.form["client_id"] == CLIENT_ID
    assert "authorization" not in request.headers


@both
def test_a_site_is_asked_below_its_path(org: Server, ask: Ask) -> None:
    domain = parse_domain(f"localhost:{org.port}/portal/s/login")
    ask(replace(org.client, domain=domain))
    assert org.requests[0].line == "POST /portal/services/oauth2/token HTTP/1.1"


@both
def test_nothing_of_a_call_is_left_for_the_next(org: Server, ask: Ask) -> None:
    org.script = [answer(TOKEN, "200 OK", b"Set-Cookie: sid=1; Path=/"), answer(TOKEN)]
    ask(org.client)
    ask(replace(org.client, client_id="another", client_secret=None))
    first, second = org.requests
    assert "cookie" not in second.headers
    assert second.form["client_id"] == "another"
    assert first.headers.keys() == second.headers.keys()


@both
def test_a_netrc_is_not_read(
    org: Server, ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\nlogin admin\npassword hunter2\n")
    monkeypatch.setenv("NETRC", str(netrc))
    ask(org.client)
    assert "authorization" not in org.requests[0].headers


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_proxy_is_asked_for_this_machine(
    start: Callable[..., Server],
    ask: Ask,
    host: str,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    domain = parse_domain(f"{scheme}://{host}:{free_port()}")
    error = failure(ask, replace(proxy.client, domain=domain))
    assert error.code == "<unreachable>"
    assert proxy.connections == 0


@both
def test_a_proxy_is_asked_for_every_other_host_and_sees_no_secret(
    start: Callable[..., Server], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = start()
    proxy.script = [answer(b"", "502 Bad Gateway")]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    domain = parse_domain("acme.my.salesforce.com")
    error = failure(ask, replace(proxy.client, domain=domain))
    assert (error.code, error.answer_lost) == ("<unreachable>", False)
    (request,) = proxy.requests
    assert request.line.startswith("CONNECT acme.my.salesforce.com:443 ")
    assert request.body == b""


@both
@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "http:///", "http://[::1"])
def test_a_proxy_setting_that_cannot_be_used_loses_no_answer(
    ask: Ask, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    domain = parse_domain("acme.my.salesforce.com")
    error = failure(ask, Client(domain, CLIENT_ID, CONSUMER_SECRET, CALLBACK))
    assert error.state is State.UNREACHABLE
    assert not error.answer_lost


@both
def test_nothing_secret_is_logged(
    org: Server, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (None, "requests_oauthlib", "oauthlib", "urllib3", "requests"):
        caplog.set_level(logging.DEBUG, name)
    quiet_loggers()
    ask(org.client)
    org.script = [answer({"error": "invalid_grant"}, "400 Bad Request"), last(b"HTT")]
    failure(ask, org.client)
    failure(ask, org.client)
    logging.getLogger("tests").debug("this is seen")
    said = caplog.text + "".join(repr(record.__dict__) for record in caplog.records)
    assert "this is seen" in said
    assert not [secret for secret in (*SECRETS, "consumer-secret") if secret in said]


@both
@pytest.mark.parametrize(
    "step", [answer({"error": "x"}, "400 Bad Request"), last(b""), answer([]), reset]
)
def test_a_traceback_holds_no_secret(org: Server, ask: Ask, step: Step) -> None:
    org.script = [step]
    error = failure(ask, org.client)
    lines = "".join(traceback.format_exception(error))
    assert not [secret for secret in (*SECRETS, "consumer-secret") if secret in lines]


def test_nothing_shows_its_secrets(org: Server) -> None:
    login = authorization_request(org.client, scope=None, prompt_login=True)
    for shown in (repr(org.client), repr(login), repr(refresh(org.client))):
        for secret in (*SECRETS, login.state, login.code_verifier):
            assert secret not in shown


# What comes back


@both
@pytest.mark.parametrize("scope", ["api", "id api refresh_token full", ""])
def test_scopes_that_were_not_asked_for_do_no_harm(
    org: Server, ask: Ask, scope: str
) -> None:
    org.script = [answer({**TOKEN, "scope": scope})]
    assert ask(org.client).scope == (scope or None)


@both
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(
    start: Callable[..., Server], org: Server, ask: Ask, status: int
) -> None:
    other = start()
    where = f"Location: http://127.0.0.1:{other.port}/services/oauth2/token".encode()
    org.script = [answer(TOKEN, f"{status} Elsewhere", where)]
    error = failure(ask, org.client)
    assert (error.state, error.code) == (State.MISCONFIGURED, f"<HTTP {status}>")
    assert (other.connections, len(org.requests)) == (0, 1)


@both
@pytest.mark.parametrize(
    "where", [b"http://[", b"\xff\xfe", b"", b"//", b"http://", b"http://a:b:c",
              b"https://a b", b"javascript:x", b"http://%zz"])  # fmt: skip
def test_a_redirect_to_nonsense_is_a_redirect(
    org: Server, ask: Ask, where: bytes
) -> None:
    org.script = [answer(b"", "302 Found", b"Location: " + where)]
    assert failure(ask, org.client).code == "<HTTP 302>"


@both
@pytest.mark.parametrize(
    ("status", "body", "state"),
    [("400 Bad Request", {"error": "invalid_grant"}, State.LOGIN_REQUIRED),
     ("401 Unauthorized", {"error": "invalid_client"}, State.MISCONFIGURED),
     ("404 Not Found", b"<h1>Not Found</h1>", State.MISCONFIGURED),
     ("429 Slow Down", b"", State.UNREACHABLE),
     ("500 Oops", TOKEN, State.UNREACHABLE),
     ("503 Maintenance", b"<h1>Down</h1>", State.UNREACHABLE),
     ("200 OK", {**TOKEN, "error": "x"}, State.UNREACHABLE)])  # fmt: skip
def test_the_status_counts_and_the_library_does_not_decide(
    org: Server, ask: Ask, status: str, body: object, state: State
) -> None:
    org.script = [answer(body, status, b"WWW-Authenticate: Basic", b"Retry-After: 7")]
    error = failure(ask, org.client)
    assert error.state is state
    assert error.answer_lost is status.startswith("500")  # it may have been done
    assert ("in 7 seconds" in str(error)) == (status[0] in "5" or status[:3] == "429")
    assert len(org.requests) == 1


@both
@pytest.mark.parametrize(
    "answered",
    [answer(TOKEN, "200 OK", b"Content-Type: text/html; charset=utf-16"),
     answer(TOKEN, "200 OK", b"Set-Cookie: \xff=\x01; expires=never"),
     answer(TOKEN, "200"),
     answer(gzip.compress(json.dumps(TOKEN).encode(), mtime=0), "200 OK",
            b"Content-Encoding: gzip"),
     b"HTTP/1.1 100 Continue\r\n\r\n" + answer(TOKEN),
     b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"10\r\n" + json.dumps(TOKEN).encode()[:16] + b"\r\n"
     b"%x\r\n" % (len(json.dumps(TOKEN)) - 16) + json.dumps(TOKEN).encode()[16:]
     + b"\r\n0\r\n\r\n"])  # fmt: skip
def test_an_honest_answer_is_read_however_it_comes(
    org: Server, ask: Ask, answered: bytes
) -> None:
    def byte_by_byte(line: socket.socket, _: Request) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in answered:
            line.sendall(bytes([byte]))

    org.script = [answered, byte_by_byte]
    assert ask(org.client).access_token == TOKEN["access_token"]
    assert ask(org.client).access_token == TOKEN["access_token"]


def test_an_answer_without_a_length_ends_with_the_connection(org: Server) -> None:
    org.script = [last(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(TOKEN).encode())]
    assert refresh(org.client).access_token == TOKEN["access_token"]


HALF = json.dumps(TOKEN).encode()[:40]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ZIPPED = b"Content-Encoding: gzip"
HALF_ZIPPED = gzip.compress(json.dumps(TOKEN).encode(), mtime=0)[:60]


@both
@pytest.mark.parametrize(
    "step",
    [last(b""), reset, last(b"HTTP/1."), last(b"HTTP/1.1 2"),
     last(answer(HALF, length=400)), last(CHUNKED + b"28\r\n" + HALF + b"\r\n"),
     last(CHUNKED + b"99\r\n" + HALF), last(CHUNKED + b"zz\r\n" + HALF),
     # not HTTP
     last(b"220 mail.example ESMTP\r\n"), last(b"SSH-2.0-x\r\n"), last(b"\x15\x03\1"),
     last(b"HTTP/1.1 abc OK\r\n\r\n"), last(b"HTTP/1.1 99999 OK\r\n\r\n"),
     last(b"HTTP/9.9 200 OK\r\n\r\n"), last(b"HTTP/1.1 200 OK" + b"x" * 70_000),
     last(answer(b"", "200 OK", *[b"A: b"] * 200)),
     last(answer(b"", "200 OK", b"A: " + b"b" * 70_000)),
     last(answer(TOKEN, "200 OK", b"Content-Length: 5")),
     last(answer(b"no gzip", "200 OK", ZIPPED))])  # fmt: skip
def test_an_answer_that_breaks_off_or_is_none_is_lost(
    org: Server, ask: Ask, step: Step
) -> None:
    org.script = [step]
    error = failure(ask, org.client)
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, True)
    assert error.code == "<lost>"
    assert len(org.requests) == 1


@both
@pytest.mark.parametrize(
    "answered",
    [b"HTTP/1.1 200 O", b"HTTP/1.1 200 OK\r\nContent-Len",
     b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n" + HALF,
     answer(HALF_ZIPPED, "200 OK", ZIPPED)])  # fmt: skip
def test_half_an_answer_that_claims_to_be_whole_is_lost_too(
    org: Server, ask: Ask, answered: bytes
) -> None:
    """The org may have replaced the refresh token, and the new one is not here."""
    org.script = [last(answered)]
    error = failure(ask, org.client)
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, True)


@both
def test_where_nobody_listens_no_answer_is_lost(org: Server, ask: Ask) -> None:
    domain = parse_domain(f"127.0.0.1:{free_port()}")
    error = failure(ask, replace(org.client, domain=domain))
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, False)
    assert error.code == "<unreachable>"


@both
@pytest.mark.usefixtures("short_deadline")
def test_where_no_such_host_is_no_answer_is_lost(org: Server, ask: Ask) -> None:
    domain = parse_domain("nowhere.invalid")
    error = failure(ask, replace(org.client, domain=domain))
    assert (error.code, error.answer_lost) == ("<unreachable>", False)


@both
def test_a_connection_is_for_one_request(org: Server, ask: Ask) -> None:
    """One that was kept may be closed just when the next request leaves."""
    for _ in range(3):
        ask(org.client)
    assert (org.connections, len(org.requests)) == (3, 3)
    assert {request.headers["connection"] for request in org.requests} == {"close"}


def test_answers_are_not_mixed_up_among_threads(org: Server, caller: Flask) -> None:
    def send_back(line: socket.socket, request: Request) -> None:
        time.sleep(0.01)
        token = {"access_token": request.form["refresh_token"]}
        line.sendall(answer(token, "200 OK", b"Connection: close"))

    org.script = [send_back] * 40

    def ask(refresh_token: str) -> TokenAnswer:
        with caller.app_context():
            return refresh_access_token(org.client, refresh_token)

    sent = [f"refresh-token-{at}" for at in range(40)]
    with ThreadPoolExecutor(20) as pool:
        answers = pool.map(ask, sent)
        assert [it.access_token for it in answers] == sent


@both
def test_a_request_tells_what_it_was_like(org: Server, ask: Ask) -> None:
    def slow(line: socket.socket, _: Request) -> None:
        time.sleep(0.2)
        line.sendall(answer(TOKEN, "200 OK", b"Date: Thu, 01 Jan 2037 00:00:00 GMT"))

    org.script = [slow, answer(b"", "503 Down", b"Retry-After: 7"), last(b"HTT")]
    trip = ask(org.client).trip
    assert trip
    assert (trip.status, trip.retry_after) == (200, None)
    assert 0.2 <= trip.seconds < 2
    assert trip.clock_skew
    assert trip.clock_skew > 0
    trip = failure(ask, org.client).trip
    assert trip
    assert (trip.status, trip.retry_after, trip.clock_skew) == (503, 7, None)
    trip = failure(ask, org.client).trip
    assert trip
    assert (trip.status, trip.retry_after, trip.clock_skew) == (None, None, None)
    assert 0 < trip.seconds < 2


@both
def test_without_a_request_there_is_no_trip(
    org: Server, ask: Ask, caller: Flask
) -> None:
    for site in (None, Listed(local_network=False)):
        list_as(caller, site)
        assert failure(ask, org.client).trip is None


# Bounds


@both
@pytest.mark.usefixtures("short_deadline")
@pytest.mark.parametrize(
    ("first", "drop"),
    [(b"", b""), (b"HTTP/1.1 200", b""), (b"", b"H"),
     (b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x"), (b"HTTP/1.1 200 OK\r\n", b"A: b\r\n"),
     (b"", b"HTTP/1.1 100 Continue\r\n\r\n"), (answer(b"", length=9_000), b" "),
     (b"HTTP/1.1 200 OK\r\n\r\n", b" "), (CHUNKED, b"1\r\n \r\n"),
     (CHUNKED + b"1;", b"x"), (answer(b"", "200 OK", ZIPPED, length=99_999)
      + gzip.compress(b"", mtime=0)[:10], b"\x00\x00\x00\xff\xff")])  # fmt: skip
def test_a_drip_is_cut_at_the_deadline(
    org: Server, ask: Ask, first: bytes, drop: bytes
) -> None:
    ended = threading.Event()
    org.script = [drip(first, drop or b"\0", ended) if drop else silence(first, ended)]
    began = time.monotonic()
    error = failure(ask, org.client)
    assert time.monotonic() - began < SOON + 0.5
    assert (error.code, error.answer_lost) == ("<timeout>", True)
    assert ended.wait(2), "the connection was left open"
    assert ask(org.client).access_token == TOKEN["access_token"]


@both
@pytest.mark.usefixtures("short_deadline")
def test_a_look_up_that_hangs_is_cut_and_no_request_leaves_afterwards(
    org: Server, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, go_on = socket.getaddrinfo, threading.Event()

    def slow(*args: Any, **kwargs: Any) -> Any:
        go_on.wait(5)
        return look_up(*args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    before = set(threading.enumerate())
    error = failure(ask, org.client)
    left = set(threading.enumerate()) - before
    go_on.set()
    for thread in left:
        thread.join(5)
    assert (error.code, error.answer_lost) == ("<unreachable>", False)
    assert not org.requests


@pytest.mark.parametrize("ask", [exchange_code, refresh_access_token])
def test_a_caller_may_wait_less_but_not_longer(
    org: Server, ask: Callable[..., TokenAnswer], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets_sent = (CODE, VERIFIER) if ask is exchange_code else (REFRESH_TOKEN,)
    org.script = [silence(b"", threading.Event()) for _ in range(2)]
    for longest, deadline in ((20, SOON), (SOON, 3_600)):
        monkeypatch.setattr(transport, "DEADLINE", longest)
        began = time.monotonic()
        with pytest.raises(SalesforceError) as failed:
            ask(org.client, *secrets_sent, deadline=deadline)
        assert SOON <= time.monotonic() - began < SOON + 0.5
        assert (failed.value.code, failed.value.answer_lost) == ("<timeout>", True)
        assert failed.value.trip
        assert SOON <= failed.value.trip.seconds < SOON + 0.5


@pytest.mark.parametrize("deadline", [0, -1, -1e9])
def test_nothing_is_sent_when_the_time_is_up_before(
    org: Server, deadline: float
) -> None:
    with pytest.raises(SalesforceError) as failed:
        refresh_access_token(org.client, REFRESH_TOKEN, deadline=deadline)
    assert (failed.value.code, failed.value.answer_lost) == ("<unreachable>", False)
    assert not org.requests


STOPPED = """
import socket, sys, threading
from flask import Flask
from salesforce import *
from salesforce import transport

class Site:
    local_network = True

look_up, join = socket.getaddrinfo, threading.Thread.join

def slow(*args, **more):
    print("looking up", flush=True)
    sys.stdin.readline()
    return look_up(*args, **more)

socket.getaddrinfo = slow
# The thread that waits is the slower one to notice, so the clock has to tell.
threading.Thread.join = lambda thread, timeout=None: join(thread)
app = Flask("stopped")
transport.init_app(app, lambda url: Site())
with app.app_context():
    try:
        refresh_access_token(
            Client(parse_domain(sys.argv[1]), "key", None, ""), "token", deadline=1
        )
    except SalesforceError as error:
        print(error.code, error.answer_lost)
"""


def test_a_process_that_was_stopped_does_not_send_when_it_wakes(org: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(org.client.domain)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "looking up\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.1)
        process.stdin.write("\n")
        process.stdin.flush()
        process.send_signal(signal.SIGCONT)
        assert process.communicate(timeout=10)[0] == "<unreachable> False\n"
    assert not org.requests


def padded(size: int) -> bytes:
    """Return a good answer of this many bytes."""
    body = json.dumps(TOKEN).encode()
    return body + b" " * (size - len(body))


@both
@pytest.mark.parametrize("zipped", [False, True])
def test_the_largest_answer_is_read_and_one_byte_more_is_too_large(
    org: Server, ask: Ask, zipped: bool
) -> None:
    for size in (LARGEST_ANSWER, LARGEST_ANSWER + 1):
        body = gzip.compress(padded(size)) if zipped else padded(size)
        org.script.append(answer(body, "200 OK", *([ZIPPED] if zipped else [])))
    assert ask(org.client).access_token == TOKEN["access_token"]
    error = failure(ask, org.client)
    assert (error.code, error.answer_lost) == ("<too large>", True)
    assert error.state is State.UNREACHABLE


@both
@pytest.mark.parametrize(
    ("head", "piece"),
    [(answer(b"", length=256 * MIB), b" " * MIB),
     (b"HTTP/1.0 200 OK\r\n\r\n", b" " * MIB),
     (CHUNKED, b"100000\r\n" + b" " * MIB + b"\r\n")])  # fmt: skip
def test_an_answer_that_is_too_large_is_not_read_whole(
    org: Server, ask: Ask, head: bytes, piece: bytes
) -> None:
    sent: list[int] = []
    ended = threading.Event()

    def flood(line: socket.socket, _: Request) -> None:
        line.sendall(head)
        try:
            for _ in range(256):
                line.sendall(piece)
                sent.append(len(piece))
        finally:
            ended.set()

    org.script = [flood]
    assert failure(ask, org.client).code == "<too large>"
    assert ended.wait(5)
    assert sum(sent) < 32 * MIB, "it took more than the buffers hold"


@pytest.mark.parametrize("times", [1, 2])
def test_a_compressed_bomb_is_not_unpacked(org: Server, times: int) -> None:
    bomb = b" " * (64 * MIB)
    for _ in range(times):
        bomb = gzip.compress(bomb)
    encoding = b"Content-Encoding: " + b", ".join([b"gzip"] * times)
    org.script = [answer(bomb, "200 OK", encoding)]
    tracemalloc.start()
    error = failure(refresh, org.client)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "<too large>"
    assert peak < 4 * MIB


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of its own signature, for 127.0.0.1 and a name, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    names = [
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.DNSName("acme.example.com"),
    ]
    usage = dict.fromkeys(
        ["content_commitment", "key_encipherment", "data_encipherment", "crl_sign",
         "key_agreement", "encipher_only", "decipher_only"], False)  # fmt: skip
    public, now = key.public_key(), datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage),
            critical=True,
        )
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(public), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path.write_bytes(
        made.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )
    return path


@pytest.fixture
def tls_org(start: Callable[..., Server], certificate: Path) -> Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return start(context)


@both
def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls_org: Server, ask: Ask
) -> None:
    error = failure(ask, tls_org.client)
    assert "certificate could not be verified" in str(error)
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, False)
    assert not tls_org.requests


@both
def test_a_certificate_of_the_bundle_is_accepted(
    tls_org: Server, ask: Ask, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert ask(tls_org.client).access_token == TOKEN["access_token"]
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    failure(ask, tls_org.client)  # the kept connection vouches for nobody
    assert len(tls_org.requests) == 1


@both
def test_a_certificate_for_another_host_is_refused(
    tls_org: Server, ask: Ask, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    domain = parse_domain(f"https://localhost:{tls_org.port}")
    error = failure(ask, replace(tls_org.client, domain=domain))
    assert error.code == "<TLS>"
    assert not tls_org.requests


@both
@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_bundle_that_cannot_be_read_is_named(
    tls_org: Server,
    ask: Ask,
    content: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    error = failure(ask, tls_org.client)
    assert "REQUESTS_CA_BUNDLE" in str(error)
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, False)


@both
def test_a_plain_http_server_is_no_https_server(org: Server, ask: Ask) -> None:
    domain = parse_domain(f"https://127.0.0.1:{org.port}")
    error = failure(ask, replace(org.client, domain=domain))
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, False)
    assert not org.requests


@both
@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 502 Oops\r\n\r\n", b"\x15\x03\x03\0\x02\x02("]
)
def test_an_answer_that_breaks_below_tls_is_lost(
    tls_org: Server,
    ask: Ask,
    garbage: bytes,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_org.script = [below(garbage)]
    error = failure(ask, tls_org.client)
    assert len(tls_org.requests) == 1
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, True)


def below(garbage: bytes) -> Step:
    """Send this past the TLS layer."""

    def step(line: socket.socket, _: Request) -> None:
        os.write(line.fileno(), garbage)
        time.sleep(0.1)

    return step


@both
@pytest.mark.usefixtures("short_deadline")
@pytest.mark.parametrize("first", [b"", answer(b"", length=9_000)])
def test_a_drip_over_tls_is_cut_at_the_deadline(
    tls_org: Server,
    ask: Ask,
    first: bytes,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    ended = threading.Event()
    tls_org.script = [drip(first, b"H", ended)]
    began = time.monotonic()
    error = failure(ask, tls_org.client)
    assert time.monotonic() - began < SOON + 0.5
    assert (error.code, error.answer_lost) == ("<timeout>", True)
    assert ended.wait(2), "the connection was left open"


@both
@pytest.mark.usefixtures("short_deadline")
def test_a_handshake_that_hangs_is_cut_and_no_answer_is_lost(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        domain = parse_domain(f"https://127.0.0.1:{listener.getsockname()[1]}")
        began = time.monotonic()
        error = failure(ask, Client(domain, CLIENT_ID, CONSUMER_SECRET, CALLBACK))
        assert time.monotonic() - began < SOON + 0.5
        line, _ = listener.accept()
        with line:
            line.settimeout(2)
            while line.recv(65_536):
                pass  # until the cut
    assert (error.state, error.answer_lost) == (State.UNREACHABLE, False)


# Remote Sites


PUBLIC = "93.184.215.14"
INTERNAL = [
    "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "0.0.0.0", "0.1.2.3", "255.255.255.255",
    "224.0.0.1", "239.1.1.1", "240.0.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1",
    "192.88.99.1", "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00::1",
    "ff02::1", "ff0e::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b:1::1", "2002:7f00:1::",
    "2001::1", "2001:db8::1", "100::1", "4000::1", "5f00::1", "3fff::1",
]  # fmt: skip


def list_as(caller: Flask, site: Listed | None) -> list[str]:
    """Have every host listed like this; return what will have been asked for."""
    asked: list[str] = []

    def gate(url: str) -> Listed | None:
        asked.append(url)
        return site

    transport.init_app(caller, gate)
    return asked


@dataclass
class Names:
    """A name server: the addresses of the names it knows, and what it was asked."""

    known: dict[str, list[str]]
    asked: list[str]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """At the public address are the servers of the tests."""
    real, names = socket.getaddrinfo, Names({}, [])

    def look_up(host: str, port: Any, *args: Any, **kwargs: Any) -> Any:
        names.asked.append(host)
        if host == PUBLIC and port:  # to connect there
            host = "127.0.0.1"
        if host.endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = names.known.get(host)
        if addresses is None:
            return real(host, port, *args, **kwargs)
        return [real(it, port, type=socket.SOCK_STREAM)[0] for it in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return names


def at(host: str, server: Server) -> Client:
    """Return the app at this host, and at the server's port."""
    domain = parse_domain(f"https://{host}:{server.port}")
    return replace(server.client, domain=domain)


@both
def test_a_host_that_no_site_covers_is_not_called(
    tls_org: Server, ask: Ask, caller: Flask, names: Names
) -> None:
    asked = list_as(caller, None)
    names.known["acme.example.com"] = [PUBLIC]
    for client in (tls_org.client, at("acme.example.com", tls_org)):
        error = failure(ask, client)
        assert (error.state, error.code) == (State.MISCONFIGURED, "<no Remote Site>")
        assert not error.answer_lost
        site = client.domain.origin
        assert f"no Remote Site covers {site}. An admin can add it" in str(error)
        assert asked[-1] == f"{site}/services/oauth2/token"
    assert (tls_org.connections, names.asked) == (0, [])


@both
def test_no_proxy_is_asked_for_a_host_that_no_site_covers(
    start: Callable[..., Server],
    ask: Ask,
    caller: Flask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    list_as(caller, None)
    proxy = start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    assert failure(ask, at("acme.example.com", proxy)).code == "<no Remote Site>"
    assert proxy.connections == 0


@both
def test_without_a_list_no_host_is_called(org: Server, ask: Ask, caller: Flask) -> None:
    caller.extensions.clear()
    assert failure(ask, org.client).code == "<no Remote Site>"
    with ThreadPoolExecutor(1) as pool:  # where no app is at work
        assert pool.submit(failure, ask, org.client).result().code.startswith("<no ")
    assert org.connections == 0


def test_a_list_that_cannot_be_read_lets_nothing_out(
    org: Server, caller: Flask
) -> None:
    def gate(_: str) -> Listed:
        raise LookupError

    transport.init_app(caller, gate)
    with pytest.raises(LookupError):
        refresh(org.client)
    assert org.connections == 0


def test_no_session_goes_around_the_list(org: Server, caller: Flask) -> None:
    list_as(caller, None)
    with requests.Session() as session:
        session.mount("http://", transport.ADAPTER)
        with pytest.raises(transport.NoAnswer):
            session.get(org.client.domain.origin, timeout=5)
    assert org.connections == 0


@both
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_this_machine_is_called_only_if_its_site_is_local(
    org: Server, ask: Ask, host: str, scheme: str, caller: Flask
) -> None:
    list_as(caller, Listed(local_network=False))
    domain = parse_domain(f"{scheme}://{host}:{org.port}")
    error = failure(ask, replace(org.client, domain=domain))
    assert (error.state, error.code) == (State.MISCONFIGURED, "<address refused>")
    assert not error.answer_lost
    assert re.search(r"leads to (127\.0\.0\.1|::1), an address of a local", str(error))
    assert f"the Remote Site for {scheme}://{host}:{org.port} has" in str(error)
    assert org.connections == 0


@pytest.mark.parametrize("address", INTERNAL)
def test_a_name_that_leads_inside_is_refused_after_the_look_up(
    start: Callable[..., Server],
    tls_org: Server,
    address: str,
    caller: Flask,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start()
    list_as(caller, Listed(local_network=False))
    names.known["acme.example.com"] = [address]
    error = failure(refresh, at("acme.example.com", tls_org))
    assert error.code == "<address refused>"
    assert re.search(r"leads to [0-9a-f.:]+, an address of a local", str(error))
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    error = failure(refresh, at("acme.example.com", tls_org))
    assert error.code == "<address refused>"
    assert (tls_org.connections, proxy.connections) == (0, 0)


@both
def test_the_address_that_was_judged_is_the_one_that_is_called(
    tls_org: Server,
    ask: Ask,
    caller: Flask,
    names: Names,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    greeted: list[str | None] = []
    assert tls_org.tls
    tls_org.tls.sni_callback = lambda _line, name, _context: greeted.append(name)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    list_as(caller, Listed(local_network=False))
    names.known["acme.example.com"] = [PUBLIC, "127.0.0.1"]
    token = ask(at("acme.example.com", tls_org))
    assert token.access_token == TOKEN["access_token"]
    assert names.asked == ["acme.example.com", PUBLIC]
    (request,) = tls_org.requests
    assert request.headers["host"] == f"acme.example.com:{tls_org.port}"
    assert request.headers["connection"] == "close"
    assert greeted == ["acme.example.com"]


@both
def test_the_certificate_has_to_be_of_the_name_not_of_the_address(
    tls_org: Server,
    ask: Ask,
    caller: Flask,
    names: Names,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    list_as(caller, Listed(local_network=False))
    names.known |= {"acme.example.com": [PUBLIC], "other.example.com": [PUBLIC]}
    ask(at("acme.example.com", tls_org))
    assert failure(ask, at("other.example.com", tls_org)).code == "<TLS>"
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    assert failure(ask, at("acme.example.com", tls_org)).code == "<TLS>"
    assert len(tls_org.requests) == 1
    shared = transport._trusting(str(certificate), None, certificate.stat().st_mtime_ns)
    assert shared.check_hostname, "OpenSSL's own check is off for all calls"


@both
def test_a_host_of_the_internet_that_redirects_inside_is_not_followed(
    start: Callable[..., Server],
    tls_org: Server,
    ask: Ask,
    caller: Flask,
    names: Names,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inside = start()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    list_as(caller, Listed(local_network=False))
    names.known["acme.example.com"] = [PUBLIC]
    where = f"Location: http://127.0.0.1:{inside.port}/".encode()
    tls_org.script = [answer(b"", "307 Elsewhere", where)]
    assert failure(ask, at("acme.example.com", tls_org)).code == "<HTTP 307>"
    assert inside.connections == 0


@both
@pytest.mark.usefixtures("short_deadline")
def test_the_bounds_hold_on_the_internet_too(
    tls_org: Server,
    ask: Ask,
    caller: Flask,
    names: Names,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    list_as(caller, Listed(local_network=False))
    names.known["acme.example.com"] = [PUBLIC]
    ended = threading.Event()
    tls_org.script = [answer(padded(LARGEST_ANSWER + 1)), drip(b"", b"H", ended)]
    client = at("acme.example.com", tls_org)
    assert failure(ask, client).code == "<too large>"
    assert failure(ask, client).code == "<timeout>"
    assert ended.wait(2), "the connection was left open"


@both
@pytest.mark.usefixtures("short_deadline")
def test_a_filtered_look_up_that_hangs_is_cut_too(
    tls_org: Server, ask: Ask, caller: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()

    def slow(*_: Any, **_more: Any) -> Any:
        go_on.wait(5)
        raise socket.gaierror

    list_as(caller, Listed(local_network=False))
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    began = time.monotonic()
    error = failure(ask, at("acme.example.com", tls_org))
    assert time.monotonic() - began < SOON + 0.5
    assert (error.code, error.answer_lost) == ("<unreachable>", False)
    go_on.set()


@both
def test_a_name_that_leads_nowhere_is_unreachable(
    tls_org: Server, ask: Ask, caller: Flask, names: Names
) -> None:
    list_as(caller, Listed(local_network=False))
    error = failure(ask, at("acme.invalid", tls_org))
    assert (error.state, error.code) == (State.UNREACHABLE, "<unreachable>")
    assert names.asked == ["acme.invalid"]


@both
@pytest.mark.parametrize(
    ("host", "addresses"),
    [("acme.example.com", [PUBLIC]), ("acme.invalid", None)],
)
def test_a_proxy_is_sent_the_name(
    start: Callable[..., Server],
    ask: Ask,
    host: str,
    addresses: list[str] | None,
    caller: Flask,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start()
    proxy.script = [answer(b"", "502 Bad Gateway")]
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    list_as(caller, Listed(local_network=False))
    if addresses:
        names.known[host] = addresses
    error = failure(ask, at(host, proxy))
    assert (error.code, error.answer_lost) == ("<unreachable>", False)
    (request,) = proxy.requests
    assert request.line.startswith(f"CONNECT {host}:{proxy.port} ")
    assert request.body == b""


@both
def test_one_address_inside_is_enough_to_refuse_a_proxied_name(
    start: Callable[..., Server],
    ask: Ask,
    caller: Flask,
    names: Names,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    list_as(caller, Listed(local_network=False))
    names.known["acme.example.com"] = [PUBLIC, "10.0.0.1"]
    error = failure(ask, at("acme.example.com", proxy))
    assert error.code == "<address refused>"
    assert "10.0.0.1" in str(error)
    assert proxy.connections == 0


@both
def test_a_site_of_the_local_network_is_called_there(
    tls_org: Server,
    ask: Ask,
    caller: Flask,
    names: Names,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    list_as(caller, Listed(local_network=True))
    names.known["acme.example.com"] = ["127.0.0.1"]
    token = ask(at("acme.example.com", tls_org))
    assert token.access_token == TOKEN["access_token"]
