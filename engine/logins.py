"""Logins: begun by a click, finished by the org's way back to the callback."""

import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from hmac import compare_digest

from sqlalchemy import delete, select
from werkzeug.datastructures import MultiDict

import audit
from database import db, now
from engine.attempts import carry_out
from engine.flights import begin
from engine.lanes import Request, clients_of
from engine.results import LoginRefused, Result, blocked_sentence
from models import (
    Event,
    ExternalApplication,
    Lane,
    PendingAuthorization,
    block_on,
)
from salesforce import (
    SalesforceError,
    authorization_request,
    decode,
    exchange_code,
    redact,
)
from vault import UnreadableSecret, seal

PENDING_KEPT = timedelta(days=1)
"""How long a used or expired login can still be told from an unknown one."""
CODE = re.compile(r"[\x21-\x7e]{1,4096}")
LONGEST_ERROR = 80
LOGIN_REFUSED = "<login refused>"


def finish_login(
    arguments: MultiDict[str, str], browser: str
) -> tuple[ExternalApplication, Result]:
    """Act on the callback's query: store the token, or why there is none.

    Returns the record, and what came of it.

    The pending login is consumed first, whatever else is in the query. Raises
    `LoginRefused` where the callback is not the one that was waited for; then
    nothing is stored and the org is not asked.
    """
    pending = _consume(_only(arguments, "state"))
    try:
        return pending.application, _act_on(pending, arguments, browser)
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
) -> Result:
    _check(pending, arguments, browser)
    application = pending.application
    if error := _only(arguments, "error"):
        refusal = _refusal(error, _only(arguments, "error_description"))
        return _finish(application, pending.reason, refusal)
    code = _only(arguments, "code")
    if not code or not CODE.fullmatch(code):
        raise LoginRefused("The org sent neither a code nor an error.", application.id)
    request = _exchange(pending, application, code)
    application.receive_code(code)
    return _finish(application, pending.reason, request)


def begin_login(application: ExternalApplication, browser: str, reason: str) -> Result:
    """Write down a login that is about to begin; the result says where to go."""
    if block := block_on(application.id):
        return Result(Lane.BROWSER, application.state, blocked_sentence(block))
    try:
        (_, client), *_ = clients_of(application)
    except SalesforceError as error:
        return _finish(application, reason, error)
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
    return Result(Lane.BROWSER, state, reason, login_needed=True, login_url=request.url)


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
    if block := block_on(application.id):
        raise LoginRefused(blocked_sentence(block), application.id)
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
) -> Request | SalesforceError:
    """Return what exchanges the code, or why it cannot be exchanged."""
    try:
        verifier = pending.code_verifier.reveal()
        clients = clients_of(application)
    except UnreadableSecret:
        raise LoginRefused(
            "The keys of this server were changed since the login began.",
            application.id,
        ) from None
    except SalesforceError as error:
        return error
    redirect_uri = pending.redirect_uri
    return Request(
        clients,
        lambda client, seconds: exchange_code(
            replace(client, redirect_uri=redirect_uri), code, verifier, deadline=seconds
        ),
    )


def _finish(
    application: ExternalApplication, reason: str, request: Request | SalesforceError
) -> Result:
    """Make an attempt of it, which the record's history tells of."""
    flight = begin(application, Lane.BROWSER, reason)
    assert flight  # a login holds no lease, and waits for nobody's
    return carry_out(application, flight, request)


def _refusal(error: str, description: str | None) -> SalesforceError:
    return decode(redact(error, ())[:LONGEST_ERROR], redact(description or "", ()))


def _only(arguments: MultiDict[str, str], name: str) -> str | None:
    """Return the parameter's value if it is there exactly once."""
    values = arguments.getlist(name)
    return values[0] if len(values) == 1 else None


def _hash(value: str) -> str:
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()
