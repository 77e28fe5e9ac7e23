"""The list: every page, order, filter and search against plain Python."""

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from app import create_app
from database import db
from listing import FEW, PAGE_SIZE, Page, Query, Sort, get_page
from models import ExternalApplication, mark_time, name_key
from salesforce import State
from tests.conftest import add_application
from vault import seal

RECORDS = FEW + 200
PIECES = [*"abAB %_\\\"'/*^-(", "é", "e\u0301", "ß", "ı", "İ", "ﬁ", "🚀", "日", "ς"]
DOMAINS = (
    "a{}.my.salesforce.com",
    "ab{}--uat.sandbox.my.salesforce.com",
    "b{}.my.site.com/Path/AB",
)
WEIGHTS = (20, 60, 5, 10, 3, 1, 1, 0)
NEEDLES = (
    *("a", "A", "%", "_", "\\", '"', "'", "/", "ab", "a%", "_%", "/%", '""', "\\'"),
    *("ı", "i", "İ", "ß", "SS", "ﬁ", "fi", "🚀", "日", "é", "e\u0301", "Σ", "\u0301"),
    *("my.", "MY.SALESFORCE.COM", "path/ab", "com", "m/P", "AND", "NEAR(", "a*", "^a"),
    *("nowhere", "a\x00b", "\x00", "7", "x" * 255, "x" * 300, "\ufffd", "\U0010ffff"),
)
PLACES: tuple[dict[str, str], ...] = (
    {},
    {"last": "1"},
    {"after": "600"},
    {"before": "600"},
)

Row = tuple[int, str, str, State]


@pytest.fixture(scope="module")
def catalogue(
    tmp_path_factory: pytest.TempPathFactory, empty_database: bytes
) -> Iterator[list[Row]]:
    """The rows of a filled database, in the context of its app."""
    path = tmp_path_factory.mktemp("listing") / "orgdesk.db"
    path.write_bytes(empty_database)
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}"})
    with app.app_context():
        rows = list(records(random.Random(4711)))
        db.session.execute(insert(ExternalApplication), rows)
        db.session.commit()
        yield [
            (at, row["application_name_key"], row["salesforce_domain"], shown(row))
            for at, row in enumerate(rows, start=1)
        ]
        db.engine.dispose()


def records(chance: random.Random) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    for number in range(RECORDS):
        name = "".join(chance.choices(PIECES, k=chance.randint(1, 7))) + f"{number}"
        yield {
            "application_name": name,
            "application_name_key": name_key(name),
            "salesforce_domain": chance.choice(DOMAINS).format(number % 97),
            "client_id": "3MVG9",
            "consumer_secret": seal("a-secret"),
            "callback_url": "https://orgdesk.example.com/callback",
            "state": chance.choices(list(State), WEIGHTS)[0],
            "expires_at": chance.choice([None, now + timedelta(1), now - timedelta(1)]),
        }


def shown(row: dict[str, Any]) -> State:
    passed = row["expires_at"] and row["expires_at"] < datetime.now(UTC)
    connected = row["state"] is State.CONNECTED
    return State.EXPIRED if connected and passed else State(row["state"])


def expected(
    rows: list[Row], q: str = "", state: str = "", sort: str = "newest"
) -> list[int]:
    """Return the ids of the whole list, as plain Python finds and sorts them."""
    needle = name_key(q.replace("\x00", " ").strip()[:255])
    found = [
        (key, at)
        for at, key, domain, is_in in rows
        if (needle in key or needle in domain.lower()) and state in ("", is_in)
    ]
    if sort == "name":
        return [at for _, at in sorted(found)]
    return sorted((at for _, at in found), reverse=True)


def page(**arguments: str) -> Page:
    return get_page(Query.from_arguments(arguments))


def pages(step: str, **arguments: str) -> list[Page]:
    """Follow a link, `next` or `previous`, from page to page through addresses."""
    seen = [page(**arguments)]
    while link := getattr(seen[-1], step):
        seen.append(page(**link.arguments()))
    return seen


def ids(seen: list[Page]) -> list[int]:
    return [application.id for one in seen for application in one.applications]


