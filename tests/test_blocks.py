"""While a panic covers a record it gets no token, whichever way one would come."""

import pytest
from flask import Flask

import engine
from database import db, now
from models import (
    ExternalApplication,
    Flow,
    Panic,
    PanicRevocation,
    Progress,
    Scope,
)
from salesforce import State
from tests.conftest import CLICK, StrictClient, begin, come_back, connect, load
from tests.servers import PracticeOrg
from tests.test_authorizations import change, meanwhile, secrets_of
from tests.test_holds import held, log_in_as

PAGE = "/applications/1"

pytestmark = pytest.mark.usefixtures("practice_record")


def block(app: Flask, scope: Scope = Scope.ALL, *records: int) -> None:
    with app.app_context():
        panic = Panic(scope=scope, reason="", started_by="ada@orgdesk.example")
        db.session.add(panic)
        db.session.flush()
        for record in records:
            db.session.add(
                PanicRevocation(
                    panic_id=panic.id,
                    application_id=record,
                    application_name="",
                    salesforce_domain="",
                    progress=Progress.GONE,
                )
            )
        db.session.commit()


def lift(app: Flask) -> None:
    with app.app_context():
        db.session.get_one(Panic, 1).lifted_at = now()
        db.session.commit()


@pytest.mark.parametrize(
    "covered", [(Scope.ALL,), (Scope.SELECTED, 1)], ids=["all", "selected"]
)
def test_a_click_asks_the_org_for_nothing_until_it_is_lifted(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    connected: int,
    covered: tuple[Scope, int],
) -> None:
    block(app, *covered)
    asked = len(org.token_requests)
    for form in ({}, {"log_in": "1"}):
        answer = client.submit(CLICK, htmx=True, **form)
        assert answer.status_code == 200
        assert "Refreshes are blocked" in answer.text
    assert "Refreshes are blocked" in client.get(PAGE).text
    assert len(org.token_requests) == asked
    lift(app)
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert len(org.token_requests) == asked + 1


def test_a_record_that_was_not_selected_goes_on(
    app: Flask, client: StrictClient, connected: int
) -> None:
    before = secrets_of(app)
    block(app, Scope.SELECTED)
    client.submit(CLICK, htmx=True)
    assert secrets_of(app)["access"] != before["access"]


def test_a_login_that_was_begun_before_is_not_finished(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    back = org.log_in(begin(client))
    block(app)
    asked = len(org.token_requests)
    answer = come_back(client, back)
    assert answer.status_code == 400
    assert "Refreshes are blocked for all records" in answer.text
    assert len(org.token_requests) == asked


def test_a_command_is_told_why(app: Flask, connected: int) -> None:
    block(app)
    with app.app_context():
        result = engine.get_token(db.session.get_one(ExternalApplication, 1))
    assert not result.stored
    assert "blocked for all records" in result.reason
    assert "ada@orgdesk.example" in result.reason


def test_a_token_that_comes_too_late_is_revoked_and_not_stored(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    before = secrets_of(app)
    with meanwhile(org, lambda: client.submit(CLICK, htmx=True)):
        block(app)
    assert secrets_of(app) == before
    assert org.requests_of("/revoke")[-1]["status"] == 200
    assert "came while refreshes were blocked" in client.get(PAGE).text


def test_a_page_less_token_that_comes_too_late_is_revoked_too(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    change(app, flow=Flow.CLIENT_CREDENTIALS)
    with meanwhile(org, lambda: client.submit(CLICK, htmx=True)):
        block(app)
    assert secrets_of(app) == {}
    assert load(app, 1).state is State.NEVER_AUTHORIZED
    assert org.requests_of("/revoke")[-1]["status"] == 200


def test_a_token_that_is_held_is_not_taken_meanwhile(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    log_in_as(client, org)
    before = secrets_of(app)
    block(app)
    client.submit(f"{PAGE}/held-token/acceptance")
    assert "no token is taken over now" in client.get(PAGE).text
    assert secrets_of(app) == before
    assert held(app)
