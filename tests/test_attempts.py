"""The pages of a record's history."""

import re
from typing import Any

import pytest
from flask import Flask

from history import PAGE_SIZE
from models import Lane, Outcome, Role, Secret
from salesforce import State
from tests.conftest import CLICK, StrictClient, add_application, browser_of
from tests.servers import PracticeOrg
from tests.test_authorizations import blank_csrf
from tests.test_history import ANSWER, add, add_open

HISTORY = "/applications/1/attempts"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def record(app: Flask) -> int:
    return add_application(app)


def words(html: str) -> str:
    """Return what a page says, without its tags."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def region(html: str) -> str:
    found = re.search(
        r'<section id="application-history".*?</section>', html, re.DOTALL
    )
    assert found
    return found[0]


# --- what a row says -------------------------------------------------------


def test_a_row_says_who_asked_how_and_what_came_of_it(
    app: Flask, client: StrictClient, record: int
) -> None:
    add(
        app,
        lane=Lane.SILENT,
        status=200,
        duration=424,
        requests=1,
        secret_used=Secret.NEXT,
        rotated=True,
        access_token_before="aaaaaaaa",
        access_token_after="bbbbbbbb",
        refresh_token_before="cccccccc",
        refresh_token_after="dddddddd",
    )
    said = words(region(client.get("/applications/1").text))
    assert "by ada@orgdesk.example silently" in said
    assert "Stored then Connected" in said
    assert "HTTP 200 in 0.42 s next Consumer Secret" in said
    assert "Access aaaaaaaa → bbbbbbbb Refresh cccccccc → dddddddd rotated" in said
    assert "Each try to get a token, kept for 90 days." in said


def test_a_failed_row_says_why(app: Flask, client: StrictClient, record: int) -> None:
    add(
        app,
        outcome=Outcome.FAILED,
        state=State.UNREACHABLE,
        error_code="<HTTP 429>",
        reason="The org asks for fewer requests.",
        status=429,
        duration=12_300,
        requests=3,
        retry_after=30,
        rotated=False,
        access_token_before="aaaaaaaa",
        access_token_after="aaaaaaaa",
    )
    page = region(client.get("/applications/1").text)
    assert "<code>&lt;HTTP 429&gt;</code>" in page
    said = words(page)
    assert "Failed then Unreachable" in said
    assert "The org asks for fewer requests." in said
    assert "HTTP 429 in 12.30 s (3 requests) Retry-After 30 s" in said
    assert "Access aaaaaaaa as before Refresh none as before " in said
    assert "rotated" not in said, "nobody knows"


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ({"requests": 1, "duration": 10_000}, "no answer in 10.00 s"),
        ({"outcome": Outcome.LOST}, "no answer"),
        ({}, "not asked"),
    ],
)
def test_a_row_without_an_answer_says_whether_one_was_asked_for(
    app: Flask, client: StrictClient, record: int, facts: dict[str, Any], sentence: str
) -> None:
    add(app, **{"outcome": Outcome.FAILED, "answer": None} | facts)
    assert f" {sentence} Access" in words(client.get(HISTORY).text)


def test_a_scope_that_went_missing_is_said_in_its_row(
    app: Flask, client: StrictClient, record: int
) -> None:
    add(app)
    add(app, answer='{"scope": "refresh_token", "id": "x"}')
    said = words(region(client.get("/applications/1").text))
    assert "scope lost: api" in said
    assert f"id changed: {ANSWER['id']} → x" in said


def test_an_attempt_under_way_says_since_when_and_by_whom(
    app: Flask, client: StrictClient, record: int
) -> None:
    add_open(app, actor="bob@orgdesk.example", lane=Lane.PAGE_LESS)
    said = words(region(client.get("/applications/1").text))
    assert re.search(
        r"under way, since \S+ \S+ \S+, \S+ UTC , by bob@orgdesk.example", said
    )


def test_an_attempt_whose_process_ended_is_said_to_be_lost(
    app: Flask, client: StrictClient, record: int
) -> None:
    add_open(app, lane=Lane.PAGE_LESS, lease_ends=-1.0)
    said = words(client.get(HISTORY).text)
    assert "Lost then Never authorized" in said
    assert "under way" not in said


def test_what_an_org_sent_is_no_markup(
    app: Flask, client: StrictClient, record: int
) -> None:
    add(app)
    add(app, answer='{"<b>x</b>": 1}')
    page = client.get("/applications/1").text
    assert "new field: &lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page


# --- pages -----------------------------------------------------------------


def test_a_record_without_attempts_says_so(client: StrictClient, record: int) -> None:
    page = region(client.get("/applications/1").text)
    assert "No token was asked for yet." in page
    assert "Older" not in page
    assert "Nothing is older." in client.get(f"{HISTORY}?before=1").text


def test_older_leads_a_browser_to_a_page_and_htmx_to_the_region(
    app: Flask, client: StrictClient, record: int
) -> None:
    for _ in range(PAGE_SIZE + 1):
        add(app)
    found = re.search(
        r'id="history-older" href="([^"]+)" hx-get="([^"]+)"',
        client.get("/applications/1").text,
    )
    assert found
    assert found[1] == found[2] == f"{HISTORY}?before=2"
    page, alone = client.get(found[1]), client.get(found[1], headers=HTMX)
    assert "<h1>Acme</h1>" in page.text
    assert alone.text.strip() == region(page.text)
    assert alone.text.count("by ada@orgdesk.example") == 1


def test_what_is_pressed_stays_so_that_the_focus_does(
    app: Flask, client: StrictClient, record: int
) -> None:
    for _ in range(PAGE_SIZE + 1):
        add(app)
    for path, pressed in (("", "newest"), ("?before=2", "older")):
        page = client.get(HISTORY + path, headers=HTMX).text
        for name in ("newest", "older"):
            link = re.search(rf'<a [^>]*id="history-{name}"[^>]*>', page)
            assert link
            off = "href" not in link[0]
            assert off is (name == pressed)
            assert off is ('aria-disabled="true" tabindex="0"' in link[0])


@pytest.mark.parametrize("before", ["x", "-1", "0", "2147483648", "9" * 30, "²", ""])
def test_a_place_that_makes_no_sense_is_the_start(
    app: Flask, client: StrictClient, record: int, before: str
) -> None:
    add(app)
    page = client.get(HISTORY, query_string={"before": before})
    assert "by ada@orgdesk.example" in page.text


def test_the_history_of_a_record_that_is_gone_is_a_404(client: StrictClient) -> None:
    assert client.get("/applications/4711/attempts").status_code == 404


def test_a_viewer_reads_the_history(app: Flask, record: int) -> None:
    add(app)
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert "ada@orgdesk.example" in viewer.get(HISTORY).text


# --- fresh after a click ---------------------------------------------------


def test_a_click_by_htmx_brings_the_history_along(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    assert region(client.get("/applications/1").text).count("Stored") == 1
    answer = client.submit(CLICK, htmx=True).text
    assert region(answer).count("Stored") == 2
    page = client.get("/applications/1").text
    assert region(answer) == region(page)
    assert blank_csrf(answer.strip()) in blank_csrf(page)
    assert 'hx-select-oob="#application-history:outerMorph"' in page


def test_each_try_of_the_practice_org_is_in_the_history(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(rotation=True)
    client.submit(CLICK, htmx=True)
    org.switch(fault="too_many_requests")
    client.submit(CLICK, htmx=True)
    said = words(region(client.get("/applications/1").text))
    assert said.count("admin@orgdesk.example") == 3
    assert "Retry-After 30 s" in said
    assert said.count("current Consumer Secret") == 3
    assert " rotated" in said
    assert "through the login page" in said
