"""Real processes for the tests: Orgdesk under gunicorn, and a practice org."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import requests

ROOT = Path(__file__).parent.parent
START_TIMEOUT = 30
ADMIN = {"email": "admin@orgdesk.example", "password": "four words not together"}
LINK = re.compile(r"http\S+/welcome/\S+")
CSRF = re.compile(r'name="csrf_token"[^>]* value="([^"]+)"')
LAST = 10**9
"""A number that no request reaches: after it there is no log."""
USER = {"username": "admin@practice.example", "password": "practice-makes-perfect"}


class PracticeOrg:
    """A running practice org, and what a person does on its switchboard."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def switch(self, **faults: Any) -> None:
        """Set the switchboard; what is not named is as at the start."""
        words = {True: "on", False: "off"}
        self._press(
            "",
            **{
                name: words[value] if isinstance(value, bool) else value
                for name, value in faults.items()
            },
        )

    def revoke_all(self) -> None:
        self._press("/revocation")

    def upload(self, certificate_pem: str) -> None:
        """Give the app another certificate; none where it is empty."""
        self._press("/certificate", certificate=certificate_pem)

    def release(self) -> None:
        """Let the token requests go that wait for it."""
        self._press("/release")

    def reset(self) -> None:
        """Forget the requests; the next one is number 1."""
        self._press("/reset")

    def _press(self, button: str, **form: Any) -> None:
        url = f"{self.address}/switchboard{button}"
        requests.post(url, data=form, timeout=5).raise_for_status()

    def log_in(self, url: str, decision: str = "allow", **user: str) -> str:
        """Do at the login page what a person does; return where it leads back to."""
        with requests.Session() as browser:
            query = url.partition("?")[2]
            assert "Log in" in browser.get(url, timeout=5).text
            answer = browser.post(
                f"{self.address}/login?{query}",
                data=USER | user,
                allow_redirects=False,
                timeout=5,
            )
            answer = browser.get(
                self.address + answer.headers["Location"],
                allow_redirects=False,
                timeout=5,
            )
            if answer.is_redirect:  # allowed before
                return answer.headers["Location"]
            assert "Allow Access?" in answer.text
            answer = browser.post(
                answer.url,
                data={"decision": decision},
                allow_redirects=False,
                timeout=5,
            )
        return answer.headers["Location"]

    def state(self, after: int = 0) -> dict[str, Any]:
        """Return the switches, the counters and the log of what is later than that."""
        answer = requests.get(
            f"{self.address}/switchboard/state.json",
            params={"after": after},
            timeout=5,
        )
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        return state

    def requests_of(self, path_end: str, after: int = 0) -> list[dict[str, Any]]:
        """Return what was asked of the addresses that end so."""
        log = self.state(after)["log"]
        return [seen for seen in log if seen["path"].endswith(path_end)]

    @property
    def waiting(self) -> int:
        """How many token requests wait for an answer just now."""
        return int(self.state(after=LAST)["waiting"])

    @property
    def held(self) -> int:
        """How many of them wait for a release, with their work done or not."""
        return int(self.state(after=LAST)["held"])

    @property
    def families_revoked(self) -> int:
        """How many families of tokens were ended since a used refresh token came."""
        return int(self.state(after=LAST)["families_revoked"])

    @property
    def token_requests(self) -> list[dict[str, Any]]:
        return self.requests_of("/token")


def link_in(lines: str) -> str:
    """Find the one-time link in what a start printed."""
    found = LINK.search(lines)
    assert found, lines
    return found[0]


def csrf(page: str) -> str:
    found = CSRF.search(page)
    assert found, page
    return found[1]


def become_admin(browser: requests.Session, link: str) -> None:
    """Make the first admin, as whoever has started Orgdesk does."""
    form = ADMIN | {"csrf_token": csrf(browser.get(link, timeout=5).text)}
    answer = browser.post(link, data=form, timeout=10)
    assert "You are signed in" in answer.text


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port


@contextmanager
def practice_org(*callback_urls: str) -> Iterator[PracticeOrg]:
    port = free_port()
    arguments = [f"--callback-url={url}" for url in callback_urls]
    with process("-m", "practice_org", f"--port={port}", *arguments, ports=(port,)):
        yield PracticeOrg(port)


@contextmanager
def process(
    *arguments: str,
    ports: tuple[int, ...],
    env: dict[str, str] | None = None,
    stdout: IO[str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python with `arguments` until it answers on its ports; end it then."""
    started = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=os.environ | (env or {}),
        stdout=stdout,
    )
    try:
        for port in ports:
            wait_for(port, started)
        yield started
    finally:
        started.terminate()
        started.wait(10)


def wait_for(port: int, started: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_TIMEOUT
    while started.poll() is None and time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{started.args!r} did not answer on port {port}")
