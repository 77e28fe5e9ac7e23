"""The list in a browser: a filter by a click, a tag, and the way back."""

import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import Running
from tests.browser.test_journeys import new_record


def test_the_summary_filters_tags_find_and_back_leads_back(
    page: Page, orgdesk: Running
) -> None:
    address = new_record(page, orgdesk, "Tagged")
    page.get_by_role("link", name="Edit").click()
    page.get_by_label("Owner").fill("ada@acme.example")
    page.get_by_label("Tags").fill("quarterly, ETL, etl")
    page.get_by_role("button", name="Save").click()
    with orgdesk.database as database:
        database.execute(
            "UPDATE external_application SET state = 'blocked', attention_rank = 5"
            " WHERE application_name = 'Tagged'"
        )
    page.goto("/?sort=attention")
    listed = page.locator("tbody tr")
    expect(listed.first).to_contain_text("Owner: ada@acme.example")
    page.get_by_role("link", name=re.compile("^1 blocked$")).click()
    expect(page.get_by_role("main").locator("[aria-current]")).to_have_text("1 blocked")
    expect(listed).to_have_count(1)
    page.reload()
    listed.get_by_role("link", name="Tagged").click()
    assert page.url == address
    page.get_by_role("link", name="quarterly", exact=True).click()
    expect(page.get_by_role("searchbox")).to_have_value("quarterly")
    expect(listed).to_have_count(1)
    page.go_back()
    assert page.url == address
    page.go_back()
    expect(page.get_by_role("main").locator("[aria-current]")).to_have_text("1 blocked")
    assert page.url.endswith("/?state=blocked&sort=attention")
