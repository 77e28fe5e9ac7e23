"""What the org says, row by row: the state, what is wrong, what to do, and where."""

import pytest

from salesforce import (
    GrantType,
    SalesforceError,
    State,
    decode,
    no_remote_site,
    setup_url,
)
from salesforce.answers import read_token_answer
from salesforce.errors import MEANINGS, NEXT, address_refused

DEAD, BLOCKED, WRONG = State.LOGIN_REQUIRED, State.BLOCKED, State.MISCONFIGURED
LATER = State.UNREACHABLE
APPS, USAGE = "ManageExternalClientApplication", "ConnectedAppsUsage"
LOGINS, USERS, NETWORK = "OrgLoginHistory", "ManageUsers", "NetworkAccess"
CODE, REFRESH, JWT, CC = (
    GrantType.CODE,
    GrantType.REFRESH,
    GrantType.ASSERTION,
    GrantType.CREDENTIALS,
)
PAGE = None
"""The login page: no grant is presented there."""
ANY = (PAGE, CODE, REFRESH, JWT, CC)

ROWS = [
    # error, description, grants, state, words of the action, page of Setup
    ("invalid_grant", "expired access/refresh token", (REFRESH, CODE, PAGE), DEAD,
     "Log in again", None),
    ("invalid_grant", "expired access/refresh token", (JWT, CC), BLOCKED,
     "Login History", LOGINS),
    ("invalid_grant", "expired authorization code", (CODE,), DEAD, "Log in", None),
    ("invalid_grant", "expired authorization code", (JWT,), WRONG, "clock", None),
    ("invalid_grant", "invalid code verifier", (CODE,), DEAD, "fault of", None),
    ("invalid_grant", "invalid assertion", (JWT,), WRONG, "certificate", APPS),
    ("invalid_grant", "inactive user", ANY, BLOCKED, "activated", USERS),
    ("inactive_user", "user is inactive", ANY, BLOCKED, "activated", USERS),
    ("invalid_grant", "ip restricted", ANY, BLOCKED, "IP ranges", NETWORK),
    ("invalid_grant", "user hasn't approved this consumer", ANY, BLOCKED,
     "pre-authorize", APPS),
    ("invalid_grant", "user is not admin approved to access this app", ANY, BLOCKED,
     "pre-authorize", APPS),
    ("invalid_app_access", "user is not admin approved to access this app", ANY,
     BLOCKED, "pre-authorize", APPS),
    ("invalid_grant", "Audience validation failed", (JWT,), WRONG,
     "test.salesforce.com", None),
    ("invalid_grant", "audience is invalid", (CODE, REFRESH, CC), WRONG,
     "Salesforce Domain", None),
    ("invalid_grant", "request not supported on this domain", ANY, WRONG, "My Domain",
     "OrgDomain"),
    ("invalid_grant", "no client credentials user enabled", (CC,), WRONG, "Run As",
     APPS),
    ("invalid_grant", "no valid scopes defined", (CC,), WRONG, "scope", APPS),
    ("invalid_grant", "authentication failure", ANY, BLOCKED, "Login History", LOGINS),
    ("invalid_grant", "activation secret invalid", ANY, BLOCKED, "identity check",
     LOGINS),
    ("invalid_grant", "never heard of", (CODE, REFRESH, PAGE), DEAD, "Log in", None),
    ("invalid_grant", "never heard of", (JWT, CC), BLOCKED, "Login History", LOGINS),
    ("invalid_grant", "", (JWT, CC), BLOCKED, "Login History", LOGINS),
    ("invalid_client_id", "client identifier invalid", ANY, WRONG, "Consumer Key",
     APPS),
    ("invalid_client", "client identifier invalid", ANY, WRONG, "Consumer Key", APPS),
    ("invalid_client", "invalid client credentials", (CODE, REFRESH, CC), WRONG,
     "Copy the Consumer Secret", APPS),
    ("invalid_client", "invalid client credentials", (JWT,), WRONG, "certificate",
     APPS),
    ("invalid_client", "app must be installed into org", ANY, BLOCKED, "Install",
     USAGE),
    ("redirect_uri_mismatch", "redirect_uri must match configuration", (CODE, PAGE),
     WRONG, "Add this Callback URL", APPS),
    ("unsupported_grant_type", "grant type not supported", ANY, WRONG, "Enable", APPS),
    ("unauthorized_client", "", ANY, WRONG, "Enable", APPS),
    ("invalid_request", "scope parameter not supported", ANY, WRONG, "fault of", None),
    ("invalid_request", "refresh_token scope is required", (JWT,), WRONG,
     "‘refresh_token’", APPS),
    ("invalid_request", "missing code challenge", ANY, WRONG, "fault of", None),
    ("inactive_org", "", ANY, BLOCKED, "Salesforce Support", None),
    ("rate_limit_exceeded", "", ANY, LATER, "within the hour", None),
    ("LOGIN_RATE_EXCEEDED", "", ANY, LATER, "within the hour", None),
    ("use_dpop_nonce", "", ANY, WRONG, "DPoP", APPS),
    ("invalid_dpop_proof", "", ANY, WRONG, "DPoP", APPS),
    ("server_error", "", ANY, LATER, "nothing has to be changed", None),
    ("temporarily_unavailable", "", ANY, LATER, "nothing has to be changed", None),
    # of the login page
    ("access_denied", "end-user denied authorization", (PAGE,), None, "allow", None),
    ("access-denied", "", (PAGE,), None, "allow", None),
    ("OAUTH_APP_BLOCKED", "this app is blocked by admin", ANY, BLOCKED, "Unblock",
     USAGE),
    ("OAUTH_APPROVAL_ERROR_GENERIC", "An unexpected error has occurred", ANY, BLOCKED,
     "installed", USAGE),
    ("unsupported_response_type", "", (PAGE,), WRONG, "Enable", APPS),
    ("invalid_scope", "", ANY, WRONG, "fewer scopes", APPS),
    ("immediate_unsuccessful", "", (PAGE,), DEAD, "approve", None),
    # of the revocation endpoint
    ("invalid_token", "", (PAGE,), None, "Log in", None),
    ("unsupported_token_type", "", (PAGE,), BLOCKED, "Revoke it in the org", USAGE),
    ("brand_new", "never seen", ANY, BLOCKED, "Ask an admin of the org", LOGINS),
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "description", "grants", "state", "action", "page"),
    ROWS,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row(
    error: str,
    description: str,
    grants: tuple[GrantType | None, ...],
    state: State | None,
    action: str,
    page: str | None,
) -> None:
    for grant in grants:
        met = decode(error, description, grant=grant)
        assert met.state is state, grant
        assert action in met.action
        assert met.setup_page == (page and f"/lightning/setup/{page}/home")
        assert met.code == error
        assert met.is_transient == (state is LATER)
        sentence, _, said = str(met).partition(" (The org said: ")
        assert said == f"{error}: {description})" or not description
        assert sentence.endswith(".")


