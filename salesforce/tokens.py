"""What can be done about a token that is there: end it, ask about it, try it.

Sources: Salesforce Help "Revoke OAuth Tokens", "OpenID Connect Token
Introspection Endpoint" and "UserInfo Endpoint", RFC 7009 and RFC 7662. The
token goes in the body or in a header, never in an address, which proxies log.
"""

from dataclasses import dataclass
from typing import Literal

from salesforce.answers import (
    BAD_REQUEST,
    VISIBLE,
    Introspection,
    read_introspection,
    read_revocation,
    read_userinfo,
)
from salesforce.errors import SalesforceError
from salesforce.session import Client, Session
from salesforce.transport import DEADLINE
from salesforce.trips import Trip

JSON = {"Accept": "application/json"}


@dataclass(frozen=True)
class Revocation:
    """What came of it; whatever it was, the token is deleted here afterwards.

    `gone` is sure: the org does not take the token any more. `already` tells
    that it did not before. `sentence` is for an admin. `code` is the org's or
    ours, as in `SalesforceError`, and None where nothing is wrong.
    """

    gone: bool
    already: bool
    sentence: str
    code: str | None
    trip: Trip | None


def revoke(client: Client, token: str, *, deadline: float = DEADLINE) -> Revocation:
    """Have the org end a token, and with a refresh token its access tokens.

    Raises nothing. `deadline`, here and below, is in seconds from now.
    """
    session = Session(client, "revoke", secrets=(token,), deadline=deadline)
    try:
        trip = session.ask(
            lambda url: session.post(url, data={"token": token}, headers=JSON),
            read_revocation,
        )
    except SalesforceError as error:
        status = error.trip.status if error.trip else None
        if (status, error.code.lower()) == (BAD_REQUEST, "invalid_token"):
            return Revocation(
                gone=True,
                already=True,
                sentence="The org did not know the token any more.",
                code=error.code,
                trip=error.trip,
            )
        return Revocation(
            gone=False,
            already=False,
            sentence="The token may still work, until it is revoked in the org under"
            f" Connected Apps OAuth Usage. {error}",
            code=error.code,
            trip=error.trip,
        )
    return Revocation(
        gone=True,
        already=False,
        sentence="The org revoked the token.",
        code=None,
        trip=trip,
    )


def introspect(
    client: Client,
    token: str,
    kind: Literal["access_token", "refresh_token"],
    *,
    deadline: float = DEADLINE,
) -> Introspection:
    """Ask the org whether a token is active, and for how long.

    Raises `SalesforceError`. Where its `refused` is true, the org does not answer
    such questions of this app; else it did not answer this one, or not now.
    """
    session = Session(client, "introspect", secrets=(token,), deadline=deadline)
    form = {"token": token, "token_type_hint": kind, "client_id": client.client_id}
    if client.client_secret:
        form["client_secret"] = client.client_secret
    return session.ask(
        lambda url: session.post(url, data=form, headers=JSON), read_introspection
    )


def is_alive(
    client: Client, access_token: str, *, deadline: float = DEADLINE
) -> bool | None:
    """Use an access token for the smallest of calls; None where that tells nothing.

    Raises nothing. A token without the scope for it is refused with a 403, which
    says nothing of its life.
    """
    if not VISIBLE.fullmatch(access_token):  # it would not make a header
        return None
    session = Session(client, "userinfo", secrets=(access_token,), deadline=deadline)
    headers = JSON | {"Authorization": f"Bearer {access_token}"}
    try:
        return session.ask(lambda url: session.get(url, headers=headers), read_userinfo)
    except SalesforceError:
        return None
