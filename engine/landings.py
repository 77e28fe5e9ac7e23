"""Landing: what an attempt brought is stored, held or noted, in one transaction."""

import logging
import time
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy.exc import InterfaceError, OperationalError

import audit
from database import db
from engine.doubts import SETTLED
from engine.flights import ASK_OR_LOG_IN, Flight, result_of
from engine.grants import LooseGrant, approval_of, release, stored_grant
from engine.identities import fit_to_keep
from engine.lanes import Asked
from engine.results import RecordGone, Result
from models import (
    LONGEST_TEXT,
    Approval,
    Attempt,
    Ending,
    Event,
    ExternalApplication,
    HeldToken,
    HoldReason,
    Lane,
    Named,
    Outcome,
    Panic,
    block_on,
    why_held,
)
from salesforce import TIMEOUT, SalesforceError, State, TokenAnswer

STORE_PATIENCE = 20.0
"""Seconds for which a database that cannot be written is tried again."""
STORE_PAUSE = 0.25
MILLISECONDS = 1_000
GATEWAYS = (502, 504)
"""What a proxy answers in the place of an org that is still at it."""

RECORD_DELETED, BLOCKED = "<record deleted>", "<refreshes blocked>"
TOO_LATE = "This attempt took longer than its lease: somebody else has been at it."
CAME_IN_A_PANIC = "The token came while refreshes were blocked: it is being revoked."
WHY_HELD = {
    HoldReason.SIGNATURE_FAILED: "The signature of the answer is wrong: its token is"
    " held, and nothing was changed.",
    HoldReason.ANOTHER_ORGANIZATION: "The token is of another organization than this"
    " record's: it is held, and nothing was changed.",
    HoldReason.BLOCKED: CAME_IN_A_PANIC,
    HoldReason.ANOTHER_USER: "The token is of another user than this record's: it is"
    " held, and nothing was changed.",
}

log = logging.getLogger(__name__)


class Landed(NamedTuple):
    """What came of a flight, and the grants that nobody stores any more by it."""

    result: Result
    loose: tuple[LooseGrant, ...] = ()
    panic_id: int | None = None
    """Of the panic that has to revoke what came."""


class _Taken(NamedTuple):
    """What became of an answer, and why it was not stored, where it was not."""

    outcome: Outcome
    loose: tuple[LooseGrant, ...] = ()
    code: str | None = None
    sentence: str | None = None
    panic_id: int | None = None


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
    asked = fit_to_keep(asked, application)
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
    taken = _take(flight, asked, application, untouched=untouched)
    _write_history(flight, asked, application, attempt, taken)
    _write_trail(flight, application, attempt)
    result = result_of(attempt)
    db.session.commit()
    return Landed(result, taken.loose, taken.panic_id)


def _brings_a_token(asked: Asked) -> bool:
    return isinstance(asked.result, TokenAnswer) or bool(asked.result.refresh_token)


def _take(
    flight: Flight, asked: Asked, application: ExternalApplication, *, untouched: bool
) -> _Taken:
    """Take the answer over, or say why not.

    `untouched` tells that the record holds what it held when the flight began.
    A login brings a grant of its own, which is stored all the same.
    """
    result, is_login = asked.result, flight.lane is Lane.BROWSER
    if _brings_a_token(asked) and (panic := block_on(application.id)):
        return _keep_to_revoke(flight, asked, application, panic)
    if not (untouched or is_login):
        return _Taken(Outcome.SUPERSEDED, _orphan(asked))
    if isinstance(result, SalesforceError):
        _keep_failure(flight, asked, result, application, untouched=untouched)
        return _Taken(Outcome.FAILED)
    assert asked.client is not None
    if asked.client.app == application.app and (
        why := why_held(application, result, asked.identity, flight.lane)
    ):
        return _hold(flight, asked, result, application, why)
    return _store(flight, asked, result, application)


def _keep_to_revoke(
    flight: Flight, asked: Asked, application: ExternalApplication, panic: Panic
) -> _Taken:
    """Keep what came too late for the panic to have revoked it, and have it do so.

    A login has a grant of its own, which is held beside the record's.
    """
    result = asked.result
    assert asked.client is not None
    panic.has_more(
        application.id, application.application_name, application.salesforce_domain
    )
    if flight.lane is Lane.BROWSER and isinstance(result, TokenAnswer):
        taken = _hold(flight, asked, result, application, HoldReason.BLOCKED)
        return taken._replace(code=BLOCKED, panic_id=panic.id)
    token = result if isinstance(result, TokenAnswer) else result.refresh_token
    assert token is not None
    application.keep_to_revoke(token, asked.client)
    return _Taken(Outcome.SUPERSEDED, (), BLOCKED, CAME_IN_A_PANIC, panic.id)


