"""A server that answers as scripted, and remembers what it was sent."""

import json
import os
import socket
import socketserver
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qsl

import pytest
from flask import Flask

from salesforce import Client, parse_domain, transport

CLIENT_ID = "3MVG9AcmeConsumerKey.of_the_tests"
CONSUMER_SECRET = "p%2B+/&= ü-consumer-secret"
CALLBACK = "http://localhost:8000/callback"
TOKEN = {
    "access_token": "00D5e000001N20Q!ASAAQEDBeG8bOwPu8NWxJ.Zd3FgYfkZzQ_T0y8vLw",
    "refresh_token": "5Aep86NEWdekr90I4iHdZDgYwfoH7O_5RGiaLLt.JxT8v2bQ1nP5Kx0",
    "token_type": "Bearer",
}
HANDSHAKE = b"\x16\x03"
"""What TLS begins with."""


@dataclass
class Request:
    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        pairs = parse_qsl(
            self.body.decode("ascii"), keep_blank_values=True, strict_parsing=True
        )
        assert len(dict(pairs)) == len(pairs), "a field was sent twice"
        return dict(pairs)


Step = bytes | Callable[[socket.socket, Request], None]


class Server(socketserver.ThreadingTCPServer):
    """Answers as scripted, else with a token, and remembers what it was sent.

    Bytes are sent and the connection is kept; a function does what it likes
    with the connection, which is closed then.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.tls = tls
        self.script: list[Step] = []
        self.requests: list[Request] = []
        self.connections = 0

    def get_request(self) -> Any:
        line, address = super().get_request()
        self.connections += 1
        if self.tls:  # the handshake is left to the handler's thread
            line = self.tls.wrap_socket(
                line, server_side=True, do_handshake_on_connect=False
            )
        return line, address

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def client(self) -> Client:
        scheme = "https" if self.tls else "http"
        domain = parse_domain(f"{scheme}://127.0.0.1:{self.port}")
        return Client(domain, CLIENT_ID, CONSUMER_SECRET, CALLBACK)


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = cast("Server", self.server)
        with suppress(OSError):
            while request := receive(self.request):
                server.requests.append(request)
                step = server.script.pop(0) if server.script else answer(TOKEN)
                if callable(step):
                    step(self.request, request)
                    return
                self.request.sendall(step)


def receive(line: socket.socket) -> Request | None:
    """Read one request, or None at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (chunk := line.recv(65_536)):
            return None
        data += chunk
        if data.startswith(HANDSHAKE):
            line.sendall(answer(b"", "400 Bad Request"))
            return None
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (h.split(": ", 1) for h in rest)}
    while len(body) < int(headers.get("content-length", 0)):
        body += line.recv(65_536)
    return Request(first, headers, body)


def answer(
    body: object = b"", status: str = "200 OK", *more: bytes, length: int | None = None
) -> bytes:
    """Return an answer as it goes over the wire."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    length = len(body) if length is None else length
    lines = (f"HTTP/1.1 {status}".encode(), f"Content-Length: {length}".encode(), *more)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def last(data: bytes) -> Step:
    """Send this and close."""
    return lambda line, _: line.sendall(data)


def by_path(answers: Mapping[str, bytes]) -> Step:
    """Answer by how the path ends, whatever is asked when; else there is nothing."""

    def step(line: socket.socket, request: Request) -> None:
        path = request.line.split()[1].partition("?")[0]
        found = [data for end, data in answers.items() if path.endswith(end)]
        line.sendall(found[0] if found else answer(b"", "404 Not Found"))

    return step


def drip(first: bytes, drop: bytes, ended: threading.Event) -> Step:
    """Send a drop now and then, far beyond any deadline, until it is cut."""

    def step(line: socket.socket, _: Request) -> None:
        line.sendall(first)
        try:
            for _ in range(400):
                time.sleep(0.02)
                line.sendall(drop)
        except OSError:
            ended.set()

    return step


def reset(line: socket.socket, _: Request) -> None:
    line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.close()


def silence(first: bytes, ended: threading.Event) -> Step:
    """Send this, and then nothing, until it is cut."""

    def step(line: socket.socket, _: Request) -> None:
        line.sendall(first)
        line.settimeout(5)
        if line.recv(1) == b"":
            ended.set()

    return step


@dataclass
class Listed:
    """A Remote Site, as far as this package knows one."""

    local_network: bool


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(tls)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def calling() -> Iterator[Flask]:
    """Work in an app that may call every host, those of the local network too."""
    app = Flask("tests")
    transport.init_app(app, lambda _: Listed(local_network=True))
    with app.app_context():
        yield app


def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no proxy, bundle or .netrc but those that a test sets."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", os.devnull)
