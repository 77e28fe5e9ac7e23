"""A fleet: Orgdesk under gunicorn, with a relay between it and the practice org."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import select

from app import create_app
from database import db
from models import Attempt, ExternalApplication, Role
from practice_org import CLIENT_ID, CONSUMER_SECRET
from tests.conftest import ADMIN, CHEAP, PASSWORD, add_application, add_user
from tests.servers import ROOT, PracticeOrg, csrf, free_port, wait_for

FACTORY = "app:create_app({'RATELIMIT_ENABLED': False})"
PATIENCE = 30.0
"""Seconds that a test waits for what has to happen."""


class Relay:
    """Stands before the org, so that a test can stop what passes, and where."""

    def __init__(self, org: PracticeOrg) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.asked = list[str]()
        self.answered = list[str]()
        self._org = int(org.address.rpartition(":")[2])
        self._held, self._gate = "", threading.Event()
        self._jam = list[socket.socket]()
        self._open()

    def hold(self, path_end: str) -> None:
        """Keep the answers to requests of this path until `release`."""
        self._held = path_end
        self._gate.clear()

    def release(self) -> None:
        self._held = ""
        self._gate.set()

    def jam(self) -> None:
        """Let nobody connect: who tries waits, and has sent nothing."""
        self.close()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=0)
        for _ in range(3):
            line = socket.socket()
            line.settimeout(0)
            line.connect_ex(("127.0.0.1", self.port))
            self._jam.append(line)

    def clear(self) -> None:
        """Let them through again."""
        self.close()
        for line in self._jam:
            line.close()
        self._jam.clear()
        self._open()

    def close(self) -> None:
        with suppress(OSError):  # wakes whoever accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(
            target=self._serve, args=(self._listener,), daemon=True
        ).start()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(line,), daemon=True).start()

    def _pass_on(self, line: socket.socket) -> None:
        with suppress(OSError), line:
            request = _whole_request(line)
            path = request.split(b" ", 2)[1].decode() if request else ""
            if not path:
                return
            self.asked.append(path)
            head, _, body = request.partition(b"\r\n\r\n")
            head = re.sub(rb"(?im)^connection:.*\r\n", b"", head + b"\r\n")
            with socket.create_connection(("127.0.0.1", self._org)) as org:
                org.sendall(head + b"Connection: close\r\n\r\n" + body)
                answer = b"".join(iter(lambda: org.recv(65_536), b""))
            if self._held and path.endswith(self._held):
                self._gate.wait(PATIENCE * 4)
            line.sendall(answer)
            self.answered.append(path)


def _whole_request(line: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = line.recv(65_536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    while length and len(body) < int(length[1]):
        body += line.recv(65_536)
    return head + b"\r\n\r\n" + body


class Fleet:
    """Some gunicorns on one database, an admin's browser, and records to click on."""

    def __init__(self, folder: Path, url: str | None, org: PracticeOrg) -> None:
        self.url = url or f"sqlite:///{folder / 'orgdesk.db'}"
        self.org, self.relay = org, Relay(org)
        self.ports = list[int]()
        self.running = list[subprocess.Popen[bytes]]()
        key, secret = Fernet.generate_key().decode(), "a secret of the tests"
        self.env = {
            "ORGDESK_INSTANCE": str(folder),
            "ORGDESK_DATABASE_URL": self.url,
            "ORGDESK_VAULT_KEYS": key,
            "ORGDESK_SECRET_KEY": secret,
        }
        self.app: Flask = create_app(
            {
                "SQLALCHEMY_DATABASE_URI": self.url,
                "VAULT_KEYS": (key,),
                "SECRET_KEY": secret,
            }
            | CHEAP
        )
        with self.app.app_context():
            upgrade()
            add_user(ADMIN, Role.ADMIN)

    def start(self, workers: int, port: int | None = None) -> None:
        """Start one more gunicorn."""
        port = port or free_port()
        command = [
            *(sys.executable, "-m", "gunicorn", "--preload", f"--workers={workers}"),
            # Without a timeout the master leaves a worker that is frozen alone.
            *("--timeout=0", "--log-level=warning", f"--bind=127.0.0.1:{port}"),
            FACTORY,
        ]
        self.running.append(
            subprocess.Popen(command, cwd=ROOT, env=os.environ | self.env)
        )
        self.ports.append(port)
        wait_for(port, self.running[-1])

    def stop(self) -> None:
        self.relay.release()
        for process in self.running:
            with suppress(ProcessLookupError):
                for worker in self.workers():
                    os.kill(worker, signal.SIGCONT)
            process.terminate()
        for process in self.running:
            process.wait(40)
        self.relay.close()
        with self.app.app_context():
            db.engine.dispose()

    def workers(self) -> list[int]:
        """The process ids of the workers that live."""
        return [pid for at in range(len(self.running)) for pid in self.workers_of(at)]

    def workers_of(self, at: int) -> list[int]:
        process = self.running[at]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def kill_workers(self) -> None:
        """Kill them all with -9, and wait until the master has made new ones."""
        dead = self.workers()
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(self.workers()) - set(dead)) == len(dead))
        for port in self.ports:
            wait_for(port, self.running[0])

    def browser(self, at: int = 0) -> "Browser":
        return Browser(f"http://127.0.0.1:{self.ports[at]}")

    def add_records(self, count: int, browser: "Browser", **changes: Any) -> list[int]:
        """Add records and log in for each; return their ids."""
        first = len(self.ids())
        for number in range(count):
            description = {
                "application_name": f"Org {first + number}",
                "salesforce_domain": self.relay.address,
                "client_id": CLIENT_ID,
                "consumer_secret": CONSUMER_SECRET,
                "callback_url": f"{browser.address}/callback",
                "requested_scopes": "api refresh_token id",
            }
            add_application(self.app, **description | changes)
        added = self.ids()[first:]
        for record in added:
            self.log_in(browser, record)
        return added

    def log_in(self, browser: "Browser", record: int) -> None:
        back = self.org.log_in(browser.click(record, log_in="1").headers["Location"])
        answer = browser.session.get(back, allow_redirects=False, timeout=PATIENCE)
        assert answer.headers["Location"] == f"/applications/{record}", answer.text

    def ids(self) -> list[int]:
        with self.app.app_context():
            ids = select(ExternalApplication.id).order_by(ExternalApplication.id)
            return list(db.session.scalars(ids))

    def record(self, record: int) -> ExternalApplication:
        with self.app.app_context():
            found = db.session.get_one(ExternalApplication, record)
            db.session.expunge(found)
            return found

    def secrets(self, record: int) -> tuple[str | None, str | None]:
        """Return the access and the refresh token that are stored."""
        with self.app.app_context():
            found = db.session.get_one(ExternalApplication, record)
            return found.opened("access_token"), found.opened("refresh_token")

    def attempts(self, record: int) -> list[Attempt]:
        with self.app.app_context():
            found = db.session.scalars(
                select(Attempt)
                .where(Attempt.application_id == record)
                .order_by(Attempt.id)
            ).all()
            db.session.expunge_all()
            return list(found)

    def lives(self, token: str | None) -> bool:
        """Ask the org about a token, without presenting it."""
        answer = requests.post(
            f"{self.org.address}/services/oauth2/introspect",
            data={
                "token": token or "none",
                "client_id": CLIENT_ID,
                "client_secret": CONSUMER_SECRET,
            },
            timeout=PATIENCE,
        )
        return bool(answer.json()["active"])


