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
from sqlalchemy.exc import IntegrityError, InterfaceError, OperationalError

import audit
from database import db, tick
from engine.lanes import Asked
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
from salesforce import TIMEOUT, SalesforceError, State, TokenAnswer

STORE_PATIENCE = 20.0
"""Seconds for which a database that cannot be written is tried again."""
STORE_PAUSE = 0.25
MILLISECONDS = 1_000

SETTLED = timedelta(seconds=60)
"""By then an org has done what it was asked, or never will."""
GATEWAYS = (502, 504)
"""What a proxy answers in the place of an org that is still at it."""

RECORD_DELETED = "<record deleted>"
OWNER_GONE = "<process ended>"
CANNOT_TELL = "<cannot tell>"
"""The org does not say whether a refresh token lives: only a login helps."""
TOO_LATE = "This attempt took longer than its lease: somebody else has been at it."
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


class StoredGrant(NamedTuple):
    """A refresh token, and the host and the Client ID of the app that it is of."""

    refresh_token: str
    domain: str
    client_id: str


class Landed(NamedTuple):
    """What came of a flight, and what is left to do after it.

    `replaced` is a grant that is stored no more and should be revoked.
    """

    result: Result
    replaced: StoredGrant | None = None


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


def land(flight: Flight, asked: Asked) -> Landed:
    """Store what came of a flight, and close it, in one transaction.

    A database that is locked, full or away for a while is tried again: what
    the org answered may be the only copy of a token. Raises `RecordGone`.
    """
    end = time.monotonic() + STORE_PATIENCE
    while True:
        try:
            return _land(flight, asked)
        except (OperationalError, InterfaceError) as error:
            db.session.rollback()
            if time.monotonic() > end:
                raise
            log.warning("The answer is not stored yet: %s", error.orig)
            time.sleep(STORE_PAUSE)


def _land(flight: Flight, asked: Asked) -> Landed:
    """Lock the attempt, then the record, and the trail's head last, as all do."""
    attempt = db.session.get(Attempt, flight.id, populate_existing=True)
    was_open = attempt is not None and attempt.finish(Outcome.FAILED)
    application = ExternalApplication.locked(flight.application_id)
    if application is None or attempt is None:
        audit.record(
            Event.REFRESH_FAILED,
            flight.was,
            lane=flight.lane,
            error_code=RECORD_DELETED,
        )
        db.session.commit()
        raise RecordGone
    db.session.refresh(attempt)
    if not was_open and attempt.outcome is not Outcome.LOST:
        # It is closed by this very process: the commit went through, and the
        # connection broke before that could be said.
        return Landed(result_of(attempt))
    untouched = application.fingerprints == flight.before
    if not was_open and not (untouched and _brings_a_token(asked)):
        late = Result(flight.lane, application.state, TOO_LATE)
        db.session.rollback()
        log.warning("Attempt %s came back too late; its answer is dropped", flight.id)
        return Landed(late, _orphan(asked))
    replaced = _apply(flight, asked, application, attempt, untouched=untouched)
    result = result_of(attempt)
    db.session.commit()
    return Landed(result, replaced)


def _brings_a_token(asked: Asked) -> bool:
    return isinstance(asked.result, TokenAnswer) or bool(asked.result.refresh_token)


def _apply(
    flight: Flight,
    asked: Asked,
    application: ExternalApplication,
    attempt: Attempt,
    *,
    untouched: bool,
) -> StoredGrant | None:
    """Take the answer over, note it in history and trail; return a grant replaced.

    `untouched` tells that the record holds what it held when the flight began.
    A login brings a grant of its own, which is stored all the same.
    """
    result, is_login = asked.result, flight.lane is Lane.BROWSER
    former, replaced = _stored_grant(application), None
    outcome = Outcome.SUPERSEDED
    if isinstance(result, TokenAnswer) and (untouched or is_login):
        assert asked.client is not None
        if application.store_token(result, asked.client, flight.lane, flight.reason):
            outcome = Outcome.STORED
        if asked.secret and asked.client.client_secret:
            application.secret_used = asked.secret
    elif isinstance(result, SalesforceError) and (untouched or is_login):
        outcome = Outcome.FAILED
        application.keep_failure(
            result, asked.client, flight.lane, superseded=not untouched
        )
        if flight.lane is Lane.SILENT and result.answer_lost:
            _leave_in_doubt(application, result)
    else:
        replaced = _orphan(asked)
    if is_login and former and former != _stored_grant(application):
        replaced = former
    _write_history(flight, asked, application, attempt, outcome)
    _write_trail(flight, application, attempt)
    return replaced


