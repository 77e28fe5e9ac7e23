"""The lanes: which one a record takes, and what is asked of the org on it.

Everything that is needed is read from the record beforehand, so that no
database connection is held while the org is asked.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Generic, NamedTuple, TypeVar

from models import ExternalApplication, Flow, Lane, Secret, site_for
from salesforce import (
    Client,
    Identity,
    SalesforceError,
    State,
    TokenAnswer,
    no_remote_site,
    parse_domain,
    present_assertion,
    refresh_access_token,
    use_client_credentials,
)
from vault import Sealed, UnreadableSecret

PATIENCE = 20.0
"""Seconds for all that an org is asked in an attempt, or in a test of it."""
PAUSES = (0.5, 1.5)
"""Seconds before a request that is safe to repeat is sent again."""
SHORTEST_CALL = 1.0
"""Seconds that have to be left for another request to be begun."""

Clients = tuple[tuple[Secret | None, Client], ...]
"""The app with its current and, where there is one, its next consumer secret, in the
order of trying; or with none that counts."""
Send = Callable[[Client, float], TokenAnswer]
T = TypeVar("T")


class Step(NamedTuple):
    """The lane that the next click takes, and why that one."""

    lane: Lane
    reason: str


class Request(NamedTuple):
    """What is to be asked, in plain values. `send` asks once, within some seconds."""

    clients: Clients
    send: Send
    is_repeatable: bool = False


class Tried(NamedTuple, Generic[T]):
    """The last answer, with whose secret, and how many were tried."""

    result: T | SalesforceError
    client: Client
    secret: Secret | None
    requests: int


class Asked(NamedTuple):
    """What came of it: the last answer, who asked it, and what it took.

    `seconds` and `requests` count all requests of the attempt. `identity` is what
    the org said of whose the token is, where it was asked before the token is
    stored.
    """

    result: TokenAnswer | SalesforceError
    client: Client | None
    secret: Secret | None = None
    requests: int = 0
    seconds: float = 0.0
    identity: Identity | None = None


def choose(application: ExternalApplication, *, log_in: bool = False) -> Step:
    """Pick the record's lane: silent or page-less if that can be, else a login."""
    if log_in:
        return Step(Lane.BROWSER, "A new login was asked for.")
    if application.flow is Flow.JWT_BEARER:
        return Step(Lane.PAGE_LESS, "The record uses the JWT bearer flow.")
    if application.flow is Flow.CLIENT_CREDENTIALS:
        return Step(Lane.PAGE_LESS, "The record uses the client credentials flow.")
    if why := _why_not_silent(application):
        return Step(Lane.BROWSER, why)
    return Step(Lane.SILENT, "A refresh token was stored.")


def _why_not_silent(application: ExternalApplication) -> str | None:
    if application.refresh_token is None:
        return "No refresh token is stored."
    if application.refresh_token.fingerprint is None:
        return "No key of this server opens the stored refresh token."
    if not application.refresh_token_is_from_here:
        return "The stored refresh token is of another Salesforce Domain or Client ID."
    return application.refresh_token_problem


def prepared(application: ExternalApplication, lane: Lane) -> Request | SalesforceError:
    """Read from the record what a request without a page takes, or what it lacks."""
    try:
        return _prepare(application, lane)
    except SalesforceError as error:
        return error


def _prepare(application: ExternalApplication, lane: Lane) -> Request:
    clients = clients_of(application)
    if lane is Lane.SILENT:
        assert application.refresh_token is not None
        return Request(clients, _refreshing(application.refresh_token.reveal()))
    if application.flow is Flow.CLIENT_CREDENTIALS:
        if clients[0][1].client_secret is None:
            raise _incomplete("Consumer Secret", "Type it into the record.")
        return Request(clients, _with_credentials, is_repeatable=True)
    key = _opened(application.private_key, "Private Key")
    if key is None:
        raise _incomplete("Private Key", "Edit the record and generate or paste one.")
    if not application.username:
        raise _incomplete("Username", "Edit the record and type one.")
    assertion = _asserting(application.username, application.assertion_audience, key)
    # The assertion proves who asks: the secrets have no part in it.
    return Request(((None, clients[0][1]),), assertion, is_repeatable=True)


