"""How every request leaves: the outbound rules, in one place.

A request has a total deadline, an answer a largest size after decompression;
redirects are not followed, cookies are not kept. One adapter a process keeps
connections and TLS contexts; sessions are made anew for each request, because
requests-oauthlib keeps state in them.
"""

import logging
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

CONNECT_TIMEOUT = 5
"""Seconds to reach one address of the host."""
READ_TIMEOUT = 15
"""Seconds between two bytes of the answer."""
DEADLINE = 20
"""Seconds from the start of the request to the last byte of the answer."""
LARGEST_ANSWER = 32_768
"""Bytes after decompression: what the record keeps of an answer."""
CHUNK = 8_192
POOL_SIZE = 64

QUIET_LOGGERS = ("requests_oauthlib", "oauthlib", "urllib3")
"""At DEBUG these print the secret, the code and the tokens."""


class AnswerTooLarge(requests.RequestException):
    """The answer is larger than `LARGEST_ANSWER`."""


class DeadlinePassed(requests.Timeout):
    """The whole answer was not there in time."""


class _Call:
    """One request, in a thread of its own, which is left when its time is up.

    Timeouts of the library start anew with every address and every byte, and
    none holds for the look-up of the host's name. So the caller waits no longer
    than its deadline. What is still under way then is cut off, and whatever
    connects later is cut at once: no request leaves after its caller has gone.
    """

    def __init__(self, send: Callable[[], requests.Response]) -> None:
        self._send = send
        self._outcome: requests.Response | Exception | None = None
        self._lines: list[socket.socket] = []
        self._late = False
        self._lock = threading.Lock()

    def result(self, seconds: float) -> requests.Response:
        """Return the response, or raise what the request raised.

        Raises `DeadlinePassed` after `seconds`, or `requests.ConnectTimeout`
        where the host had not been reached by then.
        """
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        thread.join(seconds)
        if self._outcome is None:
            raise self._cut()
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def watch(self, line: socket.socket) -> None:
        with self._lock:
            self._lines.append(line)
            if self._late:
                _shut(line)

    def _run(self) -> None:
        _running.call = self
        try:
            self._outcome = self._send()
        except Exception as error:  # noqa: BLE001  the caller raises it
            self._outcome = error

    def _cut(self) -> requests.RequestException:
        with self._lock:
            self._late = True
            for line in self._lines:
                _shut(line)
            return DeadlinePassed() if self._lines else requests.ConnectTimeout()


_running = threading.local()
"""`call`: the one that this thread is at."""


def _shut(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


class _WatchedLine:
    """Shows the call the socket below a connection, TLS or not.

    A duplicate of the descriptor is kept, because the TLS layer takes the
    original away while the handshake is still running.
    """

    _line: socket.socket | None = None

    def _new_conn(self) -> socket.socket:
        connected: socket.socket = super()._new_conn()  # type: ignore[misc]
        self._line = connected.dup()
        self._show()
        return connected

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._show()
        super().request(*args, **kwargs)  # type: ignore[misc]

    def close(self) -> None:
        super().close()  # type: ignore[misc]
        if self._line is not None:
            self._line.close()
            self._line = None

    def _show(self) -> None:
        call: _Call = _running.call
        if self._line is not None:
            call.watch(self._line)


class _WatchedHTTPConnection(_WatchedLine, HTTPConnection):
    pass


class _WatchedHTTPSConnection(_WatchedLine, HTTPSConnection):
    pass


class _WatchedHTTPPool(HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _WatchedHTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


WATCHED_POOLS = {"http": _WatchedHTTPPool, "https": _WatchedHTTPSPool}


class BoundedAdapter(HTTPAdapter):
    """An adapter whose answers arrive whole, in time and of bounded size."""

    def __init__(self) -> None:
        super().__init__(pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = WATCHED_POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = WATCHED_POOLS
        return manager

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Send `request` and read the whole answer.

        Raises `DeadlinePassed`, `AnswerTooLarge` or what `requests` raises.
        `stream` and `timeout` are those of this module, whatever is asked for.
        """
        send = super().send

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

        return _Call(send_and_read).result(DEADLINE)


def _read_whole(response: requests.Response) -> None:
    raw, body = response.raw, bytearray()
    try:
        while len(body) <= LARGEST_ANSWER and (
            chunk := raw.read1(CHUNK, decode_content=True)
        ):
            body += chunk
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise requests.ConnectionError(error, response=response) from error
    finally:
        if len(body) > LARGEST_ANSWER:
            raw.close()
        raw.release_conn()
    if len(body) > LARGEST_ANSWER:
        raise AnswerTooLarge(response=response)
    response.encoding = "utf-8"  # or the library guesses one, at length
    response._content = bytes(body)
    response._content_consumed = True  # type: ignore[attr-defined]


def quiet_loggers() -> None:
    """Keep the libraries' DEBUG lines, which hold secrets, from every log."""
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


ADAPTER = BoundedAdapter()
