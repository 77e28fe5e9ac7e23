"""The token engine, lane by lane, against a practice org on the wire."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

import engine
from database import db, now, tick
from models import (
    LEASE,
    Attempt,
    AuditEvent,
    ExpirySource,
    ExternalApplication,
    Flow,
    Lane,
    Outcome,
    Secret,
)
from practice_org import CONSUMER_SECRET
from salesforce import State, generate
from tests.conftest import (
    CLICK,
    StrictClient,
    begin,
    come_back,
    connect,
    load,
)
from tests.servers import PracticeOrg
from tests.test_authorizations import change, edit, meanwhile, secrets_of
from vault import seal

PAIR = generate("Orgdesk's tests")
USERNAME = "integration@practice.example"


pytestmark = pytest.mark.usefixtures("practice_record")


@pytest.fixture
def by_assertion(app: Flask, org: PracticeOrg, practice_record: int) -> None:
    """Record 1 uses the JWT bearer flow."""
    org.upload(PAIR.certificate)
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        record.flow, record.username = Flow.JWT_BEARER, USERNAME
        record.private_key, record.certificate = (
            seal(PAIR.private_key),
            PAIR.certificate,
        )
        db.session.commit()


@pytest.fixture
def by_credentials(app: Flask, practice_record: int) -> None:
    """Record 1 uses the client credentials flow."""
    change(app, flow=Flow.CLIENT_CREDENTIALS)


def attempts(app: Flask) -> list[Attempt]:
    with app.app_context():
        found = list(db.session.scalars(select(Attempt).order_by(Attempt.id)))
        db.session.expunge_all()
        return found


def click(client: StrictClient, **form: str) -> int:
    return client.submit(CLICK, htmx=True, **form).status_code


# --- the page-less lane ------------------------------------------------------


@pytest.mark.usefixtures("by_assertion")
def test_an_assertion_gets_a_token_without_a_page(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    assert click(client) == 200
    record = load(app, 1)
    assert (record.state, record.lane) == (State.CONNECTED, Lane.PAGE_LESS)
    assert record.user_id == "005000000000002AAA"
    assert record.issued_at
    assert abs(record.issued_at - now()) < timedelta(minutes=1)
    assert record.refresh_token is None
    assert org.token_requests[-1]["grant_type"].endswith("jwt-bearer")
    assert CONSUMER_SECRET not in str(org.token_requests[-1])


@pytest.mark.usefixtures("by_credentials")
def test_client_credentials_get_a_token_without_a_page(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    assert click(client) == 200
    record = load(app, 1)
    assert (record.state, record.lane) == (State.CONNECTED, Lane.PAGE_LESS)
    assert org.token_requests[-1]["grant_type"] == "client_credentials"


@pytest.mark.usefixtures("by_credentials")
def test_the_same_token_again_is_no_new_one(app: Flask, client: StrictClient) -> None:
    """Salesforce gives one token out again and again while it lives."""
    click(client)
    first, token = load(app, 1), secrets_of(app)["access"]
    click(client)
    again = load(app, 1)
    assert secrets_of(app)["access"] == token
    assert first.expires_at
    assert again.expires_at
    assert abs(again.expires_at - first.expires_at) < timedelta(seconds=5)


def test_another_flow_keeps_what_is_stored_until_it_has_succeeded(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    before = secrets_of(app)
    org.switch(run_as="none")
    change(app, flow=Flow.CLIENT_CREDENTIALS)
    assert click(client) == 200
    assert load(app, 1).state is State.MISCONFIGURED
    assert "Run As" in str(load(app, 1).last_error)
    assert secrets_of(app) == before
    change(app, flow=Flow.WEB_SERVER)
    assert click(client) == 200
    assert load(app, 1).lane is Lane.SILENT
    org.switch()
    change(app, flow=Flow.CLIENT_CREDENTIALS)
    click(client)
    assert load(app, 1).lane is Lane.PAGE_LESS
    assert secrets_of(app)["access"] != before["access"]
    # Without a login's grant an org may not take the assertions of its user.
    assert secrets_of(app)["refresh"] == before["refresh"]


@pytest.mark.usefixtures("by_assertion")
def test_what_the_record_lacks_is_said_before_any_request(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    asked = len(org.token_requests)
    for lacking, label in (
        ({"username": ""}, "Username"),
        ({"private_key": None}, "Key"),
    ):
        change(app, **lacking)
        assert click(client) == 200
        record = load(app, 1)
        assert record.state is State.MISCONFIGURED
        assert label in str(record.last_error)
        assert record.last_error_action
    assert len(org.token_requests) == asked


@pytest.mark.usefixtures("by_assertion")
def test_a_clock_that_is_wrong_is_named(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(org_clock=3600)
    click(client)
    record = load(app, 1)
    assert record.state is State.MISCONFIGURED
    assert "clock is 60 minutes behind" in str(record.last_error)


@pytest.mark.usefixtures("by_credentials")
def test_what_is_safe_to_repeat_is_repeated(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    asked = len(org.token_requests)
    org.switch(fault="outage", times=2)
    click(client)
    assert load(app, 1).state is State.CONNECTED
    assert len(org.token_requests) == asked + 3
    assert attempts(app)[-1].requests == 3


@pytest.mark.usefixtures("by_credentials")
def test_it_is_not_repeated_for_ever_nor_sooner_than_the_org_allows(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    for fault, requests in (({"fault": "outage"}, 3), (SIXTY, 1)):
        asked = len(org.token_requests)
        org.switch(**fault)
        click(client)
        assert load(app, 1).state is State.UNREACHABLE
        assert len(org.token_requests) == asked + requests


SIXTY = {"fault": "too_many_requests", "retry_after": "60"}


# --- two consumer secrets ----------------------------------------------------


def stage_secret(app: Flask) -> None:
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        record.next_consumer_secret = seal("the next secret")
        db.session.commit()


def test_the_next_secret_is_tried_where_the_current_one_is_refused(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    stage_secret(app)
    click(client)
    assert load(app, 1).secret_used is Secret.CURRENT
    asked = len(org.token_requests)
    org.switch(consumer_secrets="the next secret", rotation=True)
    click(client)
    record = load(app, 1)
    assert record.state is State.CONNECTED
    assert record.secret_used is Secret.NEXT
    assert record.can_promote
    errors = [seen["error"] for seen in org.token_requests[asked:]]
    assert errors == ["invalid_client", ""]
    assert attempts(app)[-1].secret_used is Secret.NEXT


def test_both_secrets_refused_say_so(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    stage_secret(app)
    org.switch(consumer_secrets="another")
    click(client)
    record = load(app, 1)
    assert record.state is State.MISCONFIGURED
    assert record.last_error_code == "invalid_client"
    assert not record.can_promote


def test_a_login_is_finished_with_the_next_secret(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    stage_secret(app)
    org.switch(consumer_secrets="the next secret")
    connect(client, org)
    assert load(app, 1).secret_used is Secret.NEXT


# --- a refresh token that was sent and not answered ---------------------------


def test_a_lost_answer_is_cleared_up_by_asking_not_by_sending(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True, fault="lost_answer", times=1)
    assert click(client) == 200
    assert load(app, 1).doubt_settles_at
    asked = len(org.token_requests)
    assert click(client) == 204
    assert len(org.token_requests) == asked
    record = load(app, 1)
    assert record.state is State.LOGIN_REQUIRED
    assert "used up" in str(record.last_error)
    assert org.families_revoked == 0


def test_a_refresh_token_whose_successor_was_left_out_is_not_simply_sent_again(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    click(client)
    org.switch(rotation=True, fault="missing_fields", times=1)
    assert click(client) == 200
    assert load(app, 1).state is State.CONNECTED
    asked = len(org.token_requests)
    assert click(client) == 204
    assert len(org.token_requests) == asked
    assert load(app, 1).state is State.LOGIN_REQUIRED
    assert org.families_revoked == 0


@pytest.mark.parametrize("introspection", ["allowed", "refused"])
def test_an_org_that_replaces_refresh_tokens_no_more_still_takes_no_login(
    app: Flask, client: StrictClient, org: PracticeOrg, introspection: str
) -> None:
    connect(client, org)
    org.switch(rotation=True, introspection=introspection)
    click(client)
    org.switch(introspection=introspection)
    for _ in range(3):
        assert click(client) == 200
        assert load(app, 1).state is State.CONNECTED


def doubt(app: Flask, settles_in: timedelta) -> None:
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        record.rotation = True
        record.doubt(settles_in)
        record.leave_unknown("Nobody knows.", "Try.", "<lost>")
        db.session.commit()


def test_a_refresh_token_that_still_lives_is_sent_once_it_is_safe(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    doubt(app, timedelta(seconds=60))
    asked = len(org.token_requests)
    assert click(client) == 200
    record = load(app, 1)
    assert record.state is State.OUTCOME_UNKNOWN
    assert "still lives" in str(record.last_error)
    assert "again in" in str(record.last_error_action)
    assert len(org.token_requests) == asked
    doubt(app, timedelta())
    assert click(client) == 200
    assert load(app, 1).state is State.CONNECTED
    assert load(app, 1).doubt_settles_at is None


def test_where_the_org_does_not_tell_it_takes_a_login_or_somebody_who_knows(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(introspection="refused")
    doubt(app, timedelta())
    asked = len(org.token_requests)
    assert click(client) == 204
    assert load(app, 1).state is State.OUTCOME_UNKNOWN
    assert len(org.token_requests) == asked
    assert click(client, insist="1") == 200
    assert load(app, 1).state is State.CONNECTED


def test_an_org_that_is_known_to_keep_refresh_tokens_is_simply_asked_again(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    click(client)
    assert load(app, 1).rotation is False
    org.switch(fault="lost_answer", times=1)
    click(client)
    assert load(app, 1).state is State.UNREACHABLE
    assert click(client) == 200
    assert load(app, 1).state is State.CONNECTED


# --- what a process that died left behind -------------------------------------


def leave_behind(app: Flask, lane: Lane) -> None:
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        access, refresh = record.fingerprints
        db.session.add(
            Attempt(
                application_id=1,
                lane=lane,
                actor="ada@orgdesk.example",
                request_id="",
                lease_ends=tick() - 1,
                access_token_before=access,
                refresh_token_before=refresh,
            )
        )
        db.session.commit()


@pytest.mark.parametrize("path", ["/", "/applications/1", "/?q=practice"])
def test_a_page_says_what_a_dead_process_left_behind(
    app: Flask, client: StrictClient, org: PracticeOrg, path: str
) -> None:
    connect(client, org)
    leave_behind(app, Lane.SILENT)
    assert "Outcome unknown" in client.get(path).text
    assert attempts(app)[-1].outcome is Outcome.LOST
    assert "Log in again" in str(load(app, 1).last_error_action) or (
        "log in again" in str(load(app, 1).last_error_action)
    )


def test_a_click_after_a_dead_process_says_so_and_sends_nothing(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    leave_behind(app, Lane.SILENT)
    asked = len(org.token_requests)
    assert click(client) == 200
    assert load(app, 1).state is State.OUTCOME_UNKNOWN
    assert len(org.token_requests) == asked
    assert click(client) == 200  # the org says that the token still lives
    assert load(app, 1).state is State.CONNECTED


@pytest.mark.usefixtures("by_credentials")
def test_where_asking_again_does_no_harm_a_dead_process_holds_nobody_up(
    app: Flask, client: StrictClient
) -> None:
    leave_behind(app, Lane.PAGE_LESS)
    assert click(client) == 200
    assert load(app, 1).state is State.CONNECTED
    assert [one.outcome for one in attempts(app)] == [Outcome.LOST, Outcome.STORED]


def test_a_login_that_came_meanwhile_is_not_called_unknown(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    leave_behind(app, Lane.SILENT)
    come_back(client, org.log_in(client.submit(CLICK, log_in="1").location))
    client.get("/applications/1")
    assert load(app, 1).state is State.CONNECTED
    leave_behind(app, Lane.BROWSER)
    client.get("/applications/1")
    assert load(app, 1).state is State.CONNECTED


def test_a_lease_of_a_clock_that_began_anew_is_over(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    """After a restart of the machine its monotonic clock begins at nought."""
    connect(client, org)
    leave_behind(app, Lane.SILENT)
    with app.app_context():
        attempt = db.session.scalars(select(Attempt).order_by(-Attempt.id)).first()
        assert attempt
        attempt.lease_ends = tick() + LEASE * 1_000
        db.session.commit()
    assert "Outcome unknown" in client.get("/applications/1").text


# --- failures that may pass ----------------------------------------------------


def by_itself(app: Flask) -> engine.Result:
    with app.app_context():
        return engine.get_token(db.session.get_one(ExternalApplication, 1))


def test_what_nobody_asked_for_backs_off_after_a_failure_that_may_pass(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    waits = []
    for failures in range(1, 4):
        org.switch(fault="outage")
        click(client)
        record = load(app, 1)
        assert record.failures == failures
        assert record.retry_at
        waits.append(round((record.retry_at - now()).total_seconds(), -1))
    assert waits == [30, 60, 120]
    org.switch()
    asked = len(org.token_requests)
    result = by_itself(app)
    assert not result.stored
    assert "Not tried again before" in result.reason
    assert len(org.token_requests) == asked
    click(client)  # a person may
    assert load(app, 1).retry_at is None
    assert by_itself(app).stored


@pytest.mark.usefixtures("by_credentials")
def test_what_somebody_has_to_mend_is_left_alone_until_somebody_has(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(run_as="none")
    assert by_itself(app).state is State.MISCONFIGURED
    asked = len(org.token_requests)
    assert not by_itself(app).stored
    assert len(org.token_requests) == asked
    org.switch()
    edit(app, client, flow=Flow.CLIENT_CREDENTIALS)
    assert by_itself(app).stored


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [("120", 120), ("5", 30), ("soon", 30), ("99999999", 3600), ("-1", 30)],
)
def test_retry_after_is_heeded_within_reason(
    app: Flask, client: StrictClient, org: PracticeOrg, retry_after: str, seconds: int
) -> None:
    connect(client, org)
    org.switch(fault="too_many_requests", retry_after=retry_after)
    click(client)
    record = load(app, 1)
    assert record.retry_at
    wait = (record.retry_at - now()).total_seconds()
    assert seconds - 5 < wait <= seconds


def test_a_dead_grant_is_not_tried_again_by_itself(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    assert by_itself(app).state is State.LOGIN_REQUIRED
    asked = len(org.token_requests)
    result = by_itself(app)
    assert result.login_needed
    assert not result.login_url
    assert len(org.token_requests) == asked


def test_what_an_org_sends_back_of_old_is_shown_nowhere(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    """The code was no part of the refresh that the org answers with it."""
    connect(client, org)
    code = secrets_of(app)["code"]
    org.switch(fault="error", error=f"invalid_grant: {code}")
    begin(client)
    assert load(app, 1).state is State.LOGIN_REQUIRED
    assert code not in str(vars(load(app, 1)) | vars(attempts(app)[-1]))
    assert code not in client.get("/applications/1").text


def test_nor_is_it_where_the_org_calls_it_an_error(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    code = secrets_of(app)["code"]
    org.switch(fault="error", error=f"{code}: see there")
    click(client)
    record, (*_, attempt) = load(app, 1), attempts(app)
    assert code not in str(vars(record) | vars(attempt))
    assert str(record.last_error_code).startswith("(fingerprint")
    assert attempt.error_code == record.last_error_code
    with app.app_context():
        assert code not in "".join(db.session.scalars(select(AuditEvent.detail)))


ERRORS = {
    "invalid_grant: expired access/refresh token": State.LOGIN_REQUIRED,
    "invalid_grant: inactive user": State.BLOCKED,
    "invalid_grant: ip restricted": State.BLOCKED,
    "invalid_grant: user hasn't approved this consumer": State.BLOCKED,
    "invalid_grant: audience is invalid": State.MISCONFIGURED,
    "invalid_grant: request not supported on this domain": State.MISCONFIGURED,
    "invalid_grant: no client credentials user enabled": State.MISCONFIGURED,
    "invalid_grant: no valid scopes defined": State.MISCONFIGURED,
    "invalid_grant: authentication failure": State.BLOCKED,
    "inactive_user: user is inactive": State.BLOCKED,
    "invalid_app_access: user is not admin approved": State.BLOCKED,
    "invalid_client_id: client identifier invalid": State.MISCONFIGURED,
    "invalid_client: invalid client credentials": State.MISCONFIGURED,
    "redirect_uri_mismatch: redirect_uri must match": State.MISCONFIGURED,
    "unsupported_grant_type: grant type not supported": State.MISCONFIGURED,
    "unauthorized_client: not allowed": State.MISCONFIGURED,
    "invalid_request: scope parameter not supported": State.MISCONFIGURED,
    "inactive_org: organization is inactive": State.BLOCKED,
    "rate_limit_exceeded: login rate exceeded": State.UNREACHABLE,
    "use_dpop_nonce: nonce required": State.MISCONFIGURED,
    "something_new: that nobody has seen": State.BLOCKED,
}


@pytest.mark.parametrize("said", ERRORS)
def test_each_refusal_is_kept_with_state_action_and_code(
    app: Flask, client: StrictClient, org: PracticeOrg, said: str
) -> None:
    connect(client, org)
    before = secrets_of(app)
    org.switch(fault="error", error=said)
    click(client)
    record, (*_, attempt) = load(app, 1), attempts(app)
    assert record.state is ERRORS[said]
    assert record.last_error_action
    assert record.last_error_code == said.partition(":")[0]
    assert said in str(record.last_error)
    assert (attempt.outcome, attempt.status) == (Outcome.FAILED, 400)
    assert attempt.error_code == record.last_error_code
    assert attempt.duration is not None
    assert secrets_of(app) == before
    org.switch()
    if record.state is not State.LOGIN_REQUIRED:
        click(client)
        assert load(app, 1).last_error is None
        assert load(app, 1).last_error_action is None


# --- when a token ends -----------------------------------------------------------


def left(app: Flask) -> tuple[int, ExpirySource | None]:
    """Return in how many minutes the token ends, and how that is known."""
    record = load(app, 1)
    assert record.expires_at
    minutes = (record.expires_at - now()).total_seconds() / 60
    return round(minutes), record.expiry_source


def test_the_org_is_asked_when_a_token_ends(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(session_timeout=1_800)
    connect(client, org)
    assert left(app) == (30, ExpirySource.INTROSPECTED)
    asked = len(org.requests_of("/introspect"))
    click(client)
    assert len(org.requests_of("/introspect")) == asked + 1


def test_the_orgs_clock_counts_not_ours(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(org_clock=-3_600)
    connect(client, org)
    assert left(app) == (120, ExpirySource.INTROSPECTED)


def test_without_the_orgs_word_the_session_timeout_is_assumed(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    change(app, session_timeout=15)
    org.switch(introspection="refused")
    connect(client, org)
    assert left(app) == (15, ExpirySource.ASSUMED)
    asked = len(org.requests_of("/introspect"))
    click(client)
    assert len(org.requests_of("/introspect")) == asked  # it said no once
    org.switch(introspection="without_exp")
    change(app, introspection_refused_at=None)
    click(client)
    assert left(app) == (15, ExpirySource.ASSUMED)


@pytest.mark.parametrize(
    ("hours", "timeout", "learned"),
    [(1.5, 60, 60), (3, 24 * 60, 240), (9, 60, 120), (0.1, 1, None)],
)
def test_the_token_before_tells_how_long_they_live(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    hours: float,
    timeout: int,
    learned: int | None,
) -> None:
    """It is refused by now, or still taken; then the next one's end is known better."""
    switches: dict[str, Any] = {"introspection": "refused"}
    org.switch(**switches, session_timeout=timeout * 60)
    connect(client, org)
    age = timedelta(hours=hours)
    change(app, issued_at=now() - age)
    if timeout * 60 < age.total_seconds():
        org.switch(**switches, org_clock=age.total_seconds())
    click(client)
    source = ExpirySource.LEARNED if learned else ExpirySource.ASSUMED
    assert left(app) == (learned or 120, source)


