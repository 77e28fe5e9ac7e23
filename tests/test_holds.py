"""Held tokens: of another org or user, or with a wrong signature; and what then."""

import html
from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update

from database import db, now
from models import (
    Attempt,
    AuditEvent,
    Event,
    ExternalApplication,
    Flow,
    HeldToken,
    Outcome,
    Role,
)
from practice_org import CONSUMER_SECRET
from salesforce import Signature, State
from tests.conftest import (
    CLICK,
    StrictClient,
    begin,
    browser_of,
    come_back,
    connect,
    load,
)
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_authorizations import change, secrets_of
from tests.test_revocations import is_alive

PAGE = "/applications/1"
REJECTION = f"{PAGE}/held-token/rejection"
ACCEPTANCE = f"{PAGE}/held-token/acceptance"
RECORD = f"{PAGE}/held-token/record"
ADMIN, OTHER = "admin@practice.example", "integration@practice.example"

pytestmark = pytest.mark.usefixtures("practice_record")


def held(app: Flask) -> dict[str, str] | None:
    """Return the tokens that are held for record 1, in the clear."""
    with app.app_context():
        found = HeldToken.of(1)
        if found is None:
            assert db.session.get_one(ExternalApplication, 1).held_at is None
            return None
        assert db.session.get_one(ExternalApplication, 1).held_at
        refresh = found.refresh_token
        return {
            "access": found.access_token.reveal(),
            "refresh": refresh.reveal() if refresh else "",
        }


def log_in_as(client: StrictClient, org: PracticeOrg, username: str = OTHER) -> None:
    """Reconnect record 1, and log in at the org as somebody."""
    url = client.submit(CLICK, log_in="1").location
    answer = come_back(client, org.log_in(url, username=username))
    assert (answer.status_code, answer.location) == (303, PAGE)


@pytest.fixture
def another_user(client: StrictClient, org: PracticeOrg, connected: int) -> None:
    """Somebody else has logged in for a record that has its token."""
    log_in_as(client, org)


def said(client: StrictClient) -> str:
    return html.unescape(words(client.get(PAGE).text))


def events(app: Flask) -> list[str]:
    with app.app_context():
        return list(
            db.session.scalars(select(AuditEvent.event).order_by(AuditEvent.id))
        )


# --- what is held ----------------------------------------------------------


