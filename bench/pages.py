"""How fast the pages are.

Each page is measured beside a bare Flask view that runs one SQL statement and
renders 25 rows, in turns, so that whatever else the machine does hits all of
them alike. What travels to other machines are the ratios.
"""

import gzip
import json
import os
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from cryptography.fernet import Fernet
from flask import Flask, render_template
from flask.testing import FlaskClient
from flask_migrate import upgrade
from jinja2 import DictLoader
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from app import create_app
from config import ROOT
from database import db
from models import (
    LAPSES_SOON,
    LONGEST_RESPONSE,
    Approval,
    Attempt,
    Attention,
    ExternalApplication,
    HeldToken,
    HoldReason,
    Lane,
    Outcome,
    Role,
    SignIn,
    User,
    name_key,
)
from models.attention import OF_STATE
from overview import KEEPER
from salesforce import State
from sign_in import SIGN_IN
from vault import seal

SIZES = (10_000, 100_000)
ROUNDS = 150
LEGACY = 1_500
"""Of the oldest records; a search for them has more hits than are sorted."""
WARM_UP = 5

NAMES = (
    "Acme", "Globex", "Ünïcorn", "Straße & Söhne", "日本商事", "Ærø Færger",
    "Zürich Rück", "Ελληνικά Πλοία", "İstanbul Tekstil", "Żubr", "O’Hara", "Café Noël",
)  # fmt: skip
TEAMS = ("Sales", "Service", "Marketing", "Data Loader", "ETL 100%", "Billing_v2", "🚀")
DOMAINS = (
    "acme{}.my.salesforce.com",
    "acme{}.my.salesforce.com",
    "acme{}--uat.sandbox.my.salesforce.com",
    "acme{}.my.site.com/partners",
)
OWNERS = ("ada@acme.example", "Grace", "田中", "Zoë", "The platform team", "ops")
TAGS = ("prod", "etl", "finance", "pii", "emea", "apac")
NOTES = (
    "nightly export of opportunities to the warehouse call billing before changing"
    " rotate in march feeds the dashboards consumer vendor support ticket"
)
WRITTEN = 0.6
"""Of the records have an owner, tags and notes."""
GOOD = 0.9
"""Of the tries in a history."""
WEIGHTS = (200, 600, 50, 100, 4, 15, 30, 1)
"""Of 1,000 records, how many are in each `State`."""
TROUBLE = "The org did not give a token: expired access/refresh token. Log in."
BARE = """<!doctype html><title>Bare</title><table>{% for row in rows %}
<tr><th><a href="/{{ row[0] }}">{{ row[1] }}</a><td>{{ row[2] }}<td>{{ row[3] }}<td>{{
row[4] }}</tr>{% endfor %}</table>"""

PAGES: dict[str, Callable[[int], str]] = {
    "list, first page": lambda _: "/",
    "list, last page": lambda _: "/?last=1",
    "list, a page in the middle": lambda size: f"/?after={size // 2}",
    "list by name": lambda _: "/?sort=name",
    "what needs attention first": lambda _: "/?sort=attention",
    "what needs it, in the middle": lambda size: (
        f"/?sort=attention&after=1-{size // 2}"
    ),
    "what lapses, 5 %": lambda _: "/?lapsing=1",
    "what lapses, by name": lambda _: "/?lapsing=1&sort=name",
    "tokens that are held": lambda _: "/?held=1&sort=attention",
    "state: connected, 60 %": lambda _: "/?state=connected",
    "state: outcome unknown, 0.1 %": lambda _: "/?state=outcome_unknown",
    "search with a few hits": lambda _: "/?q=4711",
    "search of one character": lambda _: "/?q=z",
    "search with 25 % hits": lambda _: "/?q=sandbox",
    "hits among the oldest alone": lambda _: "/?q=legacy",
    "hits at the end of the names": lambda _: "/?q=日本商事+sales&sort=name",
    "search within a state": lambda _: "/?q=zürich&state=expired",
    "search without a hit": lambda _: "/?q=nowhere",
    "search in the notes": lambda _: "/?q=billing+before",
    "search in the notes, by name": lambda _: "/?q=billing&sort=name",
    "search for a tag, by attention": lambda _: "/?q=prod&sort=attention",
    "search for an owner, by name": lambda _: "/?q=田中&sort=name",
    "detail": lambda size: f"/applications/{size // 2}",
    "detail, response of 32 kB": lambda size: f"/applications/{size // 2 + 1}",
    "overview": lambda _: OVERVIEW,
    "overview, counted anew": lambda _: ANEW,
}
FIRST, LAST, *_ = PAGES
DETAIL, WITH_RESPONSE = "/applications/", "detail, response of 32 kB"
OVERVIEW = "/overview"
ANEW = "/overview?anew"

