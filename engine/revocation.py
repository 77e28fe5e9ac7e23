"""Ending a grant: at the org first, then here, whatever the org answered."""

from contextlib import suppress
from typing import NamedTuple

from sqlalchemy.exc import OperationalError

import audit
from database import db
from engine.grants import LooseGrant, approval_of, release
from engine.results import RecordGone
from models import (
    Ending,
    Event,
    ExternalApplication,
    HeldToken,
    end_approval,
)
from salesforce import Client, Revocation, parse_domain
from salesforce import revoke as revoke_token
from vault import opened

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
        grants, seen = _tokens_of(application), application.fingerprints
        db.session.commit()
        unreadable = any(token.value is None for held in grants for token in held)
        said += [one for held in grants for one in _revoke_all(held)]
        found = ExternalApplication.locked(application_id)
        if found is None:
            raise RecordGone
        application = found
        if application.fingerprints == seen:
            break
    sentence = _in_words(said, unreadable=unreadable)
    failed = [one for one in said if not one.gone]
    everywhere = not failed and not unreadable
    _forget(application, ended=everywhere)
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


def revoke_loose(
    application_id: int,
    grant: LooseGrant,
    reason: str = "Another grant took its place.",
) -> bool:
    """Revoke a grant that is stored no more: a user has five approvals an app.

    Returns whether the org takes it no more.
    """
    said = _revoke(_Held(grant.token, grant.domain, ends_others=True))
    application = db.session.get(ExternalApplication, application_id)
    if application is None:
        return said.gone
    with suppress(OperationalError):
        if said.gone:
            end_approval(grant.approval_id, Ending.REVOKED)
        audit.record(
            Event.TOKEN_REVOKED,
            application,
            reason=reason,
            answers=[said.code or DONE],
            ended_at_the_org=said.gone,
        )
        db.session.commit()
        return said.gone
    db.session.rollback()
    return said.gone


def _forget(application: ExternalApplication, *, ended: bool) -> None:
    """Keep no token, held or stored; note the approvals that `ended` with them."""
    approval, held = approval_of(application), HeldToken.of(application.id)
    if held is not None:
        release(application, held)
    if ended:
        end_approval(approval.id if approval else None, Ending.REVOKED)
        end_approval(held.approval_id if held else None, Ending.REVOKED)
    application.forget_tokens()


def _tokens_of(application: ExternalApplication) -> list[list[_Held]]:
    """Return the tokens of each grant: of what is held, and of what is stored."""
    held = HeldToken.of(application.id) if application.held_at else None
    domain = application.refresh_token_domain or application.salesforce_domain
    stored = [
        _Held(opened(token), host, ends_others=ends_others)
        for token, host, ends_others in (
            (application.refresh_token, domain, True),
            (application.access_token, application.salesforce_domain, False),
        )
        if token
    ]
    if held is None:
        return [stored]
    apart = [
        _Held(opened(token), held.salesforce_domain, ends_others=ends_others)
        for token, ends_others in (
            (held.refresh_token, True),
            (held.access_token, False),
        )
        if token
    ]
    return [apart, stored]


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
