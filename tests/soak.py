"""A record that is refreshed all the time, while its org goes wrong at random.

`make soak` runs it for a minute, `python -m tests.soak --seconds 600 --seed 7` as
long as is wanted. Several browsers click through two workers on the same record;
whoever is led to the login page logs in. In the end all is well at the org, and
what Orgdesk wrote down has to add up with what the org did. The seed settles
which faults come when; the rest is up to the processes.
"""

import argparse
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from engine.doubts import USED_UP
from models import Attempt, Lane, Outcome
from practice_org.board import ERRORS
from salesforce import State
from tests.fleet import PATIENCE, Browser, Fleet, fleet
from tests.servers import PracticeOrg, free_port, practice_org

EVERY = 0.1
"""Seconds from one click to the next."""
BROWSERS, MOST_AT_ONCE = 3, 64
FAULTS = (
    *("slow", "outage", "too_many_requests", "lost_answer", "nonsense", "spoilt"),
    *("missing_fields", "error"),
)
WELL = 0.4
"""The part of the time in which nothing is wrong."""
CHANCES = (20, 50, 100)
SHORTEST_FAULT, LONGEST_FAULT = 0.3, 1.5
"""Seconds."""
ANEW = 0.03
"""The part of the clicks that ask for a new login though none is needed."""
TRIES = 5
NOT_TOLD = "the org does not tell"
"""In the reason, where the org was too slow to say whether a token lives."""
PANEL = re.compile(r'class="sheet state (\w+)"')

Line = dict[str, Any]
"""Of the org's log."""
Tokens = tuple[str | None, str | None]
"""Fingerprints of access and refresh token."""

UNKNOWN: Line = {}
"""Stands for a line that should be there."""
OF_ERRORS = {
    "invalid_grant": {State.LOGIN_REQUIRED, State.BLOCKED},
    "invalid_client": {State.MISCONFIGURED},
    "invalid_client_id": {State.MISCONFIGURED},
    "invalid_app_access": {State.BLOCKED},
    "redirect_uri_mismatch": {State.MISCONFIGURED},
    "unsupported_grant_type": {State.MISCONFIGURED},
    "inactive_org": {State.BLOCKED},
    "rate_limit_exceeded": {State.UNREACHABLE},
}


