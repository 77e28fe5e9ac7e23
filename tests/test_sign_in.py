"""Coming in, going out, and what it takes: through the forms, as a person does it."""

import re
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from passlib.totp import TOTP
from werkzeug.test import TestResponse

from database import db, now
from models import Role, SignIn, User
from sign_in import FRESH
from tests.conftest import (
    ADMIN,
    PASSWORD,
    StrictClient,
    add_application,
    add_user,
    browser_of,
)
from tests.test_audit import run_at_once, told, trail
from tests.test_races import twin
from vault import Sealed

OTHER_PASSWORD = "lamp river nine ostrich"
ADA = "ada@orgdesk.example"
SAME_SENTENCE = "E-mail address and password do not match an account."
CONFIRM = "/sign-in/confirm"
APP = "/account/authenticator"
CODES = "/account/recovery-codes"
STEPS = (
    *("/sign-in/code", "/sign-in/second-factor", "/sign-in/recovery-code"),
    *("/sign-in/passkey", "/sign-in/passkey/x"),
)
"""Pages between the password and being in."""


def stranger_of(app: Flask) -> StrictClient:
    browser = app.test_client()
    assert isinstance(browser, StrictClient)
    return browser


def fill(
    browser: StrictClient, page: str, action: str = "", **form: Any
) -> TestResponse:
    """Open a page, fill its form in and send it."""
    form["csrf_token"] = browser.csrf(page)
    return browser.post(action or page, data=form)


def sign_in(
    browser: StrictClient,
    email: str = ADMIN,
    password: str = PASSWORD,
    page: str = "/sign-in",
) -> TestResponse:
    return fill(browser, page, email=email, password=password)


def is_in(browser: StrictClient) -> bool:
    """Tell whether somebody is signed in; if not, every page leads to the door."""
    answer = browser.get("/account")
    assert answer.status_code == 200 or answer.location == "/sign-in?next=/account"
    return answer.status_code == 200


def change(app: Flask, email: str = ADMIN, **values: Any) -> None:
    """Change a user in the database, as nobody could by a page."""
    with app.app_context():
        user = User.find(email)
        for name, value in values.items():
            setattr(user, name, value)
        db.session.commit()


def blanked(page: str) -> str:
    """Take out of a page what is another each time: token and typed address."""
    return re.sub(r'(name="(csrf_token|email)"[^>]* value=)"[^"]*"', r"\1", page)


# --- the password ----------------------------------------------------------


@pytest.mark.parametrize("typed", [ADMIN, ADMIN.upper()])
def test_address_and_password_sign_in(
    app: Flask, stranger: StrictClient, typed: str
) -> None:
    assert not is_in(stranger)
    assert sign_in(stranger, typed).location == "/"
    assert is_in(stranger)
    assert told(app) == [("sign_in", {"how": "password"})]
    assert (trail(app)[0].actor, trail(app)[0].subject) == (ADMIN, ADMIN)


@pytest.mark.parametrize(
    ("email", "password", "how"),
    [
        ("nobody@orgdesk.example", PASSWORD, "no such account"),
        (ADMIN, "not the password", "password"),
        (ADMIN, PASSWORD.upper(), "password"),
        (ADA, "not the password", "password"),
        (ADA, PASSWORD, "deactivated account"),
    ],
)
def test_whatever_is_wrong_the_page_says_the_same(
    app: Flask, stranger: StrictClient, email: str, password: str, how: str
) -> None:
    with app.app_context():
        add_user(ADA, Role.VIEWER).active = False
        db.session.commit()
    usual = sign_in(stranger, "somebody@else.example", "whatever it is")
    page = sign_in(stranger, email, password)
    assert page.status_code == 200
    assert page.text.count(SAME_SENTENCE) >= 1
    assert blanked(page.text) == blanked(usual.text)
    assert not is_in(stranger)
    assert told(app)[1:] == [("sign_in_failed", {"how": how})]


