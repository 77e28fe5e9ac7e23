"""docs/SECURITY.md says what is there: every test, function and file that it names.

Below are the proofs of what it says and no other test shows.
"""

import ast
import re
import ssl
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import certifi
import pytest
from flask import Flask
from flask_migrate import upgrade
from flask_security import hash_password

from app import create_app
from database import db
from models import Role, User
from salesforce import transport
from tests.conftest import (
    ADMIN,
    PASSWORD,
    StrictClient,
    add_application,
    browser_of,
)
from users import invite

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "SECURITY.md"
STATES = ("met", "not met", "n/a", "yours")
OAUTH, ASVS = "OAuth client duties", "ASVS 5.0, levels 1 and 2"
LEAST = {OAUTH: 30, ASVS: 110}
"""Rows that a table has at the least, so that none gets lost in a merge."""
CODE = re.compile(r"`([^`\s]+)`")
CITED = re.compile(r"(\w[\w./-]*\.(?:py|js|html|txt|css))(?:::(\w+))?")


class Table(NamedTuple):
    heading: str
    line: int
    header: list[str]
    rows: list[list[str]]


def tables(page: str) -> Iterator[Table]:
    heading, table = "", None
    for number, line in enumerate(page.splitlines(), start=1):
        if line.startswith("#"):
            heading = line.lstrip("# ")
        if not line.startswith("|"):
            if table:
                yield table
            table = None
        elif table is None:
            table = Table(heading, number, cells(line), [])
        else:
            table.rows.append(cells(line))
    if table:
        yield table


def cells(line: str) -> list[str]:
    assert line.endswith("|"), line
    return [cell.strip() for cell in line[1:-1].split("|")]


def problems(page: str) -> list[str]:
    """Say what is wrong with the page, in a sentence each."""
    found = list[str]()
    for table in tables(page):
        for row in table.rows:
            if len(row) != len(table.header) or "" in row:
                found.append(f"{table.heading}: {row[0]}: a cell is empty or too many")
    for cited in CODE.findall(page):
        found += missing(cited)
    for heading, rows in claims(page).items():
        if len(rows) < LEAST[heading]:
            found.append(f"{heading}: there are {len(rows)} rows")
        for row in rows:
            found += unproven(*row)
    numbers = [row[0] for row in claims(page).get(ASVS, [])]
    if numbers != sorted(set(numbers), key=as_number):
        found.append("ASVS: the numbers are not unique and in order")
    return found


def unproven(source: str, _: str, state: str, __: str, proof: str) -> Iterator[str]:
    if state not in STATES:
        yield f"{source}: {state} is no state"
    if state == "met" and not ("`tests/" in proof or proof.startswith("By reading")):
        yield f"{source}: met, and nothing proves it"


def as_number(source: str) -> tuple[int, ...]:
    """Read 3.10.2; what is none comes before all, where it is out of order."""
    whole = re.fullmatch(r"\d+\.\d+\.\d+", source)
    return tuple(map(int, source.split("."))) if whole else ()


def claims(page: str) -> dict[str, list[list[str]]]:
    """Return the rows, without the line of dashes, of the tables with states."""
    return {
        table.heading: [row for row in table.rows[1:] if len(row) == 5]
        for table in tables(page)
        if "State" in table.header
    }


def missing(cited: str) -> Iterator[str]:
    found = CITED.fullmatch(cited)
    if found is None:
        return
    path, name = ROOT / found[1], found[2]
    if not path.is_file():
        yield f"there is no file {found[1]}"
    elif name and name not in names(path):
        yield f"there is no {cited}"


