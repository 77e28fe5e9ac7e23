"""While a panic covers a record it gets no token, whichever way one would come."""

import pytest
from flask import Flask
from sqlalchemy import select

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
from tests.conftest import CLICK, StrictClient, begin, come_back, connect
from tests.fleet import until
from tests.servers import PracticeOrg
from tests.test_authorizations import change, meanwhile, secrets_of
from tests.test_holds import ACCEPTANCE, decide, held, log_in_as

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
        assert "Nothing was asked of the org." in answer.text
        assert "The next click" not in answer.text
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


@pytest.mark.parametrize("flow", [Flow.WEB_SERVER, Flow.CLIENT_CREDENTIALS])
def test_a_token_that_comes_too_late_is_revoked(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int, flow: Flow
) -> None:
    change(app, flow=flow)
    with meanwhile(org, lambda: client.submit(CLICK, htmx=True)):
        block(app)
    until(lambda: secrets_of(app).keys() == {"code"} or not secrets_of(app))
    assert org.requests_of("/revoke")[-1]["status"] == 200
    assert "came while refreshes were blocked" in client.get(PAGE).text


def test_a_token_that_comes_too_late_is_kept_until_its_org_has_ended_it(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    with meanwhile(org, lambda: client.submit(CLICK, htmx=True)):
        block(app)
        org.switch(fault="slow", seconds=1, revocation="outage")
    until(lambda: progress(app) == [Progress.FAILED])
    assert secrets_of(app)["refresh"]
    org.switch()
    client.submit("/panics/1/retry")
    until(lambda: progress(app) == [Progress.REVOKED])
    assert "refresh" not in secrets_of(app)


def test_a_login_that_comes_too_late_is_revoked_beside_the_rest(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    url = client.submit(CLICK, log_in="1").location
    back = org.log_in(url, username="integration@practice.example")
    with meanwhile(org, lambda: come_back(client, back)):
        block(app)
    until(lambda: progress(app) == [Progress.REVOKED])
    assert held(app) is None
    assert set(org.state()["live_approvals"].values()) == {0}


def progress(app: Flask) -> list[Progress]:
    with app.app_context():
        return list(db.session.scalars(select(PanicRevocation.progress)))


def test_a_token_that_is_held_is_not_taken_meanwhile(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    log_in_as(client, org)
    before = secrets_of(app)
    block(app)
    answer = decide(client, ACCEPTANCE)
    assert "no token is taken over now" in answer.text
    assert secrets_of(app) == before
    assert held(app)
