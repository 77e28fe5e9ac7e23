"""The one exception family that leaves this package, and the decoder behind it.

Salesforce reports what is wrong in `error` and `error_description`; the table
below says what each means for an admin. Sources: Salesforce Help "OAuth 2.0
Authorization Flow Errors", RFC 6749 sections 4.1.2.1 and 5.2, and the reports
of client maintainers where the help is silent.
"""

from typing import NamedTuple

from salesforce.hosts import origin_of
from salesforce.redaction import printable
from salesforce.states import State
from salesforce.trips import Trip

LONGEST_DESCRIPTION = 300
BAD_REQUEST = 400
SERVER_ERROR = 500
NO_SITE = "<no Remote Site>"
ADDRESS_REFUSED = "<address refused>"


class SalesforceError(Exception):
    """A request for a token brought none.

    `str(error)` is written for an admin. `state` is what the connection is in
    now, or None where the failure says nothing about it (the user said no).
    `code` is the provider's own error code, or ours in angle brackets.
    `response` is the answer's body, redacted, or None where there was none.
    `refresh_token` is a new refresh token that came with an otherwise unusable
    answer: the old one may be dead, so it must not be lost. `trip` is the
    request it came of, or None where none was made.
    """

    def __init__(
        self,
        sentence: str,
        *,
        state: State | None,
        code: str,
        response: str | None = None,
        answer_lost: bool = False,
        refresh_token: str | None = None,
        trip: Trip | None = None,
    ) -> None:
        super().__init__(sentence)
        self.state = state
        self.code = code
        self.response = response
        self.answer_lost = answer_lost
        self.refresh_token = refresh_token
        self.trip = trip

    @property
    def refused(self) -> bool:
        """Whether the org answered, and said no; not merely not now."""
        status = self.trip.status if self.trip else None
        no = status is not None and BAD_REQUEST <= status < SERVER_ERROR
        return no and self.state is not State.UNREACHABLE

    @property
    def was_sent(self) -> bool:
        """Whether the request had left: the org answered, or the answer was lost."""
        return self.response is not None or self.answer_lost


class _Meaning(NamedTuple):
    error: str
    description: str
    """Lower case words that the description has to contain; "" for any."""
    state: State | None
    sentence: str


DEAD_GRANT = (
    "The org does not accept the grant (any more): it has expired, was revoked,"
    " or was used before."
)
_CONSUMER_KEY = (
    "The org does not know this Client ID. Compare it with the app's Consumer Key;"
    " a new app can take ten minutes to be known, and it has to exist in this very org."
)
_NOT_APPROVED = (
    "The user is not approved for the app. In the org's Setup, look at the app's"
    " policies: Permitted Users, and the profiles or permission sets assigned to it."
)

_DENIED = "The login ended with Deny: no access was given."
_DPOP = "The app requires DPoP, which Orgdesk does not speak. Switch it off there."
_TOO_OFTEN = (
    "The user has logged in too often: Salesforce allows 3,600 an hour."
    " Try again within the hour."
)

