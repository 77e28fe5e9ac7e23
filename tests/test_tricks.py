"""Tricks that were tried against the sign-in, each by the book, and none may work."""

import html
import re
import sqlite3
from typing import Any

import pytest
from flask import Flask
from passlib.totp import TOTP

import users
from database import db
from models import Invitation, Role, SignIn, User
from sign_in import FIRST_STEP
from tests.conftest import ADMIN, StrictClient, browser_of
from tests.passkeys import Passkey, add_passkey, asked
from tests.test_audit import told
from tests.test_sign_in import ADA, APP, fill, is_in, sign_in, stranger_of

KEY = re.compile(r"Key: <code>([^<]+)</code>")
VALIDATION = re.compile(r'action="(/account/authenticator/[^"]+)"')
MALLORY = "mallory@orgdesk.example"
LONG = "lamp river nine ostrich"


def who_is_in(browser: StrictClient) -> str:
    found = re.search(r"<h1>([^<]+)</h1>", browser.get("/account").text)
    assert found
    return html.unescape(found[1])


def begin_app(browser: StrictClient) -> tuple[str, TOTP]:
    """Begin to set up an authenticator app: where its code goes, and the app."""
    page = fill(browser, "/account", APP, setup="authenticator").text
    key, action = KEY.search(page), VALIDATION.search(page)
    assert key
    assert action
    return action[1], TOTP(key=key[1].replace("-", "").replace(" ", ""))


def add_app(browser: StrictClient) -> TOTP:
    action, app = begin_app(browser)
    fill(browser, "/account", action, code=app.generate().token)
    return app


def make_link(app: Flask, email: str, role: Role) -> str:
    with app.app_context():
        return f"/welcome/{users.invite(email, role)}"


def make_stale(browser: StrictClient) -> None:
    """Let an hour pass since this browser's sign-in."""
    with browser.session_transaction() as session:
        session["fs_paa"] -= 3600


