"""Users: how they come in by a link, what an admin changes, and `flask users`."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import Result
from flask import Flask
from werkzeug.test import TestResponse

import users
from app import create_app
from database import db, now
from models import Invitation, Passkey, Role, User
from tests.conftest import (
    ADMIN,
    PASSWORD,
    StrictClient,
    add_user,
    browser_of,
)
from tests.test_audit import run_at_once, told, trail
from tests.test_sign_in import (
    ADA,
    OTHER_PASSWORD,
    fill,
    is_in,
    make_codes,
    set_up_app,
    sign_in,
    stranger_of,
)

BOB = "bob@orgdesk.example"
OVER = "This link is over"
LAST_ADMIN = "There has to be an admin who can sign in"


def invite(client: StrictClient, email: str = BOB, role: str = "viewer") -> str:
    """Invite somebody by the form; return the path of the link."""
    return link_in(fill(client, "/users/invite", email=email, role=role))


def link_in(page: TestResponse) -> str:
    found = re.search(r"http://localhost:8000(/welcome/[\w-]{43})\b", page.text)
    assert found, page.text
    return found[1]


def come_in(
    browser: StrictClient, link: str, password: str = PASSWORD, **form: str
) -> TestResponse:
    return fill(browser, link, password=password, **form)


def everyone(app: Flask) -> dict[str, tuple[str, bool]]:
    """Return each user's role, and whether they can sign in."""
    with app.app_context():
        rows = db.session.scalars(db.select(User).order_by(User.email))
        return {user.email: (user.role.value, user.active) for user in rows}


def names(app: Flask) -> list[str]:
    return [name for name, _ in told(app)]


# --- one-time links --------------------------------------------------------