class Soak:
    def __init__(self, ships: Fleet, seconds: float, seed: int) -> None:
        self.org, self.seconds, self.seed = ships.org, seconds, seed
        self.chance = random.Random(seed)
        self.browsers = [ships.browser() for _ in range(BROWSERS)]
        (self.record,) = ships.add_records(
            1, self.browsers[0], salesforce_domain=ships.org.address
        )
        self.ships = ships
        self.log = list[Line]()
        self.faults = Counter[str]()
        self.shown = Counter[str]()
        self.logins = 0
        self.findings = list[str]()
        self._one_at_a_time = threading.Lock()
        self._logged_in_at = 0.0

    def run(self) -> None:
        """Click, with faults and in the end without; fill the `findings`."""
        self.org.switch(rotation=True)
        self.browsers[0].click(self.record)  # known to replace refresh tokens
        end, change_at = time.monotonic() + self.seconds, 0.0
        clicks = list[Future[None]]()
        with ThreadPoolExecutor(MOST_AT_ONCE) as pool:
            while (now := time.monotonic()) < end:
                browser = self.chance.choice(self.browsers)
                anew = self.chance.random() < ANEW
                clicks.append(pool.submit(self.click, browser, anew=anew))
                if now >= change_at:
                    self.change_faults()
                    change_at = now + self.chance.uniform(SHORTEST_FAULT, LONGEST_FAULT)
                time.sleep(max(0, now + EVERY - time.monotonic()))
            self.org.switch(rotation=True)
        for one in clicks:
            one.result()
        self.come_to_rest()
        self.read_log()
        attempts = self.ships.attempts(self.record)
        lines = [line for line in self.log if line["path"].endswith("/token")]
        self.findings += [*sent_again(lines), *History(attempts, lines).findings()]
        self.summary = self.sum_up(attempts, lines)

    def change_faults(self) -> None:
        self.read_log()
        fault = self.chance.choice(FAULTS) if self.chance.random() > WELL else "none"
        self.faults[fault] += 1
        self.org.switch(
            rotation=True,
            fault=fault,
            chance=self.chance.choice(CHANCES),
            seconds=round(self.chance.uniform(0.1, 1), 2),
            retry_after=self.chance.choice(("1", "30", "soon")),
            error=self.chance.choice(ERRORS),
        )

    def read_log(self) -> None:
        after = self.log[-1]["number"] if self.log else 0
        self.log += self.org.state(after)["log"]

    def click(self, browser: Browser, *, anew: bool = False) -> None:
        """Press the button, and log in where that is what it takes, or `anew`."""
        began, form = time.monotonic(), {"log_in": "1"} if anew else {}
        answer = browser.click(self.record, htmx=True, **form)
        url, panel = answer.headers.get("HX-Redirect"), PANEL.search(answer.text)
        if url:
            self.shown["login page"] += 1
            with self._one_at_a_time:
                if anew or self._logged_in_at < began:
                    self.log_in(browser, url)
                    self._logged_in_at = time.monotonic()
        elif answer.status_code == 200 and panel:
            self.shown[panel[1]] += 1
        else:
            self.findings.append(f"a click was answered {answer.status_code}")

    def log_in(self, browser: Browser, url: str) -> None:
        self.logins += 1
        answer = browser.session.get(
            self.org.log_in(url), allow_redirects=False, timeout=PATIENCE
        )
        if answer.headers.get("Location") != f"/applications/{self.record}":
            self.findings.append(f"a login ended with {answer.status_code}")

    def come_to_rest(self) -> None:
        """All is well at the org: after a click or two it is so here."""
        for _ in range(TRIES):
            self.click(self.browsers[0])
            if self.ships.record(self.record).state is State.CONNECTED:
                break
        else:
            self.findings.append("it does not connect, though nothing is wrong")
        access_token, refresh_token = self.ships.secrets(self.record)
        if not self.ships.lives(refresh_token):
            self.findings.append("the refresh token that is stored is dead")
        answer = requests.get(
            f"{self.org.address}/services/oauth2/userinfo",
            headers={"Authorization": f"Bearer {access_token}"},
            timeout=PATIENCE,
        )
        if answer.status_code != 200:
            self.findings.append("the access token that is stored does not work")
        if revoked := self.org.families_revoked:
            self.findings.append(f"{revoked} families of tokens were revoked")
        trail = self.ships.app.test_cli_runner().invoke(args=["audit", "verify"])
        if trail.exit_code:
            self.findings.append(f"the audit trail: {trail.output}")

    def sum_up(self, attempts: list[Attempt], lines: list[Line]) -> str:
        outcomes = Counter(
            f"{one.lane} {one.outcome} {one.error_code or ''}".strip()
            for one in attempts
        )
        faults, shown = _list(self.faults), _list(self.shown)
        return (
            f"{self.seconds:g} s, seed {self.seed}: {self.shown.total()} clicks,"
            f" {len(lines)} token requests, {self.logins} logins"
            f"\nfaults:   {faults}\nclicks:   {shown}\nattempts: {_list(outcomes)}"
        )


def _list(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counted.most_common())


def sent_again(lines: list[Line]) -> Iterator[str]:
    """Find refresh tokens that were sent after the org had replaced them.

    It did where it made a token, whatever of it was answered.
    """
    replaced = dict[str, int]()
    for line in lines:
        if line["grant_type"] != "refresh_token":
            continue
        sent, number = line["sent"], line["number"]
        if sent in replaced:
            yield f"request {number} sent what {replaced[sent]} had used up"
        if line["access_token"] or line["refresh_token"]:
            replaced[sent] = number


