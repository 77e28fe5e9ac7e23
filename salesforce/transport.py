"""How every request leaves: the outbound rules, in one place.

Only hosts that a Remote Site covers are called, and only those that are said
to be in the local network may stand there.

A request has a total deadline, an answer a largest size after decompression;
redirects are not followed, cookies are not kept. Sessions are made anew for
each request, because requests-oauthlib keeps state in them, and so are
connections: one that was kept may be closed by the other side just when the
request leaves, and then nobody knows whether a refresh token was replaced.
What is shared is the costly part, the trust store.
"""

import contextvars
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from flask import Flask, current_app
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.utils import select_proxy
from requests_hardened.ip_filter import InvalidIPAddress, filter_host
from requests_hardened.ip_filter_adapter import IPFilterAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

CONNECT_TIMEOUT = 5
"""Seconds to reach one address of the host."""
READ_TIMEOUT = 15
"""Seconds between two bytes of the answer."""
DEADLINE = 20
"""Seconds from the start of the request to the last byte of the answer, at most."""
STOOD_STILL = 1
"""Seconds after the deadline by which a waiter wakes late only in a stopped process."""
CATCH_UP = 1
"""Seconds in which such a process may read what has come in."""
LARGEST_ANSWER = 32_768
"""Bytes after decompression: what the record keeps of an answer."""
CHUNK = 8_192

EXTENSION = "orgdesk_gate"
QUIET_LOGGERS = ("requests_oauthlib", "oauthlib", "urllib3")
"""At DEBUG these print the secret, the code and the tokens."""


class Site(Protocol):
    """What has to be known of a Remote Site here."""

    @property
    def local_network(self) -> bool: ...


Gate = Callable[[str], Site | None]
"""Tells which Remote Site covers a URL, None where there is none."""


class NoAnswer(requests.RequestException):
    """There is no whole answer.

    `sent` tells whether the request had begun to leave, so that the org may
    have acted on it. `cause` is what went wrong, in the library's terms.
    """

    def __init__(self, cause: Exception, *, sent: bool) -> None:
        super().__init__(type(cause).__name__)
        self.cause = cause
        self.sent = sent


class HostRefused(requests.RequestException):
    """No Remote Site covers the host."""