def test_every_row_of_the_table_is_met() -> None:
    met = {
        (str(error).partition(" (The org said")[0], error.action)
        for row in ROWS
        for error in (decode(row[0], row[1], grant=grant) for grant in row[2])
    }
    for meaning in MEANINGS:
        assert (meaning.sentence, meaning.action) in met, meaning


def test_what_to_do_is_one_short_sentence() -> None:
    actions = {meaning.action for meaning in MEANINGS} | set(NEXT.values())
    for action in actions:
        assert action[0].isupper()
        assert action.endswith(".")
        assert ". " not in action
        assert len(action) < 130
    for meaning in MEANINGS:
        assert len(meaning.sentence) < 120
    assert NEXT.keys() == {None, *State}


@pytest.mark.parametrize(
    ("error", "description", "grant", "wrong"),
    [("invalid_client", "invalid client credentials", CODE, True),
     ("invalid_client", "", REFRESH, True), ("Invalid_Client", "", CC, True),
     ("invalid_client", "client identifier invalid", CC, False),
     ("invalid_client", "app must be installed into org", CODE, False),
     ("invalid_client", "", JWT, False), ("invalid_client_id", "", CC, False),
     ("invalid_grant", "invalid client credentials", CC, False)],
)  # fmt: skip
def test_a_wrong_secret_is_told_from_a_wrong_app(
    error: str, description: str, grant: GrantType, wrong: bool
) -> None:
    assert decode(error, description, grant=grant).is_wrong_secret is wrong


