"""The web server flow and the refresh token flow, on requests-oauthlib.

Sources: Salesforce Help "OAuth 2.0 Web Server Flow" and "OAuth 2.0 Refresh
Token Flow", RFC 6749 and RFC 7636. The library builds the requests; this
module holds it to Salesforce's ways: a scope in the authorization URL alone,
a proof key of the base64url alphabet, the secret in the body.
"""

import base64
import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests_oauthlib import OAuth2Session

from salesforce.answers import TokenAnswer, read_token_answer
from salesforce.errors import SalesforceError, address_refused, no_remote_site
from salesforce.hosts import SalesforceDomain
from salesforce.redaction import at_hand
from salesforce.states import State
from salesforce.transport import (
    ADAPTER,
    DEADLINE,
    AddressRefused,
    AnswerTooLarge,
    DeadlinePassed,
    HostRefused,
    NoAnswer,
)
from salesforce.trips import Trip

VERIFIER_BYTES = 64
"""Makes 86 characters, all of base64url: Salesforce refuses the ~ of RFC 7636."""
STATE_BYTES = 32


@dataclass(frozen=True)
class Client:
    """One app in one org, as the token endpoint has to see it."""

    domain: SalesforceDomain
    client_id: str
    client_secret: str | None
    redirect_uri: str

    @property
    def app(self) -> tuple[str, str]:
        """Which app it is, and where: what a grant belongs to."""
        return str(self.domain), self.client_id

    def __repr__(self) -> str:
        return f"<Client {self.client_id} at {self.domain}>"


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
    session = _Session(client)
    session.scope = scope.split() if scope else None
    endpoint = client.domain.endpoint("authorize")
    url, _ = session.authorization_url(
        _for_the_library(endpoint),
        state=state,
        code_challenge=_s256(code_verifier),
        code_challenge_method="S256",
        **extra,
    )
    return AuthorizationRequest(
        endpoint + url.removeprefix(_for_the_library(endpoint)), state, code_verifier
    )


def exchange_code(
    client: Client, code: str, code_verifier: str, *, deadline: float = DEADLINE
) -> TokenAnswer:
    """Exchange an authorization code for a token; raise `SalesforceError`.

    `deadline`, here and below, is in seconds from now: when it is over no request
    leaves any more, and no answer is waited for.
    """
    session = _Session(client, code, code_verifier, deadline=deadline)
    return session.ask(
        lambda url: session.fetch_token(
            url,
            code=code,
            code_verifier=code_verifier,
            client_secret=client.client_secret,
            include_client_id=True,
        )
    )


def refresh_access_token(
    client: Client, refresh_token: str, *, deadline: float = DEADLINE
) -> TokenAnswer:
    """Ask for a new access token without a page; raise `SalesforceError`."""
    session = _Session(client, refresh_token, deadline=deadline)
    authentication: dict[str, Any] = {"client_id": client.client_id}
    if client.client_secret:
        authentication["client_secret"] = client.client_secret
    return session.ask(
        lambda url: session.refresh_token(
            url, refresh_token=refresh_token, **authentication
        )
    )


class _Session(OAuth2Session):
    """An `OAuth2Session` for one request, under the outbound rules.

    The library insists on https. It is shown https addresses and `request`
    asks the real endpoint, which `parse_domain` allows to be http on a
    loopback host only; the switch OAUTHLIB_INSECURE_TRANSPORT would allow
    http everywhere.
    """

    def __init__(
        self, client: Client, *secrets_sent: str, deadline: float = DEADLINE
    ) -> None:
        super().__init__(client_id=client.client_id, redirect_uri=client.redirect_uri)
        self.mount("https://", ADAPTER)
        self.mount("http://", ADAPTER)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Proxies and the trust store are those of the environment; no proxy is
        # asked for this machine itself.
        self._proxies = (
            {"no_proxy": client.domain.host.strip("[]")}
            if client.domain.is_loopback
            else {}
        )
        self._until = time.monotonic() + deadline
        self._endpoint = client.domain.endpoint("token")
        self._secrets = {*secrets_sent, client.client_secret or ""} - {""}
        self._answer: TokenAnswer | None = None

    def ask(self, send: Callable[[str], object]) -> TokenAnswer:
        """Let the library `send` its request; return what came of it."""
        with at_hand(self._secrets):
            send(_for_the_library(self._endpoint))
        assert self._answer is not None
        return self._answer

    def request(  # type: ignore[override]
        self, method: str, url: str, **kwargs: Any
    ) -> requests.Response:
        """Send the library's request to the real endpoint, without a redirect.

        The answer is settled here, and the library is left one that it cannot
        trip over.
        """
        kwargs.pop("withhold_token", None)
        began = time.monotonic()
        kwargs |= {"proxies": self._proxies, "allow_redirects": False}
        kwargs["timeout"] = self._until - began
        try:
            response = requests.Session.request(self, method, self._endpoint, **kwargs)
        except NoAnswer as failure:
            seconds = time.monotonic() - began
            raise _no_answer(failure, self._endpoint, seconds) from None
        self._answer = read_token_answer(
            response.status_code,
            response.headers,
            response.content,
            self._secrets,
            seconds=time.monotonic() - began,
        )
        response._content = b'{"access_token": "read", "token_type": "Bearer"}'
        return response


def _no_answer(failure: NoAnswer, url: str, seconds: float) -> SalesforceError:
    if isinstance(failure.cause, HostRefused):
        return no_remote_site(url)
    if isinstance(failure.cause, AddressRefused):
        return address_refused(url, failure.cause.address)
    code, sentence = _what_failed(failure)
    return SalesforceError(
        f"{sentence} Try again later.",
        state=State.UNREACHABLE,
        code=code,
        answer_lost=failure.sent,
        trip=Trip(None, seconds),
    )


def _what_failed(failure: NoAnswer) -> tuple[str, str]:
    cause = failure.cause
    if isinstance(cause, AnswerTooLarge):
        return "<too large>", "The org's answer is too large to be a token."
    if failure.sent and isinstance(cause, DeadlinePassed | requests.Timeout):
        return "<timeout>", "The org did not answer in time."
    if failure.sent:
        return "<lost>", "The connection broke before the org's answer was there."
    if isinstance(cause, requests.exceptions.SSLError):
        return "<TLS>", "The host's TLS certificate could not be verified."
    if isinstance(cause, DeadlinePassed | requests.ConnectionError):
        return "<unreachable>", "The host could not be reached."
    where = "see REQUESTS_CA_BUNDLE and the proxy settings of this server."
    return "<not sent>", f"The request could not be sent: {where}"


def _for_the_library(url: str) -> str:
    return "https://" + url.partition("://")[2]


def _s256(code_verifier: str) -> str:
    digest = hashlib.sha256(code_verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