def clients_of(application: ExternalApplication) -> Clients:
    """Return the app that asks, with each of its secrets in the order of trying.

    Raises `SalesforceError` where it may not ask or no key opens a secret. The
    request itself is held to the Remote Sites too; this spares a login whose
    code could not be exchanged.
    """
    if site_for(application.domain.origin) is None:
        raise no_remote_site(application.domain.origin)
    current = Client(
        domain=parse_domain(application.salesforce_domain),
        client_id=application.client_id,
        client_secret=_opened(application.consumer_secret, "Consumer Secret"),
        redirect_uri=application.callback_url,
    )
    coming = _opened(application.next_consumer_secret, "Next Consumer Secret")
    if coming is None:
        return ((Secret.CURRENT, current),)
    return (
        (Secret.CURRENT, current),
        (Secret.NEXT, replace(current, client_secret=coming)),
    )


def left_of(until: float, most: float) -> float:
    """Return the seconds for another request: 0 where it is too late to begin one."""
    left = until - time.monotonic()
    return min(left, most) if left >= SHORTEST_CALL else 0


def ask(request: Request, until: float) -> Asked:
    """Ask the org, in bounded time; a failure is a result like another.

    The next secret is tried where the org refuses the current one. What is
    safe to repeat is sent again, after a pause, where the failure may pass.
    """
    began, sent = time.monotonic(), 0
    pauses = iter(PAUSES if request.is_repeatable else ())
    while True:
        tried = with_either_secret(
            request.clients,
            lambda client: request.send(
                client, max(SHORTEST_CALL, until - time.monotonic())
            ),
        )
        sent += tried.requests
        pause = next(pauses, None)
        if not _is_worth_repeating(tried.result, pause, until):
            seconds = time.monotonic() - began
            return Asked(tried.result, tried.client, tried.secret, sent, seconds)
        time.sleep(_longer(tried.result, pause or 0))


def with_either_secret(clients: Clients, send: Callable[[Client], T]) -> Tried[T]:
    """Send with the current secret, and with the next where the org refuses that."""
    tried = None
    for sent, (secret, client) in enumerate(clients, start=1):
        try:
            return Tried(send(client), client, secret, sent)
        except SalesforceError as error:
            tried = Tried[T](error, client, secret, sent)
            if not error.is_wrong_secret:
                break
    assert tried
    return tried


def _is_worth_repeating(
    result: TokenAnswer | SalesforceError, pause: float | None, until: float
) -> bool:
    if pause is None or isinstance(result, TokenAnswer) or not result.is_transient:
        return False
    left = until - time.monotonic()
    return _longer(result, pause) + SHORTEST_CALL <= left


def _longer(result: TokenAnswer | SalesforceError, pause: float) -> float:
    """Return the pause, or what the org asked for where that is longer."""
    asked = result.trip.retry_after if result.trip else None
    return max(pause, asked or 0)


def _refreshing(refresh_token: str) -> Send:
    return lambda client, seconds: refresh_access_token(
        client, refresh_token, deadline=seconds
    )


def _with_credentials(client: Client, seconds: float) -> TokenAnswer:
    return use_client_credentials(client, deadline=seconds)


def _asserting(username: str, audience: str, private_key: str) -> Send:
    return lambda client, seconds: present_assertion(
        client,
        username=username,
        audience=audience,
        private_key=private_key,
        deadline=seconds,
    )


def _opened(secret: Sealed | None, label: str) -> str | None:
    try:
        return secret.reveal() if secret else None
    except UnreadableSecret:
        raise SalesforceError(
            f"No key of this server opens the {label}.",
            state=State.MISCONFIGURED,
            code="<unreadable secret>",
            action="Type it again in the record, or give the server its key back.",
        ) from None


def _incomplete(label: str, action: str) -> SalesforceError:
    return SalesforceError(
        f"The record has no {label}, which its flow needs.",
        state=State.MISCONFIGURED,
        code="<incomplete record>",
        action=action,
    )
