"""Ending a grant: at the org first, then here, whatever the org answered."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from sqlalchemy.exc import OperationalError

import audit
from database import db
from engine.grants import LooseGrant, approval_of, release
from engine.results import RecordGone
from models import (
    Ending,
    Event,
    ExternalApplication,
    Lane,
    PanicRevocation,
    Progress,
    end_approval,
)
from salesforce import Client, Revocation, parse_domain
from salesforce import revoke as revoke_token
from vault import Sealed, opened

DEADLINE = 10.0
"""Seconds for each token."""
MOST_ROUNDS = 3
"""A refresh that is under way may bring another token meanwhile."""
LIVES_ON = "Revoke it there: Setup, Connected Apps OAuth Usage, or the app's own page."
NOTHING = "There was no token to revoke."

DONE, UNREADABLE = "<revoked>", "<unreadable secret>"


class _Held(NamedTuple):
    """A token as it is stored, and where it has to be revoked.

    The value is None where no key opens it.
    """

    value: str | None
    domain: str
    ends_others: bool


_Grant = list[_Held]
"""Tokens of which a refresh token, where there is one, ends the others."""


class Revoked(NamedTuple):
    """How it went, for an admin; `everywhere` unless something may live on.

    `anything` tells whether there was a token at all.
    """

    sentence: str
    everywhere: bool
    anything: bool = True


def revoke(
    application: ExternalApplication,
    *,
    keep_failed: bool = False,
    reason: str | None = None,
    note: Callable[[Revoked], None] = lambda _: None,
) -> Revoked:
    """Revoke what the org granted, forget it here, and say how it went.

    A refresh token goes first, for it ends its access tokens; a token that is
    held goes too. What no key opens cannot be revoked, and is forgotten all
    the same. With `keep_failed` what may live on at the org stays stored
    instead, so that it can be tried again. `note` joins the transaction that
    stores what came of it. Raises `RecordGone`.
    """
    application_id, said = application.id, list[Revocation]()
    anything = unreadable = False
    for _ in range(MOST_ROUNDS):
        grants, seen = _grants_of(application), _seen(application)
        db.session.commit()
        anything = anything or bool(grants)
        answers, unreadable = _revoke_all(grants)
        said += answers
        found = ExternalApplication.locked(application_id)
        if found is None:
            raise RecordGone
        application = found
        if _seen(application) == seen:
            break
    said = [_shown(one, application) for one in said]
    failed = [one for one in said if not one.gone]
    everywhere = not failed and not unreadable
    kept = keep_failed and not everywhere
    sentence = _in_words(said, unreadable=unreadable, kept=kept)
    if not kept:
        _forget(application, ended=everywhere)
    if not everywhere:
        application.note_problem(
            sentence, (failed[0].code if failed else None) or UNREADABLE, LIVES_ON
        )
    revoked = Revoked(sentence, everywhere, anything)
    note(revoked)
    if anything and not kept:
        progress = Progress.REVOKED if everywhere else Progress.FAILED
        PanicRevocation.settle(application_id, progress, sentence)
    why: dict[str, Any] = {"reason": reason} if reason else {}
    audit.record(
        Event.TOKEN_REVOKED,
        application,
        answers=[one.code or DONE for one in said],
        ended_at_the_org=everywhere,
        **why,
    )
    db.session.commit()
    return revoked


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
            answers=[application.without_secrets(said.code or DONE)],
            ended_at_the_org=said.gone,
        )
        db.session.commit()
        return said.gone
    db.session.rollback()
    return said.gone


def _forget(application: ExternalApplication, *, ended: bool) -> None:
    """Keep no token, held or stored; note the approvals that `ended` with them."""
    approval, held = approval_of(application), application.held
    if held is not None:
        release(application, held)
    if ended:
        end_approval(approval.id if approval else None, Ending.REVOKED)
        end_approval(held.approval_id if held else None, Ending.REVOKED)
    application.forget_tokens()


def _seen(application: ExternalApplication) -> tuple[object, ...]:
    """Tell the tokens of a record, stored and held, from those of a moment later."""
    held = application.held
    return *application.fingerprints, held and held.mark


def _grants_of(application: ExternalApplication) -> list[_Grant]:
    """Return what has to be revoked, each thing at the host that it came from.

    A flow without a page, or another user's login, brought an access token that is
    of a grant of its own.
    """
    refresh, access = application.refresh_token, application.access_token
    own = application.salesforce_domain
    domain = application.refresh_token_domain or own
    grants = [[*_held(refresh, domain, ends_others=True)]]
    if application.lane is Lane.PAGE_LESS or application.holds_anothers:
        grants.append([*_held(access, application.access_token_domain or own)])
    else:
        grants[0] += _held(access, application.access_token_domain or domain)
    if held := application.held:
        domain = held.salesforce_domain
        refresh = held.refresh_token
        grants.append(
            [
                *_held(refresh, domain, ends_others=True),
                *_held(held.access_token, domain),
            ]
        )
    return [grant for grant in grants if grant]


def _held(token: Sealed | None, domain: str, *, ends_others: bool = False) -> _Grant:
    return [_Held(opened(token), domain, ends_others)] if token else []


def _revoke_all(grants: list[_Grant]) -> tuple[list[Revocation], bool]:
    """Revoke all grants; return the answers, and whether a token was unreadable."""
    said, unreadable = list[Revocation](), False
    for grant in grants:
        for token in grant:
            if token.value is None:
                unreadable = True
                continue
            said.append(_revoke(token))
            if _settles(token, said[-1]):
                break
    return said, unreadable


def _settles(token: _Held, said: Revocation) -> bool:
    """Whether the other tokens of a grant need not be tried any more.

    They ended with this one, or nobody is there who would end them.
    """
    if said.gone:
        return token.ends_others and not said.already
    return said.trip is None or said.trip.status is None


def _revoke(token: _Held) -> Revocation:
    client = Client(
        domain=parse_domain(token.domain),
        client_id="",
        client_secret=None,
        redirect_uri="",
    )
    assert token.value is not None
    return revoke_token(client, token.value, deadline=DEADLINE)


def _shown(said: Revocation, application: ExternalApplication) -> Revocation:
    """Return an org's words without what the record holds, while it does."""
    code = application.without_secrets(said.code) if said.code else None
    sentence = application.without_secrets(said.sentence)
    return replace(said, sentence=sentence, code=code)


def _in_words(said: list[Revocation], *, unreadable: bool, kept: bool) -> str:
    failed = [one for one in said if not one.gone]
    where = "The tokens are kept" if kept else "The tokens are gone from Orgdesk"
    if failed and kept:
        return f"{where}. {failed[0].sentence}"
    if failed:
        return f"{where}. At the org they may live on: {failed[0].sentence}"
    if unreadable:
        return (
            f"{where}. No key of this server opened them, so they could not be"
            " revoked at the org."
        )
    if said and all(one.already for one in said):
        return "The tokens are gone; the org had ended them already."
    if said:
        return "The tokens are revoked at the org and gone from Orgdesk."
    return NOTHING