# --- revoking --------------------------------------------------------------------


def test_a_new_login_ends_the_grant_before(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    """A user has five approvals an app: nine logins must not use them up."""
    connect(client, org)
    for _ in range(8):
        before = secrets_of(app)["refresh"]
        come_back(client, org.log_in(client.submit(CLICK, log_in="1").location))
        assert secrets_of(app)["refresh"] != before
    assert org.state()["live_approvals"]["admin@practice.example"] == 1
    assert click(client) == 200
    assert load(app, 1).state is State.CONNECTED


def test_a_failed_login_ends_nothing(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    url = org.log_in(client.submit(CLICK, log_in="1").location, decision="deny")
    come_back(client, url)
    assert click(client) == 200
    assert load(app, 1).lane is Lane.SILENT


def test_a_token_that_comes_after_a_login_took_its_place_is_ended_too(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    url = org.log_in(client.submit(CLICK, log_in="1").location)
    org.switch(rotation=True, fault="hold", times=1)
    answers = list[int]()
    with holding(org, lambda: answers.append(click(client))):
        come_back(client, url)
        newer = secrets_of(app)
        org.release()
    assert answers == [200]
    assert secrets_of(app) == newer
    assert attempts(app)[-2].outcome is Outcome.SUPERSEDED
    assert org.state()["live_approvals"]["admin@practice.example"] == 1
    assert click(client) == 200
    assert org.families_revoked == 0


@contextmanager
def holding(org: PracticeOrg, act: Callable[[], object]) -> Iterator[None]:
    """Run `act` in a thread, whose token request the org holds."""
    thread = threading.Thread(target=act)
    thread.start()
    end = time.monotonic() + 10
    while not org.held:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield
    thread.join()


def revoke(app: Flask) -> str:
    with app.app_context():
        return engine.revoke(db.session.get_one(ExternalApplication, 1)).sentence


def test_revoking_ends_the_grant_there_and_here(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    assert "revoked at the org" in revoke(app)
    record = load(app, 1)
    assert (record.access_token, record.refresh_token) == (None, None)
    assert record.state is State.NEVER_AUTHORIZED
    assert record.last_error is None
    assert org.state()["live_approvals"]["admin@practice.example"] == 0
    assert org.requests_of("/revoke")[-1]["status"] == 200


def test_what_is_gone_already_is_a_success(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    assert "ended them already" in revoke(app)
    assert load(app, 1).last_error is None


@pytest.mark.parametrize("fault", ["outage", "lost"])
def test_whatever_the_org_answers_nothing_is_kept_here(
    app: Flask, client: StrictClient, org: PracticeOrg, fault: str
) -> None:
    connect(client, org)
    org.switch(revocation=fault)
    assert "may live on" in revoke(app)
    record = load(app, 1)
    assert (record.access_token, record.refresh_token) == (None, None)
    assert "may live on" in str(record.last_error)
    assert record.last_error_action
    with app.app_context():
        event = db.session.scalars(select(AuditEvent).order_by(-AuditEvent.id)).first()
        assert event
        assert event.event == "token_revoked"
        assert '"ended_at_the_org":false' in event.detail


def test_a_refresh_under_way_does_not_outlive_its_revocation(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True, fault="hold", times=1)
    with holding(org, lambda: click(client)):
        revoke(app)
        org.release()
    record = load(app, 1)
    assert (record.access_token, record.refresh_token) == (None, None)
    assert org.state()["live_approvals"]["admin@practice.example"] == 0


# --- history ----------------------------------------------------------------------


def test_each_attempt_is_written_down(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.switch(rotation=True)
    click(client)
    org.switch(fault="too_many_requests", retry_after="7")
    click(client)
    login, refresh, refused = attempts(app)
    assert [one.lane for one in (login, refresh)] == [Lane.BROWSER, Lane.SILENT]
    assert login.actor == refresh.actor == "admin@orgdesk.example"
    assert (refresh.outcome, refresh.status, refresh.rotated) == (
        Outcome.STORED,
        200,
        True,
    )
    assert refresh.refresh_token_before == login.refresh_token_after
    assert refresh.refresh_token_after != refresh.refresh_token_before
    assert (refused.outcome, refused.status, refused.retry_after) == (
        Outcome.FAILED,
        429,
        7,
    )
    assert refused.state is State.UNREACHABLE
    for one in (login, refresh, refused):
        assert one.request_id
        for secret in secrets_of(app).values():
            assert secret not in str(vars(one))


def test_history_does_not_go_back_for_ever(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    with app.app_context():
        attempt = db.session.scalars(select(Attempt)).one()
        attempt.started_at = now() - timedelta(days=91)
        db.session.commit()
    click(client)
    assert [one.lane for one in attempts(app)] == [Lane.SILENT]


def test_who_comes_while_somebody_is_at_it_shares_what_comes_of_it(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    asked = len(org.token_requests)
    org.switch(fault="error", error="invalid_grant: inactive user", times=1)
    org.switch(fault="slow", seconds=1, times=1)
    with meanwhile(org, lambda: client.submit(CLICK, htmx=True)) as answers:
        assert by_itself(app).stored
    assert answers[0].status_code == 200
    assert len(org.token_requests) == asked + 1


def test_a_dead_grant_is_shared_and_each_goes_to_a_login_of_its_own(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    connect(client, org)
    org.revoke_all()
    with meanwhile(org, lambda: client.submit(CLICK)) as answers:
        asked = len(org.token_requests)
        url = begin(client)
    assert answers[0].location != url
    assert len(org.token_requests) == asked + 1
