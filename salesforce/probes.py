"""What a test of a connection asks, one thing each: host, token, API.

Nothing is raised: what is wrong is said, in the words of `SalesforceError`. Source:
REST API Developer Guide, "Versions" and "Limits".
"""

from dataclasses import dataclass

from salesforce.errors import SalesforceError
from salesforce.rest import (
    API_VERSION,
    REQUEST_LIMIT_EXCEEDED,
    VERSION,
    Answer,
    get,
    resource,
)
from salesforce.session import Client
from salesforce.states import State
from salesforce.transport import DEADLINE
from salesforce.trips import Trip

LONGEST_LABEL = 40
MOST_REQUESTS = 10**12
"""No org has as many; a column holds them."""


@dataclass(frozen=True)
class Probe:
    """What one request found out.

    `ok` is None where it cannot be told. `sentence` is for an admin, and `action`
    says what to do, where something is to be done. `code` is the org's or ours, as
    in `SalesforceError`, and None where nothing is wrong; `trip` is None where no
    request was made.
    """

    ok: bool | None
    sentence: str
    action: str | None = None
    code: str | None = None
    trip: Trip | None = None
    version: str | None = None
    """The newest of the host's API, as 65.0."""
    used: int | None = None
    maximum: int | None = None
    """API requests of the last 24 hours: how many there were, and may be."""


def probe_host(
    client: Client, instance_url: str | None = None, *, deadline: float = DEADLINE
) -> Probe:
    """Ask whether an org answers at its instance, or at the domain; no token is sent.

    `deadline`, here and below, is in seconds from now.
    """
    base = instance_url or client.domain.issuer
    try:
        return _versions(get(client, _data(base), None, deadline=deadline))
    except SalesforceError as error:
        if error.state is not State.EXPIRED:
            return _failed(error, ok=False)
        return Probe(
            ok=None,
            sentence="The host answers, and wants a token before it says more.",
            code=error.code,
            trip=error.trip,
        )


def probe_token(
    client: Client, access_token: str, *, deadline: float = DEADLINE
) -> Probe:
    """Ask whether the org takes an access token.

    A token without the scope for the UserInfo endpoint is refused, which says
    nothing of its life.
    """
    address = client.domain.endpoint("userinfo")
    try:
        return _owner(get(client, address, access_token, deadline=deadline))
    except SalesforceError as error:
        is_dead = error.state is State.EXPIRED
        return _failed(error, ok=False if is_dead else None)


def probe_limits(
    client: Client,
    instance_url: str,
    access_token: str,
    version: str | None = None,
    *,
    deadline: float = DEADLINE,
) -> Probe:
    """Use an access token for the REST API, and ask how much of that is left.

    `version` is of the API, as `probe_host` finds it; any other is not asked for.
    """
    is_one = version and VERSION.fullmatch(version)
    address = resource(instance_url, "limits", (is_one and version) or API_VERSION)
    try:
        return _limits(get(client, address, access_token, deadline=deadline))
    except SalesforceError as error:
        is_passing = error.is_transient and error.code.upper() != REQUEST_LIMIT_EXCEEDED
        return _failed(error, ok=None if is_passing else False)


def _data(base: str) -> str:
    return f"{base.rstrip('/')}/services/data"


def _versions(answer: Answer) -> Probe:
    listed = answer.value if isinstance(answer.value, list) else []
    found = [
        (float(version), version, one.get("label"))
        for one in listed
        if isinstance(one, dict)
        and isinstance(version := one.get("version"), str)
        and VERSION.fullmatch(version)
    ]
    if not found:
        raise answer.unusable("it lists no version of the API")
    _, version, label = max(found, key=lambda one: one[0])
    shown = answer.text(label, LONGEST_LABEL)
    return Probe(
        ok=True,
        sentence="The host answers as a Salesforce org does; its newest API version is"
        f" {version}{f' ({shown})' if shown else ''}.",
        trip=answer.trip,
        version=version,
    )


def _owner(answer: Answer) -> Probe:
    if answer.fields.keys().isdisjoint({"sub", "user_id"}):
        raise answer.unusable("it does not say whose token it is")
    return Probe(ok=True, sentence="The org takes the access token.", trip=answer.trip)


def _limits(answer: Answer) -> Probe:
    daily = answer.fields.get("DailyApiRequests")
    fields = daily if isinstance(daily, dict) else {}
    maximum, left = _count(fields.get("Max")), _count(fields.get("Remaining"))
    if maximum is None or left is None or left > maximum:
        raise answer.unusable("it does not say how many API requests are left")
    used = maximum - left
    return Probe(
        ok=True,
        sentence=f"The REST API answers; {used:,} of the {maximum:,} requests that it"
        " takes in 24 hours are used.",
        trip=answer.trip,
        used=used,
        maximum=maximum,
    )


def _count(value: object) -> int | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if 0 <= value <= MOST_REQUESTS else None


def _failed(error: SalesforceError, *, ok: bool | None) -> Probe:
    return Probe(ok, str(error), error.action, error.code, error.trip)
