"""`make run` as it is, and a browser in front of it."""

import re
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    Page,
    StorageState,
    sync_playwright,
)

from tests.browser import chromium
from tests.servers import ADMIN, PracticeOrg, free_port, link_in, process

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
    first_link: str

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
    said = tmp_path_factory.mktemp("said") / "stdout"
    with (
        said.open("w") as stdout,
        process("run.py", ports=(port, practice_port), env=env, stdout=stdout),
    ):
        while "Ctrl-C" not in said.read_text():
            time.sleep(0.05)
        yield Running(
            f"http://localhost:{port}",
            PracticeOrg(practice_port),
            instance,
            link_in(said.read_text()),
        )


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


@pytest.fixture(scope="session")
def signed_in(browser: Browser, processes: Running) -> StorageState:
    """What a browser keeps once the first admin came in by the link."""
    page = browser.new_page()
    page.goto(processes.first_link)
    page.get_by_label("E-mail address").fill(ADMIN["email"])
    page.get_by_label("Password").fill(ADMIN["password"])
    page.get_by_role("button", name="Make the first admin").click()
    page.get_by_text("You are signed in").wait_for()
    return page.context.storage_state()


@pytest.fixture
def page(browser: Browser, orgdesk: Running, signed_in: StorageState) -> Iterator[Page]:
    """A page of an admin's browser; an error in its console fails the test."""
    yield from open_page(
        browser.new_context(base_url=orgdesk.address, storage_state=signed_in)
    )


@pytest.fixture
def strangers_page(
    browser: Browser, orgdesk: Running, signed_in: StorageState
) -> Iterator[Page]:
    """A page of a browser in which nobody is signed in."""
    yield from open_page(browser.new_context(base_url=orgdesk.address))


def open_page(context: BrowserContext) -> Iterator[Page]:
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
