"""The canary run: an admin does everything, and no secret is seen on the way.

Every secret is a marker of its own. What answers, logs, files and commands hold
is searched for all of them, as they are and in the spellings of addresses,
pages and base64. A revealed, copied or exported secret is in that answer alone.
"""

import base64
import html
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from flask import Flask
from passlib.totp import TOTP
from werkzeug.test import TestResponse

from app import create_app
from database import db
from models import PendingAuthorization, User
from sign_in import SIGN_IN
from tests.conftest import StrictClient, add_site, browser_of
from tests.test_faults import Server
from tests.wire import answer

MARKERS = {
    "consumer secret": "canary-consumer-secret-8f14e45f",
    "next consumer secret": "canary-consumer-secret-c9f0f895",
    "access token": "00D000000000001!CanaryAccessToken45c48cce",
    "new access token": "00D000000000001!CanaryAccessTokend3d94468",
    "refresh token": "5Aep861CanaryRefreshToken6512bd43d9caa6",
    "new refresh token": "5Aep861CanaryRefreshTokenc20ad4d76fe97",
    "id token": "eyJhbGciOiJSUzI1NiJ9.canaryIdToken.c51ce410c124",
    "code": "aPrxCanaryCodeaab3238922bcc25a6f606==",
    "password": "canary password of nobody 9bf31c7f",
    "new password": "canary password of nobody c74d97b0",
    "wrong password": "canary password of nobody 70efdf2e",
}
FAULTS = (
    ("500 Internal Server Error", "<p>{access token} refresh_token={refresh token}"),
    ("400 Bad Request", '{{"error": "invalid_grant {refresh token}"}}'),
    ("400 Bad Request", '{{"error": "x", "error_description": "{consumer secret}"}}'),
    ("200 OK", '{{"access_token": 5, "refresh_token": ["{refresh token}"]}}'),
    ("200 OK", "{{access_token: {new access token}"),
    ("302 Found", "{code} {access token}"),
)  # fmt: skip


class Watched(StrictClient):
    """Keeps every answer, headers and all."""

    kept: list[str]

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        self.kept.append(f"{response.headers}\n{response.text}")
        return response


