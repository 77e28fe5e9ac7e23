"""The flows that bring a token, on requests-oauthlib.

Sources: Salesforce Help "OAuth 2.0 Web Server Flow", "OAuth 2.0 Refresh Token
Flow", "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration" and "OAuth
2.0 Client Credentials Flow", RFC 6749, RFC 7523 and RFC 7636. The library builds
the requests; this module holds it to Salesforce's ways: a scope in the
authorization URL alone, a proof key of the base64url alphabet, the secret in
the body, and none where an assertion speaks for the app.
"""

import base64
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import requests
from oauthlib.oauth2 import BackendApplicationClient, ServiceApplicationClient

from salesforce.answers import TokenAnswer, read_token_answer
from salesforce.errors import SalesforceError
from salesforce.key_pairs import KeyPairError, read_private_key
from salesforce.session import Client, Session, for_the_library
from salesforce.states import GrantType, State
from salesforce.transport import DEADLINE

VERIFIER_BYTES = 64
"""Makes 86 characters, all of base64url: Salesforce refuses the ~ of RFC 7636."""
STATE_BYTES = 32
ASSERTION_LIFE = 180
"""Seconds: what Salesforce Help advises, and as much as every org takes."""
CLOCKS_DIFFER = 60
"""Seconds between the two clocks, from where on they are named as the cause."""


@dataclass(frozen=True)
class AuthorizationRequest:
    """A login about to begin: where to send the browser, and what to remember."""

    url: str = field(repr=False)
    state: str = field(repr=False)
    code_verifier: str = field(repr=False)


def authorization_request(
    client: Client, *, scope: str | None, prompt_login: bool
) -> AuthorizationRequest:
    """Begin the web server flow: draw a state and a proof key, build the URL.

    Without a `scope` the org grants all scopes of the app.
    """
    state = secrets.token_urlsafe(STATE_BYTES)
    code_verifier = secrets.token_urlsafe(VERIFIER_BYTES)
    extra = {"prompt": "login"} if prompt_login else {}
    session = Session(client)
    session.redirect_uri = client.redirect_uri
    session.scope = scope.split() if scope else None
    endpoint = client.domain.endpoint("authorize")
    url, _ = session.authorization_url(
        for_the_library(endpoint),
        state=state,
        code_challenge=_s256(code_verifier),
        code_challenge_method="S256",
        **extra,
    )
    return AuthorizationRequest(
        endpoint + url.removeprefix(for_the_library(endpoint)), state, code_verifier
    )


def exchange_code(
    client: Client, code: str, code_verifier: str, *, deadline: float = DEADLINE
) -> TokenAnswer:
    """Exchange an authorization code for a token; raise `SalesforceError`.

    `deadline`, here and below, is in seconds from now: when it is over no request
    leaves any more, and no answer is waited for.
    """
    session = Session(client, secrets=(code, code_verifier), deadline=deadline)
    session.redirect_uri = client.redirect_uri
    return session.ask(
        lambda url: session.fetch_token(
            url,
            code=code,
            code_verifier=code_verifier,
            client_secret=client.client_secret,
            include_client_id=True,
        ),
        partial(
            read_token_answer,
            grant=GrantType.CODE,
            consumer_secret=client.client_secret,
        ),
    )


def refresh_access_token(
    client: Client, refresh_token: str, *, deadline: float = DEADLINE
) -> TokenAnswer:
    """Ask for a new access token without a page; raise `SalesforceError`."""
    session = Session(client, secrets=(refresh_token,), deadline=deadline)
    authentication: dict[str, Any] = {"client_id": client.client_id}
    if client.client_secret:
        authentication["client_secret"] = client.client_secret
    return session.ask(
        lambda url: session.refresh_token(
            url, refresh_token=refresh_token, **authentication
        ),
        partial(
            read_token_answer,
            grant=GrantType.REFRESH,
            consumer_secret=client.client_secret,
        ),
    )


def present_assertion(
    client: Client,
    *,
    username: str,
    audience: str,
    private_key: str,
    deadline: float = DEADLINE,
) -> TokenAnswer:
    """Get a token for a user by the JWT bearer flow; raise `SalesforceError`.

    `audience` is the login server that the org expects: https://login.salesforce.com,
    https://test.salesforce.com, or the org's or a site's own. The assertion is
    signed with `private_key` (PEM), whose certificate the app in the org has; no
    secret and no scope is sent. The answer has no refresh token.
    """
    try:
        key = read_private_key(private_key)
    except KeyPairError as problem:
        raise SalesforceError(
            str(problem),
            state=State.MISCONFIGURED,
            code="<unusable key>",
            action="Give this record another private key, or have a new pair made.",
        ) from None
    now = int(time.time())
    session = Session(
        client,
        deadline=deadline,
        library=ServiceApplicationClient(
            client.client_id,
            private_key=key,
            subject=username,
            issuer=client.client_id,
            audience=audience,
        ),
    )
    try:
        return session.ask(
            lambda url: session.fetch_token(
                url,
                # Without it the library sends the Client ID as Basic credentials.
                auth=_without_credentials,
                issued_at=now,
                expires_at=now + ASSERTION_LIFE,
            ),
            partial(read_token_answer, grant=GrantType.ASSERTION),
        )
    except SalesforceError as error:
        raise _of_the_clocks(error) or error from None


def use_client_credentials(
    client: Client, *, deadline: float = DEADLINE
) -> TokenAnswer:
    """Get a token for the app's Run As user; raise `SalesforceError`.

    The org has to be asked at its My Domain host. The answer has no refresh token.
    """
    if not client.client_secret:
        raise SalesforceError(
            "The client credentials flow takes a Consumer Secret, and none is stored.",
            state=State.MISCONFIGURED,
            code="<no Consumer Secret>",
            action="Type the Consumer Secret of the app into the record.",
        )
    session = Session(
        client, deadline=deadline, library=BackendApplicationClient(client.client_id)
    )
    return session.ask(
        lambda url: session.fetch_token(
            # As form fields: the library's default is Basic, with a secret that it
            # does not encode (RFC 6749, section 2.3.1).
            url,
            client_secret=client.client_secret,
            include_client_id=True,
        ),
        partial(
            read_token_answer,
            grant=GrantType.CREDENTIALS,
            consumer_secret=client.client_secret,
        ),
    )


def _without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _of_the_clocks(error: SalesforceError) -> SalesforceError | None:
    """Blame the clocks, where the org calls a fresh assertion expired and they differ.

    The org uses the words of another flow for it: "expired authorization code".
    """
    skew = error.trip.clock_skew if error.trip else None
    expired = "invalid_grant: expired authorization code" in str(error).lower()
    if not expired or skew is None or abs(skew) <= CLOCKS_DIFFER:
        return None
    minutes = round(abs(skew) / 60)
    apart = f"{minutes:,} minutes" if minutes > 1 else "1 minute"
    return SalesforceError(
        f"This server's clock is {apart} {'behind' if skew > 0 else 'ahead of'} the"
        " org's, which takes the signed assertion for expired.",
        state=State.MISCONFIGURED,
        action="Set this server's clock, best by NTP, and try again.",
        code=error.code,
        response=error.response,
        trip=error.trip,
    )


def _s256(code_verifier: str) -> str:
    digest = hashlib.sha256(code_verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
