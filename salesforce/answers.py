"""Read what an org answered: a usable token, or a reason why not; and the like.

requests-oauthlib ignores the status and the types of the fields, so both are
settled here before the library sees anything. Nothing that cannot be used is
accepted, and nothing is half accepted.
"""

import base64
import hmac
import json
import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Never, TypeVar
from urllib.parse import urlsplit

from salesforce.errors import CHECK_DOMAIN, LASTING, WAIT, SalesforceError, decode
from salesforce.hosts import DomainError, parse_https_url
from salesforce.ids import long_id
from salesforce.redaction import redact, redact_answer
from salesforce.states import GrantType, Signature, State
from salesforce.trips import Trip

LONGEST_TOKEN = 16_384
LONGEST_URL = 255
LONGEST_SCOPE = 4_096
LONGEST_CODE = 80
UNMISTAKABLE = 16
"""Characters of a secret that stands in no scope or address by chance."""
LONGEST_LIFETIME = 10 * 365 * 24 * 3600
"""Seconds; RFC 6749 sets no bound, an honest server stays far below this one."""

OK = 200
MULTIPLE_CHOICES = 300
BAD_REQUEST = 400
UNAUTHORIZED = 401
FORBIDDEN = 403
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
SERVICE_UNAVAILABLE = 503

VISIBLE = re.compile(r"[\x21-\x7e]+")
SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*")
"""RFC 6749, section 3.3."""
DIGITS = re.compile(r"[0-9]{1,15}")
IDENTITY = re.compile(r"/([A-Za-z0-9_-]{1,64})/([A-Za-z0-9_-]{1,64})/?\Z")
"""The end of an identity URL: organization, then user."""
T = TypeVar("T")
MILLISECONDS = 1_000
FIRST_MILLISECOND = 946_684_800_000
"""The year 2000: a smaller number counts seconds, as one old help page says."""


@dataclass(frozen=True)
class TokenAnswer:
    """A token endpoint's answer, every field checked.

    Absent fields are None. `issued_at` comes from milliseconds since 1970 and
    `expires_in` from seconds. `response` is the body, fit to be shown. `trip` is
    the request that brought it; how it came is no part of what it says.
    """

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    instance_url: str | None
    identity_url: str | None
    issued_at: datetime | None
    scope: str | None
    expires_in: timedelta | None
    response: str
    signature: Signature = Signature.NOT_SENT
    trip: Trip | None = field(default=None, compare=False)

    @property
    def organization_and_user(self) -> tuple[str, str] | None:
        """The ids that the identity URL ends in (Salesforce Help, "Identity URLs").

        They are in their long form, in whichever the org wrote them.
        """
        if self.identity_url is None:
            return None
        found = IDENTITY.search(urlsplit(self.identity_url).path[-132:])
        return (long_id(found[1]), long_id(found[2])) if found else None


class _Unusable(ValueError):
    """A field of the answer cannot be used; the message is for an admin."""


def read_token_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
    *,
    seconds: float = 0.0,
    grant: GrantType | None = None,
    consumer_secret: str | None = None,
) -> TokenAnswer:
    """Return the answer's fields, or raise `SalesforceError`.

    `secrets` are the values that the request carried; they are kept out of
    everything that is stored or shown. `seconds` is how long the request took,
    `grant` what it asked with. `consumer_secret` is the one that was sent, of two
    that an app may have: with it the org signs the answer.
    """
    trip = Trip.of(status, headers, seconds)
    response = _accepted(status, body, secrets, trip, grant)
    try:
        fields = _fields(body)
        if "error" in fields:
            raise _Unusable("it has a token's status, and an error in it")
        return _token(fields, response, secrets, consumer_secret, trip)
    except _Unusable as problem:
        rescued = _rescued_refresh_token(body)
        raise SalesforceError(
            f"The org's answer cannot be used: {problem}."
            " The access token is as it was.",
            state=State.UNREACHABLE,
            code="<unusable answer>",
            action=LASTING,
            response=response,
            answer_lost=rescued is None,
            refresh_token=rescued,
            trip=trip,
        ) from None


@dataclass(frozen=True)
class Introspection:
    """What the org says of a token: `remaining` is None where it does not say."""

    active: bool
    remaining: timedelta | None
    trip: Trip


def read_introspection(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
    *,
    seconds: float,
) -> Introspection:
    """Read the answer of RFC 7662, of which `active` alone is sure to be there.

    Raises `SalesforceError`.
    """
    trip = Trip.of(status, headers, seconds)
    response = _accepted(status, body, secrets, trip)
    try:
        fields = _fields(body)
        active = fields.get("active")
        if not isinstance(active, bool):
            raise _Unusable("it does not say whether the token is active")
    except _Unusable as problem:
        raise _unusable(str(problem), response, trip) from None
    return Introspection(active, _remaining(fields, trip) if active else None, trip)


