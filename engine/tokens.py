"""Getting a token: the function that button, callback, commands and others share."""

import time

from sqlalchemy import select

from database import db
from engine.attempts import carry_out
from engine.doubts import doubt_about
from engine.flights import arrival, begin, result_of, take_over
from engine.holds import drop_if_over
from engine.lanes import choose, prepared
from engine.logins import begin_login
from engine.results import RecordGone, Result, blocked_sentence
from models import (
    Attempt,
    ExternalApplication,
    Lane,
    Outcome,
    block_on,
    finished_since,
    is_held,
    open_attempt,
)

WAIT = 30.0
"""Seconds that one waits for somebody else's attempt."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.4
"""Seconds between two looks at it."""


def get_token(
    application: ExternalApplication,
    browser: str | None = None,
    *,
    log_in: bool = False,
    insist: bool = False,
) -> Result:
    """Get a token for the record: silently or page-less if that can be, else a login.

    `browser` is the token of the sign-in that clicked; the login it begins can
    be finished there alone: in that browser, by that user, until they sign out.
    Without one nobody is there to log in, and a record that backs off is left
    alone. `log_in` asks for a new login in any case. `insist` sends a refresh
    token though it may be used up: a person knows that it is not.

    Raises `RecordGone`.
    """
    lane = choose(application).lane
    if application.held_at:
        drop_if_over(application)
    if block := block_on(application.id):
        return Result(lane, application.state, blocked_sentence(block))
    if browser is None and lane is not Lane.BROWSER and application.backs_off:
        return _backing_off(application, lane)
    result = None if log_in else _fly(application.id, insist=insist)
    if result is not None and not result.login_needed:
        return result
    step = choose(application, log_in=log_in)
    reason = result.reason if result else step.reason
    if browser is None:
        return Result(Lane.BROWSER, application.state, reason, login_needed=True)
    return begin_login(application, browser, reason)


def _fly(application_id: int, *, insist: bool) -> Result | None:
    """Get a token without a page, or share somebody else's; None if it takes one."""
    arrived, end = arrival(), time.monotonic() + WAIT
    while True:
        application = db.session.get(
            ExternalApplication, application_id, populate_existing=True
        )
        if application is None:
            raise RecordGone
        found = finished_since(application_id, arrived)
        if found and _is_for_all(found):
            return result_of(found)
        held = open_attempt(application_id)
        if held is None:
            step = choose(application)
            if step.lane is Lane.BROWSER:
                return None
            if flight := begin(application, step.lane, step.reason):
                doubt = None if insist else doubt_about(application, step.lane)
                request = prepared(application, step.lane)
                return carry_out(application, flight, request, doubt)
        elif not held.is_held:
            if lost := take_over(held):
                return lost
        elif not _wait_for(held.id, end):
            return _busy(application_id, held.id)


def _is_for_all(found: Attempt) -> bool:
    """Whether those who came while an attempt was under way share its end."""
    if found.lane is Lane.BROWSER:
        return found.outcome is Outcome.STORED
    return not (found.lane is Lane.PAGE_LESS and found.outcome is Outcome.LOST)


def _wait_for(attempt_id: int, end: float) -> bool:
    """Wait until the attempt is closed; False where that takes too long.

    Between two looks neither a transaction nor a connection is held.
    """
    pause = FIRST_PAUSE
    ended = select(Attempt.finished_at, Attempt.lease_ends).where(
        Attempt.id == attempt_id
    )
    while time.monotonic() < end:
        db.session.rollback()
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
        row = db.session.execute(ended).first()
        if row is None or row.finished_at or not is_held(row.lease_ends):
            return True
    return False


def _busy(application_id: int, attempt_id: int) -> Result:
    application = db.session.get(ExternalApplication, application_id)
    attempt = db.session.get(Attempt, attempt_id)
    if application is None or attempt is None:
        raise RecordGone
    who = attempt.actor or "somebody"
    return Result(
        attempt.lane, application.state, f"It is being refreshed by {who}.", busy=who
    )


def _backing_off(application: ExternalApplication, lane: Lane) -> Result:
    assert application.retry_at is not None
    return Result(
        lane,
        application.state,
        f"Not tried again before {application.retry_at:%Y-%m-%d %H:%M:%S} UTC:"
        f" {application.last_error or 'the last try failed.'}",
    )
