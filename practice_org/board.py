"""What is switched on at the org, and what has been seen there since its start."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from threading import Condition
from typing import Any

from flask import current_app

from practice_org.log import Log

CONSUMER_SECRET = "practice-consumer-secret"  # opens nothing but this toy
ERRORS = (
    "invalid_grant: expired access/refresh token",
    "invalid_grant: inactive user",
    "invalid_grant: ip restricted",
    "invalid_grant: user hasn't approved this consumer",
    "invalid_client: invalid client credentials",
    "invalid_client_id: client identifier invalid",
    "invalid_app_access: user is not admin approved to access this app",
    "redirect_uri_mismatch: redirect_uri must match configuration",
    "unsupported_grant_type: grant type not supported",
    "inactive_org: organization is inactive",
    "rate_limit_exceeded: login rate exceeded",
)
"""What Salesforce's token endpoint has been seen to answer."""


class Fault(StrEnum):
    """What goes wrong at the token endpoint."""

    NONE = "none"
    SLOW = "slow"
    TOO_MANY_REQUESTS = "too_many_requests"
    OUTAGE = "outage"
    LOST_ANSWER = "lost_answer"
    HOLD = "hold"
    HOLD_BEFORE = "hold_before"
    NONSENSE = "nonsense"
    MISSING_FIELDS = "missing_fields"
    SPOILT = "spoilt"
    ERROR = "error"