def test_a_link_makes_a_user_who_is_signed_in(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    answer = come_in(stranger, invite(client, role="operator"))
    assert (answer.status_code, answer.location) == (303, "/")
    assert BOB in stranger.get("/account").text
    assert everyone(app)[BOB] == ("operator", True)
    assert told(app) == [
        ("user_invited", {"email": BOB, "role": "operator"}),
        ("invitation_accepted", {"role": "operator"}),
        ("sign_in", {"how": "one-time link"}),
    ]
    assert [row.actor for row in trail(app)] == [ADMIN, BOB, BOB]


def test_looking_at_a_link_does_not_use_it_up(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link = invite(client)
    for _ in range(3):
        assert "You are invited as viewer" in stranger.get(link).text
        assert stranger.head(link).status_code == 405
    assert BOB not in everyone(app)
    assert come_in(stranger, link).status_code == 303


def test_a_link_works_once(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link, form = invite(client), {"password": PASSWORD}
    come_in(stranger, link)
    other = stranger_of(app)
    form["csrf_token"] = other.csrf("/sign-in")
    for answer in (other.get(link), other.post(link, data=form)):
        assert answer.status_code == 410
        assert OVER in answer.text
    assert not is_in(other)
    assert len(told(app)) == 3


@pytest.mark.parametrize("seconds", [-5, 5])
def test_a_link_lives_three_days(
    app: Flask, client: StrictClient, stranger: StrictClient, seconds: int
) -> None:
    link = invite(client)
    with app.app_context():
        link_row = db.session.scalars(db.select(Invitation)).one()
        assert link_row.expires_at - link_row.created_at > timedelta(days=2.99)
        link_row.expires_at = now() + timedelta(seconds=seconds)
        db.session.commit()
    page = stranger.get(link)
    assert (page.status_code, OVER in page.text) == (
        (200, False) if seconds > 0 else (410, True)
    )


def test_a_form_that_was_open_when_its_link_ended_makes_nobody(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link = invite(client)
    form = {"password": PASSWORD, "csrf_token": stranger.csrf(link)}
    invite(client)
    answer = stranger.post(link, data=form)
    assert (answer.status_code, OVER in answer.text) == (410, True)
    assert BOB not in everyone(app)


def test_a_newer_link_replaces_the_one_before_and_nobody_elses(
    client: StrictClient, stranger: StrictClient
) -> None:
    adas, before = invite(client, ADA), invite(client)
    newer = invite(client, BOB.upper())
    codes = [stranger.get(link).status_code for link in (adas, before, newer)]
    assert codes == [200, 410, 200]


@pytest.mark.parametrize("token", ["x", "x" * 43, "x" * 5_000, "ü", "%00", "."])
def test_a_link_that_never_was_is_over(stranger: StrictClient, token: str) -> None:
    assert stranger.get(f"/welcome/{token}").status_code == 410


def test_a_link_is_stored_as_a_hash_alone(
    app: Flask, client: StrictClient, tmp_path: Path
) -> None:
    token = invite(client).removeprefix("/welcome/")
    for file in tmp_path.glob("orgdesk.db*"):
        assert token.encode() not in file.read_bytes()
    assert token not in client.get("/audit").text


def test_two_links_for_one_address_make_one_user(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link = invite(client)
    with app.app_context():
        add_user(BOB, Role.ADMIN)
    answer = come_in(stranger, link, OTHER_PASSWORD)
    assert (answer.status_code, OVER in answer.text) == (410, True)
    assert everyone(app)[BOB] == ("admin", True)
    assert not is_in(stranger)


@pytest.mark.parametrize(
    "password", ["", "short words", "password1234", BOB, "x" * 129]
)
def test_a_password_that_will_not_do_leaves_the_link_as_it_was(
    app: Flask, client: StrictClient, stranger: StrictClient, password: str
) -> None:
    link = invite(client)
    page = come_in(stranger, link, password)
    assert page.status_code == 422
    assert 'aria-invalid="true"' in page.text
    assert BOB not in everyone(app)
    assert come_in(stranger, link).status_code == 303


def test_nobody_comes_in_as_somebody_else(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    come_in(stranger, invite(client), email=ADA, role="admin")
    assert ADA not in everyone(app)
    assert everyone(app)[BOB] == ("viewer", True)


def test_a_link_takes_the_token_of_its_form(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    link = invite(client)
    for data in ({}, {"csrf_token": "made up"}):
        form = {"password": PASSWORD} | data
        assert stranger.post(link, data=form).status_code == 400
    assert stranger.get(link).status_code == 200


def together(app: Flask, link: str, number: int = 4) -> list[int]:
    """Send the form of one link from several browsers at once."""
    browsers = [stranger_of(app) for _ in range(number)]
    barrier, codes = threading.Barrier(number), list[int]()

    def send(which: int) -> None:
        form = {"password": PASSWORD, "csrf_token": browsers[which].csrf(link)}
        barrier.wait(10)
        codes.append(browsers[which].post(link, data=form).status_code)

    run_at_once(number, send)
    assert [is_in(browser) for browser in browsers].count(True) == codes.count(303)
    return sorted(codes)


def test_four_who_use_a_link_at_once_are_one_user(
    app: Flask, client: StrictClient
) -> None:
    assert together(app, invite(client)) == [303, 410, 410, 410]
    assert list(everyone(app)) == [ADMIN, BOB]
    assert names(app).count("invitation_accepted") == 1


def test_four_who_use_a_new_link_at_once_are_in_once(
    app: Flask, client: StrictClient
) -> None:
    browser_of(app, ADA, Role.VIEWER)
    link = link_in(client.submit("/users/2/link"))
    assert together(app, link) == [303, 410, 410, 410]


# --- the first admin -------------------------------------------------------


@pytest.fixture
def first_link(app: Flask) -> str:
    """The link of a start without a user."""
    with app.app_context():
        db.session.execute(db.delete(User))
        db.session.commit()
        token = users.invite_first_admin()
    assert token
    return f"/welcome/{token}"


def test_the_first_admin_comes_in_by_any_address(
    app: Flask, first_link: str, stranger: StrictClient
) -> None:
    assert "Make the first admin" in stranger.get(first_link).text
    assert come_in(stranger, first_link, email=f" {ADA.upper()} ").status_code == 303
    assert everyone(app) == {ADA: ("admin", True)}
    assert stranger.get("/users").status_code == 200


@pytest.mark.parametrize("email", ["", "ada", "ada@", "a b@c.example", "a@b@c.example"])
def test_the_first_admin_has_an_address(
    app: Flask, first_link: str, stranger: StrictClient, email: str
) -> None:
    assert come_in(stranger, first_link, email=email).status_code == 422
    assert everyone(app) == {}


def test_where_there_is_a_user_there_is_no_first_admin(
    app: Flask, first_link: str, stranger: StrictClient
) -> None:
    form = {"email": BOB, "password": PASSWORD, "csrf_token": stranger.csrf(first_link)}
    with app.app_context():
        add_user(ADA, Role.VIEWER)
        assert users.invite_first_admin() is None
    answer = stranger.post(first_link, data=form)
    assert (answer.status_code, OVER in answer.text) == (410, True)
    assert list(everyone(app)) == [ADA]


# --- inviting --------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"email": ""}, "Type the address"),
        ({"email": "bob"}, "must have an @-sign"),
        ({"email": f"{'b' * 300}@orgdesk.example"}, "Field cannot be longer"),
        ({"email": ADMIN}, "This is a user already."),
        ({"email": f"  {ADMIN.upper()} "}, "This is a user already."),
        ({"role": "emperor"}, "Not a valid choice"),
    ],
)
def test_an_invitation_that_will_not_do_says_why(
    app: Flask, client: StrictClient, form: dict[str, str], sentence: str
) -> None:
    page = fill(client, "/users/invite", **({"email": BOB, "role": "viewer"} | form))
    assert page.status_code == 422
    assert sentence in page.text
    assert "/welcome/" not in page.text
    assert told(app) == []


def test_the_link_has_the_address_that_browsers_use(
    empty_database: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "orgdesk.db").write_bytes(empty_database)
    monkeypatch.setenv("ORGDESK_INSTANCE", str(tmp_path))
    monkeypatch.setenv("ORGDESK_EXTERNAL_URL", "https://orgdesk.example.com")
    app = create_app({"TESTING": True})
    link = run(app, "invite", BOB).output
    assert link.startswith("https://orgdesk.example.com/welcome/")
    with app.app_context():
        db.engine.dispose()


# --- a new start -----------------------------------------------------------


def test_a_new_link_lets_who_is_locked_out_start_afresh(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    ada = browser_of(app, ADA, Role.OPERATOR)
    set_up_app(ada)
    make_codes(ada)
    add_passkey(app, ADA)
    link = link_in(client.submit("/users/2/link"))
    assert is_in(ada)
    assert "Choose a new password" in stranger.get(link).text
    assert come_in(stranger, link, OTHER_PASSWORD).status_code == 303
    assert (is_in(ada), is_in(stranger)) == (False, True)
    with app.app_context():
        user = User.find(ADA)
        assert user
        assert (user.second_factors, user.mf_recovery_codes) == ([], [])
        assert (user.tf_primary_method, user.role) == (None, Role.OPERATOR)
        assert db.session.scalars(db.select(Passkey)).all() == []
    assert sign_in(ada, ADA).status_code == 200
    assert sign_in(ada, ADA, OTHER_PASSWORD).location == "/"


def add_passkey(app: Flask, email: str) -> None:
    with app.app_context():
        passkey = Passkey(
            name="Phone",
            credential_id=b"id",
            public_key=b"key",
            backup_state=False,
            device_type="single_device",
            usage="first",
            lastuse_datetime=now(),
        )
        user = User.find(email)
        assert user
        user.webauthn.append(passkey)
        db.session.commit()


def test_a_new_link_is_of_its_user_alone_and_is_recorded(
    app: Flask, client: StrictClient
) -> None:
    browser_of(app, ADA, Role.VIEWER)
    client.submit("/users/2/link")
    assert told(app) == [("user_invited", {"again": True})]
    assert (trail(app)[0].actor, trail(app)[0].subject) == (ADMIN, ADA)


def test_the_newest_link_of_a_user_is_the_one_that_works(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    browser_of(app, ADA, Role.VIEWER)
    links = [link_in(client.submit("/users/2/link")) for _ in range(3)]
    codes = [stranger.get(link).status_code for link in links]
    assert codes == [410, 410, 200]


def test_the_link_of_a_user_who_is_deactivated_is_over(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    browser_of(app, ADA, Role.ADMIN)
    link = link_in(client.submit("/users/2/link"))
    form = {"password": OTHER_PASSWORD, "csrf_token": stranger.csrf(link)}
    client.submit("/users/2/deactivation")
    for answer in (stranger.get(link), stranger.post(link, data=form)):
        assert (answer.status_code, OVER in answer.text) == (410, True)
    client.submit("/users/2/reactivation")
    assert stranger.get(link).status_code == 410


# --- roles, and the last admin ---------------------------------------------


def test_a_role_is_changed_and_recorded(app: Flask, client: StrictClient) -> None:
    browser_of(app, ADA, Role.VIEWER)
    assert client.submit("/users/2/role", role="operator").location == "/users"
    assert f"{ADA} has the role operator now." in client.get("/users").text
    assert everyone(app)[ADA] == ("operator", True)
    detail = {"role_before": "viewer", "role": "operator"}
    assert told(app) == [("user_changed", detail)]


@pytest.mark.parametrize(
    ("path", "form", "code"),
    [
        ("/users/2/role", {"role": "emperor"}, 400),
        ("/users/2/role", {"role": ""}, 400),
        ("/users/2/role", {}, 400),
        ("/users/3/role", {"role": "viewer"}, 404),
        ("/users/3/link", {}, 404),
        ("/users/3/deactivation", {}, 404),
        ("/users/3/reactivation", {}, 404),
    ],
)
def test_what_makes_no_sense_changes_nobody(
    app: Flask, client: StrictClient, path: str, form: dict[str, Any], code: int
) -> None:
    browser_of(app, ADA, Role.VIEWER)
    assert client.submit(path, **form).status_code == code
    assert everyone(app) == {ADA: ("viewer", True), ADMIN: ("admin", True)}
    assert told(app) == []


def test_a_user_who_is_deactivated_and_reactivated(
    app: Flask, client: StrictClient
) -> None:
    browser_of(app, ADA, Role.VIEWER)
    client.submit("/users/2/deactivation")
    assert everyone(app)[ADA] == ("viewer", False)
    assert "deactivated" in client.get("/users").text
    client.submit("/users/2/reactivation")
    assert everyone(app)[ADA] == ("viewer", True)
    assert names(app) == ["user_deactivated", "user_reactivated"]
    assert [row.subject for row in trail(app)] == [ADA, ADA]


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/users/1/role", {"role": "viewer"}),
        ("/users/1/role", {"role": "operator"}),
        ("/users/1/deactivation", {}),
    ],
)
def test_the_last_admin_stays(
    app: Flask, client: StrictClient, path: str, form: dict[str, Any]
) -> None:
    with app.app_context():  # an admin who cannot sign in does not count
        add_user(ADA, Role.ADMIN).active = False
        db.session.commit()
    answer = client.submit(path, **form)
    assert answer.status_code == 409
    assert LAST_ADMIN in answer.text
    assert everyone(app)[ADMIN] == ("admin", True)
    assert is_in(client)
    assert told(app) == []


def test_an_admin_may_go_once_there_is_another(
    app: Flask, client: StrictClient
) -> None:
    browser_of(app, ADA, Role.ADMIN)
    client.submit("/users/1/role", role="viewer")
    assert everyone(app) == {ADA: ("admin", True), ADMIN: ("viewer", True)}
    assert client.get("/users").status_code == 403


def step_down_at_once(app: Flask, step: Callable[[User], None]) -> tuple[int, int]:
    """Have two admins take the other's rights away; count who is left, who failed."""
    barrier, refused = threading.Barrier(2), list[str]()

    def take_from(which: int) -> None:
        with app.app_context():
            user = User.find((ADMIN, ADA)[which])
            assert user
            barrier.wait(10)
            try:
                step(user)
            except users.LastAdmin as error:
                refused.append(str(error))

    run_at_once(2, take_from)
    with app.app_context():
        return User.active_admins(), len(refused)


STEPS: list[Callable[[User], None]] = [
    lambda user: users.give_role(user, Role.VIEWER),
    users.deactivate,
]


@pytest.mark.parametrize("step", STEPS, ids=["role", "deactivation"])
def test_two_admins_who_take_it_from_each_other_leave_one(
    app: Flask, step: Callable[[User], None]
) -> None:
    with app.app_context():
        add_user(ADA, Role.ADMIN)
    assert step_down_at_once(app, step) == (1, 1)
    assert len(trail(app)) == 1


# --- flask users -----------------------------------------------------------


def run(app: Flask, *arguments: str) -> Result:
    result = app.test_cli_runner().invoke(args=["users", *arguments])
    assert "Traceback" not in result.output
    return result


def test_the_command_lists_who_may_sign_in(app: Flask) -> None:
    with app.app_context():
        add_user(ADA, Role.VIEWER).active = False
        db.session.commit()
    add_passkey(app, ADA)
    assert run(app, "list").output.splitlines() == [
        f"{ADA}  viewer  inactive  passkey Phone",
        f"{ADMIN}  admin  active  password alone",
    ]


@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_the_command_invites(app: Flask, stranger: StrictClient, role: str) -> None:
    result = run(app, "invite", f"{BOB.upper()}", "--role", role)
    link = result.output.strip().removeprefix("http://localhost:8000")
    assert come_in(stranger, link).status_code == 303
    assert everyone(app)[BOB] == (role, True)
    assert told(app)[0] == ("user_invited", {"email": BOB, "role": role})
    assert trail(app)[0].actor.startswith("command line (")


def test_the_command_invites_viewers_unless_told_otherwise(
    app: Flask, stranger: StrictClient
) -> None:
    link = run(app, "invite", BOB).output.strip()
    come_in(stranger, urlsplit(link).path)
    assert everyone(app)[BOB] == ("viewer", True)


def test_the_command_lets_the_only_admin_in_again(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    set_up_app(client)
    link = run(app, "link", ADMIN.upper()).output.strip()
    come_in(stranger, urlsplit(link).path, OTHER_PASSWORD)
    assert (is_in(client), is_in(stranger)) == (False, True)
    assert stranger.get("/users").status_code == 200
    assert ("user_invited", {"again": True}) in told(app)


def test_the_command_changes_a_user(app: Flask) -> None:
    ada = browser_of(app, ADA, Role.VIEWER)
    for arguments, after in (
        (("role", ADA, "operator"), ("operator", True)),
        (("deactivate", ADA), ("operator", False)),
        (("reactivate", ADA), ("operator", True)),
    ):
        result = run(app, *arguments)
        assert (result.exit_code, result.output) == (0, "")
        assert everyone(app)[ADA] == after
    assert not is_in(ada)
    assert names(app) == ["user_changed", "user_deactivated", "user_reactivated"]
    assert all(row.actor.startswith("command line (") for row in trail(app))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("invite", "bob"), "must have an @-sign"),
        (("invite", ADMIN.upper()), f"{ADMIN} is a user already: see flask users link"),
        (("invite", BOB, "--role", "emperor"), "'emperor' is not one of"),
        (("link", BOB), f"{BOB} is no user: see flask users list."),
        (("role", BOB, "admin"), f"{BOB} is no user: see flask users list."),
        (("role", ADMIN, "emperor"), "'emperor' is not one of"),
        (("role", ADMIN), "Missing argument"),
        (("deactivate", BOB), f"{BOB} is no user: see flask users list."),
        (("reactivate", BOB), f"{BOB} is no user: see flask users list."),
        (("role", ADMIN, "viewer"), LAST_ADMIN),
        (("deactivate", ADMIN), LAST_ADMIN),
    ],
)
def test_what_the_command_cannot_do_it_says_in_a_sentence(
    app: Flask, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(app, *arguments)
    assert result.exit_code in (1, 2)
    assert sentence in result.output
    assert everyone(app) == {ADMIN: ("admin", True)}
    assert told(app) == []


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///{}/empty.db",
        "sqlite:///{}/no/such/folder.db",
        "postgresql+psycopg://nobody@/nothing?host={}",
    ],
)
@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("invite", BOB),
        ("link", ADMIN),
        ("role", ADMIN, "admin"),
        ("deactivate", ADMIN),
        ("reactivate", ADMIN),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_database_that_cannot_be_used_is_said_to_be_so(
    tmp_path: Path, url: str, arguments: tuple[str, ...]
) -> None:
    uri = url.format(tmp_path)
    app = create_app({"TESTING": True, "SQLALCHEMY_DATABASE_URI": uri})
    result = run(app, *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The database cannot be used (")
    assert "flask --app app db upgrade" in result.output
    with app.app_context():
        db.engine.dispose()
