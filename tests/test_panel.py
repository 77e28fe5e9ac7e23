"""The panel: what it says of each state, and what it offers to do."""

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

import engine.tokens
from database import now
from models import ExpirySource, Flow, Lane, Role
from salesforce import State
from tests.conftest import (
    CLICK,
    StrictClient,
    add_application,
    browser_of,
    load,
)
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_authorizations import change
from tests.test_history import add_open
from vault import seal

PAGE = "/applications/1"


@pytest.fixture
def record(app: Flask) -> int:
    return add_application(app)


def give_token(app: Flask, **values: Any) -> None:
    """Let record 1 have a token, and whatever else."""
    facts = {
        "state": State.CONNECTED,
        "lane": Lane.SILENT,
        "access_token": seal_in(app, "an access token"),
        "issued_at": now(),
    }
    change(app, **facts | values)


def seal_in(app: Flask, value: str) -> object:
    with app.app_context():
        return seal(value)


def panel(client: StrictClient) -> str:
    found = re.search(
        r'<section id="application-panel">.*?</section>', client.get(PAGE).text, re.S
    )
    assert found
    return found[0]


def said(client: StrictClient) -> str:
    return html.unescape(words(panel(client)))


def offers(page: str) -> dict[str, str | None]:
    """Return the buttons that ask for a token, and what each asks besides."""
    forms = re.findall(
        r'<form method="post" action="/applications/1/authorization".*?</form>',
        page,
        re.S,
    )
    asked = [re.search(r'name="(\w+)" value="1"', form) for form in forms]
    labels = [words(form).strip() for form in forms]
    return {label: ask and ask[1] for label, ask in zip(labels, asked, strict=True)}


# --- when the token ends ---------------------------------------------------


@pytest.mark.parametrize("source", list(ExpirySource))
def test_how_long_a_token_lives_is_said_with_how_it_is_known(
    app: Flask, client: StrictClient, record: int, source: ExpirySource
) -> None:
    left = timedelta(hours=1, minutes=52, seconds=30)
    give_token(app, expires_at=now() + left, expiry_source=source)
    page = said(client)
    assert f"expires in 1 h 52 min ({source})" in page
    assert f"{load(app, 1).expires_at:%H:%M:%S} UTC" in page


def test_a_token_that_ran_out_says_how_long_ago(
    app: Flask, client: StrictClient, record: int
) -> None:
    ago = timedelta(minutes=12, seconds=30)
    give_token(app, expires_at=now() - ago, expiry_source=ExpirySource.ASSUMED)
    page = said(client)
    assert "Expired The access token ran out 12 min ago (assumed)" in page
    assert page.count("ran out 12 min ago (assumed)") == 2
    give_token(app, expires_at=now() - ago, expiry_source=None)
    assert "ran out 12 min ago," in said(client)


def test_nothing_is_said_of_an_end_that_is_not_known(
    app: Flask, client: StrictClient, record: int
) -> None:
    give_token(app)
    assert not re.search("expires in|ran out|Expires At", said(client))


# --- what to do next -------------------------------------------------------


def test_an_error_has_its_action_its_page_and_its_code(
    app: Flask, client: StrictClient, record: int
) -> None:
    error = {
        "last_error": "The user is not approved.",
        "last_error_code": "invalid_app_access",
        "last_error_action": "Permit the user.",
        "last_error_page": "/lightning/setup/ConnectedAppsUsage/home",
        "last_error_at": now(),
    }
    change(app, state=State.BLOCKED, **error)
    page = panel(client)
    link = (
        '<a href="https://acme.lightning.force.com'
        '/lightning/setup/ConnectedAppsUsage/home"'
        ' target="_blank" rel="noreferrer noopener">'
    )
    assert link in page
    assert "<small><code>invalid_app_access</code>, " in page
    assert "The user is not approved." in page
    assert "Permit the user." in page


def test_no_page_is_offered_where_none_is_known(
    app: Flask, client: StrictClient, record: int
) -> None:
    change(app, state=State.BLOCKED, last_error="No.", last_error_at=now())
    page = panel(client)
    assert "No." in page
    assert "Open that page" not in page
    assert "None" not in page


@pytest.mark.parametrize(
    ("flow", "sentence"),
    [
        (Flow.WEB_SERVER, "leads to the org's login page and back."),
        (Flow.JWT_BEARER, "gets one without a page, by JWT bearer."),
        (Flow.CLIENT_CREDENTIALS, "gets one without a page, by client credentials."),
    ],
)
def test_a_record_without_a_token_says_what_the_click_does(
    app: Flask, client: StrictClient, record: int, flow: Flow, sentence: str
) -> None:
    change(app, flow=flow)
    page = said(client)
    assert f"No token is stored. Refresh Access Token {sentence}" in page
    assert offers(panel(client)) == {"Refresh Access Token": None}


def test_a_rescued_refresh_token_is_what_the_click_uses(
    app: Flask, client: StrictClient, record: int
) -> None:
    change(
        app,
        refresh_token=seal_in(app, "rescued"),
        refresh_token_domain="acme.my.salesforce.com",
        refresh_token_client_id="3MVG9AcmeConsumerKey",
    )
    assert "gets one with the stored refresh token, without a page." in said(client)


@pytest.mark.parametrize(
    ("flow", "reason", "sentence"),
    [
        (
            Flow.JWT_BEARER,
            "The record uses the JWT bearer flow.",
            "came by JWT bearer, without a page,",
        ),
        (
            Flow.CLIENT_CREDENTIALS,
            "The record uses the client credentials flow.",
            "came by client credentials, without a page,",
        ),
        (
            Flow.CLIENT_CREDENTIALS,
            "The record uses the JWT bearer flow.",
            "The access token came without a page,",
        ),
    ],
)
def test_a_page_less_token_says_how_it_came(
    app: Flask,
    client: StrictClient,
    record: int,
    flow: Flow,
    reason: str,
    sentence: str,
) -> None:
    give_token(app, flow=flow, lane=Lane.PAGE_LESS, lane_reason=reason)
    assert sentence in said(client)