def statements(**arguments: str) -> list[tuple[str, Any]]:
    """Return the SQL that one page takes, with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, sql: str, values: Any, *_: Any) -> None:
        seen.append((sql, values))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        page(**arguments)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return seen


def plan(sql: str, values: Any) -> list[str]:
    connection = db.session.connection()
    lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
    return [line.detail for line in lines]


LISTS = [
    {"q": q, "state": state, "sort": sort}
    for q, state, sort in product(
        ("", "a", "com", "ab1", "nowhere"),
        ("", "connected", "expired", "misconfigured", "outcome_unknown"),
        ("newest", "name"),
    )
]


@pytest.mark.parametrize("asked", LISTS, ids=lambda asked: "-".join(asked.values()))
def test_paging_meets_each_record_once_forwards_and_backwards(
    catalogue: list[Row], asked: dict[str, str]
) -> None:
    whole = expected(catalogue, **asked)
    forwards = pages("next", **asked)
    assert ids(forwards) == whole
    backwards = pages("previous", **asked, last="1")
    assert ids(backwards[::-1]) == whole
    for walk in (forwards, backwards):
        assert all(len(one.applications) == PAGE_SIZE for one in walk[:-1])


@pytest.mark.parametrize("sort", ["newest", "name"])
def test_the_links_lead_where_they_say(catalogue: list[Row], sort: str) -> None:
    first, second, *_, last = pages("next", sort=sort)
    assert (first.first, first.previous) == (None, None)
    assert (last.next, last.last) == (None, None)
    assert first.last
    assert second.previous
    assert last.first
    assert ids([page(**last.first.arguments())]) == ids([first])
    assert ids([page(**second.previous.arguments())]) == ids([first])
    assert ids([page(**first.last.arguments())])[-1] == ids([last])[-1]


def test_a_list_of_one_page_has_no_links(catalogue: list[Row]) -> None:
    only = page(q=catalogue[6][1])
    assert only.first is only.previous is only.next is only.last is None
    assert only.found == len(only.applications) == 1


@pytest.mark.parametrize("q", NEEDLES, ids=ascii)
def test_a_search_finds_what_plain_python_finds(catalogue: list[Row], q: str) -> None:
    found = expected(catalogue, q=q)
    assert ids(pages("next", q=q)) == found
    first = page(q=q)
    if name_key(first.query.search):
        assert first.many is (len(found) > FEW)
        assert first.found == (None if first.many else len(found))


def test_a_search_for_any_part_of_a_record_finds_it(catalogue: list[Row]) -> None:
    chance = random.Random(42)
    for at, key, domain, _ in chance.sample(catalogue, 60):
        text = chance.choice([key, domain])
        begin = chance.randrange(len(text))
        q = text[begin : begin + chance.randint(1, 5)]
        assert ids(pages("next", q=q, sort="name")) == expected(
            catalogue, q=q, sort="name"
        ), (at, q)


def test_a_count_that_a_filter_makes_wrong_is_not_shown(catalogue: list[Row]) -> None:
    wanted = expected(catalogue, q="com", state="misconfigured")
    first = page(q="com", state="misconfigured")
    assert 0 < len(wanted) <= PAGE_SIZE
    assert not first.many
    assert first.found == len(wanted)


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ({"after": "x"}, Query()),
        ({"after": "-1"}, Query()),
        ({"after": "²"}, Query()),
        ({"before": "2147483648"}, Query()),
        ({"before": "2147483647"}, Query(before="2147483647")),
        ({"state": "nonsense", "sort": "nonsense", "other": "x"}, Query()),
        ({"q": " \x00 a\x00b \u3000"}, Query(search="a b")),
        ({"q": "x" * 300}, Query(search="x" * 255)),
        ({"sort": "name", "after": "", "before": ""}, Query(sort=Sort.NAME)),
        ({"after": "5", "before": "9"}, Query(before="9")),
        ({"after": "5", "before": "x"}, Query(after="5")),
        ({"after": "5", "before": "9", "last": "1"}, Query(last=True)),
    ],
)
def test_what_makes_no_sense_is_as_if_it_were_not_there(
    arguments: dict[str, str], query: Query
) -> None:
    assert Query.from_arguments(arguments) == query


def test_a_query_survives_the_address(catalogue: list[Row]) -> None:
    for sort, q in product(("newest", "name"), ("", "com", '%_"', "🚀")):
        first = page(q=q, sort=sort)
        for query in (first.query, first.next, first.last):
            if query is not None:
                assert Query.from_arguments(query.arguments()) == query


def test_a_token_whose_time_has_passed_is_listed_as_expired(app: Flask) -> None:
    with app.app_context():
        row = next(records(random.Random(1)))
        row |= {"state": State.CONNECTED, "expires_at": datetime.now(UTC)}
        db.session.execute(insert(ExternalApplication), [row])
        db.session.commit()
        assert ids([page(state="connected")]) == []
        assert ids([page(state="expired")]) == [1]


def test_the_search_follows_an_edit_and_a_deletion(app: Flask) -> None:
    record = add_application(app, application_name="Before")
    with app.app_context():
        application = db.session.get_one(ExternalApplication, record)
        application.application_name = "Ünïcorn"
        db.session.commit()
        assert ids([page(q="ÜNÏ")]) == ids([page(q="ü")]) == [record]
        assert ids([page(q="before")]) == ids([page(q="bef")]) == []
        db.session.delete(application)
        db.session.commit()
        assert ids([page(q="ÜNÏ")]) == ids([page(q="ü")]) == []


@pytest.mark.parametrize("q", ["", "a", "com", "ab1"])
def test_a_list_takes_two_statements_and_loads_no_secret(
    catalogue: list[Row], q: str
) -> None:
    mark_time()
    for state, sort, place in product(["", *State], ("newest", "name"), PLACES):
        taken = statements(q=q, state=state, sort=sort, **place)
        assert len(taken) <= 2, (q, state, sort, place)
        for sql, _ in taken:
            assert not re.search("secret|token|response|oauth_code", sql)


@pytest.mark.parametrize("q", ["", "a", "com", "ab1"])
def test_no_list_scans_or_sorts_the_table(catalogue: list[Row], q: str) -> None:
    few = bool(q) and len(expected(catalogue, q=q)) <= FEW
    for state, sort, place in product(["", *State], ("newest", "name"), PLACES):
        sql, values = statements(q=q, state=state, sort=sort, **place)[-1]
        lines = plan(sql, values)
        way = next(line for line in lines if "external_application" in line)
        if few or "application_search" in sql:
            assert "USING INTEGER PRIMARY KEY (rowid=?)" in way, sql
            assert few or not [line for line in lines if "ORDER BY" in line], sql
        else:
            assert "INDEX ix_external_application_" in way, sql
            assert not [line for line in lines if "TEMP B-TREE" in line], sql
