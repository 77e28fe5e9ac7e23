"""One request to one org: the library's session, held to the outbound rules."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, NamedTuple, Protocol, TypeVar

import oauthlib.oauth2
import requests
from requests_oauthlib import OAuth2Session

from salesforce.errors import (
    LASTING,
    TIMEOUT,
    WAIT,
    SalesforceError,
    address_refused,
    no_remote_site,
)
from salesforce.hosts import SalesforceDomain, origin_of
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

CERTIFICATE = (
    "Check the Salesforce Domain, the host's certificate and the authorities that this"
    " server trusts."
)
SETTINGS = "Correct REQUESTS_CA_BUNDLE or the proxy settings of this server."
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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


class Reader(Protocol[T_co]):
    """Makes something of an answer, or raises `SalesforceError`.

    `secrets` are what the request carried, `seconds` how long it took.
    """

    def __call__(
        self,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Collection[str],
        *,
        seconds: float,
    ) -> T_co: ...


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float


class Session(OAuth2Session):
    """An `OAuth2Session` for one request to one address, under the outbound rules.

    The address is an OAuth `endpoint` of the client's domain, or any other.

    The library insists on https. It is shown https addresses and `request`
    asks the real endpoint, which `parse_domain` allows to be http on a
    loopback host only; the switch OAUTHLIB_INSECURE_TRANSPORT would allow
    http everywhere. The deadline, in seconds, begins here. `library` is what
    builds the form, where it is not that of the web server flow.
    """

    def __init__(
        self,
        client: Client,
        endpoint: str = "token",
        *,
        address: str | None = None,
        secrets: Collection[str] = (),
        deadline: float = DEADLINE,
        library: oauthlib.oauth2.Client | None = None,
    ) -> None:
        super().__init__(client_id=client.client_id, client=library)
        self._until = time.monotonic() + deadline
        self.mount("https://", ADAPTER)
        self.mount("http://", ADAPTER)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        # Proxies and the trust store are those of the environment; no proxy is
        # asked for this machine itself.
        self._endpoint = address or client.domain.endpoint(endpoint)
        origin = origin_of(self._endpoint)
        self._proxies = (
            {"no_proxy": origin.host.strip("[]")}
            if origin and origin.is_loopback
            else {}
        )
        self._secrets = {*secrets, client.client_secret or ""} - {""}
        self._answer: _Answer | None = None

    def ask(self, send: Callable[[str], object], read: Reader[T]) -> T:
        """Let the library `send` its request to the URL it gets; `read` the answer.

        Raises `SalesforceError` where there is none.
        """
        with at_hand(self._secrets):
            send(for_the_library(self._endpoint))
            assert self._answer is not None
            status, headers, body, seconds = self._answer
            return read(status, headers, body, self._secrets, seconds=seconds)

    def request(  # type: ignore[override]
        self, method: str, url: str, **kwargs: Any
    ) -> requests.Response:
        """Send the library's request to the real endpoint, without a redirect.

        The answer is kept for `ask`, and the library is left one that it cannot
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
        self._answer = _Answer(
            response.status_code,
            response.headers,
            response.content,
            time.monotonic() - began,
        )
        response._content = b'{"access_token": "read", "token_type": "Bearer"}'
        return response


def for_the_library(url: str) -> str:
    """Return an address that the library accepts in place of `url`."""
    return "https://" + url.partition("://")[2]


def _no_answer(failure: NoAnswer, url: str, seconds: float) -> SalesforceError:
    if isinstance(failure.cause, HostRefused):
        return no_remote_site(url)
    if isinstance(failure.cause, AddressRefused):
        return address_refused(url, failure.cause.address)
    code, sentence, action = _what_failed(failure)
    return SalesforceError(
        f"{sentence} Try again later.",
        state=State.UNREACHABLE,
        code=code,
        action=action,
        answer_lost=failure.sent,
        trip=Trip(None, seconds),
    )


def _what_failed(failure: NoAnswer) -> tuple[str, str, str]:
    """Return our code, what is wrong, and what to do."""
    cause = failure.cause
    if isinstance(cause, AnswerTooLarge):
        return "<too large>", "The org's answer is too large to be read.", LASTING
    if failure.sent and isinstance(cause, DeadlinePassed | requests.Timeout):
        return TIMEOUT, "The org did not answer in time.", WAIT
    if failure.sent:
        return "<lost>", "The connection broke before the org's answer was there.", WAIT
    if isinstance(cause, requests.exceptions.SSLError):
        return "<TLS>", "The host's TLS certificate could not be verified.", CERTIFICATE
    if isinstance(cause, DeadlinePassed | requests.ConnectionError):
        return "<unreachable>", "The host could not be reached.", LASTING
    where = "see REQUESTS_CA_BUNDLE and the proxy settings of this server."
    return "<not sent>", f"The request could not be sent: {where}", SETTINGS
