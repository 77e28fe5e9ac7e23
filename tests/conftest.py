"""What most tests stand on: an app on a migrated database, and a strict client."""

import atexit
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from flask_security import hash_password
from hypothesis import HealthCheck, settings
from jinja2 import FileSystemBytecodeCache
from sqlalchemy import event
from sqlalchemy.engine import Engine
from werkzeug.test import TestResponse

from app import create_app
from database import db
from models import ExternalApplication, RemoteSite, Role, SignIn, User, find_site
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import parse_domain, parse_origin
from sign_in import SIGN_IN
from tests.servers import PracticeOrg, practice_org

# Nothing of a developer's own instance/ is read or written.
INSTANCE = tempfile.TemporaryDirectory(prefix="orgdesk-tests-")
os.environ["ORGDESK_INSTANCE"] = INSTANCE.name
atexit.register(INSTANCE.cleanup)
# Each test has an app of its own, but templates are compiled once.
COMPILED = FileSystemBytecodeCache(INSTANCE.name)
# The embedded PostgreSQL warns where a machine sets none.
os.environ.setdefault("XDG_RUNTIME_DIR", INSTANCE.name)

# The same examples in each run of the tests; `make fuzz` looks for new ones.
settings.register_profile(
    "test",
    derandomize=True,
    max_examples=60,  # every run takes their time; `make fuzz` takes 2,000
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.register_profile(
    "fuzz", settings.get_profile("test"), derandomize=False, max_examples=2_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))

ADMIN = "admin@orgdesk.example"
PASSWORD = "four words not together"
CHEAP = {
    "SECURITY_PASSWORD_HASH_PASSLIB_OPTIONS": {
        "argon2__rounds": 1,
        "argon2__memory_cost": 1_024,
    }
}
"""Hashes that take no time: what they protect is known to every reader."""
OWN_CALLBACK = "http://localhost/callback"
SECRET = "a-consumer-secret-of-the-tests"


SLOW = ("test_processes",)
"""Files that begin first: they wait more than they work, and others work meanwhile."""