class Browser:
    """An admin's browser, without JavaScript."""

    def __init__(self, address: str) -> None:
        self.address, self.session = address, requests.Session()
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))
        page = self.session.get(f"{address}/sign-in", timeout=PATIENCE)
        form = {"email": ADMIN, "password": PASSWORD, "csrf_token": csrf(page.text)}
        answer = self.session.post(
            f"{address}/sign-in", data=form, allow_redirects=False, timeout=PATIENCE
        )
        assert answer.is_redirect, answer.text
        self.token = csrf(self.page("/account"))

    def page(self, path: str) -> str:
        return self.session.get(self.address + path, timeout=PATIENCE).text

    def click(
        self, record: int, *, htmx: bool = False, **more: str
    ) -> requests.Response:
        """Press Refresh Access Token."""
        return self.session.post(
            f"{self.address}/applications/{record}/authorization",
            data={"csrf_token": self.token} | more,
            headers={"HX-Request": "true"} if htmx else {},
            allow_redirects=False,
            timeout=PATIENCE * 6,
        )

    def click_all(
        self, records: list[int], *others: "Browser"
    ) -> list[requests.Response]:
        """Press the buttons of all these records at once, in turn with the others."""
        start, browsers = threading.Barrier(len(records)), (self, *others)

        def press(at: int) -> requests.Response:
            start.wait(PATIENCE)
            return browsers[at % len(browsers)].click(records[at], htmx=True)

        with ThreadPoolExecutor(len(records)) as pool:
            return list(pool.map(press, range(len(records))))


@contextmanager
def fleet(folder: Path, org: PracticeOrg, url: str | None = None) -> Iterator[Fleet]:
    made = Fleet(folder, url, org)
    try:
        yield made
    finally:
        made.stop()


def until(holds: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until it holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)
