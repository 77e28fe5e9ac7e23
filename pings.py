"""Pings: does a record's Callback URL reach this very Orgdesk?

The browser is sent to exactly that address with a signed word in its query. Where
it reaches this installation, the callback sends the browser back to the record
with another word that says so. Nobody's sign-in and no login is looked at on the
way, since the address may be one at which the browser is not signed in: that is
what an admin wants to know. A word is for one browser, one record and some
minutes, leads back to where it was made, and is good for nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from itsdangerous import BadData, SignatureExpired

from callback_doctor import Part, split
from database import now
from salesforce import Origin, origin_of
from signed import mark_of, signer

LIVES = 300
"""Seconds for the way there, and as many for the way back."""
OF_A_LOGIN = frozenset({"state", "code", "error"})
THERE, BACK = "ping there", "ping back"


class PingRefused(Exception):
    """A word that is not to be answered; the message says what that means."""


@dataclass(frozen=True)
class Proof:
    """A Callback URL reached this Orgdesk, where it `arrived_at` as it saw it.

    `origin` is the one at which the browser was signed in when it asked.
    """

    at: datetime
    callback_url: str
    arrived_at: str
    origin: str

    @property
    def is_led_on(self) -> bool:
        """Whether something on the way made another address of it."""
        there, here = origin_of(self.callback_url), origin_of(self.arrived_at)
        return there != here or _path(self.callback_url) != _path(self.arrived_at)

    @property
    def is_elsewhere(self) -> bool:
        """Whether the browser is not signed in at the address that was reached."""
        return _origin(self.callback_url) != _origin(self.origin)


def begin(application_id: int, callback_url: str, browser: str, origin: str) -> str:
    """Return the address that is to be opened, in the `browser` of this sign-in."""
    ping = {
        "id": application_id,
        "url": callback_url,
        "browser": mark_of(browser),
        "origin": origin,
    }
    joint = "&" if "?" in callback_url else "?"
    return f"{callback_url}{joint}ping={signer(THERE).dumps(ping)}"


def is_ping(arguments: Mapping[str, str]) -> bool:
    """Tell a ping from what an org sends: it is neither a code nor an error."""
    return "ping" in arguments and OF_A_LOGIN.isdisjoint(arguments)


def answer(word: str, arrived_at: str) -> tuple[str, int, str]:
    """Return the origin to go back to, the record, and the word to bring along.

    Raises `PingRefused`.
    """
    try:
        ping: dict[str, Any] = signer(THERE).loads(word, max_age=LIVES)
    except SignatureExpired:
        raise PingRefused(
            "This address reaches the Orgdesk that asked, but the question is over"
            f" {LIVES // 60} minutes old. Ask again on the record's page."
        ) from None
    except BadData:
        raise PingRefused(
            "This address reaches an Orgdesk, but not the one that asked: the question"
            " was not signed here, or was changed on the way."
        ) from None
    back = ping | {"arrived": arrived_at}
    return str(ping["origin"]), int(ping["id"]), str(signer(BACK).dumps(back))


def proof_of(
    word: str, application_id: int, callback_url: str, browser: str
) -> Proof | None:
    """Read what a ping brought back; None where it is old, another's, or no such.

    It is of a Callback URL that the record still has, or it proves nothing.
    """
    try:
        ping, at = signer(BACK).loads(word, max_age=LIVES, return_timestamp=True)
    except BadData:
        return None
    known = (ping["id"], ping["url"], ping["browser"])
    if known != (application_id, callback_url, mark_of(browser)):
        return None
    return Proof(min(at, now()), callback_url, ping["arrived"], ping["origin"])


def _origin(url: str) -> Origin | str:
    return origin_of(url) or url


def _path(url: str) -> str:
    return unquote(split(url)[Part.PATH])
