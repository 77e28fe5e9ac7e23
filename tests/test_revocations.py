"""Ending a grant: at the practice org, and here whatever the org answers."""

import html
import re
import socket
from collections.abc import Iterator
from datetime import timedelta

import pytest
import requests
from flask import Flask

import engine
from database import db, now
from engine import Revoked
from models import (
    AuditEvent,
    Event,
    ExternalApplication,
    Flow,
    HeldToken,
    HoldReason,
    Lane,
    Role,
)
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import State
from tests.conftest import (
    SECRET,
    StrictClient,
    add_application,
    add_site,
    browser_of,
    load,
)
from tests.servers import PracticeOrg, free_port
from tests.test_authorizations import change, secrets_of
from tests.wire import Request, Server, answer, reset, serving
from vault import Sealed, seal

PAGE = "/applications/1"
REVOCATION = f"{PAGE}/revocation"
DELETE = f"{PAGE}/delete"


@pytest.fixture
def unreachable(app: Flask) -> None:
    """Record 1 has tokens of an org that is not there."""
    domain = f"http://127.0.0.1:{free_port()}"
    add_application(app, salesforce_domain=domain)
    with app.app_context():
        sealed = {"refresh_token": seal("5Aep" + "r" * 40), "access_token": seal("a")}
    change(app, state=State.CONNECTED, **sealed)


def is_alive(org: PracticeOrg, token: str) -> bool:
    """Ask the org, as anybody who has the app's secret can."""
    form = {
        "token": token,
        "client_id": CLIENT_ID,
        "client_secret": CONSUMER_SECRET,
    }
    url = f"{org.address}/services/oauth2/introspect"
    return bool(requests.post(url, data=form, timeout=5).json()["active"])


def notice(page: str) -> str:
    found = re.search(r'<p class="(notice[^"]*)".*?>(.*?)</p>', page, re.S)
    assert found
    return f"{found[1]}: {html.unescape(found[2])}"


def is_there(app: Flask) -> bool:
    with app.app_context():
        return db.session.get(ExternalApplication, 1) is not None


# --- revoke ----------------------------------------------------------------


