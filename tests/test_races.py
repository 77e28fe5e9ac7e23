"""One login is one token request: for fifty at once, and for a thief."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from database import db
from models import ExternalApplication
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import State
from tests.conftest import OWN_CALLBACK, StrictClient, add_application, load
from tests.servers import PracticeOrg, practice_org

AT_ONCE = 50


@pytest.fixture(scope="module")
def org_process() -> Iterator[PracticeOrg]:
    """An org of this file's own: it remembers its last 100 requests, and no more."""
    with practice_org(OWN_CALLBACK) as org:
        yield org


@pytest.fixture(autouse=True)
def record(app: Flask, org: PracticeOrg) -> None:
    """Record 1 is a connection to the practice org."""
    add_application(
        app,
        salesforce_domain=org.address,
        client_id=CLIENT_ID,
        consumer_secret=CONSUMER_SECRET,
        requested_scopes="api refresh_token id",
    )


def begin(client: StrictClient) -> str:
    """Click, and return the address of the login page."""
    return client.submit("/applications/1/authorization").location


def callback(url: str) -> str:
    return f"/callback?{urlsplit(url).query}"


def twin(app: Flask, client: StrictClient) -> StrictClient:
    """Another window of the same browser."""
    cookie, other = client.get_cookie("orgdesk"), app.test_client()
    assert cookie
    assert isinstance(other, StrictClient)
    other.set_cookie("orgdesk", cookie.value)
    return other


def assert_nothing_is_stored(app: Flask) -> None:
    record = load(app, 1)
    assert record.state is State.NEVER_AUTHORIZED
    assert (record.access_token, record.refresh_token) == (None, None)


def test_fifty_callbacks_with_one_state_are_one_token_request(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    path = callback(org.log_in(begin(client)))
    asked = len(org.token_requests)
    org.switch(fault="slow", seconds=1)  # the others come while one waits
    start = threading.Barrier(AT_ONCE)

    def come_back(window: StrictClient) -> TestResponse:
        start.wait(10)
        return window.get(path)

    windows = [twin(app, client) for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(come_back, windows))
    refused = [answer for answer in answers if answer.status_code == 400]
    (stored,) = [answer for answer in answers if answer.status_code == 303]
    assert stored.location == "/applications/1"
    assert len(refused) == AT_ONCE - 1
    assert all("works once" in answer.text for answer in refused)
    assert len(org.token_requests) == asked + 1
    record = load(app, 1)
    assert record.state is State.CONNECTED
    with app.app_context():
        token = db.session.get_one(ExternalApplication, 1).access_token
        assert token
        assert token.reveal().startswith("00D000000000001!")


def test_a_stolen_callback_is_worth_nothing_in_another_browser(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    path = callback(org.log_in(begin(client)))
    asked = len(org.token_requests)
    thief = twin(app, client)
    with thief.session_transaction() as session:  # signed in, in a browser of its own
        session.pop("browser")
    for _ in range(2):
        assert thief.get(path).status_code == 400
    thief.get("/applications/1")
    assert thief.get(path).status_code == 400
    assert len(org.token_requests) == asked
    assert_nothing_is_stored(app)
    assert load(app, 1).oauth_code is None


def test_a_stolen_code_does_not_go_with_another_login(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    stolen = parse_qs(urlsplit(org.log_in(begin(client))).query)["code"][0]
    thief = twin(app, client)
    with thief.session_transaction() as session:
        session.pop("browser")
    thief.get("/applications/1")
    own = parse_qs(urlsplit(begin(thief)).query)["state"][0]
    thief.get("/callback", query_string={"state": own, "code": stolen})
    assert_nothing_is_stored(app)
    assert load(app, 1).last_error
