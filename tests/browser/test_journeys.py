"""The journeys of the main job, in a browser, against `make run`."""

import re

import pytest
from playwright.sync_api import Browser, Page, StorageState, expect

from tests.browser.conftest import Running
from tests.servers import ADMIN


def new_record(page: Page, orgdesk: Running, name: str) -> str:
    """Make a record for the practice org by its form; return its address."""
    page.goto("/applications/new")
    page.get_by_label("Application Name").fill(name)
    page.get_by_label("Salesforce Domain").fill(orgdesk.org.address)
    page.get_by_label("Client ID").fill("3MVG9PracticeOrgConsumerKey")
    page.get_by_label("Consumer Secret", exact=True).fill("practice-consumer-secret")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name=name, level=1)).to_be_visible()
    return page.url


def refresh(page: Page) -> None:
    page.get_by_role("button", name="Refresh Access Token").click()


def log_in(page: Page, decision: str = "Allow") -> None:
    """Go from the click to the login page and back."""
    refresh(page)
    page.get_by_role("button", name="Log In").click()
    page.get_by_role("button", name=decision).click()


def state(page: Page, word: str) -> None:
    expect(page.locator(".state .chip")).to_contain_text(word)


def value(page: Page, label: str) -> str:
    """Return what stands there, whichever way its buttons are laid out."""
    return " ".join(page.locator(f"dt:text-is('{label}') + dd").inner_text().split())


def test_the_first_token_takes_at_most_six_clicks(page: Page, orgdesk: Running) -> None:
    page.goto("/")
    page.get_by_role("link", name="Practice Org").click()  # 1
    refresh(page)  # 2
    assert page.get_by_label("Username").input_value() == "admin@practice.example"
    page.get_by_role("button", name="Log In").click()  # 3
    page.get_by_role("button", name="Allow").click()  # 4
    state(page, "Connected")
    assert re.fullmatch(r".*/applications/\d+", page.url)
    assert re.search("fingerprint [0-9a-f]{8}", value(page, "Access Token"))
    assert value(page, "Instance URL") == orgdesk.org.address
    assert value(page, "Id").startswith(f"{orgdesk.org.address}/id/00D")
    assert value(page, "Issued At").endswith("UTC")
    assert value(page, "Granted Scopes") == "api refresh_token id"
    assert (
        '"signature"' in page.get_by_label("Authorization Server Response").inner_text()
    )
    assert "00D000000000001!" not in page.content()


def test_the_second_click_refreshes_in_place(page: Page, orgdesk: Running) -> None:
    new_record(page, orgdesk, "In Place")
    log_in(page)
    state(page, "Connected")
    before = value(page, "Access Token")
    page.evaluate("window.sameDocument = true")
    with page.expect_response("**/authorization") as answered:
        refresh(page)
    assert answered.value.status == 200
    expect(page.locator(".state")).to_contain_text("refreshed without a login")
    assert value(page, "Access Token") != before
    assert page.evaluate("window.sameDocument")
    expect(page.get_by_role("button", name="Refresh Access Token")).to_be_enabled()


