"""The approval budget: what logins used up, and what the next one would end."""

import html
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select

from database import db, now
from models import Approval, Ending
from practice_org import CLIENT_ID, CONSUMER_SECRET
from tests.conftest import CLICK, StrictClient, add_application, come_back, connect
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_authorizations import change
from tests.test_holds import ACCEPTANCE, REJECTION, decide, log_in_as

PAGE = "/applications/1"
WHOSE = {
    "client_id": CLIENT_ID,
    "organization_id": "00D000000000001EAA",
    "user_id": "005000000000001AAA",
    "username": "admin@practice.example",
}

pytestmark = pytest.mark.usefixtures("practice_record")


def give(app: Flask, name: str, days_ago: int = 0, **values: object) -> None:
    """Let a login have used an approval up, of a record that is gone or `values`."""
    with app.app_context():
        granted_at = now() - timedelta(days=days_ago)
        facts = WHOSE | {"application_name": name, "granted_at": granted_at}
        db.session.add(Approval(**facts | values))
        db.session.commit()


def endings(app: Flask) -> list[Ending | None]:
    with app.app_context():
        told = select(Approval.ending).order_by(Approval.id)
        return list(db.session.scalars(told))


def said(client: StrictClient, page: str = PAGE) -> str:
    return html.unescape(words(client.get(page).text))


def test_each_login_uses_one_up_and_a_refresh_none(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    client.submit(CLICK)
    with app.app_context():
        one = db.session.scalars(select(Approval)).one()
        assert (one.client_id, one.organization_id, one.user_id) == (
            CLIENT_ID,
            "00D000000000001EAA",
            "005000000000001AAA",
        )
        assert (one.application_id, one.application_name) == (1, "Practice")
        assert (one.username, one.ended_at) == ("admin@practice.example", None)
    assert "approvals" not in said(client)


def test_a_new_login_ends_the_approval_of_the_one_before(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    log_in_as(client, org, "admin@practice.example")
    assert endings(app) == [Ending.REVOKED, None]
    assert org.state()["live_approvals"]["admin@practice.example"] == 1


def test_an_approval_whose_end_the_org_did_not_confirm_still_counts(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(revocation="outage")
    log_in_as(client, org, "admin@practice.example")
    assert endings(app) == [None, None]
    assert org.state()["live_approvals"]["admin@practice.example"] == 2


@pytest.mark.parametrize("act", ["revocation", "delete"])
def test_revoking_gives_the_approval_back(
    app: Flask, client: StrictClient, connected: int, act: str
) -> None:
    client.submit(f"{PAGE}/{act}", revoke="y")
    assert endings(app) == [Ending.REVOKED]


def test_what_is_deleted_without_revoking_counts_on_under_its_name(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    client.submit(f"{PAGE}/delete")
    add_record(app, org, "Another")
    for number in range(4):
        give(app, f"Elsewhere {number}")
    page = said(client, "/applications/2")
    assert "5 of 5 approvals of admin@practice.example for this app are used." in page
    assert "revokes the oldest: the deleted record Practice, of" in page


def add_record(app: Flask, org: PracticeOrg, name: str) -> int:
    return add_application(
        app,
        application_name=name,
        salesforce_domain=org.address,
        client_id=CLIENT_ID,
        consumer_secret=CONSUMER_SECRET,
        requested_scopes="api refresh_token id",
    )


def test_a_grant_that_the_org_calls_dead_counts_no_more(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.revoke_all()
    client.submit(CLICK)
    assert endings(app) == [Ending.DEAD]


def test_before_a_login_the_budget_is_told_and_whom_it_would_cost(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    other = add_record(app, org, "Warehouse")
    give(app, "Warehouse", 30, application_id=other)
    for number in range(2):
        give(app, f"Gone {number}", 10 - number)
    assert "approvals" not in said(client)
    give(app, "Gone 3")
    assert "4 of 5 approvals of admin@practice.example" in said(client)
    assert "The next login takes the last one." in said(client)
    give(app, "Gone 4")
    page = client.get(PAGE).text
    day = f"{now() - timedelta(days=30):%-d %B %Y}"
    assert f"The next login revokes the oldest: record Warehouse, of {day}" in (
        html.unescape(words(page)).replace(" ,", ",")
    )
    assert f'<a href="/applications/{other}">Warehouse</a>' in page


@pytest.mark.parametrize(
    "differs",
    [
        {"client_id": "another"},
        {"user_id": "005000000000002AAA"},
        {"ended_at": now(), "ending": Ending.DEAD},
    ],
    ids=["app", "user", "ended"],
)
def test_only_what_lives_of_one_user_and_app_counts_together(
    app: Flask, client: StrictClient, differs: dict[str, object]
) -> None:
    change(app, organization_id="00D000000000001", user_id="005000000000001")
    for number in range(5):
        give(app, f"Gone {number}", **(differs if number else {}))
    assert "approvals" not in said(client)


def test_one_login_too_many_ends_the_oldest_and_its_record_says_why(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    for number in range(2, 7):
        add_record(app, org, f"Record {number}")
        click = f"/applications/{number}/authorization"
        come_back(client, org.log_in(client.submit(click).location))
    assert endings(app) == [Ending.EVICTED, *[None] * 5]
    assert org.state()["live_approvals"]["admin@practice.example"] == 5
    assert "The grant was probably ended by another login" in said(client)
    client.submit(CLICK, htmx=True)
    page = said(client)
    assert "probably another login of the same user and app" in page
    assert "took the last of 5 approvals: record Record 6 ," in page


def test_a_page_less_record_takes_no_approval(app: Flask, client: StrictClient) -> None:
    for number in range(5):
        give(app, f"Gone {number}")
    change(app, flow="client_credentials")
    assert "approvals" not in said(client)


def test_an_approval_of_a_token_that_is_held_counts_and_goes_with_it(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    log_in_as(client, org)
    assert endings(app) == [None, None]
    decide(client, REJECTION)
    assert endings(app) == [None, Ending.REVOKED]
    log_in_as(client, org)
    decide(client, ACCEPTANCE)
    assert endings(app) == [Ending.REVOKED, Ending.REVOKED, None]
