"""`make run` as it is, and a browser in front of it."""

import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser import chromium
from tests.servers import PracticeOrg, free_port, process

TIMEOUT = 15_000
"""Milliseconds; a slow machine gets its time, a test that waits in vain ends."""

ON_PURPOSE = re.compile("status of 4|INTERNET_DISCONNECTED|Failed to fetch")
"""What the console says of a page that was refused, or a line that was cut."""


@dataclass
class Running:
    """A running Orgdesk with its practice org."""

    address: str
    org: PracticeOrg
    instance: Path

    @property
    def database(self) -> sqlite3.Connection:
        return sqlite3.connect(self.instance / "orgdesk.db", isolation_level=None)


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    instance = tmp_path_factory.mktemp("instance")
    port, practice_port = free_port(), free_port()
    env = {
        "ORGDESK_INSTANCE": str(instance),
        "ORGDESK_PORT": str(port),
        "ORGDESK_PRACTICE_PORT": str(practice_port),
    }
    with process("run.py", ports=(port, practice_port), env=env):
        yield Running(f"http://localhost:{port}", PracticeOrg(practice_port), instance)


@pytest.fixture
def orgdesk(processes: Running) -> Running:
    """Orgdesk with its prepared record as new, all faults off, nothing approved."""
    processes.org.switch()
    processes.org.revoke_all()
    return processes


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    assert path, "no Chromium: run make test, which installs one"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, orgdesk: Running) -> Iterator[Page]:
    """A page of a new browser profile; an error in its console fails the test."""
    context = browser.new_context(base_url=orgdesk.address)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda line: problems.append(line.text) if line.type == "error" else None,
    )
    yield page
    context.close()
    assert not [text for text in problems if not ON_PURPOSE.search(text)]