def test_deny_leaves_the_record_as_it_was_and_says_so(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Denied")
    log_in(page, "Deny")
    expect(page.locator(".state")).to_contain_text("ended with Deny")
    state(page, "Never authorized")
    assert value(page, "Access Token") == "none"


def test_a_dead_grant_leads_to_the_login_and_the_page_says_why(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Dead Grant")
    log_in(page)
    state(page, "Connected")
    orgdesk.org.revoke_all()
    log_in(page)
    state(page, "Connected")
    expect(page.locator(".state")).to_contain_text("A login was needed")
    expect(page.locator(".state")).to_contain_text("expired access/refresh token")


def test_a_wrong_state_is_refused_and_says_how_to_start_again(
    page: Page, orgdesk: Running
) -> None:
    asked = len(orgdesk.org.token_requests)
    answer = page.goto("/callback?code=aPrxSomeCode&state=not-one-of-ours")
    assert answer
    assert answer.status == 400
    expect(page.get_by_role("heading", level=1)).to_contain_text("not accepted")
    expect(page.get_by_role("link", name="To the list")).to_be_visible()
    assert len(orgdesk.org.token_requests) == asked


def test_a_login_that_took_too_long_is_refused(page: Page, orgdesk: Running) -> None:
    address = new_record(page, orgdesk, "Too Long")
    refresh(page)
    page.get_by_role("button", name="Log In").click()
    with orgdesk.database as database:
        database.execute("UPDATE pending_authorization SET expires_at = '2020-01-01'")
    page.get_by_role("button", name="Allow").click()
    expect(page.locator("main")).to_contain_text("longer than ten minutes")
    page.get_by_role("link", name="To the record").click()
    assert page.url == address
    state(page, "Never authorized")


def test_two_tabs_at_once_both_come_through(page: Page, orgdesk: Running) -> None:
    address = new_record(page, orgdesk, "Two Tabs")
    other = page.context.new_page()
    other.goto(address)
    refresh(page)
    refresh(other)
    for tab in (other, page):
        tab.get_by_role("button", name="Log In").click()
        allow = tab.get_by_role("button", name="Allow")
        # The second login finds the app approved already.
        allow.or_(tab.locator("#application-panel")).first.wait_for()
        if allow.is_visible():
            allow.click()
        state(tab, "Connected")


def test_the_back_button_never_exchanges_again(page: Page, orgdesk: Running) -> None:
    new_record(page, orgdesk, "Going Back")
    log_in(page)
    state(page, "Connected")
    asked = len(orgdesk.org.token_requests)
    page.go_back()
    page.go_forward()
    page.reload()
    state(page, "Connected")
    assert "code=" not in page.url
    assert len(orgdesk.org.token_requests) == asked


def test_a_page_from_before_the_login_shows_the_record_as_it_is(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "From Before")
    refresh(page)
    page.get_by_role("button", name="Log In").wait_for()
    page.go_back()
    button = page.get_by_role("button", name="Refresh Access Token")
    expect(button).to_be_enabled()
    button.click()
    expect(page.get_by_role("button", name="Log In")).to_be_visible()


@pytest.mark.parametrize(
    ("fault", "word", "sentence"),
    [
        ("outage", "Unreachable", "HTTP 503"),
        ("too_many_requests", "Unreachable", "in 30 seconds"),
        ("nonsense", "Unreachable", "not JSON"),
        ("lost_answer", "Unreachable", "connection broke"),
    ],
)
def test_a_fault_is_told_in_a_sentence_and_the_token_stays(
    page: Page, orgdesk: Running, fault: str, word: str, sentence: str
) -> None:
    new_record(page, orgdesk, f"Fault {fault}")
    log_in(page)
    state(page, "Connected")
    before = value(page, "Access Token")
    orgdesk.org.switch(fault=fault)
    refresh(page)
    state(page, word)
    expect(page.locator(".state")).to_contain_text(sentence)
    assert value(page, "Access Token") == before
    orgdesk.org.switch()
    refresh(page)
    state(page, "Connected")


def test_everything_works_without_javascript(
    browser: Browser, orgdesk: Running, signed_in: StorageState
) -> None:
    context = browser.new_context(
        base_url=orgdesk.address, java_script_enabled=False, storage_state=signed_in
    )
    page = context.new_page()
    address = new_record(page, orgdesk, "No Script")
    log_in(page)
    state(page, "Connected")
    before = value(page, "Access Token")
    refresh(page)
    assert page.url == address
    expect(page.locator(".state")).to_contain_text("refreshed without a login")
    assert value(page, "Access Token") != before
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete No Script").click()
    expect(page.get_by_text("No Script was deleted.")).to_be_visible()
    context.close()


def test_edit_keeps_the_secret_and_delete_names_the_record(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Before")
    page.get_by_role("link", name="Edit").click()
    assert page.get_by_label("Consumer Secret", exact=True).input_value() == ""
    page.get_by_label("Application Name").fill("After")
    page.get_by_role("button", name="Save").click()
    log_in(page)
    state(page, "Connected")
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_role("heading", name="Delete After?")).to_be_visible()
    page.get_by_role("button", name="Delete After").click()
    expect(page.get_by_role("link", name="After", exact=True)).to_have_count(0)


def test_the_list_searches_and_its_address_can_be_shared(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Zürich Süd")
    page.goto("/")
    page.get_by_label("Search").fill("ÜRICH")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("rowheader")).to_have_text(["Zürich Süd"])
    shared = page.context.new_page()
    shared.goto(page.url)
    expect(shared.get_by_role("rowheader")).to_have_text(["Zürich Süd"])


def test_a_record_deleted_in_another_tab_is_said_to_be_gone(
    page: Page, orgdesk: Running
) -> None:
    address = new_record(page, orgdesk, "Gone Soon")
    other = page.context.new_page()
    other.goto(f"{address}/delete")
    other.get_by_role("button", name="Delete Gone Soon").click()
    refresh(page)
    expect(page.get_by_role("heading", name="Not Found", level=1)).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    expect(page.get_by_role("banner")).to_have_count(1)
    page.get_by_role("link", name="To the list").click()
    expect(page.get_by_role("heading", name="External Applications")).to_be_visible()


def test_a_lost_cookie_takes_a_sign_in_and_leads_back(
    page: Page, orgdesk: Running
) -> None:
    address = new_record(page, orgdesk, "No Cookie")
    page.context.clear_cookies()
    refresh(page)
    page.get_by_label("E-mail address").fill(ADMIN["email"])
    page.get_by_label("Password").fill(ADMIN["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(address)
    log_in(page)
    state(page, "Connected")


def test_a_server_that_does_not_answer_is_said_so(page: Page, orgdesk: Running) -> None:
    new_record(page, orgdesk, "No Server")
    page.context.set_offline(offline=True)
    refresh(page)
    expect(page.get_by_role("alert")).to_contain_text("Orgdesk did not answer")
    button = page.get_by_role("button", name="Refresh Access Token")
    expect(button).to_be_enabled()
    page.context.set_offline(offline=False)
    button.click()
    expect(page.get_by_role("button", name="Log In")).to_be_visible()


def test_a_slow_org_gets_one_request_and_the_button_keeps_the_focus(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Slow")
    log_in(page)
    state(page, "Connected")
    orgdesk.org.switch(fault="slow", seconds=1.5)
    asked = len(orgdesk.org.token_requests)
    button = page.get_by_role("button", name="Refresh Access Token")
    button.press("Enter")
    expect(page.locator("form.htmx-request")).to_be_visible()
    button.click()
    button.press("Enter")
    expect(page.locator(".state")).to_contain_text("refreshed without a login")
    expect(page.locator("form.htmx-request")).to_have_count(0)
    expect(button).to_be_focused()
    assert len(orgdesk.org.token_requests) == asked + 1


def test_the_fields_of_another_flow_are_hidden_unless_one_is_wrong(
    page: Page, orgdesk: Running
) -> None:
    page.goto("/applications/new")
    username = page.get_by_label("Username")
    expect(username).to_be_hidden()
    page.get_by_label("JWT bearer").check()
    username.fill("ada")
    page.get_by_label("Client credentials").check()
    expect(username).to_be_hidden()
    page.get_by_role("button", name="Save").click()
    expect(username).to_have_value("ada")
    expect(username).to_be_visible()


def test_the_history_comes_along_with_each_click_and_its_pages_keep_the_focus(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Told")
    log_in(page)
    state(page, "Connected")
    rows = page.locator("#application-history tbody tr")
    expect(rows).to_have_count(1)
    page.evaluate("window.sameDocument = true")
    for times in range(2, 13):
        refresh(page)
        expect(rows).to_have_count(min(times, 10))
        expect(page.locator("form.htmx-request")).to_have_count(0)
    older = page.get_by_role("link", name="Older")
    older.press("Enter")
    expect(rows).to_have_count(2)
    expect(older).to_be_focused()
    expect(older).to_be_disabled()
    page.get_by_role("link", name="Newest").press("Enter")
    expect(rows).to_have_count(10)
    expect(page.get_by_role("link", name="Newest")).to_be_focused()
    assert page.evaluate("window.sameDocument")


def test_a_button_that_goes_with_its_click_hands_on_the_focus(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Insisted")
    log_in(page)
    state(page, "Connected")
    with orgdesk.database as database:
        database.execute(
            "UPDATE external_application SET state = 'outcome_unknown'"
            " WHERE application_name = 'Insisted'"
        )
    page.reload()
    state(page, "Outcome unknown")
    page.get_by_role("button", name="Send the stored token again").press("Enter")
    state(page, "Connected")
    expect(page.locator("#state")).to_be_focused()


def test_a_revealed_secret_gets_the_focus_and_no_button_that_acts(
    page: Page, orgdesk: Running
) -> None:
    new_record(page, orgdesk, "Revealed By Key")
    page.get_by_role("button", name="Reveal Consumer Secret").press("Enter")
    expect(page.locator("[data-secret]")).to_be_focused()


def test_a_revoked_record_takes_a_login_again(page: Page, orgdesk: Running) -> None:
    address = new_record(page, orgdesk, "Revoked")
    log_in(page)
    state(page, "Connected")
    page.get_by_role("link", name="Revoke").click()
    expect(page.get_by_role("heading", name="Revoke Revoked?")).to_be_visible()
    page.get_by_role("button", name="Revoke Revoked").click()
    expect(page.get_by_text("revoked at the org and gone from")).to_be_visible()
    assert page.url == address
    state(page, "Never authorized")
    assert value(page, "Refresh Token") == "none"
    refresh(page)
    expect(page.get_by_role("button", name="Log In")).to_be_visible()
