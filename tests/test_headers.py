"""The headers and cookies of every answer, at home and behind a proxy."""

from typing import Any

import pytest
from flask import Flask
from flask_migrate import upgrade

from app import create_app
from database import db
from tests.conftest import StrictClient, add_application, browser_of


@pytest.fixture
def client_at(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make an app with the given settings, and a client that comes by https."""
    apps: list[Flask] = []

    def make(**settings: str) -> StrictClient:
        monkeypatch.setenv("ORGDESK_INSTANCE", str(tmp_path))
        for name, value in settings.items():
            monkeypatch.setenv(f"ORGDESK_{name}", value)
        app = create_app()
        app.test_client_class = StrictClient
        with app.app_context():
            upgrade()
        apps.append(app)
        return browser_of(app)

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


@pytest.mark.parametrize(
    "path", ["/", "/applications/new", "/applications/1", "/nowhere", "/callback",
             "/static/app.css"])  # fmt: skip
def test_every_answer_has_them(app: Flask, client: StrictClient, path: str) -> None:
    add_application(app)
    with client.get(path) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert "Strict-Transport-Security" not in answer.headers


def test_the_cookie_at_home(client: StrictClient) -> None:
    cookie = client.get("/applications/new").headers["Set-Cookie"]
    assert cookie.startswith("orgdesk=")
    assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie


def test_the_cookie_and_hsts_over_https(client_at: Any) -> None:
    client = client_at(EXTERNAL_URL="https://orgdesk.example.com")
    answer = client.get("/applications/new", base_url="https://orgdesk.example.com")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-orgdesk=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    assert "Domain" not in cookie
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert 'value="https://orgdesk.example.com/callback"' in answer.text


def test_a_cookie_signed_with_a_former_key_is_good_where_it_is_named(
    client_at: Any,
) -> None:
    before = client_at(SECRET_KEY="before")
    with before.session_transaction() as session:
        session["browser"] = "one-and-the-same"
    cookie = before.get_cookie("orgdesk")
    assert cookie
    for fallbacks, known in (("before older", True), ("", False)):
        after = client_at(SECRET_KEY="after", SECRET_KEY_FALLBACKS=fallbacks)
        after.set_cookie("orgdesk", cookie.value)
        with after.session_transaction() as session:
            assert ("browser" in session) is known


@pytest.mark.parametrize(
    "host", ["evil.example.com", "localhost.evil.example.com", "a b"]
)
def test_another_host_name_is_refused(client: StrictClient, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 400
    assert "ORGDESK_EXTERNAL_URL" in answer.text


def test_only_the_external_host_is_served_where_one_is_set(client_at: Any) -> None:
    client = client_at(EXTERNAL_URL="https://orgdesk.example.com")
    assert client.get("/", base_url="https://localhost").status_code == 400
    assert client.get("/", base_url="https://orgdesk.example.com").status_code == 200


FORWARDED = {
    "X-Forwarded-Host": "orgdesk.example.com",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "192.0.2.1",
}


def test_forwarded_headers_are_ignored_unless_a_proxy_is_set(client_at: Any) -> None:
    client = client_at(EXTERNAL_URL="https://orgdesk.example.com")
    assert client.get("/", headers=FORWARDED).status_code == 400


def test_behind_one_proxy_its_headers_count(client_at: Any) -> None:
    client = client_at(EXTERNAL_URL="https://orgdesk.example.com", PROXIES="1")
    assert client.get("/sign-in", headers=FORWARDED).status_code == 200
    spoofed = FORWARDED | {"X-Forwarded-Host": "orgdesk.example.com, evil.example.com"}
    assert client.get("/sign-in", headers=spoofed).status_code == 400
