"""What programs asked of the org, and what they were answered."""

import hashlib
import time
from collections import deque
from threading import Lock
from typing import Any

from flask import g, request
from werkzeug.wrappers import Response

LONGEST_LOG = 20_000
SENT = ("refresh_token", "token", "assertion", "code")

Line = dict[str, Any]


class Log:
    """The newest lines, numbered from 1 in the order in which they were answered.

    Threads add to it and read it at the same time.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._lines: deque[Line] = deque(maxlen=LONGEST_LOG)
        self._number = 0

    def add(self, line: Line) -> None:
        with self._lock:
            self._number += 1
            self._lines.append({"number": self._number} | line)

    def after(self, number: int) -> list[Line]:
        """Return the lines later than this number, the oldest first."""
        with self._lock:
            fresh = min(len(self._lines), max(0, self._number - number))
            lines = list(self._lines)
        return lines[len(lines) - fresh :]

    def newest(self, count: int) -> list[Line]:
        """Return so many lines, the newest first."""
        with self._lock:
            lines = list(self._lines)
        return lines[: -count - 1 : -1]

    def clear(self) -> None:
        """Forget all lines and count from 1 again."""
        with self._lock:
            self._lines.clear()
            self._number = 0


def arrive() -> None:
    """Note when a request came: before anything can refuse it."""
    g.arrived, g.began, g.answered = time.time(), time.monotonic(), True


def line_of(response: Response) -> Line:
    """Say what was asked and answered, with fingerprints instead of secrets.

    `at` is in seconds since 1970 by this machine's clock, whatever the org's own
    says; `seconds` is how long the answer took. `access_token` and
    `refresh_token` are those of the answer, even where it was lost on the way:
    then `answered` is false.
    """
    answer = response.get_json(silent=True) if response.is_json else None
    fields = answer if isinstance(answer, dict) else {}
    return {
        "at": g.arrived,
        "seconds": round(time.monotonic() - g.began, 6),
        "path": request.path,
        "grant_type": request.form.get("grant_type", ""),
        "status": response.status_code,
        "error": fields.get("error", ""),
        "sent": fingerprint(_sent()),
        "access_token": fingerprint(fields.get("access_token", "")),
        "refresh_token": fingerprint(fields.get("refresh_token", "")),
        "answered": g.answered,
    }


def fingerprint(secret: str) -> str:
    """Return the first 8 hex digits of its SHA-256; nothing for nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()[:8] if secret else ""


def _sent() -> str:
    """What the request stands on: a token or the like in its form, or its bearer."""
    for name in SENT:
        if value := request.form.get(name):
            return value
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value if scheme == "Bearer" else ""