def test_ones_own_app_is_no_second_factor_of_anothers_password(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    """The password step of one user, then a link of one's own, in the same browser."""
    add_app(client)
    sign_in(stranger)
    fill(stranger, make_link(app, MALLORY, Role.VIEWER), password=LONG)
    assert who_is_in(stranger) == MALLORY
    _, own = begin_app(stranger)
    elsewhere = browser_of(app, MALLORY)
    fill(elsewhere, "/account", "/account/sign-out-everywhere")
    token = stranger.csrf("/sign-in")
    form = {"code": own.generate().token, "csrf_token": token}
    assert stranger.post("/sign-in/code", data=form).location == "/sign-in"
    assert not is_in(stranger)


def test_what_was_half_done_does_not_get_into_a_sign_in(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    add_app(client)
    sign_in(stranger)
    with stranger.session_transaction() as session:
        before = session["csrf_token"]
    fill(stranger, make_link(app, MALLORY, Role.VIEWER), password=LONG)
    with stranger.session_transaction() as session:
        assert not [name for name in session if name.startswith("tf_")]
        assert session.get("csrf_token") != before


def test_a_first_step_is_good_for_ten_minutes(
    client: StrictClient, stranger: StrictClient
) -> None:
    phone = add_app(client)
    sign_in(stranger)
    with stranger.session_transaction() as session:
        session[FIRST_STEP] -= 601
    token = stranger.csrf("/sign-in")
    form = {"code": phone.generate().token, "csrf_token": token}
    assert stranger.post("/sign-in/code", data=form).location == "/sign-in"
    assert not is_in(stranger)


def test_anothers_passkey_is_no_second_factor(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    of_the_admin = add_passkey(client, "secondary", knows_its_owner=False)
    own = add_passkey(browser_of(app, ADA, Role.OPERATOR), "secondary")
    sign_in(stranger, ADA)
    ceremony = asked(stranger, "/sign-in/passkey")
    ceremony.answer(stranger, of_the_admin.get(ceremony.options))
    assert not is_in(stranger)
    assert told(app)[-1] == ("sign_in_failed", {"how": "passkey"})
    ceremony = asked(stranger, "/sign-in/passkey")
    ceremony.answer(stranger, own.get(ceremony.options))
    assert who_is_in(stranger) == ADA
    assert told(app)[-1] == ("sign_in", {"how": "password, passkey"})


@pytest.mark.parametrize(("knows", "let_in"), [(True, True), (False, False)])
def test_a_passkey_instead_of_the_password_has_to_know_its_owner(
    app: Flask, client: StrictClient, knows: bool, let_in: bool
) -> None:
    passkey = add_passkey(client, "first")
    passkey.knows_its_owner = knows
    browser = stranger_of(app)
    ceremony = asked(browser, "/sign-in/passkey")
    ceremony.answer(browser, passkey.get(ceremony.options))
    assert is_in(browser) is let_in


def test_a_lenient_question_of_a_second_step_is_no_first_one(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    passkey = add_passkey(client, "first")
    passkey.knows_its_owner = False
    add_passkey(browser_of(app, ADA, Role.OPERATOR), "secondary")
    sign_in(stranger, ADA)
    lenient = asked(stranger, "/sign-in/passkey")
    for browser in (stranger_of(app), stranger):
        lenient.answer(browser, passkey.get(lenient.options))
        assert not is_in(browser)


def test_a_passkey_that_nobody_has_opens_nothing(
    app: Flask, stranger: StrictClient
) -> None:
    ceremony = asked(stranger, "/sign-in/passkey")
    ceremony.answer(stranger, Passkey().get(ceremony.options))
    assert not is_in(stranger)
    assert told(app) == [("sign_in_failed", {"how": "passkey"})]


def test_an_answer_of_a_passkey_is_good_once_and_where_it_was_asked_for(
    app: Flask, client: StrictClient
) -> None:
    passkey = add_passkey(client, "first")
    browser, other = stranger_of(app), stranger_of(app)
    ceremony = asked(browser, "/sign-in/passkey")
    answer = passkey.get(ceremony.options)
    ceremony.answer(other, answer)
    assert not is_in(other)
    ceremony.answer(browser, answer)
    assert who_is_in(browser) == ADMIN
    fill(browser, "/account", "/sign-out")
    ceremony.answer(browser, answer)
    assert not is_in(browser)


def test_a_stale_session_gets_no_passkey_that_a_fresh_one_asked_for(
    app: Flask, client: StrictClient
) -> None:
    mallory = browser_of(app, MALLORY, Role.VIEWER)
    ceremony = asked(mallory, "/account/passkeys", name="x", usage="first")
    credential = Passkey().create(ceremony.options)
    for make_it in (lambda _: None, make_stale):
        make_it(client)
        ceremony.answer(client, credential)
        assert "none ·" in client.get("/account").text
    assert told(app) == []


def test_a_stale_session_gets_no_app_that_a_fresh_one_set_up(
    app: Flask, client: StrictClient
) -> None:
    action, phone = begin_app(browser_of(app, MALLORY, Role.VIEWER))
    for make_it in (lambda _: None, make_stale):
        make_it(client)
        fill(client, "/account", action, code=phone.generate().token)
    with app.app_context():
        user = User.find(ADMIN)
        assert user
        assert user.totp_secret is None


def test_a_deactivated_account_opens_to_no_passkey_and_leaves_no_sign_in(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    ada = browser_of(app, ADA, Role.VIEWER)
    passkey = add_passkey(ada, "first")
    client.submit("/users/2/deactivation")
    ceremony = asked(stranger, "/sign-in/passkey")
    ceremony.answer(stranger, passkey.get(ceremony.options))
    client.submit("/users/2/reactivation")
    assert not is_in(stranger)
    assert not is_in(ada)
    with app.app_context():
        user = User.find(ADA)
        assert user
        assert not [one for one in user.sign_ins if one.is_alive]


def test_the_links_that_an_admin_made_end_with_the_admin(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    other = browser_of(app, ADA, Role.ADMIN)
    page = other.submit("/users/invite", email=MALLORY, role="admin").text
    found = re.search(r"/welcome/[\w-]+", page)
    assert found
    assert MALLORY in client.get("/users").text
    client.submit("/users/2/role", role="operator")
    assert MALLORY not in client.get("/users").text
    assert stranger.get(found[0]).status_code == 410


def test_a_link_can_be_withdrawn(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link = make_link(app, MALLORY, Role.ADMIN)
    with app.app_context():
        (invitation,) = Invitation.open()
        path = f"/users/invitations/{invitation.id}/withdrawal"
    assert client.submit(path).status_code == 303
    assert stranger.get(link).status_code == 410
    assert told(app)[-1] == ("invitation_withdrawn", {"role": "admin"})


@pytest.mark.parametrize("length", [4_097, 60_000])
@pytest.mark.parametrize("page", ["/sign-in", "/sign-in/confirm", "/account/password"])
def test_a_password_longer_than_any_is_wrong(
    app: Flask, client: StrictClient, page: str, length: int
) -> None:
    browser = stranger_of(app) if page == "/sign-in" else client
    long = "x" * length
    form = {"email": ADMIN, "new_password": LONG, "new_password_confirm": LONG}
    answer = fill(browser, page, password=long, **form)
    assert answer.status_code == 200
    assert told(app)[-1][0] == "sign_in_failed"


@pytest.mark.parametrize("body", [[1], "x", {"email": ADMIN}])
def test_json_is_no_form(stranger: StrictClient, body: Any) -> None:
    assert stranger.post("/sign-in", json=body).status_code == 415
    assert stranger.get("/", json=body).status_code == 415


def test_a_link_on_another_site_signs_nobody_out(client: StrictClient) -> None:
    for step in ("code", "passkey", "recovery-code", "second-factor"):
        assert client.get(f"/sign-in/{step}").location == "/"
    assert is_in(client)


@pytest.mark.parametrize(
    "path", ["/sign-out", "/account/recovery-codes", "/account/sign-out-everywhere"]
)
def test_what_cannot_be_recorded_is_not_done(
    app: Flask, client: StrictClient, path: str
) -> None:
    token = client.csrf("/account")
    file = app.config["SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///")
    with sqlite3.connect(file, isolation_level=None) as database:
        database.execute("BEGIN IMMEDIATE")
        answer = client.post(path, data={"csrf_token": token})
        database.execute("ROLLBACK")
    assert answer.status_code == 503
    assert is_in(client)
    assert told(app) == []
    with app.app_context():
        assert db.session.query(SignIn).filter(SignIn.ended_at.is_not(None)).all() == []
