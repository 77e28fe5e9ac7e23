"""Single flight: one attempt at a time for each record, whoever asks.

The lease is the attempt's row, which the database lets be open once. Who comes
while it is open shares what comes of it. What a process that died left behind
is settled by the next one that looks.
"""

import logging
import time
from datetime import timedelta
from typing import NamedTuple

from flask import g
from sqlalchemy.exc import IntegrityError, OperationalError

import audit
from database import db, tick
from engine.results import RecordGone, Result
from models import (
    LEASE,
    Attempt,
    Event,
    ExternalApplication,
    Lane,
    Outcome,
    left_behind,
    prune_attempts,
)
from salesforce import State

OWNER_GONE = "<process ended>"
CANNOT_TELL = "<cannot tell>"
"""The org does not say whether a refresh token lives: only a login helps."""
ASK_OR_LOG_IN = (
    "Press Refresh Access Token: the org is asked first whether the stored refresh"
    " token still lives. Or log in again."
)

log = logging.getLogger(__name__)


class Flight(NamedTuple):
    """An attempt under way, in plain values.

    `before` are the fingerprints of the tokens that were there when it began.
    """

    id: int
    application_id: int
    was: audit.Thing
    lane: Lane
    reason: str
    before: tuple[str | None, str | None]


def arrival() -> float:
    """When this request came, on the clock of the leases."""
    waited = time.monotonic() - float(g.get("arrived_at", time.monotonic()))
    return tick() - waited


def begin(application: ExternalApplication, lane: Lane, reason: str) -> Flight | None:
    """Take the record's lease, in the session's transaction.

    None where somebody else was faster; the transaction is undone then. The
    record is read again under the lease: what it held before is not sent. A
    login needs no lease. Raises `RecordGone`.
    """
    application_id = application.id
    attempt = Attempt(
        application_id=application_id,
        lane=lane,
        actor=audit.actor_name(),
        request_id=audit.request_id(),
        reason=reason,
        lease_ends=tick() + LEASE,
    )
    db.session.add(attempt)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        if lane is Lane.BROWSER:
            raise RecordGone from None
        return None
    db.session.refresh(application)
    attempt.access_token_before, attempt.refresh_token_before = application.fingerprints
    prune_attempts()
    was = audit.Thing(application.audit_kind, application.audit_name, application_id)
    return Flight(
        attempt.id, application_id, was, lane, reason, application.fingerprints
    )


def result_of(attempt: Attempt) -> Result:
    """Return what a closed attempt came to, for all who waited for it."""
    assert attempt.state is not None
    is_held = attempt.outcome is Outcome.HELD
    needs_login = attempt.lane is Lane.SILENT and (
        (attempt.state is State.LOGIN_REQUIRED and not is_held)
        or attempt.error_code == CANNOT_TELL
    )
    return Result(
        attempt.lane,
        attempt.state,
        attempt.reason or "",
        stored=attempt.outcome is Outcome.STORED,
        login_needed=needs_login,
    )


def take_over(attempt: Attempt) -> Result | None:
    """Close an attempt whose owner has let its lease pass, and say what it means.

    None where the next one may simply begin: nothing was lost, the org is known
    not to replace refresh tokens, or somebody else closed it.
    """
    if not attempt.finish(Outcome.LOST, error_code=OWNER_GONE):
        db.session.rollback()
        return None
    application = ExternalApplication.locked(attempt.application_id)
    if application is None:
        db.session.rollback()
        raise RecordGone
    db.session.refresh(attempt)
    untouched = application.fingerprints == attempt.fingerprints_before
    is_lost = untouched and attempt.lane is Lane.SILENT
    attempt.reason = _what_was_lost(attempt)
    if is_lost:
        application.doubt(timedelta())  # the lease was longer than any org takes
        application.leave_unknown(attempt.reason, ASK_OR_LOG_IN, OWNER_GONE)
    attempt.state = application.state
    audit.record(
        Event.REFRESH_FAILED,
        application,
        lane=attempt.lane,
        state=application.state,
        error_code=OWNER_GONE,
        reason=attempt.reason,
        asked_by=attempt.actor,
    )
    result = result_of(attempt)
    db.session.commit()
    return result if is_lost and application.rotation is not False else None


def _what_was_lost(attempt: Attempt) -> str:
    ended = "The process that was asking the org ended before it had stored the answer."
    if attempt.lane is Lane.SILENT:
        return (
            f"{ended} Where the org replaces refresh tokens at each use, the stored"
            " one may be used up, so it is not simply sent again."
        )
    if attempt.lane is Lane.PAGE_LESS:
        return f"{ended} Asking again does no harm on this lane."
    return f"{ended} The code of that login is used up."


def settle(application_id: int | None = None) -> None:
    """Close what processes that died left behind, of one record or of all.

    Whoever asks for a page does not fail because somebody else is writing.
    """
    try:
        for attempt in left_behind(application_id):
            take_over(attempt)
    except (OperationalError, RecordGone):
        db.session.rollback()