def _remaining(fields: dict[str, object], trip: Trip) -> timedelta | None:
    """Return how long the token has, by the org's clock where that is known."""
    try:
        end = _number(fields, "exp", int)
    except _Unusable:
        return None
    if end is None:
        return None
    left = end - time.time() - (trip.clock_skew or 0)
    return timedelta(seconds=int(left)) if 0 <= left <= LONGEST_LIFETIME else None


def read_revocation(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
    *,
    seconds: float,
) -> Trip:
    """Return if the token is revoked, else raise `SalesforceError`.

    The status alone tells (RFC 7009, section 2.2); but a page, or an error in it,
    is not from who should have answered.
    """
    trip = Trip.of(status, headers, seconds)
    response = _accepted(status, body, secrets, trip)
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("<") or _refusal(text, secrets, response, trip):
        raise _unusable("it is no answer to a revocation", response, trip)
    return trip


def read_userinfo(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Collection[str],
    *,
    seconds: float,
) -> bool | None:
    """Tell whether the org took the access token, or None where that is not said."""
    if status == OK:
        try:
            return None if "error" in _fields(body) else True
        except _Unusable:  # the page of somebody in between
            return None
    dead = status == FORBIDDEN and b"Bad_OAuth_Token" in body
    return False if status == UNAUTHORIZED or dead else None


def _accepted(
    status: int,
    body: bytes,
    secrets: Collection[str],
    trip: Trip,
    grant: GrantType | None = None,
) -> str:
    """Return a successful answer's body, fit to be shown; raise `SalesforceError`."""
    text = body.decode("utf-8", "replace")
    response = redact_answer(text, secrets)
    if status != OK:
        _refuse_status(status, text, secrets, response, trip, grant)
    return response


def _unusable(problem: str, response: str, trip: Trip) -> SalesforceError:
    return SalesforceError(
        f"The org's answer cannot be used: {problem}.",
        state=State.UNREACHABLE,
        code="<unusable answer>",
        action=LASTING,
        response=response,
        answer_lost=True,
        trip=trip,
    )


def _refuse_status(
    status: int,
    text: str,
    secrets: Collection[str],
    response: str,
    trip: Trip,
    grant: GrantType | None,
) -> Never:
    if status == TOO_MANY_REQUESTS or status >= SERVER_ERROR:
        raise _outage(status, response, trip)
    if status >= BAD_REQUEST and (
        refusal := _refusal(text, secrets, response, trip, grant)
    ):
        if refusal.state is State.LOGIN_REQUIRED and status != BAD_REQUEST:
            # A grant is dead when the token endpoint says so, with a 400 (RFC
            # 6749, section 5.2), and not when a proxy on the way says no.
            refusal.state, refusal.action = State.UNREACHABLE, WAIT
        raise refusal
    why = (
        f"The host sends token requests elsewhere (HTTP {status}), where secrets must"
        " not follow. Correct the Salesforce Domain."
        if MULTIPLE_CHOICES <= status < BAD_REQUEST
        else f"This host does not answer as a Salesforce org does (HTTP {status})."
        " Check the Salesforce Domain."
    )
    raise SalesforceError(
        why,
        state=State.MISCONFIGURED,
        action=CHECK_DOMAIN,
        code=f"<HTTP {status}>",
        response=response,
        trip=trip,
    )


def _outage(status: int, response: str, trip: Trip) -> SalesforceError:
    wait = trip.retry_after
    later = "later" if wait is None else f"in {wait:,} seconds"
    why = "asks for fewer requests" if status == TOO_MANY_REQUESTS else "is not well"
    return SalesforceError(
        f"The org {why} (HTTP {status}). Try again {later}.",
        state=State.UNREACHABLE,
        code=f"<HTTP {status}>",
        response=response,
        # These two are said before anything is done.
        answer_lost=status not in (TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE),
        trip=trip,
    )


def _refusal(
    text: str,
    secrets: Collection[str],
    response: str,
    trip: Trip,
    grant: GrantType | None = None,
) -> SalesforceError | None:
    """Decode the error in the body, if there is one as RFC 6749 has it."""
    try:
        fields = _fields(text.encode("utf-8", "replace"))
    except _Unusable:
        return None
    error, description = fields.get("error"), fields.get("error_description")
    if not isinstance(error, str) or not error:
        return None
    return decode(
        redact(error, secrets)[:LONGEST_CODE],
        redact(description, secrets) if isinstance(description, str) else "",
        grant=grant,
        response=response,
        trip=trip,
    )


