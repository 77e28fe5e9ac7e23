"""The setup guide beside the form: the steps of today, for each flow."""

import html
import re

import pytest
from flask import Flask

from models import Flow
from salesforce import generate
from tests.conftest import OWN_CALLBACK, StrictClient, add_application
from tests.test_attempts import words

FORMS = ("/applications/new", "/applications/1/edit")


def guide(client: StrictClient, path: str) -> str:
    found = re.search(
        r'<aside class="sheet guide".*?</aside>', client.get(path).text, re.S
    )
    assert found
    return found[0]


def steps(client: StrictClient, flow: Flow, path: str = "/applications/new") -> str:
    """Return what is read where this flow is chosen."""
    page = guide(client, path)
    for kind in ("li", "tr", "small", "span"):
        page = re.sub(
            rf'<{kind} data-guide="(?![^"]*{flow})[^"]*">.*?</{kind}>',
            "",
            page,
            flags=re.S,
        )
    return " ".join(html.unescape(words(page)).split())


@pytest.mark.parametrize("path", FORMS)
def test_each_form_has_the_guide_with_what_is_to_be_copied(
    app: Flask, client: StrictClient, path: str
) -> None:
    add_application(app, callback_url="https://elsewhere.example/callback")
    page = guide(client, path)
    assert f"<code>{OWN_CALLBACK}</code>" in page
    assert "<code>api refresh_token id</code>" in page
    assert page.count("data-copy-text") == 2


@pytest.mark.parametrize(
    ("flow", "has", "has_not"),
    [
        (
            Flow.WEB_SERVER,
            ("(refresh_token, offline_access)", "Security", "keep", "PKCE", "Rotation"),
            ("Flow Enablement", "Run As", "Username", "pre-authorized"),
        ),
        (
            Flow.JWT_BEARER,
            ("Enable JWT Bearer Flow", "pre-authorized", "the key alone", "Username"),
            ("Run As", "PKCE", "Security :", "Consumer Secret "),
        ),
        (
            Flow.CLIENT_CREDENTIALS,
            ("Enable Client Credentials Flow", "Run As", "API Only", "never uses it"),
            ("PKCE", "offline_access", "certificate", "Audience"),
        ),
    ],
)
def test_a_flow_has_its_own_steps(
    client: StrictClient, flow: Flow, has: tuple[str, ...], has_not: tuple[str, ...]
) -> None:
    said = steps(client, flow)
    assert [text for text in has if text not in said] == []
    assert [text for text in has_not if text in said] == []


@pytest.mark.parametrize("flow", list(Flow))
def test_what_holds_for_all_flows_is_said_for_each(
    client: StrictClient, flow: Flow
) -> None:
    said = steps(client, flow)
    assert "External Client App Manager" in said
    assert "It may take ten minutes" in said
    assert "Manage Consumer Details" in said
    assert OWN_CALLBACK in said


def test_the_certificate_is_offered_where_there_is_one(
    app: Flask, client: StrictClient
) -> None:
    pair = generate("Acme")
    keys = {"private_key": pair.private_key, "certificate": pair.certificate}
    add_application(app)
    add_application(app, application_name="Globex", **keys)
    certificate = 'href="/applications/2/certificate" download'
    assert certificate in guide(client, "/applications/2/edit")
    assert "/certificate" not in guide(client, "/applications/1/edit")
    assert "/certificate" not in guide(client, "/applications/new")


def test_the_way_to_the_orgs_apps_is_shown_where_it_is_known(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    add_application(
        app, application_name="Login", salesforce_domain="login.salesforce.com"
    )
    assert "https://acme.lightning.force.com/" in guide(client, "/applications/1/edit")
    assert "Open the org's apps" not in guide(client, "/applications/2/edit")


def test_a_form_that_was_refused_still_has_it(client: StrictClient) -> None:
    answer = client.submit("/applications/new", application_name="")
    assert answer.status_code == 422
    assert f"<code>{OWN_CALLBACK}</code>" in answer.text