@lru_cache
def names(path: Path) -> frozenset[str]:
    """Return what a module defines at its top: functions, classes, constants."""
    found = set[str]()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Assign():
                found |= {to.id for to in node.targets if isinstance(to, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return frozenset(found)


def test_the_page_names_what_is_there() -> None:
    assert problems(PAGE.read_text()) == []


def test_the_counts_are_right() -> None:
    page = PAGE.read_text()
    (summary,) = [table for table in tables(page) if table.header[0] == "Table"]
    assert tuple(summary.header[1:]) == STATES
    for row, rows in zip(summary.rows[1:], claims(page).values(), strict=True):
        counted = Counter(state for _, _, state, *_ in rows)
        assert row[1:] == [str(counted[state]) for state in STATES], row[0]


def test_links_within_the_page_lead_somewhere() -> None:
    page = PAGE.read_text()
    anchors = {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("test_guard.py::test_every_", "test_guard.py::test_no_", "there is no tests/"),
        ("`guard.py::_let_in`", "`guard.py::let_in`", "there is no guard.py::let_in"),
        ("`keys.py`", "`locks.py`", "there is no file locks.py"),
        ("| 3.4.4 | `nosniff` |", "| 3.4.4 | |", "a cell is empty"),
        ("| 6.2.2 |", "| 6.2.1 |", "not unique and in order"),
        ("| 6.2.2 |", "| 6.2 |", "not unique and in order"),
        ("| met | nothing expires | By r", "| met | nothing expires | R", "proves it"),
        ("| n/a | Flask-WTF |", "| maybe | Flask-WTF |", "maybe is no state"),
        ("| RFC 7009", "RFC 7009", "there are 27 rows"),
    ],
)
def test_a_page_that_is_wrong_is_found_out(right: str, wrong: str, said: str) -> None:
    page = PAGE.read_text()
    assert right in page
    assert any(said in problem for problem in problems(page.replace(right, wrong)))


# --- what the page says and no other test shows -----------------------------

EVERY_KIND = ("/", "/applications/1", "/audit.csv", "/sign-in", "/static/app.css",
              "/nowhere", "/callback")  # fmt: skip


@pytest.mark.parametrize("path", EVERY_KIND)
@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_no_answer_lets_another_origin_read_it(
    app: Flask, client: StrictClient, path: str, origin: str
) -> None:
    add_application(app)
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    for method in ("GET", "OPTIONS"):
        with client.open(path, method=method, headers=asked) as answer:
            assert not [name for name, _ in answer.headers if "Access-Control" in name]


@pytest.mark.parametrize(
    "path", ["/", "/applications/1", "/account", "/users", "/audit", "/nowhere",
             "/applications/4711", "/sign-in/confirm"])  # fmt: skip
def test_every_page_signs_out(app: Flask, client: StrictClient, path: str) -> None:
    add_application(app)
    assert 'action="/sign-out"' in client.get(path).text


@pytest.mark.parametrize("path", ["/", "/applications/1", "/audit", "/users"])
def test_nothing_keeps_a_page(app: Flask, client: StrictClient, path: str) -> None:
    add_application(app, consumer_secret="shown-on-purpose")
    secret = {"act": "reveal", "field": "consumer_secret"}
    shown = client.submit("/applications/1/secret", **secret)
    assert "shown-on-purpose" in shown.text
    for answer in (shown, client.get(path), client.submit("/applications/1/export")):
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_browser_keeps_one_cookie(app: Flask, stranger: StrictClient) -> None:
    form = {"email": ADMIN, "password": PASSWORD, "remember": "y"}
    form["csrf_token"] = stranger.csrf("/sign-in")
    assert stranger.post("/sign-in", data=form).location == "/"
    stranger.get("/account")
    assert [cookie.key for cookie in stranger._cookies.values()] == ["orgdesk"]
    for script in (ROOT / "static").glob("*.js"):
        if not script.name.startswith("htmx"):
            assert not re.search("Storage|cookie|indexedDB", script.read_text())


def test_passwords_are_typed_unseen_and_may_be_filled_in(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    with app.app_context():
        link = invite("new@orgdesk.example", Role.VIEWER)
    pages = {
        "/sign-in": (stranger, ["current-password"]),
        f"/welcome/{link}": (stranger, ["new-password"]),
        "/sign-in/confirm": (client, ["current-password"]),
        "/account/password": (
            client,
            ["current-password", "new-password", "new-password"],
        ),
    }
    for path, (browser, filled) in pages.items():
        fields = re.findall(r"<input[^>]*password[^>]*>", browser.get(path).text)
        assert all('type="password"' in field for field in fields)
        found = [re.findall('autocomplete="([^"]+)"', field)[0] for field in fields]
        assert found == filled


def test_who_is_no_admin_is_offered_no_secret(app: Flask) -> None:
    add_application(app)
    for role in Role:
        page = browser_of(app, f"{role}@orgdesk.example", role).get("/applications/1")
        assert page.status_code == 200
        for offered in ("/applications/1/secret", "/export", "/edit", "/delete"):
            assert (offered in page.text) is (role is Role.ADMIN)


def test_passwords_are_under_argon2id() -> None:
    with create_app().app_context():
        hashed = hash_password(PASSWORD)
    found = re.match(r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=\d+\$", hashed)
    assert found
    assert int(found[1]) >= 64 * 1024
    assert int(found[2]) >= 3


def test_nobody_is_there_before_the_first_link(tmp_path: Path) -> None:
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'new.db'}"})
    with app.app_context():
        upgrade()
        assert not User.any()
        db.engine.dispose()


def test_calls_to_orgs_take_tls_1_2_at_least() -> None:
    context = transport._trusting(certifi.where(), None, 0)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    "password",
    ["orgdeskorgdesk", "salesforce2026", f"{ADMIN}1"],
)
def test_words_of_this_place_make_no_password(app: Flask, password: str) -> None:
    with app.test_request_context():
        util = app.extensions["security"].password_util
        assert util.validate(password, is_register=True, email=ADMIN)[0]
        assert util.validate(PASSWORD, is_register=True, email=ADMIN)[0] is None