@contextmanager
def sql_taken() -> Iterator[list[tuple[str, Any]]]:
    """Gather the SQL that is run meanwhile, in any thread, with its parameters."""
    taken: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, sql: str, values: Any, *_: object) -> None:
        taken.append((sql, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield taken
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run a file in one process, where several run: it shares servers and browsers."""
    for item in items:
        folder = item.path.parent
        shared = folder if folder.name == "browser" else item.path
        item.add_marker(pytest.mark.xdist_group(shared.name))
    items.sort(key=lambda item: item.path.stem not in SLOW)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name what was sent by its place: bytes may differ from process to process."""
    return argname if isinstance(val, bytes) else None


class House(HTMLParser):
    """Collects what the house rules look at."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.offences: list[str] = []
        self.open_form: dict[str, str | None] | None = None
        self.in_drawing = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.in_drawing = self.in_drawing or tag == "svg"
        self.seen[tag] += not self.in_drawing  # a drawing has a title of its own
        if "id" in attributes:
            self.ids[str(attributes["id"])] += 1
        if "style" in attributes or any(name.startswith("on") for name in attributes):
            self.offences.append(f"inline style or script on <{tag}>")
        if tag == "style" or (tag == "script" and "src" not in attributes):
            self.offences.append(f"inline <{tag}>")
        for name in ("src", "href", "action"):
            value = attributes.get(name) or ""
            if tag != "a" and re.match(r"https?:|//", value):
                self.offences.append(f"{tag} {name} leads elsewhere: {value}")
        if tag == "form" and (attributes.get("method") or "").lower() == "post":
            self.open_form = attributes
            if not attributes.get("action"):
                self.offences.append("a POST form without an action")
        if tag == "input" and attributes.get("name") == "csrf_token":
            self.open_form = None

    def handle_endtag(self, tag: str) -> None:
        self.in_drawing = self.in_drawing and tag != "svg"
        if tag == "form" and self.open_form is not None:
            self.offences.append("a POST form without a CSRF token")
            self.open_form = None


class StrictClient(FlaskClient):
    """Holds every page it fetches to the rules of the house."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        response = super().open(*args, **kwargs)
        assert response.status_code != 500
        if response.mimetype == "text/html" and response.data:
            self.check(response)
        return response

    def check(self, response: TestResponse) -> None:
        house = House(response.text)
        assert not house.offences
        assert not [name for name, times in house.ids.items() if times > 1]
        assert SECRET not in response.text
        assert response.headers["Cache-Control"] == "no-store"
        if "<!doctype html>" in response.text:
            assert (house.seen["h1"], house.seen["title"]) == (1, 1)

    def csrf(self, path: str = "/account") -> str:
        """Return the CSRF token of a page, as a browser would send it back."""
        found = re.search(
            r'name="csrf_token"[^>]* value="([^"]+)"', self.get(path).text
        )
        assert found
        return found[1]

    def submit(self, path: str, *, htmx: bool = False, **form: Any) -> TestResponse:
        """Post a form as a browser does, or as htmx does."""
        headers = {"HX-Request": "true"} if htmx else {}
        form["csrf_token"] = self.csrf()
        return self.post(path, data=form, headers=headers)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a migrated database, made once and copied for each test."""
    path = tmp_path_factory.mktemp("database") / "empty.db"
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}"} | CHEAP)
    with app.app_context():
        upgrade()
        add_user(ADMIN, Role.ADMIN)
        db.session.execute(db.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        db.session.remove()
        db.engine.dispose()
    return path.read_bytes()


@pytest.fixture
def limits() -> bool:
    """Whether tries are counted; a file that asks more than anybody may says no."""
    return True


@pytest.fixture
def app(tmp_path: Path, empty_database: bytes, limits: bool) -> Iterator[Flask]:
    path = tmp_path / "orgdesk.db"
    path.write_bytes(empty_database)
    app = create_app(
        {
            "TESTING": True,
            "SECRET_KEY": "tests",
            "VAULT_KEYS": (Fernet.generate_key().decode(),),
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}",
            "PROPAGATE_EXCEPTIONS": False,
            "RATELIMIT_ENABLED": limits,
        }
        | CHEAP
    )
    app.test_client_class = StrictClient
    app.jinja_env.bytecode_cache = COMPILED
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def stranger(app: Flask) -> StrictClient:
    """A browser that is not signed in."""
    client = app.test_client()
    assert isinstance(client, StrictClient)
    return client


@pytest.fixture
def client(app: Flask) -> StrictClient:
    """The browser of an admin."""
    return browser_of(app)


def browser_of(app: Flask, email: str = ADMIN, role: Role = Role.ADMIN) -> StrictClient:
    """Return a browser in which this user, who is added if need be, just signed in."""
    client = app.test_client()
    with app.app_context():
        user = User.find(email) or add_user(email, role)
        token = SignIn.begin(user, "127.0.0.1", "a browser of the tests")
        db.session.commit()
        uniquifier = user.fs_uniquifier
    address = app.config["EXTERNAL_URL"] or "http://localhost"
    with client.session_transaction(base_url=address) as session:
        session.update({"_user_id": uniquifier, SIGN_IN: token, "fs_paa": time.time()})
    assert isinstance(client, StrictClient)
    return client


def add_user(email: str, role: Role, password: str = PASSWORD) -> User:
    """Add a user; in an application context."""
    user = User(email=email, role=role, password=hash_once(password))
    db.session.add(user)
    db.session.commit()
    return user


@lru_cache
def hash_once(password: str) -> str:
    return str(hash_password(password))


@pytest.fixture(scope="session")
def org_process() -> Iterator[PracticeOrg]:
    with practice_org(OWN_CALLBACK) as org:
        yield org


@pytest.fixture
def org(org_process: PracticeOrg) -> PracticeOrg:
    """The practice org with all faults off."""
    org_process.switch()
    org_process.revoke_all()
    return org_process


def add_application(app: Flask, **changes: Any) -> int:
    """Store a record and return its id; one on this machine may be called."""
    description: dict[str, Any] = {
        "application_name": "Acme",
        "salesforce_domain": "acme.my.salesforce.com",
        "client_id": "3MVG9AcmeConsumerKey",
        "consumer_secret": SECRET,
        "callback_url": OWN_CALLBACK,
        "requested_scopes": "",
        "prompt_login": True,
    } | changes
    domain = parse_domain(description.pop("salesforce_domain"))
    if domain.is_loopback:
        add_site(app, domain.origin, local_network=True)
    with app.app_context():
        application = ExternalApplication()
        application.describe(salesforce_domain=domain, **description)
        db.session.add(application)
        db.session.commit()
        return application.id


@pytest.fixture
def practice_record(app: Flask, org: PracticeOrg) -> int:
    """A record that is a connection to the practice org; its id, which is 1."""
    return add_application(
        app,
        application_name="Practice",
        salesforce_domain=org.address,
        client_id=CLIENT_ID,
        consumer_secret=CONSUMER_SECRET,
        requested_scopes="api refresh_token id",
    )


@pytest.fixture
def connected(client: StrictClient, org: PracticeOrg, practice_record: int) -> int:
    """The same, with its first token."""
    connect(client, org)
    return practice_record


CLICK = "/applications/1/authorization"


def begin(client: StrictClient) -> str:
    """Click, and return the address of the login page."""
    response = client.submit(CLICK)
    assert response.status_code == 303
    return response.location


def come_back(client: StrictClient, url: str) -> TestResponse:
    parts = urlsplit(url)
    assert (parts.netloc, parts.path) == ("localhost", "/callback")
    return client.get(f"/callback?{parts.query}")


def connect(client: StrictClient, org: PracticeOrg) -> None:
    response = come_back(client, org.log_in(begin(client)))
    assert response.status_code == 303
    assert response.location == "/applications/1"


def add_site(app: Flask, address: str, *, local_network: bool = False) -> None:
    """Let Orgdesk call a host, unless there is a site for it."""
    origin = parse_origin(address)
    with app.app_context():
        if find_site(origin) is None:
            site = RemoteSite()
            site.describe(origin, local_network=local_network)
            db.session.add(site)
            db.session.commit()


def load(app: Flask, application_id: int) -> ExternalApplication:
    """Read the record in a context of its own, as another process would."""
    with app.app_context():
        application = db.session.get_one(ExternalApplication, application_id)
        db.session.expunge(application)
        return application