FARTHEST = 1.3
LARGEST_LIST, LARGEST_DETAIL, LARGEST_OVERVIEW = 8_000, 8_000, 10_000
LARGEST_WITH_RESPONSE = 12_000
"""Of a record whose answer is as long as one is kept."""
LARGEST_ASSETS = 30_000


@dataclass
class Case:
    client: FlaskClient
    path: str
    seconds: list[float] = field(default_factory=list)
    statements: int = 0
    size: int = 0

    def run(self) -> None:
        if self.path == ANEW:
            self.client.application.extensions.pop(KEEPER.name, None)
        begin = perf_counter()
        response = self.client.get(self.path)
        self.seconds.append(perf_counter() - begin)
        assert response.status_code == 200, (self.path, response.status_code)

    def look(self) -> None:
        """Fetch the page, counting its SQL statements and its gzipped bytes.

        The one that every page begins with, who is signed in, is not counted. What
        is kept was fetched before.
        """
        if self.path == OVERVIEW:
            self.run()
            self.seconds.clear()

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            self.statements += "FROM sign_in" not in statement

        if self.path == ANEW:
            self.client.application.extensions.pop(KEEPER.name, None)
        event.listen(Engine, "before_cursor_execute", note)
        self.size = len(gzip.compress(self.client.get(self.path).data))
        event.remove(Engine, "before_cursor_execute", note)

    @property
    def ms(self) -> float:
        return median(self.seconds[WARM_UP:]) * 1_000


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="orgdesk-bench-") as folder:
        os.environ["ORGDESK_INSTANCE"] = folder
        bare = Case(bare_app(Path(folder)).test_client(), "/")
        cases: dict[tuple[str, int], Case] = {}
        for size in SIZES:
            client = signed_in(orgdesk(Path(folder), size))
            for page, path in PAGES.items():
                cases[page, size] = Case(client, path(size))
        for case in cases.values():
            case.look()
        for _ in range(WARM_UP + ROUNDS):
            for case in (bare, *cases.values()):
                case.run()
    show(bare, cases)


def bare_app(folder: Path) -> Flask:
    app = Flask("bare")
    app.jinja_loader = DictLoader({"bare.html": BARE})
    database = sqlite3.connect(folder / "bare.db")
    database.execute("CREATE TABLE row (id INTEGER PRIMARY KEY, a, b, c, d)")
    database.executemany(
        "INSERT INTO row (a, b, c, d) VALUES"
        " (:application_name, :salesforce_domain, :organization_id, :user_id)",
        records(25),
    )
    database.commit()

    @app.get("/")
    def index() -> str:
        rows = database.execute("SELECT * FROM row ORDER BY id DESC LIMIT 25")
        return render_template("bare.html", rows=rows.fetchall())

    return app


def orgdesk(folder: Path, size: int) -> Flask:
    """Make the app with `size` records, on the tables of the migrations."""
    app = create_app(
        {
            "SECRET_KEY": "bench",
            "VAULT_KEYS": (Fernet.generate_key().decode(),),
            "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / f'{size}.db'}",
        }
    )
    with app.app_context():
        upgrade()
        secrets = {
            "consumer_secret": seal("c" * 64),
            "access_token": seal("a" * 112),
            "refresh_token": seal("r" * 87),
        }
        rows = [row | secrets for row in records(size)]
        db.session.execute(insert(ExternalApplication), rows)
        db.session.execute(insert(HeldToken), list(held_tokens(size)))
        db.session.execute(insert(Attempt), list(attempts(size)))
        db.session.execute(insert(Approval), list(approvals(size)))
        db.session.commit()
    return app


