"""Limits: who tries too often waits, and nobody else does."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from app import create_app
from config import SettingError, read_settings
from database import db
from models import Role
from tests.conftest import ADMIN, PASSWORD, StrictClient, add_user
from tests.test_audit import told
from tests.test_sign_in import (
    ADA,
    CONFIRM,
    confirm,
    fill,
    make_codes,
    set_up_app,
    sign_in,
    stranger_of,
    type_code,
    type_recovery_code,
)
from throttle import SENTENCE

TRIES = 10
"""Failed tries that an address has in a minute, and an account in five."""
WRONG = "not the password"


def knock(
    browser: StrictClient,
    email: str = ADMIN,
    password: str = WRONG,
    *,
    address: str = "192.0.2.1",
    forwarded: str = "",
) -> TestResponse:
    """Send the sign-in form from an address."""
    form = {"email": email, "password": password}
    form["csrf_token"] = browser.csrf("/sign-in")
    headers = {"X-Forwarded-For": forwarded} if forwarded else {}
    where = {"REMOTE_ADDR": address}
    return browser.post("/sign-in", data=form, headers=headers, environ_base=where)


def somebody(which: int) -> str:
    return f"somebody-{which}@orgdesk.example"


def elsewhere(which: int) -> str:
    return f"198.51.100.{which}"


def test_after_ten_failures_an_address_waits(
    app: Flask, stranger: StrictClient
) -> None:
    for which in range(TRIES):
        assert knock(stranger, somebody(which)).status_code == 200
    page = knock(stranger, somebody(TRIES))
    assert page.status_code == 429
    assert SENTENCE in page.text
    assert 1 <= int(page.headers["Retry-After"]) <= 61
    assert len(told(app)) == TRIES


def test_the_right_password_waits_too_and_another_address_does_not(
    stranger: StrictClient,
) -> None:
    for which in range(TRIES):
        knock(stranger, somebody(which))
    assert knock(stranger, ADMIN, PASSWORD).status_code == 429
    assert knock(stranger, ADMIN, PASSWORD, address=elsewhere(1)).location == "/"


def test_htmx_shows_the_sentence_on_the_whole_page(stranger: StrictClient) -> None:
    for which in range(TRIES):
        knock(stranger, somebody(which))
    form = {"email": ADMIN, "csrf_token": stranger.csrf("/sign-in")}
    page = stranger.post(
        "/sign-in",
        data=form,
        headers={"HX-Request": "true"},
        environ_base={"REMOTE_ADDR": "192.0.2.1"},
    )
    assert (page.status_code, page.headers["HX-Retarget"]) == (429, "body")


def test_coming_in_does_not_count(app: Flask, stranger: StrictClient) -> None:
    for _ in range(TRIES + 5):
        assert knock(stranger_of(app), ADMIN, PASSWORD).location == "/"
    for _ in range(TRIES):
        assert knock(stranger).status_code == 200
    assert knock(stranger).status_code == 429


def test_looking_at_the_form_does_not_count(stranger: StrictClient) -> None:
    for _ in range(TRIES * 4):
        assert stranger.get("/sign-in").status_code == 200
    for _ in range(TRIES):
        knock(stranger)
    assert knock(stranger).status_code == 429
    assert stranger.get("/sign-in").status_code == 200


@pytest.mark.parametrize("email", [ADMIN, "nobody@orgdesk.example"])
def test_an_account_waits_wherever_the_tries_come_from(
    app: Flask, stranger: StrictClient, email: str
) -> None:
    spellings = (email, email.upper(), f" {email} ")
    for which in range(TRIES):
        spelt = spellings[which % 3]
        assert knock(stranger, spelt, address=elsewhere(which)).status_code == 200
    assert knock(stranger, email, address=elsewhere(TRIES)).status_code == 429
    assert knock(stranger, email, PASSWORD, address=elsewhere(99)).status_code == 429
    with app.app_context():
        add_user(ADA, Role.VIEWER)
    assert knock(stranger, ADA, PASSWORD, address=elsewhere(99)).location == "/"


def test_a_confirmation_counts_for_its_account(
    app: Flask, client: StrictClient
) -> None:
    for _ in range(TRIES):
        assert confirm(client, password=WRONG).status_code == 200
    assert confirm(client).status_code == 429
    assert knock(stranger_of(app), password=PASSWORD).status_code == 429


@pytest.mark.parametrize(
    "spelling",
    ["admin@ｏrgdesk.example", "admin@orgdesk。example", "ADMIN@ORGDESK.ⓔxample"],
)
def test_an_account_that_is_spelt_otherwise_is_the_same(
    app: Flask, stranger: StrictClient, spelling: str
) -> None:
    assert knock(stranger_of(app), spelling, PASSWORD).location == "/"
    for which in range(TRIES):
        knock(stranger, spelling, address=elsewhere(which))
    assert knock(stranger, ADMIN, address=elsewhere(TRIES)).status_code == 429


@pytest.mark.parametrize("page", [CONFIRM, "/account/password"])
def test_no_address_that_is_sent_with_it_resets_the_count(
    client: StrictClient, page: str
) -> None:
    codes = [
        fill(client, page, password=WRONG, email=somebody(which)).status_code
        for which in range(TRIES + 1)
    ]
    assert codes == [200] * TRIES + [429]


@pytest.mark.parametrize("send", [type_code, type_recovery_code])
def test_a_second_factor_is_not_tried_out(
    app: Flask,
    client: StrictClient,
    send: Callable[[StrictClient, str], TestResponse],
) -> None:
    set_up_app(client)
    make_codes(client)
    codes = list[int]()
    for which in range(TRIES + 1):
        browser = stranger_of(app)
        browser.environ_base["REMOTE_ADDR"] = elsewhere(which)
        sign_in(browser)
        codes.append(send(browser, f"{which:06}").status_code)
    assert codes == [200] * TRIES + [429]


def test_the_present_password_is_not_tried_out(
    app: Flask, client: StrictClient
) -> None:
    form = {"new_password": "", "new_password_confirm": ""}
    pages = [
        fill(client, "/account/password", password=f"{WRONG} {which}", **form)
        for which in range(TRIES + 1)
    ]
    assert [page.status_code for page in pages] == [200] * TRIES + [429]


def test_links_are_not_tried_out(stranger: StrictClient) -> None:
    codes = [stranger.get(f"/welcome/{which}").status_code for which in range(31)]
    assert codes == [410] * 30 + [429]


# --- behind proxies --------------------------------------------------------


@pytest.fixture
def behind(
    empty_database: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], StrictClient]]:
    """A browser of Orgdesk behind so many proxies."""
    (tmp_path / "orgdesk.db").write_bytes(empty_database)
    monkeypatch.setenv("ORGDESK_INSTANCE", str(tmp_path))
    apps = list[Flask]()

    def start(proxies: int) -> StrictClient:
        monkeypatch.setenv("ORGDESK_PROXIES", str(proxies))
        app = create_app({"TESTING": True})
        app.test_client_class = StrictClient
        apps.append(app)
        return stranger_of(app)

    yield start
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.mark.parametrize(
    ("proxies", "counted_as_one"), [(0, True), (1, False), (2, True)]
)
def test_an_address_is_what_the_proxies_say_and_nobody_else(
    behind: Callable[[int], StrictClient], proxies: int, counted_as_one: bool
) -> None:
    """A proxy adds the last address; what stands before it, anybody can write."""
    browser = behind(proxies)
    for which in range(TRIES):
        forwarded = f"203.0.113.7, {elsewhere(which)}"
        page = knock(browser, somebody(which), forwarded=forwarded)
        assert page.status_code == 200
    page = knock(browser, somebody(99), forwarded=f"203.0.113.7, {elsewhere(99)}")
    assert page.status_code == (429 if counted_as_one else 200)


# --- where it is counted ---------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["redis", "redis://", "redis:// host", "memcached://host", "http://host", "x"],
)
def test_a_store_that_cannot_be_used_is_named(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingError, match="ORGDESK_LIMITS_URL is not an address"):
        read_settings({"ORGDESK_LIMITS_URL": url}, tmp_path)


@pytest.mark.parametrize(
    "url", ["memory://", "redis://host:6379/0", "rediss://user:word@host:6380"]
)
def test_a_store_that_can_be_used_is_taken(tmp_path: Path, url: str) -> None:
    settings = read_settings({"ORGDESK_LIMITS_URL": url}, tmp_path)
    assert settings.limits_url == url


def test_a_store_that_is_down_is_counted_without(
    behind: Callable[[int], StrictClient],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as line:  # bound, and nobody listens
        line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
        monkeypatch.setenv("ORGDESK_LIMITS_URL", f"redis://:word@127.0.0.1:{port}/0")
        browser = behind(0)
        codes = [knock(browser, somebody(which)).status_code for which in range(11)]
        assert knock(browser, ADMIN, PASSWORD, address=elsewhere(1)).location == "/"
    assert codes == [200] * TRIES + [429]
    assert "word@" not in caplog.text
