"""The token engine: the one place that decides how a record gets its token.

Two lanes: silent, with the stored refresh token; browser, through the org's
login page. No database transaction is open while the org is asked, and the
record is read again before anything is written to it.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hmac import compare_digest
from typing import NamedTuple

from sqlalchemy import delete, select
from werkzeug.datastructures import MultiDict

import audit
from database import db, now
from models import Event, ExternalApplication, Lane, PendingAuthorization, site_for
from salesforce import (
    Client,
    SalesforceError,
    State,
    TokenAnswer,
    authorization_request,
    decode,
    exchange_code,
    no_remote_site,
    parse_domain,
    redact,
    refresh_access_token,
)
from vault import Sealed, UnreadableSecret, seal

PENDING_KEPT = timedelta(days=1)
"""How long a used or expired login can still be told from an unknown one."""
CODE = re.compile(r"[\x21-\x7e]{1,4096}")
LONGEST_ERROR = 80
RECORD_DELETED = "<record deleted>"
LOGIN_REFUSED = "<login refused>"


class Outcome(NamedTuple):
    """What a click came to. With a `login_url` the browser has to go there."""

    state: State
    reason: str
    login_url: str | None = None


class RecordGone(Exception):
    """The record was deleted while its org was asked."""


class LoginRefused(Exception):
    """A callback that must not be acted on; the message says how to go on.

    `application_id` is the record whose login it was, where that is certain.
    """

    def __init__(self, sentence: str, application_id: int | None = None) -> None:
        super().__init__(sentence)
        self.application_id = application_id


def get_token(application: ExternalApplication, browser: str) -> Outcome:
    """Get a token for the record: silently if that can be, else by a login.

    `browser` is the token of the sign-in that clicked; the login it begins can
    be finished there alone: in that browser, by that user, until they sign out.
    """
    reason = why_not_silent(application)
    if reason is None:
        outcome = _refresh_silently(application)
        if outcome.state is not State.LOGIN_REQUIRED:
            return outcome
        reason = outcome.reason
    return _begin_login(application, browser, reason)


def why_not_silent(application: ExternalApplication) -> str | None:
    """Say why a token takes the login page, or None if it comes without one."""
    if application.refresh_token is None:
        return "No refresh token is stored."
    if application.refresh_token.fingerprint is None:
        return "No key of this server opens the stored refresh token."
    if not application.refresh_token_is_from_here:
        return "The stored refresh token is of another Salesforce Domain or Client ID."
    return application.refresh_token_problem


def finish_login(
    arguments: MultiDict[str, str], browser: str
) -> tuple[ExternalApplication, bool]:
    """Act on the callback's query: store the token, or why there is none.

    Returns the record, and whether it has a new token.

    The pending login is consumed first, whatever else is in the query. Raises
    `LoginRefused` where the callback is not the one that was waited for; then
    nothing is stored and the org is not asked.
    """
    pending = _consume(_only(arguments, "state"))
    try:
        return _act_on(pending, arguments, browser)
    except LoginRefused as refused:
        audit.record(
            Event.REFRESH_FAILED,
            pending.application,
            lane=Lane.BROWSER,
            error_code=LOGIN_REFUSED,
            reason=str(refused),
        )
        db.session.commit()
        raise


def _act_on(
    pending: PendingAuthorization, arguments: MultiDict[str, str], browser: str
) -> tuple[ExternalApplication, bool]:
    _check(pending, arguments, browser)
    application = pending.application
    if error := _only(arguments, "error"):
        refusal = _refusal(error, _only(arguments, "error_description"))
        application.keep_failure(refusal, None, Lane.BROWSER)
        _record_failure(application, refusal, Lane.BROWSER)
        db.session.commit()
        return application, False
    code = _only(arguments, "code")
    if not code or not CODE.fullmatch(code):
        raise LoginRefused("The org sent neither a code nor an error.", application.id)
    return _exchange(pending, application, code)


def _refresh_silently(application: ExternalApplication) -> Outcome:
    sealed = application.refresh_token
    assert sealed is not None
    sent = sealed.reveal()
    asked = _ask(
        application, Lane.SILENT, lambda client: refresh_access_token(client, sent)
    )
    application, result = asked.application, asked.result
    reason, stored = "A refresh token was stored.", False
    if isinstance(result, TokenAnswer):
        assert asked.client is not None
        stored = application.store_token(result, asked.client, Lane.SILENT, reason)
    elif not asked.superseded or result.refresh_token:
        if result.answer_lost and application.refresh_token_rotates:
            result = _outcome_unknown(result)
        application.keep_failure(
            result, asked.client, Lane.SILENT, superseded=asked.superseded
        )
    _record_outcome(asked._replace(result=result), Lane.SILENT, reason, stored=stored)
    state, reason = application.state, application.last_error or ""
    db.session.commit()
    return Outcome(state, reason)


def _begin_login(
    application: ExternalApplication, browser: str, reason: str
) -> Outcome:
    try:
        client = _client(application)
    except SalesforceError as error:
        application.keep_failure(error, None, Lane.BROWSER)
        _record_failure(application, error, Lane.BROWSER)
        db.session.commit()
        return Outcome(State.MISCONFIGURED, str(error))
    request = authorization_request(
        client,
        scope=application.requested_scopes,
        prompt_login=application.prompt_login,
    )
    db.session.execute(
        delete(PendingAuthorization).where(
            PendingAuthorization.expires_at < now() - PENDING_KEPT
        )
    )
    db.session.add(
        PendingAuthorization(
            state_hash=_hash(request.state),
            browser_hash=_hash(browser),
            application_id=application.id,
            salesforce_domain=application.salesforce_domain,
            client_id=application.client_id,
            redirect_uri=application.callback_url,
            code_verifier=seal(request.code_verifier),
            reason=reason,
        )
    )
    audit.record(Event.LOGIN_STARTED, application, reason=reason)
    state = application.state
    db.session.commit()
    return Outcome(state, reason, request.url)


def _consume(state: str | None) -> PendingAuthorization:
    if not state:
        raise LoginRefused("The address has no state in it, or more than one.")
    state_hash = _hash(state)
    pending = PendingAuthorization.consume(state_hash)
    db.session.commit()
    if pending is not None:
        return pending
    if db.session.scalar(
        select(PendingAuthorization.id).where(
            PendingAuthorization.state_hash == state_hash
        )
    ):
        raise LoginRefused("This login was finished before; it works once.")
    raise LoginRefused(
        "No login with this state was begun here, or its record was deleted."
    )


def _check(
    pending: PendingAuthorization, arguments: MultiDict[str, str], browser: str
) -> None:
    if not compare_digest(pending.browser_hash, _hash(browser)):
        raise LoginRefused(
            "This login was begun in another browser, or before you last signed in"
            " to Orgdesk, or under another of its addresses."
        )
    application = pending.application
    if pending.expires_at <= now():
        raise LoginRefused("The login took longer than ten minutes.", application.id)
    if application.app != (pending.salesforce_domain, pending.client_id):
        raise LoginRefused(
            "The record's Salesforce Domain or Client ID was changed since the"
            " login began.",
            application.id,
        )
    issuers = arguments.getlist("iss")
    if issuers and issuers != [application.domain.issuer]:  # RFC 9207, section 2.4
        raise LoginRefused(
            "The answer names another issuer than the record's Salesforce Domain.",
            application.id,
        )
    for name in ("code", "error"):
        if len(arguments.getlist(name)) > 1:
            raise LoginRefused(
                f"The address has more than one {name} in it.", application.id
            )


def _exchange(
    pending: PendingAuthorization, application: ExternalApplication, code: str
) -> tuple[ExternalApplication, bool]:
    try:
        verifier = pending.code_verifier.reveal()
    except UnreadableSecret:
        raise LoginRefused(
            "The keys of this server were changed since the login began.",
            application.id,
        ) from None
    reason, redirect_uri = pending.reason, pending.redirect_uri
    application.receive_code(code)
    asked = _ask(
        application,
        Lane.BROWSER,
        lambda client: exchange_code(
            replace(client, redirect_uri=redirect_uri), code, verifier
        ),
    )
    application, result = asked.application, asked.result
    if isinstance(result, TokenAnswer):
        assert asked.client is not None
        stored = application.store_token(result, asked.client, Lane.BROWSER, reason)
    else:
        application.keep_failure(
            result, asked.client, Lane.BROWSER, superseded=asked.superseded
        )
        stored = False
    _record_outcome(asked, Lane.BROWSER, reason, stored=stored)
    db.session.commit()
    return application, stored


class _Asked(NamedTuple):
    """What came of asking the org, and the record as it is now.

    `superseded` tells that a newer token was stored meanwhile, so that a
    failure says nothing about the record any more. `grant` is the fingerprint
    of the refresh token before the answer is taken over.
    """

    application: ExternalApplication
    client: Client | None
    result: TokenAnswer | SalesforceError
    superseded: bool
    grant: str | None


def _ask(
    asked_for: ExternalApplication, lane: Lane, ask: Callable[[Client], TokenAnswer]
) -> _Asked:
    """Ask the org with no transaction open, then read the record again."""
    application_id, before = asked_for.id, _ciphertext(asked_for.access_token)
    was = audit.Thing(asked_for.audit_kind, asked_for.audit_name, application_id)
    client: Client | None = None
    result: TokenAnswer | SalesforceError
    try:
        client = _client(asked_for)
        db.session.commit()
        result = ask(client)
    except SalesforceError as error:
        result = error
    application = db.session.get(ExternalApplication, application_id)
    if application is None:
        audit.record(Event.REFRESH_FAILED, was, lane=lane, error_code=RECORD_DELETED)
        db.session.commit()
        raise RecordGone
    superseded = _ciphertext(application.access_token) != before
    grant = _fingerprint(application.refresh_token)
    return _Asked(application, client, result, superseded, grant)


def _record_outcome(asked: _Asked, lane: Lane, reason: str, *, stored: bool) -> None:
    """Note in the trail what the org's answer came to."""
    application, result = asked.application, asked.result
    grant = _fingerprint(application.refresh_token)
    replaced = asked.grant is not None and grant != asked.grant
    if isinstance(result, SalesforceError):
        _record_failure(
            application, result, lane, superseded=asked.superseded, replaced=replaced
        )
    elif stored:
        audit.record(
            Event.TOKEN_REFRESHED,
            application,
            lane=lane,
            reason=reason,
            access_token_fingerprint=_fingerprint(application.access_token),
            refresh_token_fingerprint=grant,
            refresh_token_replaced=replaced,
        )
    else:
        audit.record(
            Event.REFRESH_FAILED,
            application,
            lane=lane,
            state=application.state,
            error_code=application.last_error_code,
            reason=application.last_error,
            refresh_token_replaced=replaced,
        )