def test_the_trail_keeps_no_address_that_is_no_accounts(
    app: Flask, stranger: StrictClient
) -> None:
    sign_in(stranger, "my-own-password-by-mistake@orgdesk.example")
    (row,) = trail(app)
    assert (row.event, row.actor, row.subject) == ("sign_in_failed", "", "")
    assert "mistake" not in row.detail


@pytest.mark.parametrize(
    ("email", "password"), [("", PASSWORD), (ADMIN, ""), ("no address", PASSWORD)]
)
def test_a_form_that_is_not_filled_in_is_no_try(
    app: Flask, stranger: StrictClient, email: str, password: str
) -> None:
    assert SAME_SENTENCE in sign_in(stranger, email, password).text
    assert not is_in(stranger)
    assert told(app) == []


@pytest.mark.parametrize("how", ["query", "field"])
@pytest.mark.parametrize("path", ["/users", "/?q=a&sort=name", "/audit?actor=x%26y"])
def test_after_the_sign_in_comes_the_page_that_was_asked_for(
    app: Flask, stranger: StrictClient, path: str, how: str
) -> None:
    asked = stranger.get(path).location
    assert asked == f"/sign-in?next={quote(path, safe='/?')}"
    field = {"next": path} if how == "field" else {}
    page = asked if how == "query" else "/sign-in"
    answer = fill(stranger, page, email=ADMIN, password=PASSWORD, **field)
    assert answer.location == path


@pytest.mark.parametrize("how", ["query", "field"])
@pytest.mark.parametrize(
    "elsewhere",
    [
        "//evil.example",
        "///evil.example",
        "////evil.example/x",
        "https://evil.example",
        "https:evil.example",
        "https:/evil.example",
        "HTTPS://evil.example/sign-in",
        "\\\\evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "\x19////evil.example",
        "javascript:alert(1)",
        "java\tscript:alert(1)",
        "data:text/html,x",
        "http://localhost@evil.example/",
        "http://localhost.evil.example/",
        "http://localhost:80@evil.example/",
        "%2f%2fevil.example",
        "%5c%5cevil.example",
        "/%09/evil.example",
        "//localhost\\@evil.example",
        "//evil.example\\@localhost",
    ],
)
def test_the_sign_in_leads_nowhere_else(
    stranger: StrictClient, elsewhere: str, how: str
) -> None:
    field = {"next": elsewhere} if how == "field" else {}
    page = f"/sign-in?next={quote(elsewhere, safe='')}"
    answer = fill(
        stranger,
        page if how == "query" else "/sign-in",
        email=ADMIN,
        password=PASSWORD,
        **field,
    )
    assert origin_of(answer.location or "/") == ("", "")
    assert answer.location or "outside the domain" in answer.text


def origin_of(location: str) -> tuple[str, str]:
    """Return scheme and host as a browser reads them, see the URL Standard."""
    seen = re.sub(r"[\t\r\n]", "", location).strip("".join(map(chr, range(33))))
    scheme, host, *_ = urlsplit(re.sub(r"^[/\\]{2,}", "//", seen.replace("\\", "/")))
    return scheme, host


def test_who_is_in_needs_no_door_and_stays_in(client: StrictClient) -> None:
    for path in ("/sign-in", "/sign-in?next=//evil.example", *STEPS[:4]):
        assert client.get(path).location == "/"
        assert is_in(client)


# --- what a password may be ------------------------------------------------


