"""The token engine: every way to a token, and never a token lost.

`get_token` is shared by the button, the callback, commands and whoever comes
later. One attempt at a time is under way for each record (`flights`); on which
lane it goes is `lanes`' to say. No database transaction is open while the org
is asked, and the record is read again before anything is written to it.
"""

from engine.flights import settle
from engine.holds import (
    NOTHING_HELD,
    NameTaken,
    NotDecided,
    reject_held,
    save_held_as,
    take_held,
)
from engine.lanes import Step, choose
from engine.logins import finish_login
from engine.panics import lift as lift_panic
from engine.panics import retry as retry_panic
from engine.panics import run as run_panic
from engine.panics import see_to as see_to_panic
from engine.panics import start as start_panic
from engine.results import LoginRefused, RecordGone, Result
from engine.revocation import Revoked, revoke
from engine.tokens import get_token

__all__ = [
    "NOTHING_HELD",
    "LoginRefused",
    "NameTaken",
    "NotDecided",
    "RecordGone",
    "Result",
    "Revoked",
    "Step",
    "choose",
    "finish_login",
    "get_token",
    "lift_panic",
    "reject_held",
    "retry_panic",
    "revoke",
    "run_panic",
    "save_held_as",
    "see_to_panic",
    "settle",
    "start_panic",
    "take_held",
]
