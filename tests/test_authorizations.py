"""The click and the callback, against a practice org on the wire."""

import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

import vault
from database import db, now
from models import ExternalApplication, PendingAuthorization
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import State
from sign_in import SIGN_IN
from tests.conftest import (
    CLICK,
    StrictClient,
    begin,
    browser_of,
    come_back,
    connect,
    load,
)
from tests.servers import PracticeOrg

pytestmark = pytest.mark.usefixtures("practice_record")


def secrets_of(app: Flask) -> dict[str, str]:
    """Return the record's secrets in the clear."""
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        sealed = {
            "access": record.access_token,
            "refresh": record.refresh_token,
            "code": record.oauth_code,
        }
        return {name: one.reveal() for name, one in sealed.items() if one}


def change(app: Flask, **values: object) -> None:
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        for name, value in values.items():
            setattr(record, name, value)
        db.session.commit()


# --- the click -------------------------------------------------------------


def test_a_click_without_a_refresh_token_leaves_for_the_login_page(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = urlsplit(begin(client))
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert f"{url.scheme}://{url.netloc}{url.path}" == (
        f"{org.address}/services/oauth2/authorize"
    )
    assert query["response_type"] == "code"
    assert query["client_id"] == CLIENT_ID
    assert query["redirect_uri"] == "http://localhost/callback"
    assert query["scope"] == "api refresh_token id"
    assert query["prompt"] == "login"
    assert query["code_challenge_method"] == "S256"
    assert len(query["code_challenge"]) == 43
    assert CONSUMER_SECRET not in url.query
    with app.app_context():
        pending = db.session.scalars(select(PendingAuthorization)).one()
        assert query["state"] not in (pending.state_hash, pending.browser_hash)
        assert timedelta(minutes=9) < pending.expires_at - now() < timedelta(minutes=11)


def test_htmx_is_told_to_leave_with_the_whole_window(
    client: StrictClient, org: PracticeOrg
) -> None:
    response = client.submit(CLICK, htmx=True)
    assert response.status_code == 204
    assert response.headers["HX-Redirect"].startswith(f"{org.address}/services/oauth2")


def test_the_login_is_not_asked_for_where_the_record_says_so(
    app: Flask, client: StrictClient
) -> None:
    change(app, prompt_login=False)
    assert "prompt=" not in begin(client)


def test_a_record_that_is_gone_is_a_404(client: StrictClient) -> None:
    assert client.submit("/applications/2/authorization").status_code == 404


# --- the callback's four endings -------------------------------------------


def test_stored(app: Flask, client: StrictClient, org: PracticeOrg) -> None:
    connect(client, org)
    record = load(app, 1)
    assert record.state is State.CONNECTED
    assert record.instance_url == org.address
    assert record.organization_id == "00D000000000001EAA"
    assert record.user_id == "005000000000001AAA"
    assert record.granted_scopes == "api refresh_token id"
    assert record.issued_at
    assert abs(record.issued_at - now()) < timedelta(minutes=1)
    assert record.oauth_code_used_at
    assert secrets_of(app)["access"].startswith("00D000000000001!")
    assert secrets_of(app)["refresh"].startswith("5Aep861")


def test_the_user_said_no(app: Flask, client: StrictClient, org: PracticeOrg) -> None:
    connect(client, org)
    before = secrets_of(app)
    change(app, refresh_token=None)
    org.revoke_all()
    url = org.log_in(begin(client), decision="deny")
    response = come_back(client, url)
    assert response.status_code == 303
    assert "ended with Deny" in client.get("/applications/1").text
    assert secrets_of(app)["access"] == before["access"]
    assert load(app, 1).state is State.CONNECTED


def test_wrong_missing_or_reused_state(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    good = urlsplit(org.log_in(begin(client))).query
    asked = len(org.token_requests)
    state = parse_qs(good)["state"][0]
    bad = [good.replace(state, state[:-1] + "!"), f"{good}&state={state}"]
    for query in (*bad, "", "code=x", "state=&code=x", "state=%00%ff"):
        page = client.get(f"/callback?{query}")
        assert page.status_code == 400
        assert "Refresh Access Token" in page.text
    assert len(org.token_requests) == asked
    assert client.get(f"/callback?{good}").status_code == 303
    page = client.get(f"/callback?{good}")
    assert page.status_code == 400
    assert "works once" in page.text
    assert len(org.token_requests) == asked + 1
    assert load(app, 1).state is State.CONNECTED


@pytest.mark.parametrize(
    "extra",
    [
        "code=one&code=two",
        "error=access_denied&error=x&code=one",
        "nothing=1",
        "code=",
    ],
)
def test_a_callback_that_says_two_things_or_none_is_refused(
    client: StrictClient, org: PracticeOrg, extra: str
) -> None:
    asked = len(org.token_requests)
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    page = client.get(f"/callback?state={state}&{extra}")
    assert page.status_code == 400
    assert len(org.token_requests) == asked


def test_a_look_at_the_callbacks_headers_uses_nothing_up(
    client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    assert client.head(f"/callback?{urlsplit(url).query}").status_code == 405
    assert come_back(client, url).status_code == 303


def test_two_clicks_at_once_are_of_one_browser(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    client.get("/applications/1")
    first, second = app.test_client(), app.test_client()
    cookie = client.get_cookie("orgdesk")
    assert cookie
    urls = []
    for one in (first, second):
        assert isinstance(one, StrictClient)
        one.set_cookie("orgdesk", cookie.value)
        urls.append(begin(one))
    backs = [org.log_in(url) for url in urls]
    assert [come_back(second, back).status_code for back in backs] == [303, 303]


def test_an_expired_state(app: Flask, client: StrictClient, org: PracticeOrg) -> None:
    url = org.log_in(begin(client))
    with app.app_context():
        pending = db.session.scalars(select(PendingAuthorization)).one()
        pending.expires_at = now() - timedelta(seconds=1)
        db.session.commit()
    asked = len(org.token_requests)
    page = come_back(client, url)
    assert page.status_code == 400
    assert "longer than ten minutes" in page.text
    assert len(org.token_requests) == asked
    assert load(app, 1).state is State.NEVER_AUTHORIZED


def test_another_browsers_state(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    asked = len(org.token_requests)
    other = browser_of(app)
    page = come_back(other, url)
    assert page.status_code == 400
    assert "another browser" in page.text
    # It is used up: the thief's try must not leave a state to try again with.
    assert come_back(client, url).status_code == 400
    assert len(org.token_requests) == asked


def test_a_record_that_was_changed_or_deleted_meanwhile(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    asked = len(org.token_requests)
    change(app, client_id="another")
    assert "changed since the" in come_back(client, url).text
    url = org.log_in(begin(client).replace("another", CLIENT_ID))
    client.submit("/applications/1/delete")
    assert come_back(client, url).status_code == 400
    assert len(org.token_requests) == asked


def test_another_issuer_is_refused(client: StrictClient, org: PracticeOrg) -> None:
    url = org.log_in(begin(client))
    asked = len(org.token_requests)
    page = come_back(client, f"{url}&iss=https://evil.example.com")
    assert page.status_code == 400
    assert "another issuer" in page.text
    assert len(org.token_requests) == asked


@pytest.mark.parametrize(
    ("faults", "state", "sentence"),
    [
        ({"fault": "outage"}, State.UNREACHABLE, "HTTP 503"),
        ({"fault": "lost_answer"}, State.UNREACHABLE, "connection broke"),
        ({"fault": "nonsense"}, State.UNREACHABLE, "not JSON"),
        (
            {"fault": "error", "error": "invalid_client: invalid client credentials"},
            State.MISCONFIGURED,
            "Consumer Secret",
        ),
        (
            {"fault": "error", "error": "invalid_grant: inactive user"},
            State.BLOCKED,
            "inactive or frozen",
        ),
    ],
)
def test_the_provider_refused_or_is_unreachable(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    faults: dict[str, str],
    state: State,
    sentence: str,
) -> None:
    connect(client, org)
    before = secrets_of(app)
    change(app, state=State.LOGIN_REQUIRED)
    org.revoke_all()
    url = org.log_in(begin(client))
    org.switch(**faults)
    assert come_back(client, url).status_code == 303
    assert sentence in client.get("/applications/1").text
    assert load(app, 1).state is state
    after = secrets_of(app)
    assert (after["access"], after["refresh"]) == (before["access"], before["refresh"])


def test_a_refused_code_says_nothing_about_the_token_that_is_there(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    change(app, refresh_token=None)
    org.revoke_all()
    url = org.log_in(begin(client))
    org.switch(fault="error", error="invalid_grant: expired authorization code")
    assert come_back(client, url).status_code == 303
    assert load(app, 1).state is State.CONNECTED
    assert "too old or had been used" in client.get("/applications/1").text


def test_an_error_of_the_login_page_says_nothing_about_the_token_that_is_there(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    change(app, refresh_token=None)
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    client.get(f"/callback?state={state}&error=immediate_unsuccessful")
    assert load(app, 1).state is State.CONNECTED
    assert "not logged in at the org" in client.get("/applications/1").text


# --- silent refresh --------------------------------------------------------


def test_a_second_click_answers_htmx_with_the_panel_of_the_page(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    before = secrets_of(app)
    response = client.submit(CLICK, htmx=True)
    assert response.status_code == 200
    panel = response.text.strip()
    assert panel.startswith('<section id="application-panel">')
    assert secrets_of(app)["access"] != before["access"]
    assert secrets_of(app)["refresh"] == before["refresh"]
    page = client.get("/applications/1").text
    assert blank_csrf(panel) in blank_csrf(page)


def blank_csrf(html: str) -> str:
    return re.sub(r'(name="csrf_token") value="[^"]+"', r"\1", html)


def test_a_second_click_without_htmx_lands_on_the_page(
    client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    response = client.submit(CLICK)
    assert response.status_code == 303
    assert response.location == "/applications/1"


def test_a_rotated_refresh_token_is_kept_and_used_next(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    tokens = {secrets_of(app)["refresh"]}
    for _ in range(3):
        assert client.submit(CLICK, htmx=True).status_code == 200
        tokens.add(secrets_of(app)["refresh"])
    assert len(tokens) == 4
    assert load(app, 1).state is State.CONNECTED
    assert load(app, 1).rotation


def test_what_an_answer_lacks_survives(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    before = load(app, 1)
    org.switch(fault="missing_fields")
    assert client.submit(CLICK, htmx=True).status_code == 200
    after = load(app, 1)
    assert after.state is State.CONNECTED
    assert after.instance_url == before.instance_url
    assert after.identity_url == before.identity_url
    assert after.granted_scopes == before.granted_scopes
    assert after.issued_at
    assert before.issued_at
    assert after.issued_at > before.issued_at


def test_a_dead_grant_goes_on_to_the_login_page_and_the_page_says_why(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    url = begin(client)
    assert load(app, 1).state is State.LOGIN_REQUIRED
    assert come_back(client, org.log_in(url)).status_code == 303
    page = client.get("/applications/1").text
    assert "A login was needed" in page
    assert "expired access/refresh token" in page
    assert load(app, 1).last_error is None


def test_after_a_new_login_the_new_grant_is_used(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    connect(client, org)
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, 1).lane == "silent"


def test_a_new_refresh_token_is_kept_though_its_answer_is_spoilt(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    before = secrets_of(app)
    org.switch(rotation=True, fault="spoilt", times=1)
    client.submit(CLICK, htmx=True)
    assert load(app, 1).state is State.UNREACHABLE
    assert secrets_of(app)["refresh"] != before["refresh"]
    assert secrets_of(app)["access"] == before["access"]
    client.submit(CLICK, htmx=True)
    assert load(app, 1).state is State.CONNECTED


def test_a_record_that_is_deleted_while_its_org_is_asked_is_said_to_be_gone(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    with slow_click(client, org) as answers:
        another = browser_of(app)
        another.submit("/applications/1/delete")
    assert answers[0].status_code == 404
    assert "deleted in the meantime" in answers[0].text


def test_a_dead_grant_is_not_tried_again(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    begin(client)
    asked = len(org.token_requests)
    begin(client)
    assert len(org.token_requests) == asked
    assert load(app, 1).state is State.LOGIN_REQUIRED
    # Said once: as the error, and not again as the reason for the next login.
    panel, _, _ = client.get("/applications/1").text.partition("history-title")
    assert panel.count("expired access/refresh token") == 2  # and in the response


@pytest.mark.parametrize("fault", ["outage", "too_many_requests", "nonsense"])
def test_a_fault_keeps_the_token_and_clears_with_the_next_success(
    app: Flask, client: StrictClient, org: PracticeOrg, fault: str
) -> None:
    connect(client, org)
    before = secrets_of(app)
    org.switch(fault=fault, times=1)
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, 1).state is State.UNREACHABLE
    assert secrets_of(app) == before
    client.submit(CLICK, htmx=True)
    assert load(app, 1).state is State.CONNECTED
    assert load(app, 1).last_error is None


def test_a_lost_answer_of_a_rotating_org_is_not_resent(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    client.submit(CLICK, htmx=True)
    org.switch(rotation=True, fault="lost_answer")
    client.submit(CLICK, htmx=True)
    assert load(app, 1).state is State.OUTCOME_UNKNOWN
    asked = len(org.token_requests)
    assert begin(client).startswith(org.address)
    assert len(org.token_requests) == asked


@contextmanager
def meanwhile(
    org: PracticeOrg, act: Callable[[], TestResponse]
) -> Iterator[list[TestResponse]]:
    """`act` waits for the org's answer while the test does something else."""
    org.switch(fault="slow", seconds=1)
    answers: list[TestResponse] = []
    thread = threading.Thread(target=lambda: answers.append(act()))
    thread.start()
    wait_until_asked(org)
    yield answers
    thread.join()


@contextmanager
def slow_click(client: StrictClient, org: PracticeOrg) -> Iterator[list[TestResponse]]:
    """A click on a connected record waits for the org's answer."""
    connect(client, org)
    with meanwhile(org, lambda: client.submit(CLICK)) as answers:
        yield answers


def wait_until_asked(org: PracticeOrg) -> None:
    end = time.monotonic() + 10
    while org.waiting == 0:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_no_connection_to_the_database_is_held_while_the_org_is_asked(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    with slow_click(client, org), app.app_context():
        pool = db.engine.pool
        assert isinstance(pool, QueuePool)
        assert pool.checkedout() == 0


def test_a_grant_that_was_replaced_meanwhile_is_not_called_dead(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    with slow_click(client, org):
        org.switch()
        another = browser_of(app)
        assert another.submit(CLICK, htmx=True).status_code == 200
        newer = secrets_of(app)
        org.revoke_all()
    assert load(app, 1).state is State.CONNECTED
    assert load(app, 1).last_error is None
    assert secrets_of(app) == newer


def edit(app: Flask, client: StrictClient, **changes: str) -> None:
    form = load(app, 1).description() | {"prompt_login": "y"} | changes
    assert client.submit("/applications/1/edit", **form).status_code == 303


FAILED_LOGINS = ["error=redirect_uri_mismatch", "error=server_error", "code=x"]


@pytest.mark.parametrize("ending", FAILED_LOGINS)
def test_a_refresh_token_goes_to_no_other_app_whatever_happens_in_between(
    app: Flask, client: StrictClient, org: PracticeOrg, ending: str
) -> None:
    connect(client, org)
    edit(app, client, client_id="another")
    assert load(app, 1).state is State.LOGIN_REQUIRED
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    client.get(f"/callback?state={state}&{ending}")
    asked = len(org.token_requests)
    assert "client_id=another" in begin(client)
    assert len(org.token_requests) == asked


def test_a_record_that_is_moved_back_has_its_refresh_token_again(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    edit(app, client, client_id="another")
    edit(app, client, client_id=CLIENT_ID)
    assert load(app, 1).state is State.CONNECTED
    assert client.submit(CLICK, htmx=True).status_code == 200


def test_moving_a_record_there_and_back_revives_no_dead_grant(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    begin(client)
    edit(app, client, client_id="another")
    edit(app, client, client_id=CLIENT_ID)
    record = load(app, 1)
    assert record.state is State.LOGIN_REQUIRED
    assert record.last_error
    assert "expired access/refresh token" in record.last_error


def test_a_login_for_the_app_before_is_not_called_a_success(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    with meanwhile(org, lambda: come_back(client, url)):
        another = browser_of(app)
        edit(app, another, client_id="another")
    page = client.get("/applications/1").text
    assert "a new access token is stored" not in page
    assert "was changed: the stored token belongs" in page
    assert load(app, 1).access_token is None


def test_a_code_that_was_sent_is_used_whatever_came_of_it(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    org.switch(fault="nonsense")
    come_back(client, url)
    record = load(app, 1)
    assert record.oauth_code_received_at
    assert record.oauth_code_used_at


def test_an_answer_for_the_app_before_is_kept_as_that_ones(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    with slow_click(client, org):
        edit(app, client, client_id="another")
    assert load(app, 1).lane == "browser"
    assert load(app, 1).state is State.LOGIN_REQUIRED
    assert "client_id=another" in begin(client)


@pytest.mark.parametrize("ending", FAILED_LOGINS)
def test_a_doubtful_refresh_token_stays_doubtful_after_a_failed_login(
    app: Flask, client: StrictClient, org: PracticeOrg, ending: str
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    client.submit(CLICK, htmx=True)
    org.switch(rotation=True, fault="lost_answer", times=1)
    client.submit(CLICK, htmx=True)
    state = parse_qs(urlsplit(begin(client)).query)["state"][0]
    client.get(f"/callback?state={state}&{ending}")
    asked = len(org.token_requests)
    begin(client)
    assert len(org.token_requests) == asked


# --- secrets ---------------------------------------------------------------


def test_no_page_and_no_log_line_holds_a_secret(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        connect(client, org)
        org.switch(rotation=True)
        panel = client.submit(CLICK, htmx=True).text
        first = secrets_of(app)
        for fault in ("outage", "lost_answer"):
            org.switch(fault=fault)
            client.submit(CLICK, htmx=True)
    paths = ("/", *(f"/applications/1{end}" for end in ("", "/edit", "/delete")))
    pages = [client.get(path).text for path in paths]
    seen = "\n".join([caplog.text, panel, *pages])
    for secret in (*secrets_of(app).values(), *first.values(), CONSUMER_SECRET):
        assert secret not in seen
    with client.session_transaction() as session:
        assert set(session) <= {"_user_id", "_fresh", "csrf_token", "fs_paa", SIGN_IN}


def test_the_database_holds_no_secret_in_the_clear(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    with app.app_context():
        rows = db.session.execute(
            db.text(
                "SELECT * FROM external_application JOIN pending_authorization"
                " ON application_id = external_application.id"
            )
        ).all()
    assert rows
    for secret in (*secrets_of(app).values(), CONSUMER_SECRET):
        assert secret not in repr(rows)


def test_old_logins_are_cleared_away(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    begin(client)
    with app.app_context():
        pending = db.session.scalars(select(PendingAuthorization)).one()
        pending.expires_at = now() - timedelta(days=2)
        db.session.commit()
    begin(client)
    with app.app_context():
        assert db.session.scalar(select(func.count(PendingAuthorization.id))) == 1


def test_a_login_whose_key_is_gone_is_refused(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    url = org.log_in(begin(client))
    asked = len(org.token_requests)
    vault.init_app(app, [Fernet.generate_key().decode()])
    page = come_back(client, url)
    assert page.status_code == 400
    assert "keys of this server were changed" in page.text
    assert len(org.token_requests) == asked
