"""Ask an org's resources with an access token, and read the JSON that they answer.

Sources: REST API Developer Guide "Status Codes and Error Responses", Salesforce
Help "Identity URLs", "UserInfo Endpoint" and article 005226515, and RFC 6750. The
token goes in a header, never in an address, which proxies log.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from salesforce.answers import (
    BAD_REQUEST,
    LONGEST_CODE,
    MULTIPLE_CHOICES,
    OK,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    VISIBLE,
    Unusable,
    json_of,
    outage,
    unusable,
)
from salesforce.errors import (
    CHECK_DOMAIN,
    LONGEST_DESCRIPTION,
    NEXT,
    WAIT,
    SalesforceError,
)
from salesforce.hosts import DomainError, parse_https_url
from salesforce.ids import long_id
from salesforce.redaction import printable, redact, redact_answer
from salesforce.session import Client, Session
from salesforce.states import State
from salesforce.transport import DEADLINE
from salesforce.trips import Trip

API_VERSION = "65.0"
"""Winter '26. Orgs keep a version for three years at least, and one that is not the
newest is there in those too that a release reaches last."""
VERSION = re.compile(r"[0-9]{1,3}\.0")
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
WORD = re.compile(r"[A-Za-z]+(_[A-Za-z]+)+")
"""How the identity endpoints say what is wrong: Bad_OAuth_Token and the like."""
ANOTHER = "Get a new access token, and try again."


@dataclass(frozen=True)
class Answer:
    """The JSON of a successful answer, of which nothing else is known."""

    value: object = field(repr=False)
    trip: Trip
    _body: str = field(repr=False)
    _secrets: Collection[str] = field(repr=False)

    @property
    def fields(self) -> dict[str, object]:
        """The fields, where it is an object, and no error; else `SalesforceError`."""
        if not isinstance(self.value, dict) or "error" in self.value:
            raise self.unusable("it is not what was asked for")
        return self.value

    def text(self, value: object, longest: int) -> str | None:
        """Return a value on one line and fit to be shown; None where it is no text."""
        if not isinstance(value, str):
            return None
        shown = printable(redact(value, self._secrets))
        return " ".join(shown.split())[:longest].rstrip() or None

    def record_id(self, value: object) -> str | None:
        """Return an id in its long form, and None where there is none."""
        shown = self.text(value, LONGEST_CODE)
        return long_id(shown) if shown and ID.fullmatch(shown) else None

    def unusable(self, problem: str) -> SalesforceError:
        return unusable(problem, redact_answer(self._body, self._secrets), self.trip)


def get(
    client: Client,
    address: str,
    access_token: str | None,
    *,
    deadline: float = DEADLINE,
) -> Answer:
    """Ask for the JSON at an address; raise `SalesforceError`.

    `deadline` is in seconds from now. No token is sent where there is none.
    """
    if access_token is not None and not VISIBLE.fullmatch(access_token):
        raise SalesforceError(
            "The access token has characters in it that cannot be sent.",
            state=State.EXPIRED,
            code="<unusable token>",
            action=ANOTHER,
        )
    try:
        parse_https_url(address)
    except DomainError as problem:
        raise SalesforceError(
            f"The org's address cannot be called. {problem}",
            state=State.MISCONFIGURED,
            code="<unusable address>",
            action=CHECK_DOMAIN,
        ) from None
    headers = {"Accept": "application/json"}
    if access_token is not None:
        headers["Authorization"] = f"Bearer {access_token}"
    session = Session(
        client,
        address=address,
        secrets=(access_token or "",),
        deadline=max(0, deadline),
    )
    return session.ask(lambda url: session.get(url, headers=headers), read_json)


def resource(instance_url: str, name: str, version: str = API_VERSION) -> str:
    """Return the address of a resource of the REST API, which may have a query."""
    return f"{instance_url.rstrip('/')}/services/data/v{version}/{name}"


def read_json(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
    *,
    seconds: float,
) -> Answer:
    """Read an answer; raise `SalesforceError` where it is none, or not JSON."""
    trip = Trip.of(status, headers, seconds)
    text = body.decode("utf-8", "replace")
    if status != OK:
        raise _refusal(status, text, secrets, trip)
    try:
        return Answer(json_of(body), trip, text, secrets)
    except Unusable as problem:
        raise unusable(str(problem), redact_answer(text, secrets), trip) from None


class _Meaning(NamedTuple):
    code: str
    words: str
    """Lower case words that the message has to contain; "" for any."""
    state: State | None
    sentence: str
    action: str


_DEAD = (
    State.EXPIRED,
    "The org does not take the access token: it has ended, or is another org's.",
    ANOTHER,
)
_NO_API = (
    State.BLOCKED,
    "The token does not open the REST API.",
    "Add the scope ‘api’ to the app, and log in again as a user with ‘API Enabled’.",
)
_NO_SCOPE = (
    State.BLOCKED,
    "The token's scopes do not open this.",
    "Add the scope ‘id’ or ‘openid’ to the app, and log in again.",
)
_API_IS_OFF = (
    State.BLOCKED,
    "The org has its API switched off, or none in its edition.",
    "Ask an admin of the org, or Salesforce, about its API access.",
)
REQUEST_LIMIT_EXCEEDED = "REQUEST_LIMIT_EXCEEDED"
MEANINGS = (
    _Meaning("INVALID_SESSION_ID", "use with the rest api", *_NO_API),
    _Meaning("INVALID_SESSION_ID", "", *_DEAD),
    _Meaning("BAD_OAUTH_TOKEN", "", *_DEAD),
    _Meaning("MISSING_OAUTH_TOKEN", "", *_DEAD),
    _Meaning("WRONG_ORG", "", *_DEAD),
    _Meaning("INVALID_TOKEN", "", *_DEAD),
    _Meaning("INSUFFICIENT_SCOPE", "", *_NO_SCOPE),
    _Meaning("INSUFFICIENT_ACCESS", "", *_NO_API),
    _Meaning("API_DISABLED_FOR_ORG", "", *_API_IS_OFF),
    _Meaning("API_CURRENTLY_DISABLED", "", *_API_IS_OFF),
    _Meaning(
        REQUEST_LIMIT_EXCEEDED,
        "",
        State.UNREACHABLE,
        "The org has used up its API requests of the last 24 hours.",
        "Wait until the org takes requests again, or look there for what uses so many.",
    ),
    _Meaning("SERVER_UNAVAILABLE", "", State.UNREACHABLE, "The org is too busy.", WAIT),
)
REFUSED = "The org refused."


def _refusal(
    status: int, text: str, secrets: Collection[str], trip: Trip
) -> SalesforceError:
    response = redact_answer(text, secrets)
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERROR:
        return outage(status, response, trip)
    said = _said(text) if status >= BAD_REQUEST else None
    if said is None:
        return _of_no_org(status, response, trip)
    code, message = (printable(redact(part, secrets)) for part in said)
    code, message = code[:LONGEST_CODE], message[:LONGEST_DESCRIPTION]
    state, sentence, action = _meaning(code.upper(), message.lower())
    words = f"{code}: {message}" if message else code
    return SalesforceError(
        f"{sentence} (The org said: {words})",
        state=state,
        action=action,
        code=code,
        response=response,
        trip=trip,
    )


def _meaning(code: str, message: str) -> tuple[State | None, str, str]:
    for meaning in MEANINGS:
        if meaning.code == code and meaning.words in message:
            return meaning.state, meaning.sentence, meaning.action
    return State.BLOCKED, REFUSED, NEXT[State.BLOCKED]


def _of_no_org(status: int, response: str, trip: Trip) -> SalesforceError:
    """Read a status alone. A 401 is for the token, whoever says it (RFC 6750)."""
    state, sentence, action = _DEAD
    if MULTIPLE_CHOICES <= status < BAD_REQUEST:
        state, action = State.MISCONFIGURED, CHECK_DOMAIN
        sentence = "The host sends requests elsewhere, where a token must not follow."
    elif status != UNAUTHORIZED:
        state, action = State.MISCONFIGURED, CHECK_DOMAIN
        sentence = "This host does not answer as a Salesforce org does."
    return SalesforceError(
        f"{sentence.removesuffix('.')} (HTTP {status}).",
        state=state,
        action=action,
        code=f"<HTTP {status}>",
        response=response,
        trip=trip,
    )


def _said(text: str) -> tuple[str, str] | None:
    """Find the error's code and message, in any of the ways in which orgs tell it."""
    if len(text) <= LONGEST_CODE and WORD.fullmatch(text.strip()):
        return text.strip(), ""
    try:
        value = json_of(text.encode("utf-8", "replace"))
    except Unusable:
        return None
    first = value[0] if isinstance(value, list) and value else value
    if not isinstance(first, dict):
        return None
    for code, message in (("errorCode", "message"), ("error", "error_description")):
        if isinstance(first.get(code), str) and first[code]:
            words = first.get(message)
            return first[code], words if isinstance(words, str) else ""
    return None
