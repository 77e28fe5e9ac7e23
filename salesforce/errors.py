"""The one exception family that leaves this package, and the decoder behind it.

Salesforce reports what is wrong in `error` and `error_description`; the table
below says what each means for an admin, and what to do. Sources: Salesforce Help
"OAuth 2.0 Authorization Flow Errors", RFC 6749 sections 4.1.2.1 and 5.2, and the
reports of client maintainers where the help is silent.
"""

from typing import NamedTuple

from salesforce.hosts import origin_of
from salesforce.redaction import printable
from salesforce.states import GrantType, State
from salesforce.trips import Trip

LONGEST_DESCRIPTION = 300
BAD_REQUEST = 400
SERVER_ERROR = 500
NO_SITE = "<no Remote Site>"
TIMEOUT = "<timeout>"
"""The request left, and the org may still be at it."""
ADDRESS_REFUSED = "<address refused>"


class SalesforceError(Exception):
    """A request brought not what it was for: a token, mostly.

    `str(error)` is written for an admin, and says what is wrong; `action` says
    what to do next, and `setup_page` is the page of the org's Setup where that
    is done, if it is done there (`setup_url` makes an address of it). `state` is
    what the connection is in now, or None where the failure says nothing about
    it (the user said no). `code` is the provider's own error code, or ours in
    angle brackets. `response` is the answer's body, redacted, or None where there
    was none. `refresh_token` is a new refresh token that came with an otherwise
    unusable answer: the old one may be dead, so it must not be lost. `trip` is the
    request it came of, or None where none was made. `is_wrong_secret` tells that
    the org knows the app, and another Consumer Secret of it.
    """

    def __init__(
        self,
        sentence: str,
        *,
        state: State | None,
        code: str,
        action: str | None = None,
        setup_page: str | None = None,
        response: str | None = None,
        answer_lost: bool = False,
        refresh_token: str | None = None,
        trip: Trip | None = None,
        is_wrong_secret: bool = False,
    ) -> None:
        super().__init__(sentence)
        self.state = state
        self.code = code
        self.action = action or NEXT[state]
        self.setup_page = setup_page
        self.response = response
        self.answer_lost = answer_lost
        self.refresh_token = refresh_token
        self.trip = trip
        self.is_wrong_secret = is_wrong_secret

    @property
    def is_transient(self) -> bool:
        """Whether the same may well succeed later, though nobody does anything."""
        return self.state is State.UNREACHABLE

    @property
    def refused(self) -> bool:
        """Whether the org answered, and said no; not merely not now."""
        status = self.trip.status if self.trip else None
        no = status is not None and BAD_REQUEST <= status < SERVER_ERROR
        return no and not self.is_transient

    @property
    def was_sent(self) -> bool:
        """Whether the request had left: the org answered, or the answer was lost."""
        return self.response is not None or self.answer_lost


LOG_IN = "Log in again."
WAIT = "Wait until the org answers again; nothing has to be changed for it."
LASTING = "Try again later; if it stays so, check the record's Salesforce Domain."
CHECK_DOMAIN = "Open the record and correct its Salesforce Domain."
NEXT = {
    None: LOG_IN,
    State.NEVER_AUTHORIZED: "Log in.",
    State.CONNECTED: WAIT,
    State.EXPIRED: LOG_IN,
    State.LOGIN_REQUIRED: LOG_IN,
    State.BLOCKED: "Ask an admin of the org to look at what the org said.",
    State.MISCONFIGURED: "Open the record and correct it.",
    State.UNREACHABLE: WAIT,
    State.OUTCOME_UNKNOWN: "Log in again, to be sure of a refresh token that works.",
}
"""What to do in a state, where nothing more exact is known."""


def _setup(name: str) -> str:
    return f"/lightning/setup/{name}/home"


# Pages of Setup, as the link lists of Salesforce Inspector Reloaded, sfdx-hardis
# and other tools of admins have them.
APPS = _setup("ManageExternalClientApplication")
APP_USAGE = _setup("ConnectedAppsUsage")
LOGIN_HISTORY = _setup("OrgLoginHistory")
MY_DOMAIN = _setup("OrgDomain")
NETWORK_ACCESS = _setup("NetworkAccess")
USERS = _setup("ManageUsers")