def test_a_login_as_another_user_changes_nothing_and_shows_both(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    before, user_id = secrets_of(app), load(app, 1).user_id
    log_in_as(client, org)
    record, tokens = load(app, 1), held(app)
    after = secrets_of(app)
    assert (after["access"], after["refresh"]) == (before["access"], before["refresh"])
    assert (record.state, record.user_id) == (State.CONNECTED, user_id)
    assert tokens
    assert is_alive(org, tokens["refresh"])
    page = said(client)
    assert "A token is held: it is of another user" in page
    assert f"Username {ADMIN} {OTHER} differs" in page
    assert "User Ada Admin Ira Integration differs" in page
    assert "Organization Practice Org Practice Org" in page
    assert events(app)[-1] == Event.TOKEN_HELD
    with app.app_context():
        attempt = db.session.scalars(select(Attempt).order_by(-Attempt.id)).first()
        assert attempt
        assert (attempt.outcome, attempt.error_code) == (
            Outcome.HELD,
            "<another_user>",
        )
    for token in tokens.values():
        assert token not in client.get(PAGE).text


def test_a_login_at_another_org_is_held(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(wrong_org=True)
    log_in_as(client, org, ADMIN)
    page = said(client)
    assert "A token is held: it is of another organization" in page
    assert "Organization Practice Org Another Practice Org differs" in page
    assert "00D000000000001EAA 00D000000000002EAA differs" in page
    assert "a new access token is stored" not in page
    assert load(app, 1).organization_id == "00D000000000001EAA"


@pytest.mark.parametrize("rotation", [False, True])
def test_a_refresh_that_names_another_org_is_held(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int, rotation: bool
) -> None:
    before = secrets_of(app)
    org.switch(wrong_org=True, rotation=rotation)
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert secrets_of(app) == before
    assert held(app)
    assert load(app, 1).organization_id == "00D000000000001EAA"


def test_a_login_whose_signature_is_wrong_is_held_also_when_it_is_the_first(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(signature="wrong")
    connect(client, org)
    assert held(app)
    assert "access" not in secrets_of(app)
    assert load(app, 1).state is State.NEVER_AUTHORIZED
    page = said(client)
    assert "A token is held: its signature is wrong" in page
    assert "Signature not known failed" in page


def test_what_the_signature_says_is_shown(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    assert load(app, 1).signature is Signature.VERIFIED
    assert "Signature ✓ verified" in said(client)
    org.switch(signature="absent")
    client.submit(CLICK, htmx=True)
    assert load(app, 1).signature is Signature.NOT_SENT
    assert "Signature not sent" in said(client)


def test_a_refresh_token_whose_heir_is_held_is_not_sent_again(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(rotation=True, signature="wrong")
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, 1).state is State.LOGIN_REQUIRED
    assert client.submit(CLICK, htmx=True).status_code == 204  # to the login
    assert org.families_revoked == 0
    org.switch(rotation=True)
    assert client.submit(ACCEPTANCE, htmx=True).status_code == 200
    assert load(app, 1).state is State.CONNECTED
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, 1).state is State.CONNECTED
    assert org.families_revoked == 0


def test_the_two_forms_of_an_id_are_one(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    change(app, organization_id="00D000000000001", user_id="005000000000001")
    log_in_as(client, org, ADMIN)
    assert held(app) is None
    assert load(app, 1).user_id == "005000000000001AAA"


def test_a_page_less_flow_may_come_to_another_user_but_not_to_another_org(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    change(app, flow=Flow.CLIENT_CREDENTIALS)
    client.submit(CLICK, htmx=True)
    assert load(app, 1).user_id == "005000000000002AAA"
    org.switch(wrong_org=True)
    client.submit(CLICK, htmx=True)
    assert held(app)
    assert load(app, 1).organization_id == "00D000000000001EAA"


def test_names_that_an_org_made_up_are_shown_as_text(
    client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    org.switch(organization_name="<script>alert(1)</script>\x07" * 9)
    log_in_as(client, org)
    page = client.get(PAGE).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "\x07" not in page


# --- keep the old ----------------------------------------------------------


@pytest.mark.usefixtures("another_user")
def test_who_keeps_the_old_has_the_new_revoked(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    before, tokens = secrets_of(app), held(app)
    assert tokens
    answer = client.submit(REJECTION, htmx=True)
    assert "dropped, and revoked at its org" in answer.text
    assert held(app) is None
    assert not is_alive(org, tokens["refresh"])
    assert secrets_of(app) == before
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert load(app, 1).state is State.CONNECTED
    assert Event.HELD_TOKEN_REJECTED in events(app)


@pytest.mark.usefixtures("another_user")
def test_an_org_that_does_not_answer_keeps_nobody_from_deciding(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    org.switch(revocation="outage")
    assert "may live on at its org" in client.submit(REJECTION, htmx=True).text
    assert held(app) is None


@pytest.mark.usefixtures("another_user")
def test_an_operator_may_drop_it_and_no_more(app: Flask) -> None:
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    page = operator.get(PAGE).text
    assert "Keep the old" in page
    assert "Take the new</button>" not in page
    assert operator.submit(ACCEPTANCE).status_code == 403
    assert operator.submit(REJECTION).status_code == 303
    assert operator.get(PAGE).text.count("The held token is dropped") == 1
    assert held(app) is None


# --- take the new ----------------------------------------------------------


@pytest.mark.usefixtures("another_user")
def test_who_takes_the_new_has_the_old_revoked(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    before, tokens = secrets_of(app), held(app)
    assert tokens
    answer = client.submit(ACCEPTANCE, htmx=True)
    assert "The held token is the record&#39;s now." in answer.text
    record, after = load(app, 1), secrets_of(app)
    assert (after["access"], after["refresh"]) == tuple(tokens.values())
    assert (record.org_username, record.display_name) == (OTHER, "Ira Integration")
    assert record.user_id == "005000000000002AAA"
    assert held(app) is None
    assert not is_alive(org, before["refresh"])
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert Event.HELD_TOKEN_TAKEN in events(app)


@pytest.mark.parametrize("act", [REJECTION, ACCEPTANCE, RECORD])
@pytest.mark.usefixtures("another_user")
def test_a_token_is_decided_about_once(
    app: Flask, client: StrictClient, act: str
) -> None:
    client.submit(REJECTION)
    form = {"application_name": "Another"} if act == RECORD else {}
    client.submit(act, **form)
    assert "No token is held any more" in client.get(PAGE).text
    assert client.get(RECORD).location == PAGE


@pytest.mark.parametrize("act", [ACCEPTANCE, RECORD])
@pytest.mark.usefixtures("another_user")
def test_a_record_that_was_moved_since_takes_nothing(
    app: Flask, client: StrictClient, act: str
) -> None:
    change(app, client_id="another")
    client.submit(act, application_name="Another")
    assert "another Salesforce Domain or Client ID since" in client.get(PAGE).text
    assert held(app)


@pytest.mark.parametrize("act", [ACCEPTANCE, RECORD])
@pytest.mark.usefixtures("another_user")
def test_a_token_that_was_held_for_a_day_is_taken_no_more(
    app: Flask, client: StrictClient, org: PracticeOrg, act: str
) -> None:
    tokens = held(app)
    let_the_day_pass(app)
    page = client.get(PAGE).text
    assert "held for a day and can be taken no more" in words(page)
    assert "Take the new</button>" not in page
    client.submit(act, application_name="Another")
    assert "No token is held any more" in client.get(PAGE).text
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert held(app) is None
    assert tokens
    assert not is_alive(org, tokens["refresh"])


def let_the_day_pass(app: Flask) -> None:
    with app.app_context():
        a_day_ago = now() - timedelta(days=1)
        db.session.execute(
            update(HeldToken).values(held_at=a_day_ago, expires_at=now())
        )
        db.session.commit()


# --- save as another record --------------------------------------------------


@pytest.mark.usefixtures("another_user")
def test_a_held_token_makes_a_record_of_its_own(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    before, tokens = secrets_of(app), held(app)
    assert tokens
    assert f'value="Practice ({OTHER})"' in client.get(RECORD).text
    answer = client.submit(RECORD, application_name="Ira's")
    assert (answer.status_code, answer.location) == (303, "/applications/2")
    assert held(app) is None
    assert secrets_of(app) == before
    another = load(app, 2)
    assert (another.application_name, another.org_username) == ("Ira's", OTHER)
    assert another.state is State.CONNECTED
    with app.app_context():
        found = db.session.get_one(ExternalApplication, 2)
        assert found.reveal("consumer_secret") == CONSUMER_SECRET
        assert found.reveal("refresh_token") == tokens["refresh"]
    for number in (1, 2):
        path = f"/applications/{number}/authorization"
        assert client.submit(path, htmx=True).status_code == 200
        assert load(app, number).state is State.CONNECTED
    assert Event.HELD_TOKEN_SAVED in events(app)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("practice", "Another record has this name."),
        ("", "Give it a name."),
        ("a\x00b", "control character"),
        ("x" * 256, "255 characters"),
    ],
    ids=["taken", "empty", "control", "long"],
)
@pytest.mark.usefixtures("another_user")
def test_a_name_that_cannot_be_is_refused_and_the_token_stays_held(
    app: Flask, client: StrictClient, name: str, sentence: str
) -> None:
    answer = client.submit(RECORD, application_name=name)
    assert answer.status_code == 422
    assert sentence in html.unescape(answer.text)
    assert held(app)


# --- what else may happen meanwhile ------------------------------------------


@pytest.mark.usefixtures("another_user")
def test_a_right_login_is_a_decision_too(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    tokens = held(app)
    assert tokens
    log_in_as(client, org, ADMIN)
    assert held(app) is None
    assert not is_alive(org, tokens["refresh"])
    assert load(app, 1).user_id == "005000000000001AAA"


@pytest.mark.usefixtures("another_user")
def test_a_refresh_goes_on_with_the_old_token_while_one_is_held(
    app: Flask, client: StrictClient
) -> None:
    before = secrets_of(app)
    assert client.submit(CLICK, htmx=True).status_code == 200
    assert secrets_of(app)["access"] != before["access"]
    assert held(app)


@pytest.mark.parametrize(
    "act", ["/applications/1/revocation", "/applications/1/delete"]
)
@pytest.mark.usefixtures("another_user")
def test_what_is_held_goes_with_the_rest(
    app: Flask, client: StrictClient, org: PracticeOrg, act: str
) -> None:
    tokens = held(app)
    assert tokens
    client.submit(act, revoke="y")
    with app.app_context():
        assert HeldToken.of(1) is None
    assert not is_alive(org, tokens["refresh"])


@pytest.mark.usefixtures("another_user")
def test_another_wrong_login_takes_the_place_of_the_first(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    first = held(app)
    log_in_as(client, org)
    second = held(app)
    assert first
    assert second
    assert not is_alive(org, first["refresh"])
    assert is_alive(org, second["refresh"])


@pytest.mark.usefixtures("another_user")
def test_a_list_shows_that_a_token_is_held(app: Flask, client: StrictClient) -> None:
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        assert record.attention.name == "ACT"
    client.submit(REJECTION)
    assert load(app, 1).attention.name == "FINE"


def test_an_id_that_only_userinfo_tells_is_compared_too(
    app: Flask, client: StrictClient, org: PracticeOrg, connected: int
) -> None:
    url = client.submit(CLICK, log_in="1").location
    back = org.log_in(url, username=OTHER)
    org.switch(fault="missing_fields", times=1)
    come_back(client, back)
    assert held(app)
    assert load(app, 1).user_id == "005000000000001AAA"


def test_a_login_waits_for_no_name(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    change(app, requested_scopes="refresh_token")
    assert begin(client)
    connect(client, org)
    record = load(app, 1)
    assert record.state is State.CONNECTED
    assert (record.org_username, record.organization_name) == (None, None)
    assert record.identity_read_at
