"""Take the screenshots of docs/ from the running app: `make screenshots`."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.browser import chromium
from tests.servers import ADMIN, ROOT, PracticeOrg, link_in, process

ADDRESS = "http://localhost:8000"
PRACTICE_PORT = 8001
DOCS = ROOT / "docs"
SIZE = {"width": 1100, "height": 860}
STATE = {"width": 1000, "height": 640}
STEP = 10_000
"""Milliseconds that a step may take."""
RECORD = "/applications/1"


def main() -> None:
    env = {"ORGDESK_INSTANCE": tempfile.mkdtemp()}
    said = Path(env["ORGDESK_INSTANCE"]) / "stdout"
    with (
        said.open("w") as stdout,
        process("run.py", ports=(8000, PRACTICE_PORT), env=env, stdout=stdout),
        sync_playwright() as playwright,
    ):
        while "Ctrl-C" not in said.read_text():
            time.sleep(0.05)
        browser = playwright.chromium.launch(
            executable_path=chromium.find(), args=["--no-sandbox"]
        )
        page = browser.new_page(base_url=ADDRESS, viewport=SIZE)
        page.set_default_timeout(STEP)
        come_in(page, link_in(said.read_text()))
        log_in(page)
        refresh_in_place(page)
        page.screenshot(path=DOCS / "record.png")
        take_states(page, PracticeOrg(PRACTICE_PORT))
        browser.close()


def take_states(page: Page, org: PracticeOrg) -> None:
    """Take the panel of the practice record in each state."""
    page.set_viewport_size(STATE)
    for name, bring_about in STATES.items():
        org.switch()
        page.goto(RECORD)
        bring_about(page, org)
        page.locator(f".state.{name.partition('-')[0]}").wait_for()
        page.screenshot(path=DOCS / "states" / f"{name.replace('_', '-')}.png")


def come_in(page: Page, link: str) -> None:
    page.goto(link)
    page.get_by_label("E-mail address").fill(ADMIN["email"])
    page.get_by_label("Password").fill(ADMIN["password"])
    page.get_by_role("button", name="Make the first admin").click()
    page.get_by_text("You are signed in").wait_for()


def press(page: Page, button: str = "Refresh Access Token") -> None:
    page.goto(RECORD)
    page.get_by_role("button", name=button, exact=True).click()


def log_in(page: Page, button: str = "Refresh Access Token") -> None:
    """Get the practice record a token through the login page."""
    press(page, button)
    page.get_by_role("button", name="Log In").click()
    allow = page.get_by_role("button", name="Allow")
    allow.or_(page.locator("#application-panel")).first.wait_for()
    if allow.is_visible():
        allow.click()
    page.locator("#application-panel").wait_for()
    page.goto(RECORD)


def refresh_in_place(page: Page) -> None:
    press(page)
    page.get_by_text("refreshed without a login").wait_for()


def revoke(page: Page, _: PracticeOrg) -> None:
    page.get_by_role("link", name="Revoke", exact=True).click()
    page.get_by_role("button", name="Revoke Practice Org").click()
    page.goto(RECORD)


def first_login(page: Page, _: PracticeOrg) -> None:
    log_in(page)


def let_it_run_out(page: Page, org: PracticeOrg) -> None:
    org.switch(session_timeout=1)
    with page.expect_response("**/authorization"):
        press(page)
    time.sleep(1)
    page.goto(RECORD)


def say(**switches: str) -> Callable[[Page, PracticeOrg], None]:
    """Press the button while the org does as it is switched."""

    def bring_about(page: Page, org: PracticeOrg) -> None:
        org.switch(**switches)
        press(page)

    return bring_about


def lose_an_answer(page: Page, org: PracticeOrg) -> None:
    log_in(page)
    org.switch(rotation=True)
    refresh_in_place(page)
    org.switch(rotation=True, fault="lost_answer")
    press(page)


def let_the_grant_die(page: Page, org: PracticeOrg) -> None:
    org.revoke_all()
    press(page)
    page.get_by_role("button", name="Log In").wait_for()
    page.goto(RECORD)


def log_in_at_another_org(page: Page, org: PracticeOrg) -> None:
    log_in(page, "Reconnect")
    org.switch(wrong_org=True)
    log_in(page, "Reconnect")


STATES: dict[str, Callable[[Page, PracticeOrg], None]] = {
    "never_authorized": revoke,
    "connected": first_login,
    "expired": let_it_run_out,
    "unreachable": say(fault="outage"),
    "blocked": say(fault="error", error="invalid_grant: inactive user"),
    "misconfigured": say(
        fault="error", error="invalid_client: invalid client credentials"
    ),
    "login_required": let_the_grant_die,
    "outcome_unknown": lose_an_answer,
    "connected-held": log_in_at_another_org,
}
"""In an order in which each leads to the next."""


if __name__ == "__main__":
    main()
