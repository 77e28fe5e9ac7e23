"""Ending a grant: at the org first, then here, whatever the org answered."""

from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.exc import OperationalError

import audit
from database import db
from engine.results import RecordGone
from models import Event, ExternalApplication
from salesforce import Client, Revocation, parse_domain
from salesforce import revoke as revoke_token

DEADLINE = 10.0
"""Seconds for each token."""
MOST_ROUNDS = 3
"""A refresh that is under way may bring another token meanwhile."""
LIVES_ON = "Revoke it there: Setup, Connected Apps OAuth Usage, or the app's own page."

DONE, UNREADABLE = "<revoked>", "<unreadable secret>"


class _Held(NamedTuple):
    """A token as the record holds it, and where it has to be revoked.

    The value is None where no key opens it.
    """

    value: str | None
    domain: str
    ends_others: bool


class Revoked(NamedTuple):
    """How it went, for an admin; `everywhere` unless something may live on."""

    sentence: str
    everywhere: bool


def revoke(application: ExternalApplication) -> Revoked:
    """Revoke what the org granted, forget it here, and say how it went.

    A refresh token goes first, for it ends its access tokens. What no key
    opens cannot be revoked, and is forgotten all the same.
    """
    application_id, said = application.id, list[Revocation]()
    unreadable = False
    for _ in range(MOST_ROUNDS):
        held, seen = _tokens_of(application), application.fingerprints
        db.session.commit()
        unreadable = any(token.value is None for token in held)
        said += _revoke_all(held)
        found = ExternalApplication.locked(application_id)
        if found is None:
            raise RecordGone
        application = found
        if application.fingerprints == seen:
            break
    sentence = _in_words(said, unreadable=unreadable)
    application.forget_tokens()
    failed = [one for one in said if not one.gone]
    everywhere = not failed and not unreadable
    if not everywhere:
        application.note_problem(
            sentence, (failed[0].code if failed else None) or UNREADABLE, LIVES_ON
        )
    audit.record(
        Event.TOKEN_REVOKED,
        application,
        answers=[one.code or DONE for one in said],
        ended_at_the_org=everywhere,
    )
    db.session.commit()
    return Revoked(sentence, everywhere)


def revoke_replaced(application_id: int, refresh_token: str, domain: str) -> None:
    """Revoke a grant that is stored no more: a user has five approvals an app."""
    said = _revoke(_Held(refresh_token, domain, ends_others=True))
    application = db.session.get(ExternalApplication, application_id)
    if application is None:
        return
    with suppress(OperationalError):
        audit.record(
            Event.TOKEN_REVOKED,
            application,
            reason="Another grant took its place.",
            answers=[said.code or DONE],
            ended_at_the_org=said.gone,
        )
        db.session.commit()
        return
    db.session.rollback()


def _tokens_of(application: ExternalApplication) -> list[_Held]:
    domain = application.refresh_token_domain or application.salesforce_domain
    held = []
    if application.refresh_token:
        value = application.opened("refresh_token")
        held.append(_Held(value, domain, ends_others=True))
    if application.access_token:
        value = application.opened("access_token")
        held.append(_Held(value, application.salesforce_domain, ends_others=False))
    return held


def _revoke_all(held: list[_Held]) -> list[Revocation]:
    """Revoke the tokens in turn, until one that ends the others was ended."""
    said = list[Revocation]()
    for token in held:
        if token.value is None:
            continue
        said.append(_revoke(token))
        if token.ends_others and said[-1].gone and not said[-1].already:
            break
    return said


def _revoke(token: _Held) -> Revocation:
    client = Client(
        domain=parse_domain(token.domain),
        client_id="",
        client_secret=None,
        redirect_uri="",
    )
    assert token.value is not None
    return revoke_token(client, token.value, deadline=DEADLINE)


def _in_words(said: list[Revocation], *, unreadable: bool) -> str:
    failed = [one for one in said if not one.gone]
    if failed:
        return (
            f"The tokens are gone from Orgdesk. At the org they may live on:"
            f" {failed[0].sentence}"
        )
    if unreadable:
        return (
            "The tokens are gone from Orgdesk. No key of this server opened them, so"
            " they could not be revoked at the org."
        )
    if said and all(one.already for one in said):
        return "The tokens are gone; the org had ended them already."
    if said:
        return "The tokens are revoked at the org and gone from Orgdesk."
    return "There was no token to revoke."
