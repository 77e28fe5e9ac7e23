"""The token engine with real processes: many at once, killed, frozen, stepped."""

import os
import resource
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import libfaketime
import pytest
import requests

from database import db, tick
from models import LEASE, Attempt, Lane, Outcome
from salesforce import State
from tests.fleet import Browser, Fleet, fleet, until
from tests.servers import PracticeOrg, free_port, practice_org

AT_ONCE = 50
ROUNDS = int(os.environ.get("ORGDESK_TEST_ROUNDS", "10"))
"""Times that a worker is killed at each stage; `make soak` asks for more."""
SAYS_SO = (State.OUTCOME_UNKNOWN, State.LOGIN_REQUIRED)
"""States in which a record says that its refresh token may be dead."""


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def org_process(port: int) -> Iterator[PracticeOrg]:
    with practice_org(f"http://127.0.0.1:{port}/callback") as org:
        yield org


@pytest.fixture
def ships(tmp_path: Path, org: PracticeOrg) -> Iterator[Fleet]:
    switch(org)
    with fleet(tmp_path, org) as made:
        yield made


def switch(org: PracticeOrg, **faults: Any) -> None:
    """Set the switchboard of an org where one user may log in for every record."""
    org.switch(approval_limit=1_000, **faults)


def asked(org: PracticeOrg) -> int:
    return len(org.token_requests)


def one_record(ships: Fleet, port: int) -> tuple[Browser, int]:
    """Start one worker; return a browser and a record that is connected."""
    ships.start(1, port)
    browser = ships.browser()
    (record,) = ships.add_records(1, browser)
    return browser, record


def shown(browser: Browser, record: int) -> str:
    return browser.page(f"/applications/{record}")


