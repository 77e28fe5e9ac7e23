"""What the engine answers, and the ways in which it cannot."""

from typing import NamedTuple

from models import Lane, Panic, Scope
from salesforce import State


class Result(NamedTuple):
    """What came of asking for a token.

    `stored` tells whether there is a new token. With a `login_url` the browser
    has to go there. `login_needed` tells that nothing but a login helps.
    `busy` names who is at it, where that takes longer than one may wait.
    """

    lane: Lane
    state: State
    reason: str
    stored: bool = False
    login_needed: bool = False
    login_url: str | None = None
    busy: str | None = None


def blocked_sentence(block: Panic) -> str:
    """Say why nobody gets a token of the record now."""
    covered = "all records" if block.scope is Scope.ALL else "this record"
    return (
        f"Refreshes are blocked for {covered} since"
        f" {block.started_at:%Y-%m-%d %H:%M} UTC, by {block.started_by}, until an admin"
        " lifts that."
    )


class RecordGone(Exception):
    """The record was deleted while its org was asked."""


class LoginRefused(Exception):
    """A callback that must not be acted on; the message says how to go on.

    `application_id` is the record whose login it was, where that is certain.
    """

    def __init__(self, sentence: str, application_id: int | None = None) -> None:
        super().__init__(sentence)
        self.application_id = application_id