def change_password(
    browser: StrictClient, new: str, old: str = PASSWORD, again: str | None = None
) -> TestResponse:
    return fill(
        browser,
        "/account/password",
        password=old,
        new_password=new,
        new_password_confirm=new if again is None else again,
    )


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        ("", "Password not provided"),
        ("short words", "at least 12"),
        ("password1234", "easily guessed"),
        ("qwertyuiop123", "easily guessed"),
        ("aaaaaaaaaaaaaaaaaaaa", "easily guessed"),
        (ADMIN, "easily guessed"),
        (f"{ADMIN}1", "easily guessed"),
        (f"{OTHER_PASSWORD} {'x7 ' * 40}"[:129], "At most 128"),
        ("x" * 5_000, "At most 128"),
    ],
)
def test_a_password_that_will_not_do(
    app: Flask, client: StrictClient, new: str, sentence: str
) -> None:
    page = change_password(client, new)
    assert page.status_code == 200
    assert sentence in page.text
    assert told(app) == []


@pytest.mark.parametrize(
    ("new", "typed", "opens"),
    [
        (OTHER_PASSWORD, OTHER_PASSWORD, True),
        (OTHER_PASSWORD, OTHER_PASSWORD.title(), False),
        (f"{OTHER_PASSWORD} {'x7 ' * 40}"[:127] + "a",) * 2 + (True,),
        (
            f"{OTHER_PASSWORD} {'x7 ' * 40}"[:127] + "a",
            f"{OTHER_PASSWORD} {'x7 ' * 40}"[:127] + "b",
            False,
        ),
        (
            "ﬁve Ångström über côte",
            "five A\u030angstro\u0308m u\u0308ber co\u0302te",
            True,
        ),
        (f"  {OTHER_PASSWORD}  ", f"  {OTHER_PASSWORD}  ", True),
        (f"  {OTHER_PASSWORD}  ", OTHER_PASSWORD, False),
    ],
)
def test_a_password_is_all_of_its_characters(
    client: StrictClient, stranger: StrictClient, new: str, typed: str, opens: bool
) -> None:
    assert change_password(client, new).location == "/account"
    sign_in(stranger, password=typed)
    assert is_in(stranger) is opens


