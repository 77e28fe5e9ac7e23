"""The overview, in a browser: from a figure to the records behind it."""

from playwright.sync_api import Page, expect

from listing import PAGE_SIZE
from tests.browser.conftest import Running
from tests.browser.test_journeys import new_record


def test_a_state_on_the_overview_leads_to_its_records(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Watched")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()
    expect(page.get_by_role("img", name="Records by state")).to_be_visible()
    row = page.get_by_role("row", name="Never authorized")
    number = int(row.get_by_role("cell").first.inner_text())
    row.get_by_role("link").click()
    expect(page.get_by_label("State")).to_have_value("never_authorized")
    expect(page.get_by_role("rowheader", name="Watched")).to_be_visible()
    expect(page.get_by_role("rowheader")).to_have_count(min(number, PAGE_SIZE))


def test_the_overview_fits_a_telephone(page: Page, orgdesk: Running) -> None:
    new_record(page, orgdesk, "W" * 200)
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto("/overview")
    expect(page.get_by_role("link", name="WWW").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