def test_a_revoked_grant_is_dead_at_the_org_and_gone_here(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    tokens = secrets_of(app)
    assert is_alive(org, tokens["refresh"])
    assert is_alive(org, tokens["access"])
    answer = client.submit(REVOCATION)
    assert (answer.status_code, answer.location) == (303, PAGE)
    assert notice(client.get(PAGE).text) == (
        "notice: The tokens are revoked at the org and gone from Orgdesk."
    )
    assert not is_alive(org, tokens["refresh"])
    assert not is_alive(org, tokens["access"])
    assert secrets_of(app) == {}
    assert load(app, 1).state is State.NEVER_AUTHORIZED


def test_nothing_is_said_any_more_of_a_token_that_is_gone(
    app: Flask, client: StrictClient, connected: int
) -> None:
    change(app, rotation=True, retry_at=now() + timedelta(minutes=10))
    page = client.get(PAGE).text
    assert "replaced at each use" in page
    assert "leave it alone until" in page
    client.submit(REVOCATION)
    page = client.get(PAGE).text
    assert "replaced at each use" not in page
    assert "leave it alone until" not in page
    assert load(app, 1).issued_at is None


def test_a_grant_that_the_org_ended_already_is_revoked_all_the_same(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.revoke_all()
    client.submit(REVOCATION)
    assert notice(client.get(PAGE).text) == (
        "notice: The tokens are gone; the org had ended them already."
    )
    assert load(app, 1).last_error is None


def test_an_org_that_does_not_answer_is_said_to_keep_what_it_has(
    app: Flask, client: StrictClient, unreachable: None
) -> None:
    client.submit(REVOCATION)
    page = client.get(PAGE).text
    assert notice(page).startswith("notice problem: The tokens are gone from Orgdesk.")
    assert "At the org they may live on" in page
    assert "Revoke it there" in page
    assert secrets_of(app) == {}


def test_the_question_names_the_record_and_what_ends(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    tokens = secrets_of(app)
    page = client.get(REVOCATION).text
    assert "<h1>Revoke Practice?</h1>" in page
    assert "The refresh token dies at the org" in page
    assert "may be shared" not in page
    assert is_alive(org, tokens["refresh"])
    change(app, flow=Flow.CLIENT_CREDENTIALS, refresh_token=None)
    page = client.get(REVOCATION).text
    assert "The access token dies at the org" in page
    assert "may be shared" in page


def test_where_there_is_nothing_to_revoke_it_is_not_offered(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    assert REVOCATION not in client.get(PAGE).text
    page = client.get(REVOCATION).text
    assert "there is nothing to revoke" in page
    assert "danger" not in page
    assert 'name="revoke"' not in client.get(DELETE).text


def test_admins_are_offered_to_revoke_and_operators_are_not(
    app: Flask, client: StrictClient, connected: int
) -> None:
    assert REVOCATION in client.get(PAGE).text
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    assert REVOCATION not in operator.get(PAGE).text


def test_a_record_that_is_gone_has_nothing_to_revoke(client: StrictClient) -> None:
    assert client.get(REVOCATION).status_code == 404
    assert client.submit(REVOCATION).status_code == 404


# --- what is ended, and where ---------------------------------------------


@pytest.fixture
def here(app: Flask) -> Iterator[Server]:
    """A host that revokes what it is asked to; record 1 is of it, with tokens."""
    with serving() as server:
        server.script = [answer()] * 9
        add_application(app, salesforce_domain=f"http://127.0.0.1:{server.port}")
        give_tokens(app, server)
        yield server


@pytest.fixture
def elsewhere(app: Flask) -> Iterator[Server]:
    with serving() as server:
        server.script = [answer()] * 9
        add_site(app, domain_of(server), local_network=True)
        yield server


def domain_of(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


def give_tokens(app: Flask, server: Server) -> None:
    with app.app_context():
        sealed = {"refresh_token": seal("5Aep-r"), "access_token": seal("00D-a")}
    change(
        app,
        state=State.CONNECTED,
        lane=Lane.BROWSER,
        refresh_token_domain=domain_of(server),
        **sealed,
    )


def revoke(app: Flask, *, keep_failed: bool = False) -> Revoked:
    with app.app_context():
        application = db.session.get_one(ExternalApplication, 1)
        return engine.revoke(application, keep_failed=keep_failed)


def asked(server: Server) -> list[str]:
    return [request.form["token"] for request in server.requests]


def test_what_may_live_on_can_be_kept_and_stays_sealed(
    app: Flask, here: Server
) -> None:
    refusal = answer({"error": "server_error"}, "503 Service Unavailable")
    here.script = [refusal, refusal]
    revoked = revoke(app, keep_failed=True)
    assert (revoked.everywhere, revoked.anything) == (False, True)
    assert revoked.sentence.startswith("The tokens are kept. The token may still work")
    assert secrets_of(app) == {"refresh": "5Aep-r", "access": "00D-a"}
    record = load(app, 1)
    assert record.state is State.CONNECTED
    assert record.last_error == revoked.sentence
    with app.app_context():
        stored = db.session.execute(
            db.text("SELECT refresh_token, access_token FROM external_application")
        ).one()
    assert not [text for text in stored if "5Aep" in text or "00D" in text]


def test_what_was_kept_goes_once_the_org_ends_it(app: Flask, here: Server) -> None:
    here.script = [reset, answer()]
    assert not revoke(app, keep_failed=True).everywhere
    assert revoke(app, keep_failed=True).everywhere
    assert secrets_of(app) == {}
    assert not revoke(app, keep_failed=True).anything


def test_tokens_that_no_key_opens_can_be_kept_too(app: Flask, here: Server) -> None:
    foreign = Sealed("gAAAAABfromAnotherKey")
    change(app, refresh_token=foreign, access_token=foreign)
    revoked = revoke(app, keep_failed=True)
    assert not revoked.everywhere
    assert revoked.sentence.startswith("The tokens are kept. No key of this server")
    assert load(app, 1).holds_tokens
    assert asked(here) == []
    assert not revoke(app).everywhere
    assert not load(app, 1).holds_tokens


def test_an_org_that_is_not_there_is_asked_once_a_grant(
    app: Flask, here: Server
) -> None:
    here.script = [reset] * 9
    assert not revoke(app).everywhere
    assert asked(here) == ["5Aep-r"]


def test_the_tokens_of_a_record_that_was_moved_go_to_where_they_came_from(
    app: Flask, here: Server, elsewhere: Server
) -> None:
    change(app, salesforce_domain=domain_of(elsewhere))
    here.script = [answer({"error": "invalid_token"}, "400 Bad Request"), answer()]
    assert revoke(app).everywhere
    assert asked(here) == ["5Aep-r", "00D-a"]
    assert asked(elsewhere) == []


def test_the_token_of_a_flow_without_a_page_is_a_grant_of_its_own(
    app: Flask, here: Server
) -> None:
    change(app, flow=Flow.CLIENT_CREDENTIALS, lane=Lane.PAGE_LESS)
    assert revoke(app).everywhere
    assert asked(here) == ["5Aep-r", "00D-a"]


def test_that_token_too_goes_to_where_it_came_from(
    app: Flask, here: Server, elsewhere: Server
) -> None:
    change(
        app,
        lane=Lane.PAGE_LESS,
        refresh_token=None,
        access_token_domain=domain_of(here),
        salesforce_domain=domain_of(elsewhere),
    )
    assert revoke(app).everywhere
    assert (asked(here), asked(elsewhere)) == (["00D-a"], [])


def test_a_token_that_is_held_goes_with_the_others(
    app: Flask, here: Server, elsewhere: Server
) -> None:
    hold(app, elsewhere)
    elsewhere.script = [reset, answer()]
    assert not revoke(app, keep_failed=True).everywhere
    assert is_held(app)
    assert revoke(app, keep_failed=True).everywhere
    assert not is_held(app)
    assert load(app, 1).held_at is None
    assert asked(elsewhere) == ["5Aep-held"] * 2


def hold(app: Flask, server: Server) -> None:
    """Hold a token of that host for record 1."""
    with app.app_context():
        held = HeldToken(
            application_id=1,
            reason=HoldReason.ANOTHER_USER,
            lane=Lane.BROWSER,
            lane_reason="",
            actor="",
            salesforce_domain=domain_of(server),
            client_id="3MVG9AcmeConsumerKey",
            access_token=seal("00D-held"),
            refresh_token=seal("5Aep-held"),
            response="{}",
        )
        db.session.add(held)
        db.session.commit()
    change(app, held_at=now())


def is_held(app: Flask) -> bool:
    with app.app_context():
        return db.session.scalar(db.select(HeldToken)) is not None


# --- what an org says ------------------------------------------------------


def test_a_code_that_holds_a_secret_is_kept_without_it(app: Flask) -> None:
    with serving() as server:
        record = add_application(
            app, salesforce_domain=f"http://127.0.0.1:{server.port}"
        )
        with app.app_context():
            sealed = {"refresh_token": seal("5Aep" + "r" * 40)}
        change(app, state=State.CONNECTED, access_token=None, **sealed)
        server.script = [answer({"error": f"x_{SECRET}"}, "400 Bad Request")]
        browser_of(app).submit(REVOCATION)
    with app.app_context():
        found = db.session.get_one(ExternalApplication, record)
        told = db.session.scalars(db.select(AuditEvent.detail)).all()
    assert str(found.last_error_code).startswith("x_(fingerprint")
    assert SECRET not in "".join(told)


# --- delete ----------------------------------------------------------------


def test_deleting_revokes_where_that_is_ticked_as_it_is_at_first(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    tokens = secrets_of(app)
    box = re.search(
        r'<input type="checkbox"[^>]*name="revoke"[^>]*>', client.get(DELETE).text
    )
    assert box
    assert " checked" in box[0]
    assert client.submit(DELETE, revoke="y").status_code == 303
    assert notice(client.get("/").text) == (
        "notice: Practice was deleted. The tokens are revoked at the org and gone from"
        " Orgdesk."
    )
    assert not is_alive(org, tokens["refresh"])
    assert not is_there(app)


def test_deleting_alone_leaves_the_grant_at_the_org(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    tokens = secrets_of(app)
    client.submit(DELETE)
    assert notice(client.get("/").text) == "notice: Practice was deleted."
    assert is_alive(org, tokens["refresh"])
    assert not is_there(app)


def test_an_org_that_does_not_answer_keeps_nothing_from_being_deleted(
    app: Flask, client: StrictClient, unreachable: None
) -> None:
    assert client.submit(DELETE, revoke="y").status_code == 303
    said = notice(client.get("/").text)
    assert said.startswith("notice problem: Acme was deleted. The tokens are gone from")
    assert "At the org they may live on" in said
    assert not is_there(app)


def test_both_acts_are_in_the_audit_trail(
    app: Flask, client: StrictClient, connected: int
) -> None:
    client.submit(DELETE, revoke="y")
    with app.app_context():
        events = db.session.scalars(
            db.select(AuditEvent.event).order_by(AuditEvent.id.desc()).limit(2)
        ).all()
    assert events == [Event.RECORD_DELETED, Event.TOKEN_REVOKED]


def test_a_record_without_tokens_is_deleted_without_asking_anybody(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    client.submit(DELETE, revoke="y")
    assert notice(client.get("/").text) == "notice: Acme was deleted."


def test_what_came_to_be_held_meanwhile_is_revoked_too(
    app: Flask, here: Server, elsewhere: Server
) -> None:
    def hold_one(line: socket.socket, _: Request) -> None:
        hold(app, elsewhere)
        line.sendall(answer())

    here.script = [hold_one]
    assert revoke(app).everywhere
    assert not is_held(app)
    assert asked(elsewhere) == ["5Aep-held"]
