"""Whose token it is: the user and the organization, as the org tells it.

Sources: Salesforce Help "UserInfo Endpoint" and "Identity URLs", and the object
reference's "Organization".
"""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

from salesforce.errors import SalesforceError
from salesforce.redaction import redact
from salesforce.rest import Answer, get, resource
from salesforce.session import Client
from salesforce.states import State
from salesforce.transport import DEADLINE

LONGEST_NAME = 255
LONGEST_TYPE = 64
OPENS_IDENTITY = frozenset(
    {"id", "openid", "profile", "email", "address", "phone", "full"}
)
OPENS_API = frozenset({"api", "full"})
ORGANIZATION = "query?q=SELECT+Name+FROM+Organization+LIMIT+1"


@dataclass(frozen=True)
class Identity:
    """Who an access token acts for; what the org does not tell is None.

    The ids are in their long form. All of it is the org's word: it is cut and fit
    to be shown, and true only as far as the org is.
    """

    organization_id: str | None = None
    user_id: str | None = None
    username: str | None = None
    display_name: str | None = None
    user_type: str | None = None
    organization_name: str | None = None

    def without(self, secrets: Collection[str]) -> "Identity":
        """Return it without secrets that the org knew; an id that is one is none."""
        return Identity(
            _id_without(secrets, self.organization_id),
            _id_without(secrets, self.user_id),
            _name_without(secrets, self.username, LONGEST_NAME),
            _name_without(secrets, self.display_name, LONGEST_NAME),
            _name_without(secrets, self.user_type, LONGEST_TYPE),
            _name_without(secrets, self.organization_name, LONGEST_NAME),
        )


def _id_without(secrets: Collection[str], known: str | None) -> str | None:
    return known if known and redact(known, secrets) == known else None


def _name_without(
    secrets: Collection[str], name: str | None, longest: int
) -> str | None:
    return redact(name, secrets)[:longest] if name else None


def read_identity(
    client: Client,
    access_token: str,
    *,
    identity_url: str | None,
    instance_url: str | None,
    scopes: str | None,
    deadline: float = DEADLINE,
) -> Identity:
    """Ask the org whose token it is; raise `SalesforceError` where it tells nothing.

    `scopes` are those that it granted, with spaces between them: what they do not
    open is not asked for. None stands for any. The user is told by the UserInfo
    endpoint, else by the identity URL; the organization's name by the REST API,
    and a failure of that alone leaves it out. `deadline`, in seconds from now, is
    for all of it. Whether this is who was expected is for the caller to compare.
    """
    until = time.monotonic() + deadline
    who, problem = Identity(), None
    if _opened(scopes, OPENS_IDENTITY):
        who = _ask_who(client, access_token, identity_url, until)
    if instance_url and _opened(scopes, OPENS_API):
        try:
            name = _ask_name(client, access_token, instance_url, until)
            who = replace(who, organization_name=name)
        except SalesforceError as error:
            problem = error
    if who == Identity():
        raise problem or _no_scope()
    return who


def _opened(scopes: str | None, by: frozenset[str]) -> bool:
    return scopes is None or not by.isdisjoint(scopes.split())


def _ask_who(
    client: Client, access_token: str, identity_url: str | None, until: float
) -> Identity:
    try:
        address = client.domain.endpoint("userinfo")
        return who_of(_ask(client, address, access_token, until))
    except SalesforceError as error:
        if identity_url is None:
            raise
        try:
            return who_of(_ask(client, identity_url, access_token, until))
        except SalesforceError:
            raise error from None


def _ask_name(
    client: Client, access_token: str, instance_url: str, until: float
) -> str:
    address = resource(instance_url, ORGANIZATION)
    answer = _ask(client, address, access_token, until)
    records = answer.fields.get("records")
    first = records[0] if isinstance(records, list) and records else None
    name = first.get("Name") if isinstance(first, dict) else None
    shown = answer.text(name, LONGEST_NAME)
    if shown is None:
        raise answer.unusable("it does not name the organization")
    return shown


def who_of(answer: Answer) -> Identity:
    """Read the answer of either endpoint: the two have other names for the same."""
    fields = answer.fields
    who = Identity(
        organization_id=answer.record_id(fields.get("organization_id")),
        user_id=answer.record_id(fields.get("user_id")),
        username=answer.text(
            fields.get("preferred_username", fields.get("username")), LONGEST_NAME
        ),
        display_name=answer.text(
            fields.get("name", fields.get("display_name")), LONGEST_NAME
        ),
        user_type=answer.text(fields.get("user_type"), LONGEST_TYPE),
    )
    if not (who.user_id or who.username):
        raise answer.unusable("it does not say whose token it is")
    return who


def _ask(client: Client, address: str, access_token: str, until: float) -> Answer:
    return get(client, address, access_token, deadline=until - time.monotonic())


def _no_scope() -> SalesforceError:
    return SalesforceError(
        "The token's scopes do not let the org tell whose it is.",
        state=State.BLOCKED,
        code="<no scope>",
        action="Add the scope ‘id’ or ‘openid’ to the app, and log in again.",
    )
