"""Every fault that a provider can answer with, on the wire, against the real app.

Whatever comes: no page breaks, the panel says what happened, the tokens that
were there stay, nobody else is asked, and no secret is shown.
"""

import gzip
import json
import re
import socket
import socketserver
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markupsafe import escape

from database import db
from models import ExternalApplication, Lane
from salesforce import Client, State, TokenAnswer
from salesforce.transport import DEADLINE, LARGEST_ANSWER
from tests.conftest import SECRET, StrictClient, add_application, load
from tests.wire import answer

OLD_ACCESS = "00D000000000001!theAccessTokenThatWasThere"
OLD_REFRESH = "5Aep861theRefreshTokenThatWasThere00000"
NEW_ACCESS = "00D000000000001!theAccessTokenOfTheAnswer0"
NEW_REFRESH = "5Aep861theRefreshTokenOfTheAnswer000000"
CODE = "aPrxTheCodeOfTheCallback0000=="
TOKEN: dict[str, Any] = {
    "access_token": NEW_ACCESS,
    "refresh_token": NEW_REFRESH,
    "token_type": "Bearer",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA",
    "issued_at": "1700000000000",
    "scope": "api refresh_token",
}
LANES = ("silent", "browser")
UNLISTED = "<no Remote Site>"
"""A token was stored, and an address that came with it was not."""
Step = bytes | Callable[[socket.socket], None]