def test_fifty_clicks_are_one_request(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    ships.start(4, port)
    browser = ships.browser()
    (record,) = ships.add_records(1, browser)
    before = asked(org)
    switch(org, rotation=True, fault="slow", seconds=0.5)
    answers = browser.click_all([record] * AT_ONCE)
    assert asked(org) == before + 1
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    assert all("Connected" in answer.text for answer in answers)
    assert ships.lives(ships.secrets(record)[1])
    assert org.families_revoked == 0
    assert [attempt.lane for attempt in ships.attempts(record)] == [
        Lane.BROWSER,
        Lane.SILENT,
    ]


def test_twenty_records_do_not_wait_for_one_another(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    ships.start(4, port)
    browser = ships.browser()
    records = ships.add_records(20, browser)
    before = asked(org)
    switch(org, rotation=True, fault="slow", seconds=2)
    begin = time.monotonic()
    answers = browser.click_all(records)
    took = time.monotonic() - begin
    assert asked(org) == before + 20
    assert [answer.status_code for answer in answers] == [200] * 20
    assert all(ships.record(record).lane == Lane.SILENT for record in records)
    assert took < 20  # one after the other they take 40 seconds


def test_who_waits_too_long_learns_who_is_at_it(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    browser, record = one_record(ships, port)
    with ships.app.app_context():
        db.session.add(
            Attempt(
                application_id=record,
                lane=Lane.SILENT,
                actor="ada@orgdesk.example",
                request_id="",
                lease_ends=tick() + LEASE,
            )
        )
        db.session.commit()
    before = asked(org)
    assert (
        "being refreshed by ada@orgdesk.example"
        in browser.click(record, htmx=True).text
    )
    assert asked(org) == before


# --- killed ----------------------------------------------------------------


class Stage:
    """A point at which the worker is killed: how a click is brought there."""

    def __init__(self, ships: Fleet, browser: Browser) -> None:
        self.ships, self.relay, self.org = ships, ships.relay, ships.org
        self.browser = browser

    @contextmanager
    def before_the_request(self, record: int) -> Iterator[None]:
        self.relay.jam()
        with self._clicked(record):
            until(lambda: self._is_under_way(record))
            time.sleep(0.2)  # it is connecting now
            yield
        self.relay.clear()

    @contextmanager
    def after_it_left(self, record: int) -> Iterator[None]:
        seen = asked(self.org)
        self.relay.hold("/token")
        with self._clicked(record):
            until(lambda: asked(self.org) == seen + 1)
            yield
        self.relay.release()

    @contextmanager
    def after_the_answer_came(self, record: int) -> Iterator[None]:
        """The database is locked, so that it cannot be stored."""
        seen = len(self.relay.answered)
        self.relay.hold("/token")
        with self._clicked(record):
            until(lambda: self._is_under_way(record) and self.relay.asked)
            with self.locked():
                self.relay.release()
                until(lambda: len(self.relay.answered) == seen + 1)
                time.sleep(0.3)
                yield

    @contextmanager
    def after_the_commit(self, record: int) -> Iterator[None]:
        """It has stored the token, and asks when that ends."""
        before = len(self.ships.attempts(record))
        self.relay.hold("/introspect")
        with self._clicked(record):
            until(
                lambda: (
                    (attempts := self.ships.attempts(record)[before:])
                    and attempts[0].outcome is Outcome.STORED
                )
            )
            yield
        self.relay.release()

    @contextmanager
    def locked(self) -> Iterator[None]:
        path = self.ships.url.removeprefix("sqlite:///")
        line = sqlite3.connect(path, isolation_level=None)
        line.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            line.close()

    @contextmanager
    def _clicked(self, record: int) -> Iterator[None]:
        def click() -> None:
            with suppress(requests.RequestException):
                self.browser.click(record, htmx=True)

        clicking = threading.Thread(target=click)
        clicking.start()
        yield
        clicking.join()

    def _is_under_way(self, record: int) -> bool:
        attempts = self.ships.attempts(record)
        return attempts[-1].lane is Lane.SILENT and attempts[-1].finished_at is None


STAGES: tuple[Callable[[Stage, int], object], ...] = (
    Stage.before_the_request,
    Stage.after_it_left,
    Stage.after_the_answer_came,
    Stage.after_the_commit,
)


def test_no_token_is_lost_without_a_word_when_workers_are_killed(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    """Some times at each stage, at an org that replaces refresh tokens.

    Half of the records have been refreshed before, so that it is known of them.
    """
    ships.start(1, port)
    browser = ships.browser()
    records = ships.add_records(ROUNDS * len(STAGES), browser)
    switch(org, rotation=True)
    for record in records[::2]:
        browser.click(record)
    for at, record in enumerate(records):
        with STAGES[at % len(STAGES)](Stage(ships, browser), record):
            ships.kill_workers()
    until(lambda: is_settled(ships, browser, records), LEASE + 20)
    for at, record in enumerate(records):
        state, token = ships.record(record).state, ships.secrets(record)[1]
        killed_at = STAGES[at % len(STAGES)]
        if killed_at is Stage.after_the_commit:
            assert state is State.CONNECTED
        else:
            assert state is State.OUTCOME_UNKNOWN
            assert "is not simply sent again" in shown(browser, record)
        assert ships.lives(token) or state in SAYS_SO
    assert org.families_revoked == 0
    for record in records:
        lived = ships.lives(ships.secrets(record)[1])
        answer = browser.click(record, htmx=True)
        assert answer.status_code == (200 if lived else 204)
        assert ships.record(record).state is (
            State.CONNECTED if lived else State.LOGIN_REQUIRED
        )
    assert org.families_revoked == 0


def is_settled(ships: Fleet, browser: Browser, records: list[int]) -> bool:
    """Look at the list, which settles what was left behind."""
    browser.page("/")
    return not any(is_under_way(ships, record) for record in records)


def is_under_way(ships: Fleet, record: int) -> bool:
    return any(attempt.finished_at is None for attempt in ships.attempts(record))


# --- frozen ----------------------------------------------------------------


POOL = ThreadPoolExecutor(4)


class Frozen:
    """A process that was stopped in the middle of a click, by SIGSTOP."""

    def __init__(
        self, ships: Fleet, at: int, record: int, reached: Callable[[], object]
    ) -> None:
        (self.pid,) = ships.workers_of(at)
        self._clicking = POOL.submit(ships.browser(at).click, record, htmx=True)
        until(reached)
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self._clicking.result()


def test_who_is_frozen_past_the_lease_is_taken_over(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    """Three at once, for it takes a minute: one whose request is at an org that keeps
    refresh tokens, one at an org that replaces them, one that has not sent yet."""
    ships.start(1, port)
    for _ in range(3):
        ships.start(1)
    other, relay = ships.browser(0), ships.relay

    def freeze(at: int, record: int) -> Frozen:
        seen = asked(org)
        relay.hold("/token")
        frozen = Frozen(ships, at, record, lambda: asked(org) == seen + 1)
        relay.release()
        return frozen

    def connecting(record: int) -> bool:
        time.sleep(0.2)
        return is_under_way(ships, record)

    kept, replaced, unsent = ships.add_records(3, other)
    other.click(kept)
    frozen_kept = freeze(1, kept)
    switch(org, rotation=True)
    other.click(replaced)
    other.click(unsent)
    frozen_replaced = freeze(2, replaced)
    relay.jam()
    frozen_unsent = Frozen(ships, 3, unsent, lambda: connecting(unsent))
    relay.clear()
    until(lambda: is_settled(ships, other, [kept, replaced, unsent]), LEASE + 20)

    switch(org, rotation=False)
    assert ships.record(kept).state is State.OUTCOME_UNKNOWN
    assert "Connected" in other.click(kept, htmx=True).text
    taken = ships.secrets(kept)
    frozen_kept.thaw()
    assert ships.secrets(kept) == taken  # its late write was refused

    switch(org, rotation=True)
    assert other.click(replaced, htmx=True).status_code == 204
    assert ships.record(replaced).state is State.LOGIN_REQUIRED
    taken = ships.secrets(replaced)
    frozen_replaced.thaw()  # it has the heir of what is stored, the only one that lives
    assert ships.record(replaced).state is State.CONNECTED
    assert ships.secrets(replaced) != taken

    assert "Connected" in other.click(unsent, htmx=True).text
    taken, seen = ships.secrets(unsent), asked(org)
    frozen_unsent.thaw()
    assert (ships.secrets(unsent), asked(org)) == (taken, seen)

    for record in (kept, replaced, unsent):
        assert ships.lives(ships.secrets(record)[1])
    assert org.families_revoked == 0


# --- a database that is locked or full --------------------------------------


def test_a_token_that_comes_while_the_database_is_locked_is_not_lost(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    browser, record = one_record(ships, port)
    switch(org, rotation=True)
    seen = len(ships.relay.answered)
    ships.relay.hold("/token")
    clicking = POOL.submit(browser.click, record, htmx=True)
    until(lambda: is_under_way(ships, record))
    with Stage(ships, browser).locked():
        ships.relay.release()
        until(lambda: len(ships.relay.answered) > seen)
        time.sleep(6)
    assert "Connected" in clicking.result().text
    assert ships.lives(ships.secrets(record)[1])


def test_a_click_while_the_database_is_locked_asks_nobody_and_says_so(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    browser, record = one_record(ships, port)
    before = ships.secrets(record)
    seen = asked(org)
    with Stage(ships, browser).locked():
        answer = browser.click(record)
    assert answer.status_code == 503
    assert "The database does not answer. Try again in a moment." in answer.text
    assert asked(org) == seen
    assert ships.secrets(record) == before
    assert browser.click(record, htmx=True).status_code == 200


def test_a_token_that_comes_while_the_disk_is_full_is_not_lost(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    browser, record = one_record(ships, port)
    switch(org, rotation=True)
    ships.relay.hold("/token")
    clicking = POOL.submit(browser.click, record, htmx=True)
    until(lambda: is_under_way(ships, record))
    (worker,) = ships.workers()
    unlimited = resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, -1))
    ships.relay.release()
    time.sleep(5)
    assert not clicking.done()
    assert "full" not in shown(browser, record)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, unlimited)
    assert "Connected" in clicking.result().text
    assert ships.lives(ships.secrets(record)[1])


# --- clocks that are set -----------------------------------------------------


@pytest.mark.parametrize("step", ["+1h", "-1h"])
def test_a_clock_that_is_set_while_somebody_asks_changes_nothing(
    tmp_path: Path, port: int, org: PracticeOrg, step: str
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    switch(org)
    with fleet(tmp_path, org) as ships:
        ships.env |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        ships.start(2, port)
        browser = ships.browser()
        (record,) = ships.add_records(1, browser)
        switch(org, rotation=True)
        browser.click(record)
        seen = asked(org)
        ships.relay.hold("/token")
        clicking = [POOL.submit(browser.click, record, htmx=True)]
        until(lambda: asked(org) == seen + 1)
        clock.write_text(step)
        other = ships.browser()  # a cookie of the time before may be of no use now
        clicking.append(POOL.submit(other.click, record, htmx=True))
        time.sleep(1)
        assert not any(one.done() for one in clicking)
        ships.relay.release()
        assert all("Connected" in one.result().text for one in clicking)
        assert asked(org) == seen + 1
        assert "Expired" not in shown(other, record)
        clock.write_text("+0")
        answer = ships.browser().click(record, htmx=True)
        assert "Connected" in answer.text
        assert ships.lives(ships.secrets(record)[1])
        assert org.families_revoked == 0


FAKETIME = Path(libfaketime.__file__).parent / "vendor/libfaketime/src/libfaketime.so.1"