def signed_in(app: Flask) -> FlaskClient:
    """Return the browser of an admin."""
    with app.app_context():
        user = User(email="bench@orgdesk.example", role=Role.ADMIN)
        token = SignIn.begin(user, "127.0.0.1", "bench")
        db.session.commit()
        uniquifier = user.fs_uniquifier
    client = app.test_client()
    with client.session_transaction() as session:
        session.update({"_user_id": uniquifier, SIGN_IN: token})
    return client


def records(size: int) -> Iterator[dict[str, Any]]:
    """Make up records, the same in each run."""
    chance, fate = random.Random(size), random.Random(size)
    start, now = datetime(2026, 1, 1, tzinfo=UTC), datetime.now(UTC)
    for number, state in enumerate(chance.choices(list(State), WEIGHTS, k=size)):
        name = f"{chance.choice(NAMES)} {chance.choice(TEAMS)} {number:05}"
        name += " legacy" if number < LEGACY else ""
        domain = chance.choice(DOMAINS).format(number // 3)
        failed = state not in (State.CONNECTED, State.NEVER_AUTHORIZED)
        lapses_at = now + timedelta(days=chance.choice((3, *range(8, 27))))
        soon = lapses_at < now + LAPSES_SOON
        is_broad = number % 50 == 0
        yield details(chance) | {
            "application_name": name,
            "application_name_key": name_key(name),
            "salesforce_domain": domain,
            "client_id": f"3MVG9{chance.getrandbits(320):080x}",
            "callback_url": "https://orgdesk.example.com/callback",
            "requested_scopes": "api refresh_token",
            "state": state,
            "organization_id": f"00D{number:015}",
            "user_id": f"005{number:015}",
            "instance_url": f"https://{domain}",
            "issued_at": start + timedelta(minutes=number),
            "expires_at": start if state is State.EXPIRED else None,
            "last_used_at": now - timedelta(days=fate.triangular(0, 40, 0)),
            "over_broad": is_broad,
            "granted_scopes": "api full" if is_broad else "api",
            "lapses_at": lapses_at,
            "refresh_token_used_at": lapses_at - timedelta(days=30),
            "attention_rank": max(OF_STATE[state], Attention.LAPSES_SOON * soon),
            "organization_name": f"{name[:12]} {chance.getrandbits(32):08x}",
            "org_username": f"integration-{chance.getrandbits(32):08x}@acme.example",
            "last_error": TROUBLE if failed else None,
            "last_error_at": start if failed else None,
            "lane": "silent",
            "authorization_server_response": "\n".join(
                f'{{"id": "{chance.getrandbits(32):08x}", "scope": "api"}}'
                for _ in range(LONGEST_RESPONSE // 36 if number % 500 == 0 else 20)
            ),
        }


def details(chance: random.Random) -> dict[str, str]:
    """Make up what is written down about a record, or nothing."""
    texts = [""] * 4
    if chance.random() < WRITTEN:
        tags = ", ".join(chance.sample(TAGS, 2))
        notes = " ".join(chance.choices(NOTES.split(), k=25))
        texts = [chance.choice(OWNERS), "Informatica", tags, notes]
    names = ("owner", "used_by", "tags", "notes", "search_words")
    words = "\n\n".join(name_key(text) for text in texts if text)
    return dict(zip(names, (*texts, words), strict=True))


def held_tokens(size: int) -> Iterator[dict[str, Any]]:
    for number in range(1, size, size // 5):
        yield {
            "application_id": number,
            "reason": HoldReason.ANOTHER_USER,
            "lane": Lane.BROWSER,
            "lane_reason": "",
            "actor": "bench@orgdesk.example",
            "salesforce_domain": "acme.my.salesforce.com",
            "client_id": "3MVG9",
            "access_token": seal("a" * 112),
            "response": "{}",
        }


def attempts(size: int) -> Iterator[dict[str, Any]]:
    """Make up a long history for the two records whose pages are measured."""
    chance = random.Random(size)
    start = datetime.now(UTC)
    for number in range(size // 10):
        is_good = chance.random() < GOOD
        tokens = [f"{chance.getrandbits(32):08x}" for _ in range(4)]
        yield {
            "application_id": size // 2 + number % 2,
            "lane": Lane.SILENT,
            "actor": "bench@orgdesk.example",
            "request_id": "",
            "started_at": start + timedelta(seconds=number),
            "finished_at": start + timedelta(seconds=number),
            "lease_ends": 0.0,
            "outcome": Outcome.STORED if is_good else Outcome.FAILED,
            "state": State.CONNECTED if is_good else State.UNREACHABLE,
            "reason": "The org is not well (HTTP 503). Try again later.",
            "error_code": None if is_good else "<HTTP 503>",
            "status": 200 if is_good else 503,
            "duration": chance.randrange(100, 900),
            "requests": 1,
            "rotated": is_good,
            "access_token_before": tokens[0],
            "access_token_after": tokens[1],
            "refresh_token_before": tokens[2],
            "refresh_token_after": tokens[3],
            "answer": json.dumps(
                {"id": "x", "scope": "api web" if number % 3 else "api"}
                | {f"field_{at}": "a" * 60 for at in range(15)}
            ),
        }


def approvals(size: int) -> Iterator[dict[str, Any]]:
    """Make up an approval for each record; some users have none left."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(size):
        group = number // 5 if number % 100 < 5 else number
        yield {
            "client_id": f"3MVG9{group:080x}",
            "organization_id": f"00D{group:015}",
            "user_id": f"005{group:015}",
            "application_id": number + 1,
            "application_name": f"Acme {number}",
            "granted_at": start + timedelta(minutes=number),
        }


def show(bare: Case, cases: dict[tuple[str, int], Case]) -> None:
    columns = "".join(f"{f'{size:,}':>12}{'ratio':>8}" for size in SIZES)
    print(f"{'median ms by records':31}{columns}{'SQL':>5}{'gzipped':>9}")
    ms = f"{bare.ms:12.2f}{1:8.2f}" * len(SIZES)
    print(f"{'bare Flask view':31}{ms}{1:5}")
    for page in PAGES:
        sizes = [cases[page, size] for size in SIZES]
        ms = "".join(f"{case.ms:12.2f}{case.ms / bare.ms:8.2f}" for case in sizes)
        statements = max(case.statements for case in sizes)
        print(f"{page:31}{ms}{statements:5}{max(case.size for case in sizes):9,}")
    print()
    for sentence, value, limit in targets(cases):
        verdict = "holds" if value <= limit else "MISSED"
        print(f"{verdict:8}{sentence}: {round(value, 2):,}, at most {limit:,}")


def targets(
    cases: dict[tuple[str, int], Case],
) -> Iterator[tuple[str, float, float]]:
    first, last = (cases[page, SIZES[-1]].ms for page in (FIRST, LAST))
    difference = max(first, last) / min(first, last)
    yield "first and last page, the slower by the faster", difference, FARTHEST
    details = [case for case in cases.values() if DETAIL in case.path]
    overviews = [case for case in cases.values() if OVERVIEW in case.path]
    longest = [cases[WITH_RESPONSE, size] for size in SIZES]
    usual = [case for case in details if case not in longest]
    others = [*details, *overviews]
    lists = [case for case in cases.values() if case not in others]
    kept = [cases["overview", SIZES[-1]]]
    for name, some, most, largest in (
        ("a list", lists, 2, LARGEST_LIST),
        ("a detail", usual, 4, LARGEST_DETAIL),
        ("a detail with the longest response", longest, 4, LARGEST_WITH_RESPONSE),
        ("an overview that is kept", kept, 3, LARGEST_OVERVIEW),
        ("an overview", overviews, 9, LARGEST_OVERVIEW),
    ):
        yield f"SQL statements of {name}", max(one.statements for one in some), most
        yield f"gzipped bytes of {name}", max(one.size for one in some), largest
    assets = [path for path in (ROOT / "static").iterdir() if path.suffix != ".svg"]
    size = sum(len(gzip.compress(path.read_bytes())) for path in assets)
    yield "gzipped bytes of JS and CSS together", size, LARGEST_ASSETS