class Server(socketserver.ThreadingTCPServer):
    """Sends exactly what it is told, then closes; counts who came."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.step: Step = b""
        self.asks_first = True
        self.listens = True
        self.hits = 0
        """Token requests."""
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_close(self) -> None:
        super().server_close()
        self.listens = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = cast("Server", self.server)
        with suppress(OSError):
            first = read_request(self.request) if server.asks_first else b"/token "
            server.hits += b"/token " in first  # others ask about a token, or end one
            if callable(server.step):
                server.step(self.request)
            else:
                self.request.sendall(server.step)
                self.request.shutdown(socket.SHUT_WR)
                self.request.recv(1)  # until the other side has gone


def read_request(line: socket.socket) -> bytes:
    """Read all of it; return its first line."""
    data = b""
    while b"\r\n\r\n" not in data and (chunk := line.recv(65_536)):
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: (\d+)", head)
    left = int(found[1]) - len(body) if found else 0
    while left > 0 and (chunk := line.recv(65_536)):
        left -= len(chunk)
    return head.partition(b"\r\n")[0]


def reset(line: socket.socket) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


@dataclass
class Case:
    """The app with one record that is connected to the provider."""

    app: Flask
    client: StrictClient
    provider: Server
    internal: Server
    application_id: int

    def __post_init__(self) -> None:
        self.csrf = self.client.csrf()

    @property
    def path(self) -> str:
        return f"/applications/{self.application_id}"

    def meet(self, step: Step, lane: str) -> ExternalApplication:
        """Have the provider answer so; hold what has to hold whatever it was."""
        self._restore(refreshable=lane == "silent")
        self.provider.step = step
        asked = self.provider.hits
        answer = self._click(htmx="true") if lane == "silent" else self._come_back()
        assert self.provider.hits == asked + self.provider.listens
        page = self.client.get(self.path)
        record = load(self.app, self.application_id)
        self._check_answer(answer, lane, record)
        assert page.status_code == 200
        assert self.internal.hits == 0
        for seen in (answer, page):
            assert not re.search("injected", str(seen.headers), re.IGNORECASE)
            for secret in (OLD_ACCESS, OLD_REFRESH, NEW_ACCESS, NEW_REFRESH, CODE):
                assert secret not in seen.text
                assert secret not in str(seen.headers)
        access, refresh = self._tokens()
        if record.last_error is None:
            assert record.state is State.CONNECTED
            assert "The access token" in page.text
        else:
            assert str(escape(record.last_error)) in page.text
            assert access == OLD_ACCESS or record.last_error_code == UNLISTED
        assert access == OLD_ACCESS or self._was_sent(access)
        assert refresh == OLD_REFRESH or self._was_sent(refresh)
        return record

    def refuse(self, step: Step, lane: str) -> ExternalApplication:
        """Have the provider answer what is no token at all; both tokens stay."""
        record = self.meet(step, lane)
        assert record.last_error
        assert self._tokens() == (OLD_ACCESS, OLD_REFRESH)
        return record

    def _check_answer(
        self, answer: Any, lane: str, record: ExternalApplication
    ) -> None:
        if lane == "browser":
            assert (answer.status_code, answer.location) == (303, self.path)
        elif record.state is State.LOGIN_REQUIRED:
            assert answer.status_code == 204
            assert answer.headers["HX-Redirect"].startswith(f"{self.provider.address}/")
        else:
            assert answer.status_code == 200
            assert answer.text.strip().startswith('<section id="application-panel">')

    def _click(self, htmx: str = "") -> Any:
        return self.client.post(
            f"{self.path}/authorization",
            data={"csrf_token": self.csrf},
            headers={"HX-Request": htmx},
        )

    def _come_back(self) -> Any:
        login = self._click().location
        state = parse_qs(urlsplit(login).query)["state"][0]
        return self.client.get("/callback", query_string={"state": state, "code": CODE})

    def _restore(self, *, refreshable: bool) -> None:
        """Give the record the old tokens, as a login would have done."""
        with self.app.app_context():
            record = db.session.get_one(ExternalApplication, self.application_id)
            client = Client(record.domain, record.client_id, None, record.callback_url)
            token = TokenAnswer(
                OLD_ACCESS, OLD_REFRESH, None, None, None, None, None, "{}"
            )
            record.rotation = False
            record.store_token(token, client, Lane.BROWSER, "for the test")
            record.refresh_token_problem = None if refreshable else "for the test"
            db.session.commit()

    def _tokens(self) -> tuple[str, str]:
        with self.app.app_context():
            record = db.session.get_one(ExternalApplication, self.application_id)
            assert record.access_token
            assert record.refresh_token
            return record.access_token.reveal(), record.refresh_token.reveal()

    def _was_sent(self, token: str) -> bool:
        step = self.provider.step
        return callable(step) or json.dumps(token)[1:-1].encode() in _unzipped(step)


def _unzipped(wire: bytes) -> bytes:
    _, _, body = wire.partition(b"\r\n\r\n")
    with suppress(OSError, EOFError):
        return gzip.decompress(body)
    return wire


def connection_to(app: Flask, address: str) -> int:
    """Make the record whose org is at `address`; return its id."""
    return add_application(app, salesforce_domain=address)


@pytest.fixture
def limits() -> bool:
    return False


@pytest.fixture
def case(app: Flask, client: StrictClient) -> Iterator[Case]:
    provider, internal = Server(), Server()
    yield Case(app, client, provider, internal, connection_to(app, provider.address))
    for server in (provider, internal):
        server.shutdown()
        server.server_close()


lanes = pytest.mark.parametrize("lane", LANES)


@lanes
def test_what_an_honest_provider_answers_is_stored(case: Case, lane: str) -> None:
    record = case.meet(answer(TOKEN), lane)
    assert record.last_error is None
    assert case._tokens() == (NEW_ACCESS, NEW_REFRESH)


# --- status ----------------------------------------------------------------

STATUSES = (
    *(100, 101, 102, 103, 199, 201, 202, 203, 204, 205, 206, 207, 208, 226, 299),
    *(300, 301, 302, 303, 304, 305, 306, 307, 308, 399, 400, 401, 402, 403, 404, 405),
    *(406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423),
    *(424, 425, 426, 428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507),
    *(508, 510, 511, 520, 529, 598, 599),
)


def test_no_other_status_brings_a_token_though_the_body_is_one(case: Case) -> None:
    for number, status in enumerate(STATUSES):
        wire = answer(TOKEN, f"{status} {'x' * (status % 7)}")
        case.refuse(wire, LANES[number % 2])


@pytest.mark.parametrize(
    "first",
    [b"", b"HTTP/1.1", b"HTTP/1.1 ", b"HTTP/1.1 20", b"HTTP/1.1 2000 OK",
     b"HTTP/1.1 -200 OK", b"HTTP/1.1 abc OK", b"HTTP/1.1 \xb2\xb0\xb0 OK",
     b"HTTP/9.9 200 OK", b"ICY 200 OK", b"\x00" * 64, b"200 OK", b"SSH-2.0-OpenSSH_9",
     b"\x16\x03\x01\x00\x05", b"HTTP/1.1 200 " + b"x" * 70_000])  # fmt: skip
def test_a_first_line_that_is_none(case: Case, first: bytes) -> None:
    case.refuse(first + b"\r\nContent-Length: 2\r\n\r\n{}", "silent")


@lanes
def test_a_hundred_continues_without_an_answer(case: Case, lane: str) -> None:
    case.refuse(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, lane)


# --- shape -----------------------------------------------------------------

DEEP = 10_000
SHAPES = (
    *(b"", b" ", b"null", b"true", b"0", b"-1", b'""', b'"access_token"', b"[]", b"{}"),
    *(b"[" * DEEP, b"[" * DEEP + b"]" * DEEP, b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
    b'{"access_token": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"9" * 5_000, b"\xff\xfe", b"\x00"),
    *(b"\xef\xbb\xbf" + json.dumps(TOKEN).encode(), json.dumps(TOKEN).encode("utf-16")),
    *(b"<html><script>alert(1)</script></html>", b"access_token=x&token_type=Bearer"),
    *(json.dumps([TOKEN]).encode(), json.dumps(TOKEN).encode()[:-1], b"{'a': 1}"),
    json.dumps(json.dumps(TOKEN)).encode(),
)
ODD_VALUES: tuple[Any, ...] = (
    *(True, False, 0, -1, 1.5, 10**400, -(10**18), float("nan"), float("inf")),
    *([], {}, [TOKEN], {"a": {"b": "c"}}, "\x00", "a\x00b", "\ud800", "é" * 10, " "),
    *("x\r\nX-Injected: 1", "x\nSet-Cookie: injected=1", "%0d%0aX-Injected:%201"),
    *("<script>alert(1)</script>", "'\"><img src=x onerror=alert(1)>", "a" * 20_000),
    *("javascript:alert(1)", "//evil.example.com", "https://evil.example.com@x/"),
    *(
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "https://[::1",
        "https://x:99999",
    ),
    *("\u202e\u2028", "1e400", "-5", "99999999999999999999", "१२३", "0x10", "soon"),
)


def test_bodies_of_every_wrong_shape(case: Case) -> None:
    for number, body in enumerate(SHAPES):
        case.refuse(answer(body), LANES[number % 2])
        case.refuse(answer(body, "400 Bad Request"), LANES[number % 2])


@pytest.mark.parametrize("field", [*TOKEN, "expires_in"])
def test_a_field_of_every_wrong_kind(case: Case, field: str) -> None:
    for value in ODD_VALUES:
        record = case.meet(answer(TOKEN | {field: value}), "silent")
        if field in ("access_token", "token_type"):
            # The one visible string is a token, for all that anybody knows.
            assert record.last_error or value in VISIBLE_ONES


VISIBLE_ONES = [value for value in ODD_VALUES if isinstance(value, str)]


def test_an_error_of_every_wrong_kind(case: Case) -> None:
    for value in ODD_VALUES:
        body = {"error": value, "error_description": value}
        case.refuse(answer(body, "400 Bad Request"), "silent")
        body = {"error": "invalid_grant", "error_description": value}
        case.refuse(answer(body, "401 Unauthorized"), "browser")
        # A new refresh token is kept from it, for the old one may be dead.
        assert case.meet(answer(body | TOKEN), "silent").last_error


def test_fields_that_are_missing_or_there_twice(case: Case) -> None:
    for field in TOKEN:
        rest = {name: value for name, value in TOKEN.items() if name != field}
        record = case.meet(answer(rest), "silent")
        assert (record.last_error is None) == (field != "access_token")
    body = json.dumps(TOKEN).encode()
    for twice in (b'"access_token": 5, ', b'"access_token": "first", '):
        case.meet(answer(b"{" + twice + body[1:]), "silent")
        case.meet(answer(body[:-1] + b", " + twice[:-2] + b"}"), "silent")


# --- size ------------------------------------------------------------------


@lanes
def test_the_largest_answer_and_one_byte_more(case: Case, lane: str) -> None:
    body = json.dumps(TOKEN).encode()
    largest = body + b" " * (LARGEST_ANSWER - len(body))
    assert case.meet(answer(largest), lane).last_error is None
    assert "too large" in str(case.refuse(answer(largest + b" "), lane).last_error)


@lanes
@pytest.mark.parametrize("times", [1, 2])
def test_a_compressed_bomb_is_not_unpacked(case: Case, lane: str, times: int) -> None:
    bomb = b" " * (64 * 2**20)
    for _ in range(times):
        bomb = gzip.compress(bomb, 1)
    names = b", ".join([b"gzip"] * times)
    wire = answer(bomb, "200 OK", b"Content-Encoding: " + names)
    tracemalloc.start()
    record = case.refuse(lambda line: line.sendall(wire), lane)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "too large" in str(record.last_error)
    assert peak < 16 * 2**20


# --- time ------------------------------------------------------------------


def test_a_byte_a_second_ends_at_the_deadline(case: Case) -> None:
    """With the deadline that people meet, for nothing is patched here."""

    def drip(line: socket.socket) -> None:
        for byte in answer(TOKEN):
            line.sendall(bytes([byte]))
            time.sleep(1)

    start = time.monotonic()
    record = case.refuse(drip, "silent")
    assert DEADLINE - 1 < time.monotonic() - start < DEADLINE + 5
    assert "in time" in str(record.last_error)


# --- where it leads --------------------------------------------------------


@lanes
@pytest.mark.parametrize("status", [200, 201, 300, 301, 302, 303, 307, 308, 401, 503])
def test_nobody_is_led_to_an_internal_server(
    case: Case, lane: str, status: int
) -> None:
    inside = case.internal.address.encode()
    more = [
        *(b"Location: " + inside + b"/", b"Refresh: 0; url=" + inside),
        *(b"Content-Location: " + inside, b"Link: <" + inside + b">; rel=preload"),
        *(b"Alt-Svc: h2=" + inside[7:], b"Set-Cookie: injected=1; Domain=127.0.0.1"),
        *(b'WWW-Authenticate: Basic realm="x"', b"HX-Redirect: " + inside),
    ]
    led = TOKEN | {"instance_url": case.internal.address, "id": case.internal.address}
    record = case.meet(answer(led, f"{status} x", *more), lane)
    # A token is a token; the addresses that came with it are not kept.
    assert (record.last_error_code == UNLISTED) == (status == 200)
    assert case.internal.address not in (record.instance_url, record.identity_url)
    assert record.last_error


def test_a_redirect_to_nonsense(case: Case) -> None:
    for word in (b"http://[", b"\xff\xfe", b"//", b"", b"http://x:99999/", b"a b\tc"):
        case.refuse(answer(b"", "302 x", b"Location: " + word), "silent")
        case.refuse(answer(TOKEN, "307 x", b"Location: " + word), "browser")


# --- how it comes ----------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = HEAD + b"Content-Encoding: gzip\r\n"
GOOD = json.dumps(TOKEN).encode()
BROKEN = (
    CHUNKED,
    *(CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n", CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n"),
    CHUNKED + b"ffffffffffffffffffff\r\n{}",
    CHUNKED + b"%x\r\n" % (len(GOOD) + 9) + GOOD,
    CHUNKED + b"2;" + b"x" * 70_000 + b"\r\n{}\r\n0\r\n\r\n",
    *(CHUNKED + GOOD, CHUNKED + b"\r\n\r\n", CHUNKED + b"2\r\n{}"),
    *(
        answer(GOOD, length=len(GOOD) + 1),
        answer(GOOD, length=5),
        answer(GOOD, length=0),
    ),
    *(answer(GOOD, length=10**30), HEAD + b"Content-Length: -1\r\n\r\n"),
    HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    *(HEAD + b"Content-Length: abc\r\n\r\n{}", HEAD + b"no header at all\r\n\r\n{}"),
    HEAD + b"".join(b"X-%d: y\r\n" % at for at in range(500)) + b"\r\n" + GOOD,
    *(HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n" + GOOD, HEAD[:-2], HEAD),
    *(ZIPPED + b"\r\n" + GOOD, ZIPPED + b"\r\n" + gzip.compress(GOOD)[:-20]),
    ZIPPED + b"\r\n\x1f\x8b\x08\x00" + b"\xff" * 64,
    HEAD + b"Content-Encoding: br, zstd, gzip, gzip, deflate\r\n\r\n" + GOOD,
    HEAD + b"Content-Encoding: " + b"gzip, " * 1_000 + b"gzip\r\n\r\n" + GOOD,
)


def test_answers_that_break_the_protocol(case: Case) -> None:
    for number, wire in enumerate(BROKEN):
        case.refuse(wire, LANES[number % 2])


@lanes
@pytest.mark.parametrize(
    "sent", [b"", b"HTT", HEAD, HEAD + b"Content-Le", answer(TOKEN)[:-20], CHUNKED]
)
@pytest.mark.parametrize("end", [reset, socket.socket.close])
def test_a_connection_that_ends_at_every_stage(
    case: Case, lane: str, sent: bytes, end: Callable[[socket.socket], None]
) -> None:
    def step(line: socket.socket) -> None:
        line.sendall(sent)
        end(line)

    for case.provider.asks_first in (True, False):
        case.refuse(step, lane)


@lanes
def test_where_nobody_listens(case: Case, lane: str) -> None:
    case.provider.server_close()
    record = case.refuse(b"", lane)
    assert "could not be reached" in str(record.last_error)


# --- whatever else ---------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=[]), max_size=60)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**30), 2**63])
WILD = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT | st.sampled_from(ODD_VALUES),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
    ),
    max_leaves=5,
)
ERRORS = st.sampled_from(
    ["invalid_grant", "invalid_client", "inactive_user", "access_denied", "", "x" * 200]
)


def nearly(*likely: object) -> st.SearchStrategy[Any]:
    """Return what such a field holds, and now and then anything at all."""
    return st.one_of(*(st.just(one) for one in likely * 3), WILD)


TOKENS = st.fixed_dictionaries(
    {"access_token": nearly(NEW_ACCESS)},
    optional={
        **{name: nearly(value) for name, value in TOKEN.items() if name[1:3] != "cc"},
        "expires_in": nearly(3600, "7200"),
        "id_token": nearly("eyJhbGciOiJub25lIn0.e30."),
    },
)
REFUSALS = st.fixed_dictionaries(
    {"error": ERRORS | WILD}, optional={"error_description": TEXT | WILD}
)


def written(fields: object, ascii_only: bool, encoding: str) -> bytes:
    text = json.dumps(fields, ensure_ascii=ascii_only)
    return text.encode(encoding, "surrogatepass")


BODIES = st.one_of(
    st.builds(
        written,
        TOKENS | TOKENS | TOKENS | REFUSALS | WILD,
        st.booleans(),
        st.sampled_from(["utf-8"] * 9 + ["utf-16"]),
    ),
    st.binary(max_size=200),
    st.sampled_from(SHAPES),
)
NAMES = st.sampled_from(
    [b"Content-Type", b"Location", b"Retry-After", b"Set-Cookie", b"Refresh",
     b"Transfer-Encoding", b"Content-Encoding", b"Content-Length", b"Connection",
     b"WWW-Authenticate", b"HX-Redirect", b"X"])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [b"application/json", b"text/html; charset=utf-7", b"http://127.0.0.1:1/",
         b"gzip", b"deflate", b"br", b"identity", b"chunked", b"close", b"keep-alive",
         b"10", b"0", b"-1", b"1e9", b"x\r\nX-Injected: 1", b"injected=1", b"\x00"]
    ),
    st.binary(max_size=40),
)  # fmt: skip
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
CODES = st.sampled_from([200] * 6 + [400] * 3) | st.integers(100, 599)
IS_FUZZ = settings.get_current_profile_name() == "fuzz"


# urllib3 leaves the socket of an answer with two lengths to the garbage collector.
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
@settings(max_examples=10_000 if IS_FUZZ else 100)
@given(
    lane=st.sampled_from(LANES),
    status=CODES,
    reason=st.binary(max_size=10),
    headers=HEADERS,
    body=BODIES,
    length=st.sampled_from([None] * 8 + [-1, 1]),
    zipped=st.sampled_from([False] * 5 + [True]),
)
@example(
    lane="silent",
    status=500,
    reason=b"x",
    headers=[(b"Content-Length", b"-1"), (b"Content-Length", b"2")],
    body=b"[]",
    length=None,
    zipped=False,
)
@example(
    lane="silent",
    status=200,
    reason=b"OK",
    headers=[],
    body=GOOD,
    length=None,
    zipped=True,
)
def test_whole_answers_at_random(
    case: Case,
    lane: str,
    status: int,
    reason: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
    length: int | None,
    zipped: bool,
) -> None:
    sent = gzip.compress(body) if zipped else body
    if zipped:
        headers = [(b"Content-Encoding", b"gzip"), *headers]
    lines = [b"HTTP/1.1 %d %s" % (status, reason), *(b": ".join(h) for h in headers)]
    if length is None or len(sent) + length >= 0:
        lines.append(b"Content-Length: %d" % (len(sent) + (length or 0)))
    wire = b"\r\n".join(lines) + b"\r\n\r\n" + sent
    record = case.meet(wire, lane)
    if record.last_error is None:
        assert b"access_token" in body
        assert SECRET not in str(record.authorization_server_response)