class AddressRefused(requests.RequestException):
    """The host's name leads to `address`, which only a local site may have."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


class AnswerTooLarge(ValueError):
    """The answer is larger than `LARGEST_ANSWER`."""


class DeadlinePassed(TimeoutError):
    """The whole answer was not there in time."""


class TrustStoreUnusable(OSError):
    """The file of trusted certificates cannot be read."""


class _Call:
    """One request, in a thread of its own, which is left when its time is up.

    Timeouts of the library start anew with every address and every byte, and
    none holds for the look-up of the host's name. So the caller waits no longer
    than its deadline. What is still under way then is cut off, and whatever
    connects later is cut at once: no request leaves after its caller has gone,
    and none after the deadline, for what the caller agreed with others (a lease
    on the record, say) may hold no longer. A process that was stopped in between
    wakes with both threads behind the times, so the sender looks at the clock.
    """

    def __init__(self, send: Callable[[], requests.Response], seconds: float) -> None:
        self.sent = False
        self._until = time.monotonic() + seconds
        self._send = send
        self._outcome: requests.Response | Exception | None = None
        self._lines: list[socket.socket] = []
        self._late = False
        self._lock = threading.Lock()

    def result(self) -> requests.Response:
        """Return the response; raise `NoAnswer`, at the deadline at the latest."""
        # What is at hand to be kept from the log is so in this thread, too.
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(self._run,), daemon=True)
        thread.start()
        thread.join(max(0, self._until - time.monotonic()))
        if time.monotonic() - self._until > STOOD_STILL:
            # This process was stopped, and the answer may have come meanwhile: it
            # may be the only copy of a token.
            thread.join(CATCH_UP)
        outcome = self._outcome_or_cut()
        if isinstance(outcome, OSError | ValueError | HTTPException | URLLIB3_ERROR):
            raise NoAnswer(outcome, sent=self.sent) from None
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def watch(self, line: socket.socket) -> None:
        """Have `line` cut in time; it is a duplicate that this call owns."""
        with self._lock:
            self._lines.append(line)
            if self._late:
                _shut(line)

    def about_to_send(self) -> None:
        with self._lock:
            if self._late or time.monotonic() >= self._until:
                raise DeadlinePassed
            self.sent = True

    def _run(self) -> None:
        _running.call = self
        outcome: requests.Response | Exception
        try:
            outcome = self._send()
        except Exception as error:  # noqa: BLE001  the caller raises it
            outcome = error
        with self._lock:
            self._outcome = outcome
            for line in self._lines:
                line.close()

    def _outcome_or_cut(self) -> requests.Response | Exception:
        with self._lock:
            if self._outcome is not None:
                return self._outcome
            self._late = True
            for line in self._lines:
                _shut(line)
        return DeadlinePassed()


URLLIB3_ERROR = urllib3.exceptions.HTTPError
_running = threading.local()
"""`call`: the one that this thread is at."""


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class _WatchedLine:
    """Tells the call of the socket below a connection, and when it is used.

    The call has a duplicate of the descriptor, because the TLS layer and an
    answer without a length take the original away.
    """

    _connecting = False

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        _running.call.watch(connected.dup())
        return connected

    def connect(self) -> None:
        self._connecting = True
        try:
            super().connect()  # type: ignore[misc]
        finally:
            self._connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:  # type: ignore[attr-defined]
            self.connect()
        if not self._connecting:  # then it is for a proxy, and holds no secret
            _running.call.about_to_send()
        super().send(data)  # type: ignore[misc]


class _WatchedHTTPConnection(_WatchedLine, HTTPConnection):
    pass


class _WatchedHTTPSConnection(_WatchedLine, HTTPSConnection):
    pass


class _NothingKept:
    """A pool that closes the connections it gets back."""

    def _put_conn(self, conn: Any) -> None:
        if conn is not None:
            conn.close()
        super()._put_conn(conn)  # type: ignore[misc]


class _WatchedHTTPPool(_NothingKept, HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(_NothingKept, HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


WATCHED_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class _BoundedAdapter(HTTPAdapter):
    """An adapter whose answers arrive whole, in time and of bounded size."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = WATCHED_POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = WATCHED_POOLS
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]
        if store := conn.ca_certs or conn.ca_cert_dir:
            changed = Path(store).stat().st_mtime_ns
            conn.conn_kw["ssl_context"] = _trusting(
                conn.ca_certs, conn.ca_cert_dir, changed
            )
            conn.ca_certs = conn.ca_cert_dir = None  # or each connection loads it

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send `request` and read the whole answer; raise `NoAnswer`.

        `timeout` is the deadline in seconds, where a number is asked for, but no
        later than `DEADLINE`. `stream` is as this module has it, whatever is asked.
        """
        seconds = DEADLINE if not isinstance(timeout, int | float) else timeout
        send = super().send
        request.headers["Connection"] = "close"

        def send_and_read() -> requests.Response:
            response = send(
                request,
                stream=True,
                timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                verify=verify,
                cert=cert,
                proxies=proxies,
            )
            _read_whole(response)
            return response

        return _Call(send_and_read, min(seconds, DEADLINE)).result()


class _FilteringAdapter(_BoundedAdapter, IPFilterAdapter):  # type: ignore[misc]
    """A bounded adapter that calls no address of a local or reserved network.

    The name is looked up once, and the address that was judged is the one that
    is connected to: a name server cannot put another in its place.
    """

    def build_connection_pool_key_attributes(
        self, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        host: Any
        pool: Any
        try:
            host, pool = super().build_connection_pool_key_attributes(*args, **kwargs)
        except InvalidIPAddress as error:
            raise AddressRefused(str(error)) from None
        _refuse_unless_global(host["host"])
        # With it urllib3 would compare the names by itself, and switch OpenSSL's
        # own check off in the context that all calls share. `server_hostname`,
        # which stays, is what OpenSSL compares the certificate with.
        pool.pop("assert_hostname", None)
        return host, pool

    def get_connection_with_tls_context(
        self, request: Any, verify: Any, proxies: Any = None, cert: Any = None
    ) -> Any:
        if not select_proxy(request.url, proxies):
            return super().get_connection_with_tls_context(
                request, verify, proxies, cert
            )
        # A proxy looks the name up itself, so it is sent the name: it may know
        # others than this server does, or refuse bare addresses. Where the name
        # leads to a local address from here it is refused all the same; where
        # it leads nowhere from here, the proxy decides.
        with suppress(socket.gaierror):
            _look_up_and_judge(urlsplit(request.url).hostname)
        return PLAIN.get_connection_with_tls_context(request, verify, proxies, cert)


def _look_up_and_judge(host: str | None) -> None:
    for *_, address in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM):
        try:
            judged = filter_host(str(address[0]), 0, allow_loopback=False)
        except InvalidIPAddress as error:
            raise AddressRefused(str(error)) from None
        _refuse_unless_global(judged)


def _refuse_unless_global(host: str) -> None:
    """Refuse what the library lets pass: reserved and site-local addresses."""
    address = ip_address(host.strip("[]"))
    site_local = address.version == 6 and address.is_site_local
    if not address.is_global or address.is_reserved or site_local:
        raise AddressRefused(str(address))


class OutboundAdapter(BaseAdapter):
    """The one way out: it asks for the Remote Site, whoever sends.

    Where nothing answers for the list, no host is on it.
    """

    def send(
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        url = request.url or ""
        gate = current_app.extensions.get(EXTENSION) if current_app else None
        site = gate(url) if gate else None
        if site is None:
            raise NoAnswer(HostRefused(url), sent=False)
        adapter = PLAIN if site.local_network else FILTERING[urlsplit(url).scheme]
        return adapter.send(request, *args, **kwargs)

    def close(self) -> None:
        """Nothing is kept open."""


def init_app(app: Flask, gate: Gate) -> None:
    """Give `app` the list of the hosts that it may call."""
    app.extensions[EXTENSION] = gate


def _read_whole(response: requests.Response) -> None:
    raw, body = response.raw, bytearray()
    try:
        while len(body) <= LARGEST_ANSWER and (
            chunk := raw.read1(CHUNK, decode_content=True)
        ):
            body += chunk
    finally:
        raw.close()
    if len(body) > LARGEST_ANSWER:
        raise AnswerTooLarge
    # The library parses where a redirect leads, even if it is not to be followed.
    response.headers.pop("Location", None)
    response.encoding = "utf-8"  # or the library guesses one, at length
    response._content = bytes(body)
    response._content_consumed = True  # type: ignore[attr-defined]


@lru_cache(maxsize=4)
def _trusting(file: str | None, folder: str | None, _changed: int) -> ssl.SSLContext:
    """Return a context that trusts the certificates of `file` or `folder`."""
    context = create_urllib3_context()
    try:
        context.load_verify_locations(file, folder)
    except OSError as error:
        raise TrustStoreUnusable from error
    return context


def quiet_loggers() -> None:
    """Keep the libraries' DEBUG lines, which hold secrets, from every log."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


PLAIN = _BoundedAdapter()
FILTERING = {
    scheme: _FilteringAdapter(is_https_proto=scheme == "https")  # type: ignore[call-arg]
    for scheme in WATCHED_POOLS
}
ADAPTER = OutboundAdapter()