class _Meaning(NamedTuple):
    error: str
    description: str
    """Lower case words that the description has to contain; "" for any."""
    state: State | None
    sentence: str
    action: str
    setup_page: str | None = None
    grants: frozenset[GrantType | None] | None = None
    """Those that it is the meaning for; None for all."""


_BY_LOGIN = frozenset({GrantType.CODE, GrantType.REFRESH, None})
"""What began with a login; None is the login page itself."""
_BY_ASSERTION = frozenset[GrantType | None]({GrantType.ASSERTION})

DEAD_GRANT = (
    "The org does not accept the grant (any more): it has expired, was revoked,"
    " or was used before."
)
_CONSUMER_KEY = (
    "The org does not know this Client ID.",
    "Compare it with the app's Consumer Key in this very org; a new one takes a while.",
    APPS,
)
_NOT_APPROVED = (
    "The user is not approved for the app.",
    "In the app's policies, pre-authorize a profile or permission set of the user.",
    APPS,
)
_INACTIVE = (
    "The user is inactive or frozen in the org.",
    "Have the user activated or unfrozen in the org, or connect as another one.",
    USERS,
)
_DENIED = (
    "The login ended with Deny: no access was given.",
    "Log in again, and allow the access.",
)
_DPOP = (
    "The app requires DPoP, which Orgdesk does not speak.",
    "Switch the requirement of DPoP off in the app's settings.",
    APPS,
)
_TOO_OFTEN = (
    "The user has logged in too often: Salesforce allows 3,600 an hour.",
    "Wait: within the hour the org accepts this user's logins again.",
)
_OTHER_FLOW = "Enable this flow in the OAuth settings of the app."
_REPORT = "Report this as a fault of Orgdesk, with the org's words."

_WRONG_SECRET = _Meaning(
    "invalid_client",
    "",
    State.MISCONFIGURED,
    "The org did not accept the Consumer Secret.",
    "Copy the Consumer Secret again from the app in the org, and type it here.",
    APPS,
)

