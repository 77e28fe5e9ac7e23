"""The guard: for every page and method, who may and who may not."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from flask import Flask
from werkzeug.routing import Rule

import guard
from app import create_app
from models import Role
from tests.conftest import StrictClient, add_application, browser_of

STRANGER = None
EVERYBODY = frozenset({STRANGER, *Role})
SIGNED_IN = frozenset(Role)
OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})

WHO = {
    "static": EVERYBODY,
    "invitations.accept": EVERYBODY,
    "security.login": EVERYBODY,
    "security.mf_recovery": EVERYBODY,
    "security.tf_select": EVERYBODY,
    "security.two_factor_token_validation": EVERYBODY,
    "security.wan_signin": EVERYBODY,
    "security.wan_signin_response": EVERYBODY,
    "account.show": SIGNED_IN,
    "account.sign_out_everywhere": SIGNED_IN,
    "applications.index": SIGNED_IN,
    "applications.show": SIGNED_IN,
    "attempts.index": SIGNED_IN,
    "overview.show": SIGNED_IN,
    "security.change_password": SIGNED_IN,
    "security.logout": SIGNED_IN,
    "security.mf_recovery_codes": SIGNED_IN,
    "security.two_factor_setup": SIGNED_IN,
    "security.two_factor_setup_validate": SIGNED_IN,
    "security.verify": SIGNED_IN,
    "security.wan_delete": SIGNED_IN,
    "security.wan_register": SIGNED_IN,
    "security.wan_register_response": SIGNED_IN,
    "security.wan_verify": SIGNED_IN,
    "security.wan_verify_response": SIGNED_IN,
    "applications.certificate": OPERATORS,
    "holds.reject": OPERATORS,
    "authorizations.callback": OPERATORS,
    "authorizations.create": OPERATORS,
    "callbacks.ping": OPERATORS,
    "checks.create": OPERATORS,
    "checks.go_on": OPERATORS,
    "checks.show": OPERATORS,
    "applications.confirm_delete": ADMINS,
    "applications.delete": ADMINS,
    "applications.edit": ADMINS,
    "applications.new": ADMINS,
    "audit.export": ADMINS,
    "audit.index": ADMINS,
    "holds.save": ADMINS,
    "holds.take": ADMINS,
    "panics.confirm_lift": ADMINS,
    "panics.create": ADMINS,
    "panics.index": ADMINS,
    "panics.lift": ADMINS,
    "panics.new": ADMINS,
    "panics.retry": ADMINS,
    "panics.show": ADMINS,
    "callbacks.update": ADMINS,
    "revocations.confirm": ADMINS,
    "revocations.create": ADMINS,
    "secrets.change": ADMINS,
    "secrets.export": ADMINS,
    "secrets.show": ADMINS,
    "security.two_factor_rescue": ADMINS,
    "sites.activate": ADMINS,
    "sites.confirm_delete": ADMINS,
    "sites.delete": ADMINS,
    "sites.edit": ADMINS,
    "sites.index": ADMINS,
    "sites.new": ADMINS,
    "users.change_role": ADMINS,
    "users.deactivate": ADMINS,
    "users.index": ADMINS,
    "users.invite": ADMINS,
    "users.reactivate": ADMINS,
    "users.renew": ADMINS,
    "users.withdraw": ADMINS,
}
"""Every endpoint, and who may use it. A new one has to be written here."""


class Request(NamedTuple):
    endpoint: str
    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def every_request() -> Iterator[Request]:
    for rule in create_app().url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            yield Request(rule.endpoint, method, path_of(rule))


def path_of(rule: Rule) -> str:
    """Return a path of the rule; of things that are not there where one is named."""
    values = dict.fromkeys(rule.arguments, "4711")
    if rule.endpoint == "static":
        values["filename"] = "app.css"
    built = rule.build(values, append_unknown=False)
    assert built
    return built[1]


REQUESTS = list(every_request())


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
def test_who_may_and_who_may_not(
    app: Flask, stranger: StrictClient, asked: Request
) -> None:
    for who in (STRANGER, *Role):
        client = browser_of(app, f"{who}@orgdesk.example", who) if who else stranger
        token = client.csrf("/account" if who else "/sign-in")
        form = {"csrf_token": token} if asked.method == "POST" else {}
        with client.open(asked.path, method=asked.method, data=form) as answer:
            refused = answer.status_code == 403
            sent_to_sign_in = answer.location and answer.location.startswith(
                "/sign-in?"
            )
        if who in WHO[asked.endpoint]:
            assert not refused, who
            assert not sent_to_sign_in, who
        elif who is STRANGER:
            assert sent_to_sign_in
            assert answer.status_code == 303
        else:
            assert refused, who


def test_every_page_is_written_down() -> None:
    assert {asked.endpoint for asked in REQUESTS} == set(WHO)


def test_a_view_that_nobody_marked_is_for_admins(app: Flask) -> None:
    app.add_url_rule("/new", view_func=lambda: "in")
    assert app.test_client().get("/new").status_code == 303
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    assert operator.get("/new").status_code == 403
    assert browser_of(app).get("/new").text == "in"


def test_the_refusal_names_the_role_that_it_takes(app: Flask) -> None:
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    page = viewer.get("/applications/new").text
    assert "This takes the role admin; yours is viewer." in page
    page = viewer.submit("/applications/1/authorization").text
    assert "This takes the role operator; yours is viewer." in page


@pytest.mark.parametrize("path", ["/applications/1", "/applications/4711", "/sites"])
def test_a_stranger_learns_nothing_of_what_there_is(
    app: Flask, stranger: StrictClient, path: str
) -> None:
    add_application(app)
    answer = stranger.get(path)
    assert answer.status_code == 303
    assert answer.location == f"/sign-in?next={path}"


def test_htmx_is_sent_to_sign_in_as_a_whole_window(stranger: StrictClient) -> None:
    answer = stranger.post(
        "/applications/1/authorization",
        headers={"HX-Request": "true", "Referer": "http://localhost/applications/1"},
    )
    assert answer.status_code == 204
    assert answer.headers["HX-Redirect"] == "/sign-in?next=/applications/1"


def test_code_and_state_go_into_no_other_address(stranger: StrictClient) -> None:
    answer = stranger.get("/callback?code=aPrx&state=xyz")
    assert answer.location == "/sign-in?next=/"


def test_marks_are_of_one_app_and_not_of_the_library(app: Flask) -> None:
    guard.mark_pages_of_others(app)
    from flask_security import views  # noqa: PLC0415  what must be as it came

    assert not hasattr(views.login, "needs")


def test_refusals_are_logged(
    app: Flask, stranger: StrictClient, caplog: pytest.LogCaptureFixture
) -> None:
    browser_of(app, "viewer@orgdesk.example", Role.VIEWER).get("/users")
    assert "Refused to viewer@orgdesk.example: users.index" in caplog.text
    stranger.post("/sign-in", data={"csrf_token": "made up"})
    assert "A form without its token came from 127.0.0.1" in caplog.text
    for _ in range(11):
        form = {"csrf_token": stranger.csrf("/sign-in"), "password": "wrong"}
        stranger.post("/sign-in", data=form | {"email": "x@y.example"})
    assert "Too many tries from 127.0.0.1: security.login" in caplog.text


def test_signing_out_clears_what_the_browser_kept(client: StrictClient) -> None:
    answer = client.submit("/sign-out")
    assert answer.headers["Clear-Site-Data"] == '"cache", "storage"'