def test_a_refresh_token_that_no_flow_uses_is_said_to_be_kept(
    app: Flask, client: StrictClient, record: int
) -> None:
    give_token(app, flow=Flow.JWT_BEARER, refresh_token=seal_in(app, "kept"))
    assert "kept from the web server flow, not used" in said(client)
    change(app, flow=Flow.WEB_SERVER)
    assert "not used" not in said(client)


def test_a_dead_grant_does_not_keep_a_page_less_flow_from_its_token(
    app: Flask, client: StrictClient, record: int
) -> None:
    change(app, state=State.LOGIN_REQUIRED)
    assert "The next token takes a login." in said(client)
    change(app, flow=Flow.CLIENT_CREDENTIALS)
    assert "The next token takes a login." not in said(client)


def test_a_record_that_backs_off_says_until_when_and_for_whom(
    app: Flask, client: StrictClient, record: int
) -> None:
    until = now() + timedelta(minutes=10)
    change(app, state=State.UNREACHABLE, retry_at=until)
    assert (
        f"leave it alone until {until:%-d %b %Y, %H:%M:%S} UTC ; a click still tries."
        in said(client)
    )
    change(app, retry_at=now() - timedelta(seconds=1))
    assert "leave it alone" not in said(client)


# --- logging in anew -------------------------------------------------------


def test_a_grant_can_be_replaced_by_a_new_login(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    assert offers(panel(client)) == {
        "Reconnect": "log_in",
        "Refresh Access Token": None,
    }
    asked = len(org.token_requests)
    answer = client.submit(CLICK, htmx=True, log_in="1")
    assert answer.headers["HX-Redirect"].startswith(f"{org.address}/services/oauth2/")
    assert len(org.token_requests) == asked


def test_a_page_less_record_has_no_login_to_do_anew(
    app: Flask, client: StrictClient, record: int
) -> None:
    give_token(app, flow=Flow.CLIENT_CREDENTIALS)
    assert offers(panel(client)) == {"Refresh Access Token": None}


def test_a_viewer_is_offered_nothing(app: Flask, record: int) -> None:
    give_token(app, state=State.OUTCOME_UNKNOWN)
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert offers(panel(viewer)) == {}
    assert "nobody knows whether it was used up" in said(viewer)


def lose_an_answer(client: StrictClient, org: PracticeOrg) -> None:
    """Have the org replace the refresh token, and the answer lost."""
    org.switch(rotation=True)
    client.submit(CLICK, htmx=True)
    org.switch(rotation=True, fault="lost_answer", times=1)
    client.submit(CLICK, htmx=True)


def test_an_unknown_outcome_says_what_happened_and_what_to_do(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    lose_an_answer(client, org)
    assert offers(panel(client)) == {
        "Reconnect": "log_in",
        "Refresh Access Token": None,
        "Log in again": "log_in",
        "Send the stored token again": "insist",
    }
    page = said(client)
    assert "no answer came, so nobody knows whether it was used up." in page
    assert "takes a used one for stolen, and ends the whole grant." in page
    assert "The next click first asks the org whether" in page
    assert "The org may still be at that request" not in page
    change(app, doubt_settles_at=now() + timedelta(seconds=50))
    assert "The org may still be at that request until" in said(client)


def test_who_insists_has_the_stored_token_sent(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    lose_an_answer(client, org)
    asked = len(org.token_requests)
    client.submit(CLICK, htmx=True, insist="1")
    assert len(org.token_requests) == asked + 1


# --- somebody else is at it ------------------------------------------------


def test_a_record_that_somebody_else_refreshes_says_so_and_what_to_do(
    app: Flask,
    client: StrictClient,
    connected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine.tokens, "WAIT", 0.1)
    add_open(app, actor="bob@orgdesk.example")
    answer = client.submit(CLICK, htmx=True).text
    assert "It is being refreshed by bob@orgdesk.example" in answer
    assert "wait for it, then press again." in words(answer)
    assert "Refresh again" in offers(answer)
    assert client.submit(CLICK).status_code == 303
    assert "It is being refreshed by bob" in client.get(PAGE).text


# --- what was done about it --------------------------------------------------


def test_a_record_that_was_changed_since_its_error_says_so(
    app: Flask, client: StrictClient, record: int
) -> None:
    error = {"last_error": "No.", "last_error_action": "Type it again."}
    an_hour = timedelta(hours=1)
    change(app, state=State.MISCONFIGURED, **error, last_error_at=now())
    assert "Type it again." in said(client)
    change(app, last_error_at=now() - 2 * an_hour, changed_at=now() - an_hour)
    page = said(client)
    assert "The record was changed since: press Refresh Access Token" in page
    assert "Type it again." not in page


def test_a_site_that_was_added_since_is_said_so(
    app: Flask, client: StrictClient, record: int
) -> None:
    error = {"last_error": "No site.", "last_error_code": "<no Remote Site>"}
    change(app, state=State.MISCONFIGURED, **error, last_error_at=now())
    assert "A Remote Site was added since" in said(client)


def test_a_record_whose_tokens_were_revoked_says_so(
    client: StrictClient, connected: int
) -> None:
    client.submit(f"{PAGE}/revocation")
    assert "No token is stored: what there was has been revoked." in said(client)


def test_a_login_that_brought_no_refresh_token_says_why(
    app: Flask, client: StrictClient, record: int
) -> None:
    give_token(app, lane=Lane.BROWSER)
    assert "did not grant the scope refresh_token" in said(client)