class History:
    """The attempts of a record, held against the org's log of token requests."""

    def __init__(self, attempts: list[Attempt], lines: list[Line]) -> None:
        self.attempts = attempts
        self.lines = defaultdict[str, deque[Line]](deque)
        """By what was sent; logins come one after the other."""
        for line in lines:
            code = line["grant_type"] == "authorization_code"
            self.lines["a code" if code else line["sent"]].append(line)

    def findings(self) -> Iterator[str]:
        pairs = [(attempt, self._line_of(attempt)) for attempt in self.attempts]
        for left in self.lines.values():
            for line in left:
                yield f"request {line['number']} is in no attempt"
        if any(attempt.finished_tick is None for attempt, _ in pairs):
            yield "an attempt is open"
            return
        pairs.sort(key=lambda pair: pair[0].finished_tick or 0)
        tokens: Tokens = (None, None)
        state = State.NEVER_AUTHORIZED
        for attempt, said in pairs:
            for problem in self._problems(attempt, said, tokens, state):
                yield f"attempt {attempt.id} ({attempt.error_code}, {said}): {problem}"
            tokens = _after(attempt)
            state = attempt.state or state

    def _line_of(self, attempt: Attempt) -> Line | None:
        """Return what the org wrote of it, None where the org was only asked
        whether the refresh token lives."""
        login = attempt.lane is Lane.BROWSER
        doubted = attempt.error_code == USED_UP or NOT_TOLD in (attempt.reason or "")
        if doubted or not attempt.requests:
            return None
        lines = self.lines["a code" if login else str(attempt.refresh_token_before)]
        return lines.popleft() if lines else UNKNOWN

    def _problems(
        self, attempt: Attempt, line: Line | None, tokens: Tokens, state: State
    ) -> Iterator[str]:
        if line is UNKNOWN:
            yield "the org knows nothing of it"
            return
        if line and (attempt.requests, attempt.status) != (1, _status(line)):
            yield f"it says {attempt.requests} requests, status {attempt.status}"
        if attempt.outcome is Outcome.SUPERSEDED:
            if _after(attempt) != tokens:
                yield "it was superseded, and changed the tokens"
        else:
            yield from _misfits(attempt, line, tokens, state)


def _misfits(
    attempt: Attempt, line: Line | None, tokens: Tokens, state: State
) -> Iterator[str]:
    """Find what of an attempt that counts is not as the answer has it."""
    if attempt.lane is Lane.SILENT and attempt.fingerprints_before != tokens:
        yield "it began with other tokens than were there"
    brought = _brought(line)
    if _after(attempt) != (brought[0] or tokens[0], brought[1] or tokens[1]):
        yield "its tokens are not those that were answered"
    if (attempt.outcome is Outcome.STORED) != (brought[0] is not None):
        yield f"its outcome is {attempt.outcome}"
    expected = _states_after(attempt.lane, line)
    if attempt.lane is Lane.BROWSER and attempt.outcome is Outcome.FAILED:
        expected = expected | {state}  # a code that was refused says nothing
    if attempt.state not in expected:
        yield f"its state is {attempt.state}"


def _after(attempt: Attempt) -> Tokens:
    return attempt.access_token_after, attempt.refresh_token_after


def _status(line: Line) -> int | None:
    return int(line["status"]) if line["answered"] else None


def _brought(line: Line | None) -> Tokens:
    """Return what came back: not what was lost on the way."""
    if line is None or not line["answered"]:
        return None, None
    return line["access_token"] or None, line["refresh_token"] or None


def _states_after(lane: Lane, line: Line | None) -> set[State]:
    """Return the states that such an answer explains."""
    if line is None:
        return {State.LOGIN_REQUIRED, State.OUTCOME_UNKNOWN}
    access_token, refresh_token = _brought(line)
    if access_token:
        return {State.CONNECTED}
    if refresh_token:
        return {State.UNREACHABLE}
    if not line["answered"] or line["status"] == 200:  # nobody knows what was done
        return {State.OUTCOME_UNKNOWN if lane is Lane.SILENT else State.UNREACHABLE}
    return OF_ERRORS[line["error"]] if line["error"] else {State.UNREACHABLE}


def soak(folder: Path, org: PracticeOrg, port: int, seconds: float, seed: int) -> Soak:
    """Run it at this org; logins come back to this port."""
    with fleet(folder, org) as ships:
        ships.start(2, port)
        made = Soak(ships, seconds, seed)
        made.run()
        return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    given = parser.parse_args()
    print(f"{given.seconds:g} s with --seed {given.seed}", flush=True)
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="orgdesk-soak-") as folder,
        practice_org(f"http://127.0.0.1:{port}/callback") as org,
    ):
        done = soak(Path(folder), org, port, given.seconds, given.seed)
    print(done.summary)
    for finding in done.findings:
        print("FOUND:", finding)
    print("It adds up." if not done.findings else f"{len(done.findings)} findings.")
    sys.exit(bool(done.findings))


if __name__ == "__main__":
    main()
