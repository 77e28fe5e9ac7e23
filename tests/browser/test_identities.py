"""Journeys of who it is: the wrong org, a wrong signature, and a dead grant."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Running
from tests.browser.test_journeys import log_in, new_record, refresh, state, value

OTHER = "integration@practice.example"


def reconnect(page: Page, username: str = "") -> None:
    """Log in anew, as somebody else where a name is given."""
    page.get_by_role("button", name="Reconnect").click()
    if username:
        page.get_by_label("Username").fill(username)
    page.get_by_role("button", name="Log In").click()
    allow = page.get_by_role("button", name="Allow")
    allow.or_(page.locator("#application-panel")).first.wait_for()
    if allow.is_visible():
        allow.click()
    page.locator("#application-panel").wait_for()


def held(page: Page, label: str) -> list[str]:
    """Return what stands in a row of the comparison: the record's, and what is held."""
    row = (
        page.locator("#held-token")
        .get_by_role("row")
        .filter(has=page.get_by_role("rowheader", name=label, exact=True))
    )
    return row.get_by_role("cell").all_inner_texts()


@pytest.fixture
def wrong_org(page: Page, orgdesk: Running, request: pytest.FixtureRequest) -> Page:
    """A record whose last login was at another org."""
    new_record(page, orgdesk, f"Wrong {request.node.name}")
    log_in(page)
    state(page, "Connected")
    orgdesk.org.switch(wrong_org=True)
    reconnect(page)
    return page


def test_a_wrong_org_is_shown_beside_the_right_one_and_sent_away(
    wrong_org: Page, orgdesk: Running
) -> None:
    page = wrong_org
    expect(page.get_by_role("heading", name="A token is held")).to_be_visible()
    assert held(page, "Organization") == [
        "Practice Org",
        "Another Practice Org differs",
    ]
    state(page, "Connected")
    before = value(page, "Access Token")
    page.evaluate("window.sameDocument = true")
    page.get_by_role("button", name="Keep the old").click()
    expect(page.locator("#held-token")).to_have_count(0)
    expect(page.locator(".state")).to_contain_text("dropped, and revoked at its org")
    assert value(page, "Access Token") == before
    assert page.evaluate("window.sameDocument")
    orgdesk.org.switch()
    refresh(page)
    expect(page.locator(".state")).to_contain_text("refreshed without a login")


def test_a_wrong_org_becomes_a_record_of_its_own(wrong_org: Page) -> None:
    page = wrong_org
    first = page.url
    page.get_by_role("link", name="Save as another record").click()
    name = page.get_by_label("Application Name")
    assert "admin@practice.example" in name.input_value()
    name.fill("The Other Org")
    page.get_by_role("button", name="Save as another record").click()
    expect(page.get_by_role("heading", name="The Other Org", level=1)).to_be_visible()
    state(page, "Connected")
    assert "Another Practice Org" in value(page, "Organization")
    page.goto(first)
    expect(page.locator("#held-token")).to_have_count(0)
    assert "00D000000000001EAA" in value(page, "Organization")


def test_a_login_as_somebody_else_is_taken_when_that_is_meant(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Handed Over")
    log_in(page)
    state(page, "Connected")
    reconnect(page, OTHER)
    assert held(page, "Username") == ["admin@practice.example", f"{OTHER} differs"]
    page.get_by_role("button", name="Take the new").click()
    expect(page.locator("#held-token")).to_have_count(0)
    state(page, "Connected")
    assert OTHER in value(page, "User")


def test_a_failed_signature_is_held_and_the_next_answer_is_fine(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Forged")
    orgdesk.org.switch(signature="wrong")
    log_in(page)
    expect(page.get_by_role("heading", name="its signature is wrong")).to_be_visible()
    assert held(page, "Signature")[1] == "failed"
    state(page, "Never authorized")
    assert value(page, "Access Token") == "none"
    page.get_by_role("button", name="Keep the old").click()
    expect(page.locator("#held-token")).to_have_count(0)
    orgdesk.org.switch()
    log_in(page)
    state(page, "Connected")
    assert "verified" in value(page, "Signature")


def test_a_dead_grant_is_healthy_again_in_three_clicks(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Dead For Three Clicks")
    log_in(page)
    state(page, "Connected")
    orgdesk.org.revoke_all()
    refresh(page)  # 1
    page.get_by_role("button", name="Log In").click()  # 2
    page.get_by_role("button", name="Allow").click()  # 3
    state(page, "Connected")
    expect(page.locator(".state")).to_contain_text("A login was needed")
    refresh(page)
    expect(page.locator(".state")).to_contain_text("refreshed without a login")
