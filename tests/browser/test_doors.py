"""The doors, in a browser: who comes in, with what, and what they may do there."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from passlib.totp import TOTP
from playwright.sync_api import Browser, BrowserContext, Page, StorageState, expect

from app import SessionCookie
from sign_in import FRESH
from tests.browser.conftest import Running
from tests.browser.test_journeys import log_in, new_record, refresh, state
from tests.servers import ADMIN

PASSWORD = "lamp river nine ostrich"
SECRET = "practice-consumer-secret"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
Guest = Callable[[str, str], Page]


def invite(page: Page, email: str, role: str) -> str:
    """Invite somebody by the form; return the link."""
    page.goto("/users/invite")
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Role").select_option(role)
    page.get_by_role("button", name="Make the link").click()
    return page.locator("[data-secret]").inner_text()


def come_in(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Come in").click()
    expect(page.get_by_text("You are signed in as")).to_be_visible()


def sign_in(page: Page, email: str, password: str = PASSWORD) -> None:
    page.get_by_label("E-mail address").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out", exact=True).click()
    heading(page, "Sign in to Orgdesk")


def heading(page: Page, text: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("heading", level=1)).to_have_text(text)


def buttons(page: Page) -> set[str]:
    """What can be pressed on the page, apart from its frame and what is closed."""
    pressed = page.get_by_role("main").locator("button:visible, a.button:visible").all()
    return {one.get_attribute("aria-label") or one.inner_text() for one in pressed}


@pytest.fixture
def guest(page: Page, strangers_page: Page) -> Guest:
    """Let somebody in by an invitation of the admin; return their page."""

    def let_in(email: str, role: str) -> Page:
        come_in(strangers_page, invite(page, email, role))
        return strangers_page

    return let_in


# --- roles -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "on_the_list", "on_the_record"),
    [
        ("viewer", {"Show"}, set()),
        ("operator", {"Show"}, {"Refresh Access Token", "Test connection"}),
        (
            "admin",
            {"Show", "New"},
            {"Refresh Access Token", "Test connection", "Export", "Edit", "Delete"}
            | {"Reveal Consumer Secret", "Copy Consumer Secret"},
        ),
    ],
)
def test_who_is_invited_sees_what_the_role_may(
    page: Page,
    orgdesk: Running,
    guest: Guest,
    role: str,
    on_the_list: set[str],
    on_the_record: set[str],
) -> None:
    address = new_record(page, orgdesk, f"Seen by {role}")
    theirs = guest(f"{role}@doors.example", role)
    assert buttons(theirs) >= on_the_list
    assert ("New" in buttons(theirs)) is ("New" in on_the_list)
    theirs.goto(address)
    assert buttons(theirs) == on_the_record
    theirs.goto("/users")
    if role == "admin":
        heading(theirs, "Users")
    else:
        heading(theirs, "Forbidden")
        expect(theirs.get_by_role("main")).to_contain_text(
            f"This takes the role admin; yours is {role}."
        )


def test_an_operator_gets_a_token(page: Page, orgdesk: Running, guest: Guest) -> None:
    address = new_record(page, orgdesk, "Operated")
    theirs = guest("operates@doors.example", "operator")
    theirs.goto(address)
    log_in(theirs)
    state(theirs, "Connected")


def test_who_is_deactivated_is_out_with_the_next_click(
    page: Page, orgdesk: Running, guest: Guest
) -> None:
    address = new_record(page, orgdesk, "Not Any More")
    theirs = guest("leaves@doors.example", "operator")
    theirs.goto(address)
    page.goto("/users")
    row = page.get_by_role("row").filter(has_text="leaves@doors.example")
    row.get_by_role("button", name="Deactivate").click()
    expect(page.get_by_text("cannot sign in any more")).to_be_visible()
    refresh(theirs)
    heading(theirs, "Sign in to Orgdesk")
    sign_in(theirs, "leaves@doors.example")
    expect(theirs.get_by_text("do not match an account").first).to_be_visible()


def test_a_click_after_signing_out_elsewhere_leads_back_to_the_record(
    page: Page, orgdesk: Running, guest: Guest
) -> None:
    address = new_record(page, orgdesk, "Back Again")
    theirs = guest("returns@doors.example", "operator")
    theirs.goto(address)
    other = theirs.context.new_page()
    other.goto("/")
    sign_out(other)
    refresh(theirs)
    heading(theirs, "Sign in to Orgdesk")
    sign_in(theirs, "returns@doors.example")
    heading(theirs, "Back Again")
    assert theirs.url == address
    log_in(theirs)
    state(theirs, "Connected")


# --- secrets ---------------------------------------------------------------


def test_a_secret_is_revealed_once(page: Page, orgdesk: Running) -> None:
    new_record(page, orgdesk, "Revealed")
    assert SECRET not in page.content()
    page.get_by_role("button", name="Reveal Consumer Secret").click()
    expect(page.locator("[data-secret]")).to_have_text(SECRET)
    page.reload()
    expect(page.get_by_role("button", name="Reveal Consumer Secret")).to_be_visible()
    assert SECRET not in page.content()


def test_a_secret_is_copied(page: Page, orgdesk: Running) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    new_record(page, orgdesk, "Copied")
    page.get_by_role("button", name="Copy Consumer Secret").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == SECRET


def test_a_record_is_exported(page: Page, orgdesk: Running, tmp_path: Path) -> None:
    new_record(page, orgdesk, "Exported")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export").click()
    assert download.value.suggested_filename.endswith(".json")
    file = tmp_path / "exported.json"
    download.value.save_as(file)
    assert SECRET in json.loads(file.read_text()).values()


# --- passkeys --------------------------------------------------------------


def make_passkey(page: Page, usage: str) -> None:
    """Make a passkey on a device that says yes to everything."""
    cdp = page.context.new_cdp_session(page)
    cdp.send("WebAuthn.enable")
    cdp.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    page.goto("/account/passkeys")
    page.get_by_label("Name").fill("Door Key")
    page.get_by_label(usage).check()
    page.get_by_role("button", name="Make a passkey").click()
    expect(page.locator("dt:text-is('Passkeys') + dd")).to_contain_text("Door Key")


def test_a_passkey_opens_the_door_without_a_password(guest: Guest) -> None:
    theirs = guest("passkey@doors.example", "viewer")
    make_passkey(theirs, "instead of the password")
    sign_out(theirs)
    theirs.goto("/account")
    theirs.get_by_role("link", name="Use a passkey").click()
    theirs.get_by_role("button", name="Continue").click()
    heading(theirs, "passkey@doors.example")


def test_a_passkey_that_is_removed_opens_nothing(guest: Guest) -> None:
    theirs = guest("removed@doors.example", "viewer")
    make_passkey(theirs, "instead of the password")
    theirs.goto("/account/passkeys")
    theirs.get_by_role("button", name="Remove Door Key").click()
    theirs.goto("/account")
    expect(theirs.locator("dt:text-is('Passkeys') + dd")).to_contain_text("none")
    sign_out(theirs)
    theirs.get_by_role("link", name="Use a passkey").click()
    with theirs.expect_response("**/sign-in/passkey/*"):
        theirs.get_by_role("button", name="Continue").click()
    answer = theirs.request.get("/account")  # beside the page, which goes on
    assert "Sign in to Orgdesk</h1>" in answer.text()


def test_a_passkey_comes_after_the_password(guest: Guest) -> None:
    theirs = guest("second@doors.example", "viewer")
    make_passkey(theirs, "as a second factor")
    sign_out(theirs)
    sign_in(theirs, "second@doors.example")
    heading(theirs, "Sign in with a passkey")
    theirs.get_by_role("button", name="Continue").click()
    heading(theirs, "External Applications")


def test_a_passkey_confirms_who_it_is(
    page: Page, orgdesk: Running, guest: Guest
) -> None:
    address = new_record(page, orgdesk, "Confirmed")
    theirs = guest("confirms@doors.example", "admin")
    make_passkey(theirs, "instead of the password")
    let_ten_minutes_pass(theirs, orgdesk)
    theirs.goto(address)
    theirs.get_by_role("button", name="Reveal Consumer Secret").click()
    heading(theirs, "Confirm that it is you")
    theirs.get_by_role("link", name="Use a passkey").click()
    theirs.get_by_role("button", name="Continue").click()
    expect_secret_at(theirs, address)


def test_a_password_confirms_who_it_is(page: Page, orgdesk: Running) -> None:
    address = new_record(page, orgdesk, "Confirmed Too")
    let_ten_minutes_pass(page, orgdesk)
    page.get_by_role("button", name="Reveal Consumer Secret").click()
    heading(page, "Confirm that it is you")
    assert SECRET not in page.content()
    page.get_by_label("Password").fill(ADMIN["password"])
    page.get_by_role("button", name="Confirm").click()
    expect_secret_at(page, address)


def let_ten_minutes_pass(page: Page, orgdesk: Running) -> None:
    """Make the browser's sign-in an old one: when it was stands in its cookie."""
    app = Flask(__name__)
    app.secret_key = (orgdesk.instance / "secret.key").read_text().strip()
    signer = SessionCookie().get_signing_serializer(app)
    assert signer
    (cookie,) = page.context.cookies()
    session = signer.loads(cookie["value"])
    session["fs_paa"] -= FRESH.total_seconds() + 1
    value = str(signer.dumps(session))
    page.context.add_cookies(
        [{"name": cookie["name"], "value": value, "url": orgdesk.address}]
    )


