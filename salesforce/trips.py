"""What one request was like: its status, how long it took, and the org's clock."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

LONGEST_WAIT = 24 * 3600
"""Seconds: whoever is told to wait longer asks again after a day."""
SECONDS = re.compile(r"[0-9]{1,10}")
HTTP_DATE = "%a, %d %b %Y %H:%M:%S GMT"
"""The one form that servers may write (RFC 9110, section 5.6.7)."""


@dataclass(frozen=True)
class Trip:
    """A request that was made, whatever came of it.

    `status` is None where no whole answer came. `seconds` is how long it took,
    look-up of the host's name included. `retry_after` is how many seconds from
    now the org asks to be left alone: a day at most, and None where it does not
    say so, says nonsense, or names a moment that is over. `clock_skew` is the
    org's clock minus this server's, in seconds; its `Date` header is exact to
    the second, and None stands for one that is missing or unreadable.
    """

    status: int | None
    seconds: float
    retry_after: int | None = None
    clock_skew: float | None = None

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], seconds: float) -> Self:
        """Read the headers of an answer that has just come in."""
        here = time.time()
        there = _moment(headers.get("Date", ""))
        wait = _wait(headers.get("Retry-After", ""), here if there is None else there)
        return cls(status, seconds, wait, None if there is None else there - here)


def _wait(text: str, now: float) -> int | None:
    """Read a Retry-After (RFC 9110, section 10.2.3); its date is by the org's clock."""
    if SECONDS.fullmatch(text):
        return min(int(text), LONGEST_WAIT)
    until = _moment(text)
    if until is None or until < now:
        return None
    return min(round(until - now), LONGEST_WAIT)


def _moment(text: str) -> float | None:
    """Return an HTTP date as seconds since 1970."""
    try:
        return datetime.strptime(text, HTTP_DATE).replace(tzinfo=UTC).timestamp()
    except (ValueError, OverflowError):
        return None