class Introspection(StrEnum):
    """What the app may see of its tokens."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    WITHOUT_EXP = "without_exp"


class Signing(StrEnum):
    """What the answers of the token endpoint are signed with."""

    NORMAL = "normal"
    WRONG = "wrong"
    ABSENT = "absent"


class Rest(StrEnum):
    """What goes wrong at the REST API."""

    NORMAL = "normal"
    OUTAGE = "outage"
    SLOW = "slow"


class Revocation(StrEnum):
    """What goes wrong at the revocation endpoint."""

    NORMAL = "normal"
    OUTAGE = "outage"
    LOST = "lost"


WORDS = {
    Fault.NONE: "Nothing: all is well",
    Fault.SLOW: "Slow: waits before it answers",
    Fault.TOO_MANY_REQUESTS: "Too many requests: 429 with Retry-After",
    Fault.OUTAGE: "Outage: 503 with a page of HTML",
    Fault.LOST_ANSWER: "Lost answer: does the work, then cuts the line",
    Fault.HOLD: "Hold: does the work, answers when released",
    Fault.HOLD_BEFORE: "Hold before: does the work and answers when released",
    Fault.NONSENSE: "Nonsense: 200 with a page of HTML",
    Fault.MISSING_FIELDS: "Missing fields: an access token and nothing else",
    Fault.SPOILT: "Spoilt: the answer without its access token",
    Fault.ERROR: "The error chosen below",
}

API_REQUESTS = 15_000
"""How many the org may be asked in a day."""
LONGEST_HOLD = 60
"""Seconds."""
TEN_YEARS = 10 * 365 * 24 * 60 * 60
BOUNDS: dict[str, tuple[int, int]] = {
    "times": (0, 1_000_000),
    "chance": (0, 100),
    "seconds": (0, 60),
    "approval_limit": (1, 1_000),
    "session_timeout": (1, 24 * 60 * 60),
    "api_used": (0, API_REQUESTS),
    "org_clock": (-TEN_YEARS, TEN_YEARS),
}
"""Least and most; what is beyond is taken for the bound."""


@dataclass(frozen=True)
class Switches:
    """How the org behaves; the fields are those of the switchboard's form."""

    fault: Fault = Fault.NONE
    times: int = 0
    """How many more token requests the fault is for; 0: all, until switched off."""
    chance: int = 100
    """How many percent of the token requests the fault meets, at random."""
    seconds: float = 3.0
    """How long a slow answer takes, of a token or of the REST API."""
    retry_after: str = "30"
    error: str = ERRORS[0]
    rotation: bool = False
    wrong_org: bool = False
    """Whatever is asked names another organization."""
    wrong_user: bool = False
    id_host: str = ""
    """Where identity URLs are, as at https://login.salesforce.com; "" for here."""
    """Whatever is asked names another user."""
    signature: Signing = Signing.NORMAL
    organization_name: str = "Practice Org"
    consumer_secrets: str = CONSUMER_SECRET
    """Those that are accepted, separated by commas: two while one is staged."""
    pre_authorized: bool = True
    """Without it, an assertion takes an earlier login of its user."""
    run_as: str = "integration@practice.example"
    """The username of the Client Credentials Flow; "none" for nobody."""
    login_host: bool = False
    """This host is one as login.salesforce.com, without that flow."""
    approval_limit: int = 5
    """How many approvals a user has; one more ends the oldest."""
    session_timeout: int = 7_200
    """Seconds that those access tokens live that are given out from now on."""
    introspection: Introspection = Introspection.ALLOWED
    revocation: Revocation = Revocation.NORMAL
    rest: Rest = Rest.NORMAL
    api_used: int = 2
    """How many API requests of the day the org has counted; all: it takes no more."""
    org_clock: float = 0.0
    """Seconds that the org's clock is ahead."""

    @classmethod
    def read(cls, form: Mapping[str, str]) -> "Switches":
        """Read a form; what it does not name is as at the start.

        Raises ValueError where a value is of no use.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            if (text := form.get(field.name)) is None:
                continue
            kind: Any = type(field.default)
            given[field.name] = text != "off" if kind is bool else kind(text)
            if field.name in BOUNDS:
                least, most = BOUNDS[field.name]
                given[field.name] = min(most, max(least, given[field.name]))
        switches = cls(**given)
        if not (switches.retry_after.isascii() and switches.retry_after.isprintable()):
            raise ValueError(switches.retry_after)
        return switches


class Switchboard:
    """The switches, the log and the counters, for all threads of the org.

    `waiting` is how many token requests have no answer yet, `held` how many of them
    wait for a release, and `families_revoked` how many families of tokens ended
    because a used refresh token came again.
    """

    def __init__(self) -> None:
        self._lock = Condition()
        self._releases = 0
        self.held = 0
        self.switches = Switches()
        self.log = Log()
        self.waiting = 0
        self.families_revoked = 0

    def set(self, switches: Switches) -> None:
        with self._lock:
            self.switches = switches

    def count(self, *, waiting: int = 0, families_revoked: int = 0) -> None:
        """Add to the counters."""
        with self._lock:
            self.waiting += waiting
            self.families_revoked += families_revoked

    def begin(self) -> int:
        """Count a token request that waits; return what `hold` wants to know of it."""
        with self._lock:
            self.waiting += 1
            return self._releases

    def hold(self, begun: int) -> None:
        """Wait for the first release since the request began, a minute at most."""
        with self._lock:
            self.held += 1
            self._lock.wait_for(lambda: self._releases > begun, LONGEST_HOLD)
            self.held -= 1

    def release(self) -> None:
        """Let all go that wait just now."""
        with self._lock:
            self._releases += 1
            self._lock.notify_all()

    def reset(self) -> None:
        """Forget what was seen."""
        self.log.clear()
        with self._lock:
            self.families_revoked = 0

    def take_fault(self) -> Fault:
        """Return the fault for the next token request."""
        with self._lock:
            fault, times = self.switches.fault, self.switches.times
            if random.random() * 100 >= self.switches.chance:
                return Fault.NONE
            if times:
                self.switches = replace(
                    self.switches,
                    times=times - 1,
                    fault=fault if times > 1 else Fault.NONE,
                )
        return fault


def board() -> Switchboard:
    the_board: Switchboard = current_app.extensions["switchboard"]
    return the_board


def now() -> float:
    """Seconds since 1970 by the org's own clock, which may be off."""
    return time.time() + switches().org_clock


def switches() -> Switches:
    return board().switches
