"""Can this record go page-less? What is there, what is missing, what the org knows."""

from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask

from app import create_app
from models import Attempt, Flow, Lane, Outcome, Role
from page_less import Answer, Checklist, checklists
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import KeyPair, generate
from tests.conftest import StrictClient, add_application, browser_of, load
from tests.servers import PracticeOrg
from tests.test_authorizations import change
from tests.test_panel import panel, said, seal_in

DONE, MISSING, IN_ORG = Answer


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return generate("Acme")


@pytest.fixture
def record(app: Flask, pair: KeyPair) -> int:
    """One that has all that both flows take of it."""
    return add_application(
        app,
        username="ada@acme.com",
        private_key=pair.private_key,
        certificate=pair.certificate,
    )


def lists(app: Flask, *attempts: Attempt) -> list[Checklist]:
    with app.app_context():
        return checklists(load(app, 1), attempts)


def answers(app: Flask, *attempts: Attempt) -> dict[Flow, dict[str, Answer]]:
    return {
        found.flow: {item.name: item.answer for item in found.items}
        for found in lists(app, *attempts)
    }


def advice(app: Flask, name: str) -> str:
    """Return what is to be done about an item, which has to be missing."""
    (item,) = [
        item for found in lists(app) for item in found.items if item.name == name
    ]
    assert item.answer is MISSING
    return item.advice


def look(app: Flask, **changes: Any) -> dict[str, Answer]:
    """Change the record and return the answers of both flows together."""
    change(app, **changes)
    found = answers(app)
    return found[Flow.JWT_BEARER] | {
        f"cc {name}": answer for name, answer in found[Flow.CLIENT_CREDENTIALS].items()
    }


def test_a_record_with_everything_leaves_the_org_to_be_looked_at(
    app: Flask, record: int
) -> None:
    assert answers(app) == {
        Flow.JWT_BEARER: {
            "Username": DONE,
            "Private Key": DONE,
            "Certificate": DONE,
            "Audience": DONE,
            "Scopes refresh_token and api": IN_ORG,
            "Flow and certificate": IN_ORG,
            "Approval": IN_ORG,
        },
        Flow.CLIENT_CREDENTIALS: {
            "My Domain": DONE,
            "Consumer Secret": DONE,
            "Scopes api": IN_ORG,
            "Flow and Run As": IN_ORG,
        },
    }


@pytest.mark.parametrize(
    ("name", "changes", "answer"),
    [
        ("Username", {"username": ""}, MISSING),
        ("Username", {"username": "ada"}, MISSING),
        ("Private Key", {"private_key": None}, MISSING),
        ("Certificate", {"certificate": None}, MISSING),
        ("Certificate", {"certificate": "no PEM"}, MISSING),
        ("Audience", {"audience": "https://test.salesforce.com"}, MISSING),
        ("Audience", {"audience": "https://login.salesforce.com"}, DONE),
        ("Scopes refresh_token and api", {"granted_scopes": "api"}, MISSING),
        ("Scopes refresh_token and api", {"granted_scopes": "refresh_token"}, MISSING),
        ("Scopes refresh_token and api", {"granted_scopes": "api refresh_token"}, DONE),
        (
            "Scopes refresh_token and api",
            {"granted_scopes": "full offline_access"},
            DONE,
        ),
        ("cc Scopes api", {"granted_scopes": "api"}, DONE),
        ("cc Scopes api", {"granted_scopes": "id"}, MISSING),
        ("cc My Domain", {"salesforce_domain": "login.salesforce.com"}, MISSING),
        ("cc My Domain", {"salesforce_domain": "acme.my.site.com"}, MISSING),
        ("cc Consumer Secret", {"consumer_secret": None}, MISSING),
    ],
)
def test_what_each_item_looks_at(
    app: Flask, record: int, name: str, changes: dict[str, Any], answer: Answer
) -> None:
    assert look(app, **changes)[name] is answer


@pytest.mark.parametrize(("days", "why"), [(10, "ends soon"), (-1, "It has ended")])
def test_a_certificate_that_ends_is_missing(
    app: Flask, record: int, days: int, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = load(app, 1).certificate_facts
    assert facts
    at = facts.not_after - timedelta(days=days)
    monkeypatch.setattr("models.clients.now", lambda: at)
    assert why in advice(app, "Certificate")


def test_a_secret_that_no_key_opens_is_missing(app: Flask, record: int) -> None:
    other_key = {"VAULT_KEYS": (Fernet.generate_key().decode(),)}
    settings = {"SQLALCHEMY_DATABASE_URI": app.config["SQLALCHEMY_DATABASE_URI"]}
    other = create_app(settings | other_key)
    assert "No key of this server opens it." in advice(other, "Consumer Secret")


def test_a_login_of_that_very_user_is_the_approval(app: Flask, record: int) -> None:
    grant = {
        "refresh_token": seal_in(app, "5Aep861"),
        "refresh_token_domain": "acme.my.salesforce.com",
        "refresh_token_client_id": "3MVG9AcmeConsumerKey",
    }
    assert look(app, org_username="ADA@acme.com", **grant)["Approval"] is DONE
    assert look(app, org_username="bob@acme.com")["Approval"] is IN_ORG
    dead = {"org_username": "ada@acme.com", "refresh_token_problem": "It is dead."}
    assert look(app, **dead)["Approval"] is IN_ORG


@pytest.mark.parametrize(
    ("lane", "outcome", "minutes", "answer"),
    [
        (Lane.PAGE_LESS, Outcome.STORED, 1, DONE),
        (Lane.PAGE_LESS, Outcome.STORED, -1, IN_ORG),
        (Lane.PAGE_LESS, Outcome.FAILED, 1, IN_ORG),
        (Lane.BROWSER, Outcome.STORED, 1, IN_ORG),
    ],
)
def test_a_token_that_came_so_proves_what_the_org_is_set_to(
    app: Flask,
    record: int,
    lane: Lane,
    outcome: Outcome,
    minutes: int,
    answer: Answer,
) -> None:
    change(app, flow=Flow.JWT_BEARER)
    at = load(app, 1).changed_at + timedelta(minutes=minutes)
    found = answers(app, Attempt(lane=lane, outcome=outcome, started_at=at))
    assert list(found) == [Flow.JWT_BEARER]
    assert found[Flow.JWT_BEARER]["Approval"] is answer


def test_the_page_says_what_is_missing_and_where_to_type_it(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    page = said(client)
    assert "JWT bearer: 3 missing here, 3 to look up in the org" in page
    assert "✗ Username : missing. Type the user's name in the org" in page
    assert "Client credentials: all is here, 2 to look up in the org" in page
    assert page.count("Edit this record") == 1


def test_a_viewer_is_not_led_to_the_form(app: Flask) -> None:
    add_application(app)
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert "Can this record go page-less?" in panel(viewer)
    assert "Edit this record" not in panel(viewer)


def test_a_record_that_is_page_less_says_so_and_its_token_proves_it(
    app: Flask, client: StrictClient, org: PracticeOrg
) -> None:
    add_application(
        app,
        salesforce_domain=org.address,
        client_id=CLIENT_ID,
        consumer_secret=CONSUMER_SECRET,
        flow=Flow.CLIENT_CREDENTIALS,
    )
    assert "It is: client credentials takes no login." in said(client)
    assert "? Flow and Run As : look in the org." in said(client)
    client.submit("/applications/1/authorization", htmx=True)
    assert "✓ Flow and Run As : done" in said(client)
    assert "JWT bearer:" not in said(client)