def _fields(body: bytes) -> dict[str, object]:
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _Unusable("it is not JSON") from None
    if not isinstance(fields, dict):
        raise _Unusable("it is not a JSON object")
    return fields


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not JSON")


def _token(
    fields: dict[str, object],
    response: str,
    secrets: Collection[str],
    consumer_secret: str | None,
    trip: Trip,
) -> TokenAnswer:
    token_type = _text(fields, "token_type", VISIBLE, LONGEST_CODE) or "Bearer"
    if token_type.lower() != "bearer":
        raise _Unusable("its token_type is not Bearer")
    access_token = _text(fields, "access_token", VISIBLE, LONGEST_TOKEN)
    if access_token is None:
        raise _Unusable("there is no access_token in it")
    refresh_token = _text(fields, "refresh_token", VISIBLE, LONGEST_TOKEN)
    instance_url = _url(fields, "instance_url")
    identity_url = _url(fields, "id")
    scope = _text(fields, "scope", SCOPE, LONGEST_SCOPE)
    hidden = {*secrets, access_token, refresh_token or ""}
    hidden = {secret for secret in hidden if len(secret) >= UNMISTAKABLE}
    for shown in (instance_url, identity_url, scope):
        if shown and redact(shown, hidden) != shown:
            raise _Unusable("there is a secret in a field that is shown")
    return TokenAnswer(
        access_token=access_token,
        refresh_token=refresh_token,
        instance_url=instance_url and instance_url.rstrip("/"),
        identity_url=identity_url,
        issued_at=_number(fields, "issued_at", _moment),
        scope=scope,
        expires_in=_number(fields, "expires_in", _lifetime),
        response=response,
        signature=_signature(fields, consumer_secret),
        trip=trip,
    )


def _signature(fields: dict[str, object], consumer_secret: str | None) -> Signature:
    """Check what signs `id` and `issued_at`, as they are written in the answer.

    These two are known to be of use. Base64 is compared as text, since several
    texts stand for the same bytes; the = at its end may be left out.
    """
    sent = fields.get("signature")
    if sent is None or sent == "" or not consumer_secret:
        return Signature.NOT_SENT
    identity, issued_at = fields.get("id"), fields.get("issued_at")
    if not (isinstance(sent, str) and identity and issued_at):
        return Signature.FAILED
    message = f"{identity}{issued_at}".encode()
    digest = hmac.digest(consumer_secret.encode(), message, "sha256")
    right = base64.b64encode(digest).rstrip(b"=")
    given = sent.encode("utf-8", "replace").removesuffix(b"=")
    is_right = hmac.compare_digest(given, right)
    return Signature.VERIFIED if is_right else Signature.FAILED


def _rescued_refresh_token(body: bytes) -> str | None:
    """Return the refresh token of an answer that cannot be used otherwise."""
    try:
        return _text(_fields(body), "refresh_token", VISIBLE, LONGEST_TOKEN)
    except _Unusable:
        return None


def _text(
    fields: dict[str, object], name: str, pattern: re.Pattern[str], longest: int
) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise _Unusable(f"its {name} is not what such a field holds")
    if len(value) > longest:
        raise _Unusable(f"its {name} is longer than {longest} characters")
    return value


def _url(fields: dict[str, object], name: str) -> str | None:
    value = _text(fields, name, VISIBLE, LONGEST_URL)
    if value is None:
        return None
    try:
        return parse_https_url(value)
    except DomainError:
        raise _Unusable(f"its {name} is not an https address") from None


def _number(
    fields: dict[str, object], name: str, convert: Callable[[int], T]
) -> T | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int | str) else ""
    if isinstance(value, bool) or not DIGITS.fullmatch(text):
        raise _Unusable(f"its {name} is not a number of the expected kind")
    try:
        return convert(int(text))
    except (OverflowError, ValueError, OSError):
        raise _Unusable(f"its {name} is out of range") from None


def _moment(number: int) -> datetime:
    if number < FIRST_MILLISECOND:
        number *= MILLISECONDS
    moment = datetime.fromtimestamp(number / MILLISECONDS, UTC)
    if number < FIRST_MILLISECOND:
        raise ValueError("before Salesforce")
    return moment


def _lifetime(seconds: int) -> timedelta:
    if seconds > LONGEST_LIFETIME:
        raise ValueError("no lifetime")
    return timedelta(seconds=seconds)