class Everything(logging.Handler):
    """A handler of somebody else's: it writes whatever a record has."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{logging.Formatter().format(record)} {vars(record)}")


LOGGERS = ("", "sqlalchemy", "requests_oauthlib", "oauthlib", "urllib3", "passlib")
"""The root, and whoever keeps a level of their own."""


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Every line of every logger, whatever level it was given."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    handler = Everything()
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield handler.lines
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    loggers[0].removeHandler(handler)


@pytest.fixture
def app(
    log: list[str],
    tmp_path: Path,
    empty_database: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Flask]:
    """An app as after `make run`, keys in its folder; each library is at DEBUG."""
    (tmp_path / "orgdesk.db").write_bytes(empty_database)
    monkeypatch.setenv("ORGDESK_INSTANCE", str(tmp_path))
    monkeypatch.setenv("ORGDESK_LOG_LEVEL", "DEBUG")
    app = create_app({"TESTING": True, "PROPAGATE_EXCEPTIONS": False})
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def provider() -> Iterator[Server]:
    with Server() as server:
        yield server
        server.shutdown()


class Admin:
    """Somebody who tries everything, and the markers they go about with."""

    def __init__(self, app: Flask, provider: Server) -> None:
        self.app, self.provider = app, provider
        app.test_client_class = Watched
        app.add_url_rule("/crash/<secret>", view_func=crash)
        Watched.kept = []
        browser = browser_of(app)
        assert isinstance(browser, Watched)
        self.browser = browser
        self.secrets = dict(MARKERS)
        self.shown: list[str] = []
        """What was shown on purpose."""

    def make_the_record(self) -> None:
        for form in (
            {"salesforce_domain": "not a host"},
            {},
            {},
        ):  # wrong, right, twice
            self.browser.submit(
                "/applications/new",
                **{
                    "application_name": "Canary",
                    "salesforce_domain": self.provider.address,
                    "client_id": "3MVG9Canary",
                    "consumer_secret": self.secrets["consumer secret"],
                    "callback_url": "http://localhost/callback",
                }
                | form,
            )

    def log_in(self, fault: bytes | None = None) -> None:
        self.provider.step = answer({"error": "invalid_grant"}, "400 Bad Request")
        url = self.browser.submit("/applications/1/authorization").location
        (state,) = parse_qs(urlsplit(url).query)["state"]
        code = quote(self.secrets["code"])
        Watched.kept.pop()  # the state is in the address that the browser goes to
        self.provider.step = fault or self.token("access token", "refresh token")
        for _ in range(2):  # the second time it is used up
            self.browser.get(f"/callback?state={state}&code={code}")
        self.browser.get(f"/callback?state={state}&error=x&error_description={code}")
        self.browser.get("/applications/1")
        self.secrets[f"state {len(self.secrets)}"] = state

    def refresh(self, step: bytes) -> None:
        self.provider.step = step
        self.browser.submit("/applications/1/authorization", htmx=True)
        self.browser.get("/applications/1")

    def token(self, access: str, refresh: str) -> bytes:
        return answer(
            {
                "access_token": self.secrets[access],
                "refresh_token": self.secrets[refresh],
                "id_token": self.secrets["id token"],
                "instance_url": self.provider.address,
                "id": f"{self.provider.address}/id/00D000000000001/005000000000001",
                "issued_at": "1700000000000",
            }
        )

    def meet_every_fault(self) -> None:
        for status, body in FAULTS:
            self.refresh(answer(body.format(**MARKERS).encode(), status))
            self.log_in(answer(body.format(**MARKERS).encode(), status))
        self.log_in()
        self.refresh(self.token("new access token", "new refresh token"))

    def look_at_everything(self) -> None:
        for rule in self.app.url_map.iter_rules():
            if "GET" in (rule.methods or ()) and rule.endpoint not in (
                "static",
                "crash",
            ):
                path = rule.build(dict.fromkeys(rule.arguments, "1"))
                assert path
                self.browser.get(path[1])
        for secret in (MARKERS["access token"], MARKERS["refresh token"]):
            page = super(StrictClient, self.browser).open(f"/crash/{quote(secret)}")
            assert page.status_code == 500
            Watched.kept.append(f"{page.headers}\n{page.text}")

    def edit_and_export(self) -> None:
        form = {
            "application_name": "Canary",
            "salesforce_domain": self.provider.address,
            "client_id": "3MVG9Canary",
            "callback_url": "http://localhost/callback",
            "consumer_secret": self.secrets["next consumer secret"],
        }
        self.browser.submit("/applications/1/edit", **form | {"client_id": ""})
        self.browser.submit("/applications/1/edit", **form)
        for field in ("access_token", "refresh_token", "consumer_secret"):
            for act in ("reveal", "copy"):
                self.browser.submit(
                    "/applications/1/secret", htmx=act == "copy", field=field, act=act
                )
                self.shown.append(Watched.kept.pop())
        self.browser.submit("/applications/1/export")
        self.shown.append(Watched.kept.pop())

    def use_the_account(self) -> None:
        stranger = self.app.test_client()
        for password in (MARKERS["wrong password"], MARKERS["password"]):
            form = {"email": "admin@orgdesk.example", "password": password}
            form["csrf_token"] = stranger.csrf("/sign-in")  # type: ignore[attr-defined]
            stranger.post("/sign-in", data=form)
        self.browser.submit("/account/authenticator", setup="authenticator")
        page = Watched.kept.pop()  # which shows the key, on purpose
        key = page.split("<code>")[1].split("</code>")[0].replace("-", "")
        self.secrets["authenticator key"] = key.replace(" ", "")
        token = page.split("/account/authenticator/")[1].split('"')[0]
        code = TOTP(key=self.secrets["authenticator key"]).generate().token
        self.browser.submit(f"/account/authenticator/{token}", code=code)
        self.browser.submit("/account/recovery-codes", generate_new_codes="1")
        codes = Watched.kept.pop().split("<code>")[1:]
        self.secrets |= {text: text.split("</code>")[0] for text in codes}
        self.browser.submit("/users/invite", email="new@orgdesk.example", role="viewer")
        link = Watched.kept.pop().split("/welcome/")[1].split("<")[0]
        self.secrets["one-time link"] = link
        form = {"email": "x", "password": MARKERS["new password"]}
        form["csrf_token"] = stranger.csrf("/sign-in")  # type: ignore[attr-defined]
        stranger.post(f"/welcome/{link}", data=form)
        stranger.get(f"/welcome/{link}")

    def run_every_command(self) -> None:
        run = self.app.test_cli_runner().invoke
        for command in (
            *("keys status", "keys rotate --grace 0", "audit verify", "users list"),
            *("users deactivate new@orgdesk.example", "db current"),
        ):
            said = run(args=command.split())
            assert said.exit_code == 0, (command, said.output)
            Watched.kept.append(said.output)
        Watched.kept.append(run(args=["tokens", "refresh", "--all"]).output)
        said = run(args=["users", "link", "admin@orgdesk.example"])
        self.secrets["printed link"] = said.output.strip().rpartition("/")[2]


def crash(secret: str) -> str:
    raise RuntimeError(f"Authorization: Bearer {secret}")


def spellings(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode().rstrip("=")
    return {secret, quote(secret, safe=""), html.escape(secret), encoded[:-1]}


def find(secrets: dict[str, str], where: str) -> list[str]:
    lower = where.lower()
    return [
        name
        for name, secret in secrets.items()
        if any(spelling.lower() in lower for spelling in spellings(secret))
    ]


def test_no_secret_is_seen_but_where_it_was_asked_for(
    log: list[str], app: Flask, provider: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    add_site(app, provider.address, local_network=True)
    admin = Admin(app, provider)
    admin.make_the_record()
    admin.log_in()
    admin.meet_every_fault()
    admin.look_at_everything()
    admin.use_the_account()
    admin.edit_and_export()
    admin.look_at_everything()
    with admin.browser.session_transaction() as session:
        cookie = str(dict(session))
        admin.secrets["sign-in"] = session[SIGN_IN]
    admin.run_every_command()

    with app.app_context():
        assert User.find("new@orgdesk.example")
        assert db.session.query(PendingAuthorization).count() > len(FAULTS)
    path = Path(app.config["SQLALCHEMY_DATABASE_URI"].removeprefix("sqlite:///"))
    raw = "".join(
        file.read_bytes().decode("latin-1") for file in path.parent.glob("orgdesk.db*")
    )
    assert "Canary" in raw
    assert any("INSERT INTO external_application" in line for line in log)
    assert any("requests_oauthlib" in line for line in log)
    everywhere = {
        "answers": "\n".join(Watched.kept),
        "log": "\n".join(log),
        "database": raw,
        "stdout and stderr": "".join(capfd.readouterr()),
    }
    for place, text in everywhere.items():
        assert find(admin.secrets, text) == [], place
    held = {name: secret for name, secret in admin.secrets.items() if name != "sign-in"}
    assert find(held, cookie) == []
    shown = find(MARKERS, "\n".join(admin.shown))
    assert shown == ["next consumer secret", "new access token", "new refresh token"]


def test_the_search_finds_what_is_there() -> None:
    for secret in MARKERS.values():
        for spelling in spellings(secret):
            assert find({"it": secret}, f"before {spelling} after") == ["it"]
    assert find(MARKERS, "nothing") == []