def _leave_in_doubt(application: ExternalApplication, error: SalesforceError) -> None:
    """Note that the refresh token was sent and may be used up."""
    if application.rotation is False:
        return
    application.doubt(SETTLED if _may_go_on(error) else timedelta())
    if application.rotation:
        application.leave_unknown(
            f"{error} This org replaces the refresh token at each use, so the stored"
            " one may be used up, and is not simply sent again.",
            ASK_OR_LOG_IN,
            error.code,
        )


def _may_go_on(error: SalesforceError) -> bool:
    """Whether the org may still be at a request that it has not answered."""
    status = error.trip.status if error.trip else None
    return status in GATEWAYS or error.code == TIMEOUT


def _write_history(
    flight: Flight,
    asked: Asked,
    application: ExternalApplication,
    attempt: Attempt,
    outcome: Outcome,
) -> None:
    result, trip = asked.result, asked.result.trip
    attempt.outcome, attempt.state = outcome, application.state
    attempt.status = trip.status if trip else None
    attempt.retry_after = trip.retry_after if trip else None
    attempt.duration = round(asked.seconds * MILLISECONDS)
    attempt.requests, attempt.secret_used = asked.requests, asked.secret
    if result.response is not None:
        attempt.answer = application.without_secrets(result.response)
    attempt.access_token_after, attempt.refresh_token_after = application.fingerprints
    replaced = _is_replaced(attempt)
    if flight.lane is Lane.SILENT and (outcome is Outcome.STORED or replaced):
        attempt.rotated = replaced
    if isinstance(result, SalesforceError):
        attempt.error_code = result.code
        attempt.reason = application.without_secrets(str(result))
    elif outcome is not Outcome.STORED:
        attempt.error_code = application.last_error_code
        attempt.reason = application.last_error


def _is_replaced(attempt: Attempt) -> bool:
    before = attempt.refresh_token_before
    return before is not None and before != attempt.refresh_token_after


def _write_trail(
    flight: Flight, application: ExternalApplication, attempt: Attempt
) -> None:
    """Note in the audit trail what the attempt came to."""
    if attempt.outcome is Outcome.STORED:
        audit.record(
            Event.TOKEN_REFRESHED,
            application,
            lane=flight.lane,
            reason=flight.reason,
            access_token_fingerprint=attempt.access_token_after,
            refresh_token_fingerprint=attempt.refresh_token_after,
            refresh_token_replaced=_is_replaced(attempt),
        )
        return
    audit.record(
        Event.REFRESH_FAILED,
        application,
        lane=flight.lane,
        state=application.state,
        error_code=attempt.error_code,
        reason=attempt.reason,
        superseded=attempt.outcome is Outcome.SUPERSEDED,
        refresh_token_replaced=_is_replaced(attempt),
    )


def _stored_grant(application: ExternalApplication) -> StoredGrant | None:
    token = application.opened("refresh_token")
    domain = application.refresh_token_domain
    client_id = application.refresh_token_client_id
    if token and domain and client_id:
        return StoredGrant(token, domain, client_id)
    return None


def _orphan(asked: Asked) -> StoredGrant | None:
    """Return a refresh token that came for a grant that is stored no more."""
    token = asked.result.refresh_token
    if token is None or asked.client is None:
        return None
    return StoredGrant(token, *asked.client.app)


def result_of(attempt: Attempt) -> Result:
    """Return what a closed attempt came to, for all who waited for it."""
    assert attempt.state is not None
    needs_login = attempt.lane is Lane.SILENT and (
        attempt.state is State.LOGIN_REQUIRED or attempt.error_code == CANNOT_TELL
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