def expect_secret_at(page: Page, address: str) -> None:
    """Press the button again, as the page says."""
    expect(page.get_by_text("Now press the button again.")).to_be_visible()
    assert page.url == address
    page.get_by_role("button", name="Reveal Consumer Secret").click()
    expect(page.locator("[data-secret]")).to_have_text(SECRET)


# --- authenticator apps ----------------------------------------------------


def test_the_shown_key_makes_the_codes_that_open_the_door(
    orgdesk: Running, guest: Guest
) -> None:
    theirs = guest("codes@doors.example", "viewer")
    theirs.goto("/account")
    theirs.get_by_role("link", name="Set up an app").click()
    theirs.get_by_role("button", name="Set up an app").click()
    expect(theirs.get_by_role("img", name="The key, to be scanned")).to_be_visible()
    phone = TOTP(key=theirs.locator("p > code").inner_text())
    theirs.get_by_label("Code").fill(phone.generate().token)
    theirs.get_by_role("button", name="Finish").click()
    expect(theirs.get_by_text("in use")).to_be_visible()
    with orgdesk.database as database:  # half a minute goes by
        database.execute("UPDATE user_account SET totp_last_counter = 0")
    sign_out(theirs)
    sign_in(theirs, "codes@doors.example")
    heading(theirs, "Code of your authenticator app")
    theirs.get_by_label("Code").fill(phone.generate().token)
    theirs.get_by_role("button", name="Sign in").click()
    heading(theirs, "External Applications")


# --- without JavaScript ----------------------------------------------------


@pytest.fixture
def plain(
    browser: Browser, orgdesk: Running, signed_in: StorageState
) -> Iterator[BrowserContext]:
    """A browser without JavaScript, in which nobody is signed in."""
    context = browser.new_context(base_url=orgdesk.address, java_script_enabled=False)
    yield context
    context.close()


def test_the_doors_work_without_javascript(
    plain: BrowserContext, browser: Browser, orgdesk: Running
) -> None:
    page = plain.new_page()
    page.goto("/users/invite")
    sign_in(page, ADMIN["email"], ADMIN["password"])
    heading(page, "Invite")
    link = invite(page, "plain@doors.example", "viewer")
    new_record(page, orgdesk, "Plain")
    page.get_by_role("button", name="Reveal Consumer Secret").click()
    expect(page.locator("[data-secret]")).to_have_text(SECRET)
    page.get_by_role("link", name="Orgdesk", exact=True).click()
    sign_out(page)
    come_in(page, link)
    page.goto("/users")
    heading(page, "Forbidden")