MEANINGS = (
    # error, words of the description, state, sentence
    _Meaning("access_denied", "", None, _DENIED),
    _Meaning("access-denied", "", None, _DENIED),
    _Meaning(
        "invalid_grant",
        "expired access/refresh token",
        State.LOGIN_REQUIRED,
        DEAD_GRANT,
    ),
    _Meaning(
        "invalid_grant",
        "expired authorization code",
        State.LOGIN_REQUIRED,
        "The authorization code was too old or had been used. Start the login again.",
    ),
    _Meaning(
        "invalid_grant",
        "invalid code verifier",
        State.LOGIN_REQUIRED,
        "The org did not accept the proof key (PKCE) of this login. Start it again.",
    ),
    _Meaning(
        "invalid_grant",
        "inactive user",
        State.BLOCKED,
        "The user is inactive or frozen in the org. An admin there has to"
        " activate the user, or log in here as another one.",
    ),
    _Meaning(
        "invalid_grant",
        "ip restricted",
        State.BLOCKED,
        "The org does not allow this server's address. An admin there has to add"
        " it to the allowed IP ranges or relax the app's IP policy.",
    ),
    _Meaning("invalid_grant", "hasn't approved", State.BLOCKED, _NOT_APPROVED),
    _Meaning(
        "invalid_grant",
        "audience",
        State.MISCONFIGURED,
        "The org did not accept the audience. Correct the Salesforce Domain.",
    ),
    _Meaning(
        "invalid_grant",
        "not supported on this domain",
        State.MISCONFIGURED,
        "This host does not serve the request. Use the org's My Domain host"
        " as Salesforce Domain.",
    ),
    _Meaning(
        "invalid_grant",
        "no client credentials user",
        State.MISCONFIGURED,
        "The app has no Run As user for client credentials. Set one in its policies.",
    ),
    _Meaning(
        "invalid_grant",
        "no valid scopes",
        State.MISCONFIGURED,
        "The app has no scope that serves. Add OAuth scopes to it in the org.",
    ),
    _Meaning(
        "invalid_grant",
        "authentication failure",
        State.BLOCKED,
        "The org refused the user's authentication. An admin has to look at the"
        " user's Login History in the org.",
    ),
    _Meaning(
        "invalid_grant",
        "activation",
        State.BLOCKED,
        "The org asks for an identity check of the user first.",
    ),
    _Meaning("invalid_grant", "", State.LOGIN_REQUIRED, DEAD_GRANT),
    _Meaning(
        "inactive_user",
        "",
        State.BLOCKED,
        "The user is inactive or frozen in the org. An admin there has to act.",
    ),
    _Meaning("invalid_app_access", "", State.BLOCKED, _NOT_APPROVED),
    _Meaning(
        "oauth_app_blocked",
        "",
        State.BLOCKED,
        "An admin of the org blocked the app (Setup, Connected Apps OAuth Usage).",
    ),
    _Meaning(
        "oauth_approval_error_generic",
        "",
        State.BLOCKED,
        "The org could not approve the app for this user. Usual causes: a scope the"
        " app lacks, an app that is not installed, a user who is not permitted.",
    ),
    _Meaning(
        "invalid_client",
        "installed",
        State.BLOCKED,
        "The app has to be installed in the org before users can approve it.",
    ),
    _Meaning("invalid_client_id", "", State.MISCONFIGURED, _CONSUMER_KEY),
    _Meaning("invalid_client", "identifier", State.MISCONFIGURED, _CONSUMER_KEY),
    _Meaning(
        "invalid_client",
        "",
        State.MISCONFIGURED,
        "The org did not accept the Consumer Secret. Copy it again from the app.",
    ),
    _Meaning(
        "redirect_uri_mismatch",
        "",
        State.MISCONFIGURED,
        "The Callback URL is not among those of the app in the org: it has to be"
        " the same to the letter.",
    ),
    _Meaning(
        "unsupported_grant_type",
        "",
        State.MISCONFIGURED,
        "This OAuth flow is not enabled on the app in the org.",
    ),
    _Meaning(
        "unsupported_response_type",
        "",
        State.MISCONFIGURED,
        "The web server flow is not enabled on the app in the org.",
    ),
    _Meaning(
        "unauthorized_client",
        "",
        State.MISCONFIGURED,
        "The app in the org may not use this OAuth flow.",
    ),
    _Meaning(
        "invalid_scope",
        "",
        State.MISCONFIGURED,
        "A requested scope is not among the app's scopes in the org.",
    ),
    _Meaning(
        "invalid_request",
        "",
        State.MISCONFIGURED,
        "The org could not make sense of the request.",
    ),
    _Meaning(
        "immediate_unsuccessful",
        "",
        State.LOGIN_REQUIRED,
        "The user is not logged in at the org, or has not approved the app yet.",
    ),
    _Meaning(
        "inactive_org",
        "",
        State.BLOCKED,
        "The org is locked, closed or suspended. Salesforce has to act.",
    ),
    _Meaning(
        "use_dpop_nonce",
        "",
        State.MISCONFIGURED,
        _DPOP,
    ),
    _Meaning(
        "invalid_dpop_proof",
        "",
        State.MISCONFIGURED,
        _DPOP,
    ),
    _Meaning(
        "rate_limit_exceeded",
        "",
        State.UNREACHABLE,
        _TOO_OFTEN,
    ),
    _Meaning(
        "login_rate_exceeded",
        "",
        State.UNREACHABLE,
        _TOO_OFTEN,
    ),
    _Meaning(
        "server_error",
        "",
        State.UNREACHABLE,
        "The org had an error of its own. Try later.",
    ),
    _Meaning(
        "temporarily_unavailable",
        "",
        State.UNREACHABLE,
        "The org cannot answer just now. Try later.",
    ),
)


def no_remote_site(url: str) -> SalesforceError:
    """Say which Remote Site would have to be there for `url` to be called."""
    origin = origin_of(url)
    sentence = (
        f"Orgdesk may not call {origin.host}: no Remote Site covers {origin}."
        " An admin can add it under Remote Sites."
        if origin
        else "Orgdesk may not call this address: no Remote Site can cover it."
    )
    return SalesforceError(sentence, state=State.MISCONFIGURED, code=NO_SITE)


def address_refused(url: str, address: str) -> SalesforceError:
    """Say that the host is listed, but stands where only local sites may stand."""
    origin = origin_of(url)
    host = origin.host if origin else "the host"
    return SalesforceError(
        f"Orgdesk does not call {host}: its name leads to {address}, an address of a"
        f" local or reserved network. If that is right, the Remote Site for {origin}"
        " has to say that it is in the local network.",
        state=State.MISCONFIGURED,
        code=ADDRESS_REFUSED,
    )


def decode(
    error: str,
    description: str,
    *,
    response: str | None = None,
    trip: Trip | None = None,
) -> SalesforceError:
    """Turn a provider's error into ours.

    `error` and `description` come from outside and have to be redacted before.
    An unknown code leaves the admin with the org's own words.
    """
    error, description = printable(error), printable(description)[:LONGEST_DESCRIPTION]
    words = description.lower().replace("’", "'")
    for meaning in MEANINGS:
        if meaning.error == error.lower() and meaning.description in words:
            state, sentence = meaning.state, meaning.sentence
            break
    else:
        state, sentence = State.BLOCKED, "The org refused."
    said = f"{error}: {description}" if description else error
    return SalesforceError(
        f"{sentence} (The org said: {said})",
        state=state,
        code=error,
        response=response,
        trip=trip,
    )
