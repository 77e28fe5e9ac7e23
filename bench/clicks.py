"""What a click on Refresh Access Token costs, and what of it goes where.

A refresh by requests-oauthlib alone, the click, and the steps between the two
are measured in turns, in this process, at one practice org, which is another.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

from flask.testing import FlaskClient
from sqlalchemy import event
from sqlalchemy.engine import Engine

import engine
import salesforce
from bench import bare
from bench.pages import signed_in
from database import db
from models import ExternalApplication
from practice_org import CLIENT_ID, CONSUMER_SECRET
from tests.fleet import Fleet, fleet
from tests.servers import PracticeOrg, csrf, free_port, practice_org

ROUNDS = 150
WARM_UP = 10


@dataclass
class Way:
    """A way to a new access token, and what it took."""

    name: str
    go: Callable[[], object]
    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    statements: int = 0
    commits: int = 0
    requests: int = 0

    def run(self) -> None:
        wall, cpu = perf_counter(), process_time()
        self.go()
        self.cpu.append(process_time() - cpu)
        self.wall.append(perf_counter() - wall)

    def look(self, org: PracticeOrg) -> None:
        """Do it once, counting what it asks of the database and of the org."""

        def statement(*_: Any) -> None:
            self.statements += 1

        def commit(_: Any) -> None:
            self.commits += 1

        counted = (("before_cursor_execute", statement), ("commit", commit))
        org.reset()
        for what, count in counted:
            event.listen(Engine, what, count)
        self.go()
        for what, count in counted:
            event.remove(Engine, what, count)
        self.requests = len(org.state()["log"])


def main() -> None:
    with connected(1) as (ships, (record,)):
        ways = list(all_ways(ships, record))
        for way in ways:
            way.look(ships.org)
        for _ in range(WARM_UP + ROUNDS):
            for way in ways:
                way.run()
    show(ways)


@contextmanager
def connected(count: int) -> Iterator[tuple[Fleet, list[int]]]:
    """Make one gunicorn worker and records that are logged in at a practice org."""
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="orgdesk-bench-") as folder,
        practice_org(f"http://127.0.0.1:{port}/callback") as org,
        fleet(Path(folder), org) as ships,
    ):
        org.switch(approval_limit=count)
        ships.start(1, port)
        yield (
            ships,
            ships.add_records(count, ships.browser(), salesforce_domain=org.address),
        )


def all_ways(ships: Fleet, record: int) -> Iterator[Way]:
    """Make the ways, each with a bit more around the refresh than the one before."""
    _, token = ships.secrets(record)
    assert token
    kept, org = bare.new_session(), ships.org
    client = salesforce.Client(
        domain=salesforce.parse_domain(org.address),
        client_id=CLIENT_ID,
        client_secret=CONSUMER_SECRET,
        redirect_uri="",
    )
    browser = signed_in(ships.app)
    form = {"csrf_token": csrf(browser.get("/account").text)}

    def on_a_new_connection() -> None:
        with bare.new_session() as session:
            bare.refresh(session, org, token)

    def by_the_rules() -> str:
        with ships.app.app_context():
            return salesforce.refresh_access_token(client, token).access_token

    def and_introspected() -> None:
        new = by_the_rules()
        with ships.app.app_context():
            salesforce.introspect(client, new, "access_token")

    def by_the_engine() -> None:
        with ships.app.app_context():
            application = db.session.get_one(ExternalApplication, record)
            assert engine.get_token(application).stored

    def by_a_click() -> None:
        click(browser, record, form)

    yield Way(
        "requests-oauthlib, connection kept", lambda: bare.refresh(kept, org, token)
    )
    yield Way("… and a new connection each time", on_a_new_connection)
    yield Way("… held to the outbound rules", by_the_rules)
    yield Way("… and the new token introspected", and_introspected)
    yield Way("… and all stored: engine.get_token", by_the_engine)
    yield Way("… and asked for by a click", by_a_click)


def click(browser: FlaskClient, record: int, form: dict[str, str]) -> None:
    answer = browser.post(
        f"/applications/{record}/authorization",
        data=form,
        headers={"HX-Request": "true"},
    )
    assert answer.status_code == 200, answer.text
    assert "Connected" in answer.text


def show(ways: list[Way]) -> None:
    print(
        f"{f'a refresh, median of {ROUNDS}':36}{'CPU ms':>8}{'more':>7}{'ratio':>7}"
        f"{'wall ms':>9}{'more':>7}{'ratio':>7}{'SQL':>5}{'commits':>9}{'requests':>10}"
    )
    before = [0.0, 0.0]
    first = [_ms(ways[0].cpu), _ms(ways[0].wall)]
    for way in ways:
        ms = [_ms(way.cpu), _ms(way.wall)]
        times = "".join(
            f"{value:{width}.2f}{value - former:7.2f}{value / bare_ms:7.2f}"
            for value, former, bare_ms, width in zip(
                ms, before, first, (8, 9), strict=True
            )
        )
        print(f"{way.name:36}{times}{way.statements:5}{way.commits:9}{way.requests:10}")
        before = ms


def _ms(seconds: list[float]) -> float:
    return median(seconds[WARM_UP:]) * 1_000