def test_a_new_password_ends_the_other_browsers_and_keeps_this_one(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    other, before = browser_of(app), twin(app, client)
    assert change_password(client, OTHER_PASSWORD).location == "/account"
    assert is_in(client)
    assert not is_in(other)
    assert not is_in(before)
    sign_in(stranger)
    assert not is_in(stranger)
    assert [name for name, _ in told(app)].count("password_changed") == 1


@pytest.mark.parametrize(
    ("old", "again"), [("not the old one", None), ("", None), (PASSWORD, "another")]
)
def test_a_new_password_takes_the_old_one_and_is_typed_twice(
    app: Flask, client: StrictClient, old: str, again: str | None
) -> None:
    other = browser_of(app)
    page = change_password(client, OTHER_PASSWORD, old, again)
    assert page.status_code == 200
    assert 'aria-invalid="true"' in page.text
    assert is_in(other)
    assert "password_changed" not in dict(told(app))


# --- the end of a sign-in --------------------------------------------------


def test_signing_out_ends_the_cookie_itself(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    copied = twin(app, client)
    assert is_in(copied)
    assert fill(client, "/account", "/sign-out").location == "/sign-in"
    assert not is_in(client)
    assert not is_in(copied)
    assert told(app) == [("sign_out", {})]
    assert trail(app)[0].actor == ADMIN


def test_signing_out_leaves_other_browsers(app: Flask, client: StrictClient) -> None:
    other = browser_of(app)
    fill(client, "/account", "/sign-out")
    assert is_in(other)


def test_signing_out_everywhere_ends_both_browsers_and_nobody_elses(
    app: Flask, client: StrictClient
) -> None:
    other, ada = browser_of(app), browser_of(app, ADA)
    answer = fill(client, "/account", "/account/sign-out-everywhere")
    assert answer.location == "/sign-in"
    assert [is_in(browser) for browser in (client, other, ada)] == [False, False, True]
    assert told(app) == [("sign_out", {"where": "everywhere"})]


def test_a_deactivated_user_is_out_at_once(app: Flask, client: StrictClient) -> None:
    ada = browser_of(app, ADA, Role.OPERATOR)
    assert is_in(ada)
    client.submit("/users/2/deactivation")
    assert not is_in(ada)
    client.submit("/users/2/reactivation")
    assert not is_in(ada)
    sign_in(ada, ADA)
    assert is_in(ada)


def test_another_role_counts_from_the_next_click(
    app: Flask, client: StrictClient
) -> None:
    ada = browser_of(app, ADA, Role.VIEWER)
    assert ada.get("/users").status_code == 403
    client.submit("/users/2/role", role="admin")
    assert ada.get("/users").status_code == 200
    client.submit("/users/2/role", role="viewer")
    assert ada.get("/users").status_code == 403


@pytest.mark.parametrize(
    ("column", "longest"), [("seen_at", SignIn.IDLE), ("created_at", SignIn.LONGEST)]
)
@pytest.mark.parametrize("alive", [True, False])
def test_a_sign_in_ends_by_itself(
    app: Flask, client: StrictClient, column: str, longest: timedelta, alive: bool
) -> None:
    minute = timedelta(minutes=1)
    moment = now() - longest + (minute if alive else -minute)
    with app.app_context():
        db.session.execute(db.update(SignIn).values({column: moment}))
        db.session.commit()
    assert is_in(client) is alive


def test_a_click_keeps_a_sign_in_from_being_idle(
    app: Flask, client: StrictClient
) -> None:
    before = now() - SignIn.IDLE / 2
    with app.app_context():
        db.session.execute(db.update(SignIn).values(seen_at=before))
        db.session.commit()
    client.get("/")
    with app.app_context():
        assert db.session.scalars(db.select(SignIn.seen_at)).one() > now() - timedelta(
            minutes=1
        )


# --- fresh enough ----------------------------------------------------------

GUARDED = [
    ("/applications/1/secret", {"act": "reveal", "field": "consumer_secret"}),
    ("/applications/1/secret", {"act": "copy", "field": "consumer_secret"}),
    ("/applications/1/export", {}),
    ("/users/invite", {"email": "new@orgdesk.example", "role": "viewer"}),
    ("/users/2/link", {}),
    ("/users/2/role", {"role": "operator"}),
    ("/users/2/deactivation", {}),
    ("/users/2/reactivation", {}),
]
FROM = {"Referer": "http://localhost/applications/1?from=here"}


@pytest.fixture
def stale(app: Flask, client: StrictClient) -> StrictClient:
    """An admin's browser that signed in more than ten minutes ago, and things to do."""
    add_application(app, consumer_secret="shown-on-purpose")
    browser_of(app, ADA, Role.VIEWER)
    age(client)
    return client


def age(browser: StrictClient, seconds: float = FRESH.total_seconds() + 1) -> None:
    with browser.session_transaction() as session:
        session["fs_paa"] = time.time() - seconds


def confirm(browser: StrictClient, page: str = CONFIRM, **form: str) -> TestResponse:
    return fill(browser, page, **({"password": PASSWORD} | form))


@pytest.mark.parametrize(("path", "form"), GUARDED)
def test_what_matters_asks_again_and_works_once_confirmed(
    app: Flask, stale: StrictClient, path: str, form: dict[str, str]
) -> None:
    form |= {"csrf_token": stale.csrf("/account")}
    asked = stale.post(path, data=form, headers=FROM)
    assert asked.status_code == 303
    assert asked.location == f"{CONFIRM}?next=/applications/1?from%3Dhere"
    assert told(app) == []
    assert confirm(stale, asked.location).location == "/applications/1?from=here"
    assert stale.post(path, data=form, headers=FROM).status_code in (200, 303)
    assert len(told(app)) == 1


@pytest.mark.parametrize(("path", "form"), GUARDED)
def test_htmx_is_told_to_move_the_window(
    stale: StrictClient, path: str, form: dict[str, str]
) -> None:
    form |= {"csrf_token": stale.csrf("/account")}
    answer = stale.post(path, data=form, headers=FROM | {"HX-Request": "true"})
    assert (answer.status_code, answer.data) == (204, b"")
    target = f"{CONFIRM}?next=/applications/1?from%3Dhere"
    assert answer.headers["HX-Redirect"] == target


@pytest.mark.parametrize(("seconds", "code"), [(590, 200), (601, 303)])
def test_ten_minutes_are_fresh_and_no_more(
    stale: StrictClient, seconds: int, code: int
) -> None:
    age(stale, seconds)
    assert stale.submit("/applications/1/export").status_code == code


@pytest.mark.parametrize(
    "page", ["/applications/1/edit", "/users", "/users/invite", "/account", "/"]
)
def test_looking_asks_nobody_again(stale: StrictClient, page: str) -> None:
    assert stale.get(page).status_code == 200


@pytest.mark.parametrize("page", [APP, CODES, "/account/passkeys"])
def test_what_one_signs_in_with_asks_again(stale: StrictClient, page: str) -> None:
    asked = stale.get(page)
    assert asked.location == f"{CONFIRM}?next={page}"
    assert confirm(stale, asked.location).location == page
    assert stale.get(page).status_code == 200


def test_a_wrong_password_confirms_nothing_and_is_recorded(
    app: Flask, stale: StrictClient
) -> None:
    page = confirm(stale, password="not the password")
    assert page.status_code == 200
    assert 'aria-invalid="true"' in page.text
    assert stale.submit("/applications/1/export").status_code == 303
    assert told(app) == [("sign_in_failed", {"how": "password"})]
    assert (trail(app)[0].actor, trail(app)[0].subject) == (ADMIN, ADMIN)


@pytest.mark.parametrize(
    "referrer", ["https://evil.example/x", "http://localhost.evil.example/x", ""]
)
def test_the_confirmation_leads_nowhere_else(
    stale: StrictClient, referrer: str
) -> None:
    form, headers = {"csrf_token": stale.csrf("/account")}, {"Referer": referrer}
    asked = stale.post("/applications/1/export", data=form, headers=headers)
    answer = confirm(stale, asked.location)
    assert origin_of(answer.location or "/") == ("", "")


# --- authenticator codes ---------------------------------------------------


def set_up_app(browser: StrictClient) -> TOTP:
    """Set an authenticator app up; return the app."""
    page = fill(browser, APP, setup="authenticator").text
    phone = TOTP(key=found(r"Key: <code>([^<]+)</code>", page))
    token = found(r'action="(/account/authenticator/[^"]+)"', page)
    answer = fill(browser, "/account", token, code=phone.generate().token)
    assert answer.location == "/account"
    return phone


def found(pattern: str, page: str) -> str:
    match = re.search(pattern, page)
    assert match, page
    return match[1]


@pytest.fixture
def phone(app: Flask, client: StrictClient) -> TOTP:
    """The authenticator app of the admin, who set it up half a minute ago."""
    phone = set_up_app(client)
    change(app, totp_last_counter=0)
    return phone


def type_code(browser: StrictClient, code: str) -> TestResponse:
    return fill(browser, "/sign-in/code", code=code)


def test_a_code_of_the_app_comes_after_the_password(
    app: Flask, phone: TOTP, stranger: StrictClient
) -> None:
    assert sign_in(stranger, page="/sign-in?next=/users").location == (
        "/sign-in/code?next=/users"
    )
    assert not is_in(stranger)
    code = phone.generate().token
    answer = fill(stranger, "/sign-in/code?next=/users", code=code)
    assert answer.location == "/users"
    assert is_in(stranger)
    assert told(app) == [
        ("second_factor_changed", {"change": "authenticator app set up"}),
        ("sign_in", {"how": "password, authenticator app"}),
    ]


@pytest.mark.parametrize("page", ["/", "/account", "/users", CONFIRM, APP, CODES])
def test_the_password_alone_opens_no_page(
    phone: TOTP, stranger: StrictClient, page: str
) -> None:
    sign_in(stranger)
    assert stranger.get(page).location == f"/sign-in?next={page}"
    form = {"csrf_token": stranger.csrf("/sign-in/code"), "setup": "disable"}
    assert stranger.post(page, data=form).status_code in (303, 405)
    assert not is_in(stranger)


@pytest.mark.parametrize("code", ["000000", "", "abc", "1234567", "１２３４５６"])
def test_a_wrong_code_is_refused_and_recorded(
    app: Flask, phone: TOTP, stranger: StrictClient, code: str
) -> None:
    sign_in(stranger)
    page = type_code(stranger, code)
    assert page.status_code == 200
    assert 'aria-invalid="true"' in page.text
    assert not is_in(stranger)
    failed = [("sign_in_failed", {"how": "code"})] if code else []
    assert told(app)[1:] == failed


def send_at_once(browsers: list[StrictClient], page: str, codes: list[str]) -> int:
    """Sign in with the password, then send the codes together; count who is in."""
    barrier = threading.Barrier(len(browsers))
    for browser in browsers:
        sign_in(browser)

    def send(which: int) -> None:
        form = {"code": codes[which], "csrf_token": browsers[which].csrf(page)}
        barrier.wait(10)
        browsers[which].post(page, data=form)

    run_at_once(len(browsers), send)
    return [is_in(browser) for browser in browsers].count(True)


def test_a_code_works_once(app: Flask, phone: TOTP, stranger: StrictClient) -> None:
    code, thief = phone.generate().token, stranger_of(app)
    for browser in (stranger, thief):
        sign_in(browser)
        type_code(browser, code)
    assert (is_in(stranger), is_in(thief)) == (True, False)
    assert [name for name, _ in told(app)[1:]] == ["sign_in", "sign_in_failed"]


def test_a_code_that_four_browsers_send_at_once_lets_one_in(
    app: Flask, phone: TOTP
) -> None:
    code, browsers = phone.generate().token, [stranger_of(app) for _ in range(4)]
    assert send_at_once(browsers, "/sign-in/code", [code] * 4) == 1


def test_an_app_that_was_never_finished_changes_nothing(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    page = fill(client, APP, setup="authenticator").text
    token = found(r'action="(/account/authenticator/[^"]+)"', page)
    assert fill(client, "/account", token, code="000000").location == APP
    assert sign_in(stranger).location == "/"


def test_the_app_can_be_removed(
    app: Flask, phone: TOTP, client: StrictClient, stranger: StrictClient
) -> None:
    assert fill(client, APP, setup="disable").location == "/account"
    assert sign_in(stranger).location == "/"
    change_of = {"change": "authenticator app removed"}
    assert told(app)[1] == ("second_factor_changed", change_of)


def test_the_key_of_the_app_is_stored_sealed_alone(
    app: Flask, tmp_path: Path, client: StrictClient
) -> None:
    key = set_up_app(client).base32_key
    with app.app_context():
        stored = db.session.execute(db.text("SELECT totp_secret FROM user_account"))
        assert str(stored.scalar()).startswith("gAAAA")
    for file in tmp_path.glob("orgdesk.db*"):
        assert key.encode() not in file.read_bytes()
    with client.session_transaction() as session:
        assert key not in str(dict(session))


def test_nobody_sees_the_key_again(phone: TOTP, client: StrictClient) -> None:
    for page in (APP, "/account", f"{APP}?setup=authenticator"):
        shown = client.get(page).text.replace(" ", "").replace("-", "")
        assert phone.base32_key not in shown


def test_keys_that_are_rotated_leave_the_second_factor_working(
    app: Flask,
    phone: TOTP,
    client: StrictClient,
    stranger: StrictClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = make_codes(client)[0]
    key_file, ring = tmp_path / "vault.key", app.extensions["orgdesk_vault"]
    key_file.write_text(ring.keys[0])
    monkeypatch.setattr(ring, "file", key_file)
    before = sealed(app)
    result = app.test_cli_runner().invoke(args=["keys", "rotate", "--grace", "0"])
    assert "2 values were encrypted anew" in result.output
    assert not set(sealed(app)) & set(before)
    sign_in(stranger)
    assert type_code(stranger, phone.generate().token).location == "/"
    fill(stranger, "/account", "/sign-out")
    sign_in(stranger)
    assert type_recovery_code(stranger, code).location == "/"


def sealed(app: Flask) -> list[str]:
    with app.app_context():
        query = db.text("SELECT totp_secret, recovery_codes FROM user_account")
        return list(map(str, db.session.execute(query).one()))


def test_what_no_key_opens_lets_nobody_in_and_is_no_crash(
    app: Flask, phone: TOTP, client: StrictClient, stranger: StrictClient
) -> None:
    code = make_codes(client)[0]
    other = Sealed(Fernet(Fernet.generate_key()).encrypt(b"[]").decode())
    change(app, totp_secret=other, recovery_codes=other)
    sign_in(stranger)
    assert 'aria-invalid="true"' in type_code(stranger, phone.generate().token).text
    assert 'aria-invalid="true"' in type_recovery_code(stranger, code).text
    assert not is_in(stranger)
    for page in ("/account", APP, CODES, "/users"):
        assert client.get(page).status_code == 200
    assert fill(client, APP, setup="disable").location == "/account"


# --- recovery codes --------------------------------------------------------


def make_codes(browser: StrictClient) -> list[str]:
    page = fill(browser, CODES, generate_new_codes="1").text
    return re.findall(r"<li><code>([^<]+)</code></li>", page)


def type_recovery_code(browser: StrictClient, code: str) -> TestResponse:
    return fill(browser, "/sign-in/recovery-code", code=code)


def test_eight_recovery_codes_are_shown_once(client: StrictClient) -> None:
    codes = make_codes(client)
    assert len(set(codes)) == 8
    assert all(len(code) >= 12 for code in codes)
    for page in (CODES, f"{CODES}?show_codes=1", f"{CODES}?generate_new_codes=1"):
        shown = client.get(page).text
        assert not [code for code in codes if code in shown]
    assert "8 left" in client.get("/account").text


def test_each_recovery_code_works_once_and_the_trail_counts_them(
    app: Flask, phone: TOTP, client: StrictClient
) -> None:
    first, second, *_ = make_codes(client)
    let_in = list[bool]()
    for code in (first, second, first, "no-such-code"):
        browser = stranger_of(app)
        sign_in(browser)
        type_recovery_code(browser, code)
        let_in.append(is_in(browser))
    assert let_in == [True, True, False, False]
    assert [(name, detail) for name, detail in told(app)[1:] if name != "sign_in"] == [
        ("second_factor_changed", {"change": "recovery codes made"}),
        ("recovery_code_used", {"left": 7}),
        ("recovery_code_used", {"left": 6}),
        ("sign_in_failed", {"how": "recovery code"}),
        ("sign_in_failed", {"how": "recovery code"}),
    ]


def test_new_recovery_codes_make_the_old_ones_worthless(
    phone: TOTP, client: StrictClient, stranger: StrictClient
) -> None:
    (old, *_), (new, *_) = make_codes(client), make_codes(client)
    sign_in(stranger)
    assert type_recovery_code(stranger, old).status_code == 200
    assert type_recovery_code(stranger, new).location == "/"


def test_a_recovery_code_is_no_password(
    client: StrictClient, stranger: StrictClient
) -> None:
    code = make_codes(client)[0]
    assert stranger.get("/sign-in/recovery-code").location == "/sign-in"
    sign_in(stranger, password=code)
    assert not is_in(stranger)


def test_one_recovery_code_at_once_lets_one_browser_in(
    app: Flask, phone: TOTP, client: StrictClient
) -> None:
    code = make_codes(client)[0]
    browsers = [stranger_of(app) for _ in range(4)]
    assert send_at_once(browsers, "/sign-in/recovery-code", [code] * 4) == 1


def test_four_recovery_codes_at_once_are_all_used_up(
    app: Flask, phone: TOTP, client: StrictClient
) -> None:
    codes = make_codes(client)[:4]
    browsers = [stranger_of(app) for _ in range(4)]
    used = send_at_once(browsers, "/sign-in/recovery-code", codes)
    with app.app_context():
        user = User.find(ADMIN)
        assert user
        assert len(user.mf_recovery_codes) == 8 - used


# --- what the library brings besides ---------------------------------------

LIBRARYS = (
    *("/sign-in", *STEPS, "/sign-in/no-code", "/sign-out"),
    *(CONFIRM, f"{CONFIRM}/passkey", f"{CONFIRM}/passkey/x"),
    *("/account/password", APP, f"{APP}/x", CODES, "/account/passkeys"),
    *("/account/passkeys/x", "/account/passkeys/delete"),
)
"""Every page of Flask-Security, see `test_no_page_of_the_library_is_forgotten`."""


def test_no_page_of_the_library_is_forgotten(app: Flask) -> None:
    rules = {
        rule.rule.replace("<token>", "x")
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("security.")
    }
    assert rules == set(LIBRARYS)


@pytest.mark.parametrize("who", ["stranger", "half", "admin"])
@pytest.mark.parametrize("path", LIBRARYS)
def test_no_page_of_the_library_crashes_or_answers_in_json(
    app: Flask, phone: TOTP, path: str, who: str
) -> None:
    browser = browser_of(app) if who == "admin" else stranger_of(app)
    if who == "half":
        sign_in(browser)
    page = "/account" if who == "admin" else "/sign-in/passkey"
    form = {"csrf_token": browser.csrf(page), "help_setup": "x", "credential": "{}"}
    wanted = {"Accept": "application/json"}
    for answer in (
        browser.post(path, data=form, headers=wanted),
        browser.post(path, json=form, headers=wanted),
        browser.get(path, headers=wanted),
        browser.head(path),
    ):
        assert answer.status_code < 500
        assert answer.mimetype == "text/html"


@pytest.mark.parametrize("path", LIBRARYS)
def test_no_form_of_the_library_goes_without_its_token(
    app: Flask, client: StrictClient, path: str
) -> None:
    led_away = path in STEPS  # who is signed in has nothing to do there
    for form in ({}, {"csrf_token": "made up"}):
        assert client.post(path, data=form).status_code == (303 if led_away else 400)
    assert is_in(client)
    assert told(app) == []


@pytest.mark.parametrize("path", ["/sign-in", *STEPS])
def test_no_form_of_a_stranger_goes_without_its_token(
    app: Flask, stranger: StrictClient, path: str
) -> None:
    form = {"email": ADMIN, "password": PASSWORD}
    assert stranger.post(path, data=form).status_code == 400
    assert stranger.post(path, json=form).status_code == 415
    assert not is_in(stranger)


@pytest.mark.parametrize("path", ["/", "/account", "/account/password", "/audit.csv"])
def test_only_the_session_signs_in(
    app: Flask, stranger: StrictClient, path: str
) -> None:
    with app.app_context():
        user = User.find(ADMIN)
        assert user
        token = str(user.get_auth_token())
    ways: list[dict[str, Any]] = [
        {"headers": {"Authentication-Token": token}},
        {"query_string": {"auth_token": token}},
        {"headers": {"Authorization": f"Bearer {token}"}},
        {"auth": (ADMIN, PASSWORD)},
    ]
    for way in ways:
        answer = stranger.get(path, **way)
        assert answer.status_code == 303
        assert answer.location.startswith("/sign-in?next=")