def _keep_failure(
    flight: Flight,
    asked: Asked,
    error: SalesforceError,
    application: ExternalApplication,
    *,
    untouched: bool,
) -> None:
    application.keep_failure(error, asked.client, flight.lane, superseded=not untouched)
    if flight.lane is not Lane.SILENT:
        return
    if error.answer_lost:
        _leave_in_doubt(application, error)
    if error.state is State.LOGIN_REQUIRED and (dead := approval_of(application)):
        dead.end(Ending.DEAD)


def _store(
    flight: Flight, asked: Asked, answer: TokenAnswer, application: ExternalApplication
) -> _Taken:
    """Store it; a login also decides about what was held, and ends a former grant."""
    assert asked.client is not None
    is_login = flight.lane is Lane.BROWSER
    former = stored_grant(application) if is_login else None
    is_stored = application.store_token(
        answer, asked.client, flight.lane, flight.reason, asked.identity
    )
    if asked.secret and asked.client.client_secret:
        application.secret_used = asked.secret
    loose = []
    if is_login:
        if held := application.held:
            loose += release(application, held)
        _give_approval(asked, answer, application)
        if former and not former.is_of(application):
            loose.append(former)
    outcome = Outcome.STORED if is_stored else Outcome.SUPERSEDED
    return _Taken(outcome, tuple(loose))


def _hold(
    flight: Flight,
    asked: Asked,
    answer: TokenAnswer,
    application: ExternalApplication,
    why: HoldReason,
) -> _Taken:
    """Keep it apart, in place of what was held before."""
    assert asked.client is not None
    former = application.held
    loose = release(application, former) if former else []
    given = None
    if flight.lane is Lane.BROWSER:
        given = _give_approval(asked, answer, application)
    domain, client_id = asked.client.app
    held = HeldToken(
        application_id=application.id,
        reason=why,
        lane=flight.lane,
        lane_reason=flight.reason,
        actor=audit.actor_name(),
        salesforce_domain=domain,
        client_id=client_id,
        secret_used=asked.secret if asked.client.client_secret else None,
        approval_id=given.id if given else None,
    )
    held.keep(answer, asked.identity)
    held.response = application.without_secrets(answer.response)
    db.session.add(held)
    db.session.flush()
    application.hold(held)
    return _Taken(Outcome.HELD, tuple(loose), f"<{why}>", WHY_HELD[why])


def _give_approval(
    asked: Asked, answer: TokenAnswer, application: ExternalApplication
) -> Approval | None:
    """Count the approval that a login used up, where it is known whose."""
    ids = Named.by(answer, asked.identity).both
    if ids is None or asked.client is None:
        return None
    username = asked.identity.username if asked.identity else None
    return Approval.give(
        application.id,
        application.application_name,
        asked.client.client_id,
        ids,
        username,
    )


def _orphan(asked: Asked) -> tuple[LooseGrant, ...]:
    """Return what came for a grant that is stored no more."""
    token = asked.result.refresh_token
    if token is None or asked.client is None:
        return ()
    return (LooseGrant(token, *asked.client.app),)


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
    taken: _Taken,
) -> None:
    result, trip = asked.result, asked.result.trip
    attempt.outcome, attempt.state = taken.outcome, application.state
    attempt.status = trip.status if trip else None
    attempt.retry_after = trip.retry_after if trip else None
    attempt.duration = round(asked.seconds * MILLISECONDS)
    attempt.requests, attempt.secret_used = asked.requests, asked.secret
    if result.response is not None:
        attempt.answer = application.without_secrets(result.response)
    attempt.access_token_after, attempt.refresh_token_after = application.fingerprints
    replaced = _is_replaced(attempt)
    if flight.lane is Lane.SILENT and (taken.outcome is Outcome.STORED or replaced):
        attempt.rotated = replaced
    if isinstance(result, SalesforceError):
        attempt.error_code = application.without_secrets(result.code)[:LONGEST_TEXT]
        attempt.reason = application.without_secrets(str(result))
    elif taken.outcome is not Outcome.STORED:
        attempt.error_code = taken.code or application.last_error_code
        attempt.reason = taken.sentence or application.last_error


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
    is_held = attempt.outcome is Outcome.HELD
    audit.record(
        Event.TOKEN_HELD if is_held else Event.REFRESH_FAILED,
        application,
        lane=flight.lane,
        state=application.state,
        error_code=attempt.error_code,
        reason=attempt.reason,
        superseded=attempt.outcome is Outcome.SUPERSEDED,
        refresh_token_replaced=_is_replaced(attempt),
    )
