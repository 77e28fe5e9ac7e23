"""Held tokens: what becomes of one that somebody has decided about."""

from contextlib import suppress
from typing import Never

from sqlalchemy.exc import IntegrityError

import audit
from database import db
from engine.grants import release, stored_grant
from engine.lanes import clients_of
from engine.results import RecordGone
from engine.revocation import revoke_loose
from models import (
    Approval,
    Event,
    ExternalApplication,
    HeldToken,
    block_on,
)
from salesforce import Client, SalesforceError
from vault import UnreadableSecret

NOT_WANTED = "A held token was not wanted."
ANOTHER_HELD = "Another token is held by now. Look at it, then decide."
NOTHING_HELD = "No token is held any more: somebody else decided, or a day is over."
MOVED = (
    "The record names another Salesforce Domain or Client ID since the token came."
    " Log in again."
)
BLOCKED = "Refreshes are blocked: no token is taken over now."
UNREADABLE = "No key of this server opens the held token, or the record's secrets."


class NotDecided(Exception):
    """The decision cannot be carried out; the message says why."""


class NameTaken(Exception):
    """Another record has the name already."""


def reject_held(application_id: int, mark: str) -> str:
    """Keep what the record has; revoke and drop what is held. Raises `NotDecided`.

    `mark`, here and below, is of the token that was seen: no other is decided about.
    """
    application, held = _load(application_id, mark)
    loose = release(application, held)
    audit.record(Event.HELD_TOKEN_REJECTED, application, reason=held.reason)
    db.session.commit()
    if not loose:
        return "The held token is dropped. The record is as it was."
    gone = all(revoke_loose(application_id, grant, NOT_WANTED) for grant in loose)
    at_the_org = "revoked at its org" if gone else "may live on at its org"
    return f"The held token is dropped, and {at_the_org}. The record is as it was."


def drop_if_over(application: ExternalApplication) -> None:
    """Drop a token that was held for too long, as if somebody had rejected it."""
    held = application.held
    if held is not None and held.is_over:
        with suppress(NotDecided):  # somebody was faster
            reject_held(application.id, held.mark)


def take_held(application_id: int, mark: str) -> str:
    """Make what is held the record's, in place of what it has.

    Raises `NotDecided`.
    """
    application, held = _load(application_id, mark)
    client = _client_for(application, held)
    former = stored_grant(application) if held.is_grant_of_its_own else None
    _store(application, held, client)
    if application.holds_anothers:
        application.forget_refresh_token()
    release(application, held)
    audit.record(
        Event.HELD_TOKEN_TAKEN,
        application,
        reason=held.reason,
        organization=held.organization_id,
        user=held.user_id,
    )
    db.session.commit()
    if former and not former.is_of(application):
        revoke_loose(application_id, former)
    return "The held token is the record's now."


def save_held_as(application_id: int, mark: str, name: str) -> ExternalApplication:
    """Make another record of what is held; the first one stays as it is.

    Raises `NotDecided` and `NameTaken`.
    """
    application, held = _load(application_id, mark)
    client = _client_for(application, held)
    if not held.is_grant_of_its_own:
        _refuse("Only a token that came by a login makes another record.")
    try:
        another = application.twin(name)
    except UnreadableSecret:
        _refuse(UNREADABLE)
    db.session.add(another)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        raise NameTaken from None
    _store(another, held, client)
    if block_on(application.id):  # it began since that was asked
        _refuse(BLOCKED)
    release(application, held)
    if approval := db.session.get(Approval, held.approval_id or 0):
        approval.application_id, approval.application_name = another.id, name
    audit.record(Event.RECORD_CREATED, another)
    audit.record(
        Event.HELD_TOKEN_SAVED,
        application,
        reason=held.reason,
        record=f"{name} (#{another.id})",
    )
    db.session.commit()
    return another


def _load(application_id: int, mark: str) -> tuple[ExternalApplication, HeldToken]:
    """Lock the record, so that a token is decided about once."""
    application = ExternalApplication.locked(application_id)
    if application is None:
        raise RecordGone
    held = application.held
    if held is None:
        _refuse(NOTHING_HELD)
    if held.mark != mark:
        _refuse(ANOTHER_HELD)
    return application, held


def _client_for(application: ExternalApplication, held: HeldToken) -> Client:
    """Return the app that the held token is of; raise `NotDecided`."""
    if held.is_over:
        _refuse(NOTHING_HELD)
    if block_on(application.id):
        _refuse(BLOCKED)
    if (held.salesforce_domain, held.client_id) != application.app:
        _refuse(MOVED)
    try:
        return clients_of(application)[0][1]
    except SalesforceError as error:
        _refuse(str(error))


def _store(application: ExternalApplication, held: HeldToken, client: Client) -> None:
    try:
        answer = held.answer()
    except UnreadableSecret:
        _refuse(UNREADABLE)
    application.store_token(answer, client, held.lane, held.lane_reason)
    application.take_names(held)
    if held.secret_used:
        application.secret_used = held.secret_used


def _refuse(why: str) -> Never:
    """Leave all as it was, and say why."""
    db.session.rollback()
    raise NotDecided(why) from None