MEANINGS = (
    # error, words of the description, state, sentence, action, page of Setup, grants
    _Meaning("access_denied", "", None, *_DENIED),
    _Meaning("access-denied", "", None, *_DENIED),
    _Meaning(
        "invalid_grant",
        "expired access/refresh token",
        State.LOGIN_REQUIRED,
        DEAD_GRANT,
        LOG_IN,
        grants=_BY_LOGIN,
    ),
    _Meaning(
        "invalid_grant",
        "expired authorization code",
        State.LOGIN_REQUIRED,
        "The authorization code was too old or had been used. Start the login again.",
        LOG_IN,
        grants=_BY_LOGIN,
    ),
    _Meaning(
        "invalid_grant",
        "expired authorization code",
        State.MISCONFIGURED,
        "The org takes the signed assertion for expired.",
        "Compare this server's clock with the right time, then try again.",
        grants=_BY_ASSERTION,
    ),
    _Meaning(
        "invalid_grant",
        "invalid code verifier",
        State.LOGIN_REQUIRED,
        "The org did not accept the proof key (PKCE) of this login.",
        "Log in again; if that fails alike, report it as a fault of Orgdesk.",
        grants=_BY_LOGIN,
    ),
    _Meaning(
        "invalid_grant",
        "invalid assertion",
        State.MISCONFIGURED,
        "The org could not verify the signed assertion.",
        "Upload the certificate of this record's key to the app in the org, and compare"
        " the Client ID with its Consumer Key.",
        APPS,
    ),
    _Meaning("invalid_grant", "inactive user", State.BLOCKED, *_INACTIVE),
    _Meaning(
        "invalid_grant",
        "ip restricted",
        State.BLOCKED,
        "The org does not allow this server's address.",
        "Add this server's address to the org's trusted IP ranges or to the app's, or"
        " relax the app's IP policy.",
        NETWORK_ACCESS,
    ),
    _Meaning("invalid_grant", "hasn't approved", State.BLOCKED, *_NOT_APPROVED),
    _Meaning("invalid_grant", "not admin approved", State.BLOCKED, *_NOT_APPROVED),
    _Meaning(
        "invalid_grant",
        "audience",
        State.MISCONFIGURED,
        "The org did not accept the audience of the assertion.",
        "Choose another audience: login.salesforce.com, for a sandbox"
        " test.salesforce.com, or the org's My Domain host.",
        grants=_BY_ASSERTION,
    ),
    _Meaning(
        "invalid_grant",
        "audience",
        State.MISCONFIGURED,
        "The org did not accept the audience.",
        CHECK_DOMAIN,
    ),
    _Meaning(
        "invalid_grant",
        "not supported on this domain",
        State.MISCONFIGURED,
        "The org serves this request at its My Domain host alone.",
        "Use the org's My Domain host as Salesforce Domain.",
        MY_DOMAIN,
    ),
    _Meaning(
        "invalid_grant",
        "no client credentials user",
        State.MISCONFIGURED,
        "The app has no Run As user for client credentials.",
        "Set a Run As user in the app's policies, by username.",
        APPS,
    ),
    _Meaning(
        "invalid_grant",
        "no valid scopes",
        State.MISCONFIGURED,
        "The app has no scope that serves.",
        "Add the scope ‘api’ to the OAuth scopes of the app.",
        APPS,
    ),
    _Meaning(
        "invalid_grant",
        "authentication failure",
        State.BLOCKED,
        "The org refused the user's authentication; its Login History says why.",
        "Look for this user's last logins in the org's Login History.",
        LOGIN_HISTORY,
    ),
    _Meaning(
        "invalid_grant",
        "activation",
        State.BLOCKED,
        "The org asks for an identity check of the user first.",
        "Log in to the org itself as this user, and pass the identity check.",
        LOGIN_HISTORY,
    ),
    _Meaning(
        "invalid_grant",
        "",
        State.LOGIN_REQUIRED,
        DEAD_GRANT,
        LOG_IN,
        grants=_BY_LOGIN,
    ),
    _Meaning(
        "invalid_grant",
        "",
        State.BLOCKED,
        "The org refused.",
        "Look for this user's last logins in the org's Login History.",
        LOGIN_HISTORY,
    ),
    _Meaning("inactive_user", "", State.BLOCKED, *_INACTIVE),
    _Meaning("invalid_app_access", "", State.BLOCKED, *_NOT_APPROVED),
    _Meaning(
        "oauth_app_blocked",
        "",
        State.BLOCKED,
        "An admin of the org blocked the app.",
        "Unblock the app under Connected Apps OAuth Usage.",
        APP_USAGE,
    ),
    _Meaning(
        "oauth_approval_error_generic",
        "",
        State.BLOCKED,
        "The org could not approve the app for this user.",
        "Check that the app is installed, has the requested scopes and permits the"
        " user.",
        APP_USAGE,
    ),
    _Meaning(
        "invalid_client",
        "installed",
        State.BLOCKED,
        "The app is not installed in the org, so users cannot approve it.",
        "Install the app under Connected Apps OAuth Usage.",
        APP_USAGE,
    ),
    _Meaning("invalid_client_id", "", State.MISCONFIGURED, *_CONSUMER_KEY),
    _Meaning("invalid_client", "identifier", State.MISCONFIGURED, *_CONSUMER_KEY),
    _Meaning(
        "invalid_client",
        "",
        State.MISCONFIGURED,
        "The org did not accept the app.",
        "Compare the Client ID with the app's Consumer Key, and the app's certificate"
        " with this record's.",
        APPS,
        _BY_ASSERTION,  # it has no secret
    ),
    _WRONG_SECRET,
    _Meaning(
        "redirect_uri_mismatch",
        "",
        State.MISCONFIGURED,
        "The Callback URL is not among those of the app in the org.",
        "Add this Callback URL to the app, the same to the letter.",
        APPS,
    ),
    _Meaning(
        "unsupported_grant_type",
        "",
        State.MISCONFIGURED,
        "This OAuth flow is not enabled on the app in the org.",
        _OTHER_FLOW,
        APPS,
    ),
    _Meaning(
        "unsupported_response_type",
        "",
        State.MISCONFIGURED,
        "The web server flow is not enabled on the app in the org.",
        _OTHER_FLOW,
        APPS,
    ),
    _Meaning(
        "unauthorized_client",
        "",
        State.MISCONFIGURED,
        "The app in the org may not use this OAuth flow.",
        _OTHER_FLOW,
        APPS,
    ),
    _Meaning(
        "invalid_scope",
        "",
        State.MISCONFIGURED,
        "A requested scope is not among the app's scopes in the org.",
        "Add the scope to the app, or ask for fewer scopes here.",
        APPS,
    ),
    _Meaning(
        "invalid_request",
        "scope parameter",
        State.MISCONFIGURED,
        "The org could not make sense of the request: it takes no scope there.",
        _REPORT,
    ),
    _Meaning(
        "invalid_request",
        "refresh_token",
        State.MISCONFIGURED,
        "The app lacks the scope ‘refresh_token’, which this flow takes.",
        "Add the scope ‘refresh_token’ to the OAuth scopes of the app.",
        APPS,
        _BY_ASSERTION,
    ),
    _Meaning(
        "invalid_request",
        "",
        State.MISCONFIGURED,
        "The org could not make sense of the request.",
        _REPORT,
    ),
    _Meaning(
        "immediate_unsuccessful",
        "",
        State.LOGIN_REQUIRED,
        "The user is not logged in at the org, or has not approved the app yet.",
        "Log in at the org, and approve the app.",
    ),
    _Meaning(
        "inactive_org",
        "",
        State.BLOCKED,
        "The org is locked, closed or suspended: Salesforce has to act.",
        "Ask Salesforce Support about the org.",
    ),
    _Meaning("use_dpop_nonce", "", State.MISCONFIGURED, *_DPOP),
    _Meaning("invalid_dpop_proof", "", State.MISCONFIGURED, *_DPOP),
    _Meaning("rate_limit_exceeded", "", State.UNREACHABLE, *_TOO_OFTEN),
    _Meaning("login_rate_exceeded", "", State.UNREACHABLE, *_TOO_OFTEN),
    _Meaning(
        "server_error",
        "",
        State.UNREACHABLE,
        "The org had an error of its own. Try later.",
        WAIT,
    ),
    _Meaning(
        "temporarily_unavailable",
        "",
        State.UNREACHABLE,
        "The org cannot answer just now. Try later.",
        WAIT,
    ),
    # of the revocation endpoint
    _Meaning(
        "invalid_token", "", None, "The org does not know the token any more.", LOG_IN
    ),
    _Meaning(
        "unsupported_token_type",
        "",
        State.BLOCKED,
        "The org does not revoke tokens of this kind.",
        "Revoke it in the org, under Connected Apps OAuth Usage.",
        APP_USAGE,
    ),
)
UNKNOWN = _Meaning(
    "", "", State.BLOCKED, "The org refused.", NEXT[State.BLOCKED], LOGIN_HISTORY
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
    return SalesforceError(
        sentence,
        state=State.MISCONFIGURED,
        code=NO_SITE,
        action=f"Add a Remote Site for {origin}, or correct the address."
        if origin
        else "Correct the address.",
    )


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
        action="Correct the address, or say at its Remote Site that it is in the local"
        " network.",
    )


def decode(
    error: str,
    description: str,
    *,
    grant: GrantType | None = None,
    response: str | None = None,
    trip: Trip | None = None,
) -> SalesforceError:
    """Turn a provider's error into ours.

    `error` and `description` come from outside and have to be redacted before.
    `grant` is what the token endpoint was asked with; None for other endpoints.
    An unknown code leaves the admin with the org's own words.
    """
    error, description = printable(error), printable(description)[:LONGEST_DESCRIPTION]
    words = description.lower().replace("’", "'")
    meaning = next(
        (
            meaning
            for meaning in MEANINGS
            if meaning.error == error.lower()
            and meaning.description in words
            and (meaning.grants is None or grant in meaning.grants)
        ),
        UNKNOWN,
    )
    said = f"{error}: {description}" if description else error
    return SalesforceError(
        f"{meaning.sentence} (The org said: {said})",
        state=meaning.state,
        code=error,
        action=meaning.action,
        setup_page=meaning.setup_page,
        response=response,
        trip=trip,
        is_wrong_secret=meaning is _WRONG_SECRET,
    )