def test_errors_of_our_own_say_what_to_do() -> None:
    listed = no_remote_site("https://acme.example")
    assert listed.action == (
        "Add a Remote Site for https://acme.example, or correct the address."
    )
    assert no_remote_site("nonsense").action == "Correct the address."
    assert "Remote Site" in address_refused("https://acme.example", "10.0.0.1").action
    for state in (None, *State):
        error = SalesforceError("x", state=state, code="<x>")
        assert error.action == NEXT[state]
        assert (error.setup_page, error.is_wrong_secret) == (None, False)


# Where it is done


SETUP = "/lightning/setup/ManageUsers/home"


@pytest.mark.parametrize(
    ("host", "setup"),
    [("acme.my.salesforce.com", "acme.lightning.force.com"),
     ("https://acme.my.salesforce.com/services?x=1", "acme.lightning.force.com"),
     ("ACME.my.salesforce.com", "acme.lightning.force.com"),
     ("acme.lightning.force.com", "acme.lightning.force.com"),
     ("acme.my.salesforce-setup.com", "acme.lightning.force.com"),
     ("acme--uat.sandbox.my.salesforce.com", "acme--uat.sandbox.lightning.force.com"),
     ("acme-dev-ed.develop.my.salesforce.com",
      "acme-dev-ed.develop.lightning.force.com"),
     ("acme.my.salesforce.mil", "acme.lightning.crmforce.mil"),
     ("acme--uat.sandbox.my.salesforce.mil",
      "acme--uat.sandbox.lightning.crmforce.mil"),
     ("acme.my.sfcrmproducts.cn", "acme.lightning.sfcrmapps.cn"),
     *((host, None) for host in (
         "login.salesforce.com", "test.salesforce.com", "na1.salesforce.com",
         "acme.my.site.com", "acme.my.site.com/portal", "localhost:8001", "127.0.0.1",
         "acme.example", "my.salesforce.com", "acme.my.salesforce.com.evil.example",
         "evil.example/acme.my.salesforce.com", "acme.my.salesforce.com:8443",
         "acme.my.salesforce.com@evil.example", "", " ", "a b", "\x00",
         "http://acme.my.salesforce.com", "javascript:alert(1)"))],
)  # fmt: skip
def test_setup_is_that_of_the_very_org(host: str, setup: str | None) -> None:
    assert setup_url(host, SETUP) == (setup and f"https://{setup}{SETUP}")


@pytest.mark.parametrize(
    "page", ["", "/", "@evil.example", ".evil.example/lightning/setup/Users/home",
             "/lightning/setup/../home", "/lightning/setup/A/home?x", SETUP + "\n"]
)  # fmt: skip
def test_only_a_page_of_setup_is_linked(page: str) -> None:
    assert setup_url("acme.my.salesforce.com", page) is None


def test_every_page_can_be_linked() -> None:
    for page in {meaning.setup_page for meaning in MEANINGS} - {None}:
        assert setup_url("acme.my.salesforce.com", str(page))


def test_what_to_do_goes_with_the_state_that_the_status_makes() -> None:
    body = b'{"error": "invalid_grant"}'
    for status, state, action in ((400, DEAD, NEXT[DEAD]), (401, LATER, NEXT[LATER])):
        with pytest.raises(SalesforceError) as refused:
            read_token_answer(status, {}, body, (), grant=REFRESH)
        assert (refused.value.state, refused.value.action) == (state, action)
