"""Mending a record, in a browser: its Callback URL, a test of it, the guide."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Running
from tests.browser.test_journeys import log_in, new_record, state


def test_a_callback_mismatch_is_found_and_fixed_without_leaving_the_page(
    page: Page, orgdesk: Running
) -> None:
    address = new_record(page, orgdesk, "Mismatch")
    own = f"{orgdesk.address}/callback"
    wrong = own.replace("localhost", "127.0.0.1") + "/"
    page.goto(f"{address}/edit")
    page.get_by_role("textbox", name="Callback URL").fill(wrong)
    page.get_by_role("button", name="Save").click()
    doctor = page.locator("#callback-doctor")
    expect(doctor.locator("mark")).to_have_text(["127.0.0.1", "/", "localhost"])
    expect(doctor).to_contain_text("two sites to a browser")
    here = f"Your browser is at {orgdesk.address}; the callback is at"
    expect(page.locator("#browser-origin")).to_contain_text(here)
    page.evaluate("window.sameDocument = true")
    page.get_by_role("button", name="Use this server's address").click()
    expect(page.locator(".state")).to_contain_text(f"The Callback URL is now {own}.")
    expect(page.locator("#browser-origin")).to_be_hidden()
    assert page.evaluate("window.sameDocument")
    log_in(page)
    state(page, "Connected")


def test_an_address_that_reaches_orgdesk_is_proven_and_one_that_does_not_is_not(
    page: Page, orgdesk: Running
) -> None:
    address = new_record(page, orgdesk, "Reached")
    page.locator("#callback-doctor summary").click()
    page.get_by_role("button", name="Does this address reach Orgdesk?").click()
    expect(page.locator("#callback-doctor")).to_contain_text("It reaches this Orgdesk")
    assert re.match(rf"{address}\?reached=\S+#callback-doctor$", page.url)
    page.goto(f"{address}/edit")
    elsewhere = f"{orgdesk.org.address}/callback"
    page.get_by_role("textbox", name="Callback URL").fill(elsewhere)
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Does this address reach Orgdesk?").click()
    page.wait_for_url(f"{elsewhere}?ping=**")


def test_a_text_is_copied_and_the_page_says_so_for_a_moment(
    page: Page, orgdesk: Running
) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto("/applications/new")
    copy = page.get_by_role("button", name="Copy this server’s address")
    copy.click()
    said = copy.locator("+ [role=status]")
    expect(said).to_have_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == (
        f"{orgdesk.address}/callback"
    )
    expect(said).to_be_empty()


def test_a_test_of_the_connection_ticks_off_step_by_step(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Tested")
    log_in(page)
    state(page, "Connected")
    orgdesk.org.switch(rest="slow", seconds=1)
    steps = page.locator("#connection-test li")
    page.get_by_role("button", name="Test connection").click()
    expect(steps.nth(1)).to_contain_text("Does the host answer?")
    expect(steps).to_have_count(2)
    expect(steps).to_have_text([re.compile("✓")] * 4)
    expect(page.locator("#next-check")).to_have_count(0)
    expect(page.get_by_role("button", name="Test connection")).to_be_focused()
    orgdesk.org.switch()
    orgdesk.org.revoke_all()
    page.get_by_role("button", name="Test connection").click()
    page.get_by_role("link", name="The record now says that it has ended").click()
    state(page, "Expired")


def test_the_guide_follows_the_flow_that_is_chosen(page: Page) -> None:
    page.goto("/applications/new")
    guide = page.locator("#guide")
    own = {
        "Web server": "Require Proof Key for Code Exchange (PKCE)",
        "JWT bearer": "Enable JWT Bearer Flow",
        "Client credentials": "Enable Client Credentials Flow",
    }
    for flow in own:
        page.get_by_label(flow).check()
        for other, text in own.items():
            shown = guide.get_by_text(text, exact=True)
            expect(shown).to_be_visible(visible=other == flow)