def _record_failure(
    application: ExternalApplication,
    error: SalesforceError,
    lane: Lane,
    *,
    superseded: bool = False,
    replaced: bool = False,
) -> None:
    audit.record(
        Event.REFRESH_FAILED,
        application,
        lane=lane,
        state=application.state,
        error_code=error.code,
        reason=str(error),
        superseded=superseded,
        refresh_token_replaced=replaced,
    )


def _client(application: ExternalApplication) -> Client:
    """Return the app that asks; raise `SalesforceError` where it may not or cannot.

    The request itself is held to the Remote Sites too. This spares a login
    whose code could not be exchanged.
    """
    if site_for(application.domain.origin) is None:
        raise no_remote_site(application.domain.origin)
    try:
        secret = _revealed(application.consumer_secret)
    except UnreadableSecret:
        raise SalesforceError(
            "No key of this server opens the Consumer Secret. Edit the record and"
            " type the secret again.",
            state=State.MISCONFIGURED,
            code="<unreadable secret>",
        ) from None
    return Client(
        domain=parse_domain(application.salesforce_domain),
        client_id=application.client_id,
        client_secret=secret,
        redirect_uri=application.callback_url,
    )


def _revealed(secret: Sealed | None) -> str | None:
    return None if secret is None else secret.reveal()


def _fingerprint(secret: Sealed | None) -> str | None:
    return None if secret is None else secret.fingerprint


def _ciphertext(secret: Sealed | None) -> str | None:
    return None if secret is None else secret.ciphertext


def _outcome_unknown(error: SalesforceError) -> SalesforceError:
    return SalesforceError(
        f"{error} This org replaces the refresh token at each use, so the stored"
        " one may be dead, and is not sent again: log in to be sure.",
        state=State.OUTCOME_UNKNOWN,
        code=error.code,
        response=error.response,
    )


def _refusal(error: str, description: str | None) -> SalesforceError:
    return decode(redact(error, ())[:LONGEST_ERROR], redact(description or "", ()))


def _only(arguments: MultiDict[str, str], name: str) -> str | None:
    """Return the parameter's value if it is there exactly once."""
    values = arguments.getlist(name)
    return values[0] if len(values) == 1 else None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
