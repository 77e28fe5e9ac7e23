"""One login is one token request: for fifty at once, and for a thief."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from database import db
from models import ExternalApplication, Role
from salesforce import State
from tests.conftest import (
    ADMIN,
    PASSWORD,
    StrictClient,
    begin,
    browser_of,
    load,
)
from tests.servers import PracticeOrg

AT_ONCE = 50


pytestmark = pytest.mark.usefixtures("practice_record")


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


def another_browser(app: Flask, _: StrictClient) -> StrictClient:
    return browser_of(app)


def another_user(app: Flask, _: StrictClient) -> StrictClient:
    return browser_of(app, "operator@orgdesk.example", Role.OPERATOR)


def after_signing_out(app: Flask, client: StrictClient) -> StrictClient:
    client.submit("/sign-out")
    return client


def after_signing_in_anew(app: Flask, client: StrictClient) -> StrictClient:
    """In the very browser, by the very user, who signed out in between."""
    client.submit("/sign-out")
    form = {"email": ADMIN, "password": PASSWORD, "csrf_token": client.csrf("/sign-in")}
    assert client.post("/sign-in", data=form).location == "/"
    return client


def a_stranger(app: Flask, _: StrictClient) -> StrictClient:
    client = app.test_client()
    assert isinstance(client, StrictClient)
    return client


@pytest.mark.parametrize(
    ("thief", "status"),
    [
        (another_browser, 400),
        (another_user, 400),
        (after_signing_in_anew, 400),
        (after_signing_out, 303),
        (a_stranger, 303),
    ],
)
def test_a_stolen_callback_is_worth_nothing(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    thief: Callable[[Flask, StrictClient], StrictClient],
    status: int,
) -> None:
    path = callback(org.log_in(begin(client)))
    asked = len(org.token_requests)
    browser = thief(app, client)
    for _ in range(2):
        answer = browser.get(path)
        assert answer.status_code == status
        assert answer.location in (None, "/sign-in?next=/")
    assert len(org.token_requests) == asked
    assert_nothing_is_stored(app)
    assert load(app, 1).oauth_code is None


def test_a_stolen_code_does_not_go_with_another_login(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    stolen = parse_qs(urlsplit(org.log_in(begin(client))).query)["code"][0]
    thief = another_user(app, client)
    own = parse_qs(urlsplit(begin(thief)).query)["state"][0]
    thief.get("/callback", query_string={"state": own, "code": stolen})
    assert_nothing_is_stored(app)
    assert load(app, 1).last_error
