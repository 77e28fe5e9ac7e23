"""The panic switch in a browser: two of five orgs are away, and come back."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Running
from tests.browser.test_journeys import new_record, refresh, state
from tests.fleet import Relay

NAMES = [f"Panic {number}" for number in range(5)]
AWAY = NAMES[3:]


@pytest.fixture
def relay(orgdesk: Running) -> Iterator[Relay]:
    """The host of two orgs, before the practice org; it can be away."""
    made = Relay(orgdesk.org)
    yield made
    made.release()
    made.close()


def connect(page: Page, orgdesk: Running, relay: Relay) -> None:
    """Make five records with a login each, two of them at the relay's host."""
    for name in NAMES:
        new_record(page, orgdesk, name)
        refresh(page)
        page.get_by_role("button", name="Log In").click()
        if name == NAMES[0]:
            page.get_by_role("button", name="Allow").click()
        state(page, "Connected")
    with orgdesk.database as database:
        database.execute(
            "UPDATE external_application SET salesforce_domain = ?,"
            " refresh_token_domain = ? WHERE application_name IN (?, ?)",
            (relay.address, relay.address, *AWAY),
        )
    page.goto(f"/sites/new?url={relay.address}")
    page.get_by_role("button", name="Save").click()


def row(page: Page, name: str) -> str:
    """Return what the panic's page says of a record."""
    found = page.locator(
        "table.revocations tr", has=page.get_by_role("link", name=name)
    )
    return found.inner_text()


def test_two_of_five_orgs_are_away_and_are_tried_again(
    page: Page, orgdesk: Running, relay: Relay
) -> None:
    connect(page, orgdesk, relay)
    relay.close()
    page.goto("/")
    page.get_by_label("Select all on this page").check()
    for box in page.get_by_role("checkbox").all()[1:]:
        name = box.locator("xpath=..").get_by_role("link").inner_text()
        box.set_checked(name in NAMES)
    page.get_by_role("button", name="Revoke selected…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Revoke 5 records?")
    page.get_by_label("Reason").fill("the vendor was broken into")
    page.get_by_label("Confirmation").fill("revoke")
    page.get_by_role("button", name="Revoke and block refreshes").click()
    expect(page.locator(".field.wrong")).to_contain_text("Type REVOKE")
    page.get_by_label("Confirmation").fill("REVOKE")
    page.get_by_role("button", name="Revoke and block refreshes").click()
    expect(page.locator("#panic-progress")).to_contain_text("5 of 5 done, 2 failed")
    for name in NAMES:
        assert ("✕ Failed" if name in AWAY else "✓ Revoked") in row(page, name)
    assert "The host could not be reached" in row(page, AWAY[0])
    assert orgdesk.org.state()["live_approvals"]["admin@practice.example"] == 2

    relay.hold("/revoke")
    relay.clear()
    page.get_by_role("button", name="Try the failed again").click()
    expect(page.locator("#panic-progress")).to_contain_text("3 of 5 done, 0 failed")
    page.evaluate("window.sameDocument = true")
    relay.release()
    expect(page.locator("#panic-progress")).to_contain_text("5 of 5 done, 0 failed")
    assert page.evaluate("window.sameDocument")
    assert "2 times" in row(page, AWAY[0])
    assert orgdesk.org.state()["live_approvals"]["admin@practice.example"] == 0
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2_500)
    assert asked == []  # who is done asks no more

    page.goto("/")
    banner = page.get_by_label("Panic", exact=True)
    expect(banner).to_contain_text("Refreshes are blocked for 5 records")
    banner.get_by_role("link").click()
    page.get_by_role("link", name="Lift the block…").click()
    expect(page.locator("main")).to_contain_text("none of the tokens lives on")
    page.get_by_role("button", name="Lift the block").click()
    expect(page.locator("#panic-progress")).to_contain_text("The block was lifted")
    expect(banner).to_have_count(0)
