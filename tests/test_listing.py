"""The list: every page, order, filter and search against plain Python."""

import random
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask_migrate import downgrade, upgrade
from sqlalchemy import insert

from app import create_app
from database import db
from listing import FEW, MANY, PAGE_SIZE, Page, Query, Sort, get_page
from models import (
    Attention,
    ExternalApplication,
    HeldToken,
    HoldReason,
    Lane,
    mark_time,
    name_key,
)
from models.attention import OF_STATE
from salesforce import State
from tests.conftest import add_application, sql_taken
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

WRITTEN = (
    "ada@acme.example",
    "prod, ab1",
    "Zürich\n\ncall first",
    "日本 a%_",
    'z\\"/z',
)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Row(NamedTuple):
    """What plain Python knows of a record."""

    id: int
    key: str
    domain: str
    words: str
    state: State
    rank: int
    lapsing: bool
    held: bool

    def says(self, needle: str) -> bool:
        texts = (self.key, self.domain.lower(), self.words)
        return any(needle in text for text in texts)


Filled = tuple[Flask, list[Row]]


@pytest.fixture(scope="module")
def filled(
    tmp_path_factory: pytest.TempPathFactory, empty_database: bytes
) -> Iterator[Filled]:
    """An app with a filled database, and its rows."""
    folder = tmp_path_factory.mktemp("listing")
    yield from fill(folder, empty_database, lambda: records(random.Random(4711)))


@pytest.fixture
def catalogue(filled: Filled) -> Iterator[list[Row]]:
    """The rows, in a context of their app."""
    with filled[0].app_context():
        yield filled[1]


@pytest.fixture(scope="module")
def crowded(
    tmp_path_factory: pytest.TempPathFactory, empty_database: bytes
) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("crowd")
    yield from fill(folder, empty_database, many_records)


@pytest.fixture
def crowd(crowded: Filled) -> Iterator[list[Row]]:
    """So many that one character is in too many to look up, and that more lapse than
    are sorted."""
    with crowded[0].app_context():
        yield crowded[1]


def fill(
    folder: Path, empty_database: bytes, make: Callable[[], Iterator[dict[str, Any]]]
) -> Iterator[Filled]:
    path = folder / "orgdesk.db"
    path.write_bytes(empty_database)
    app = create_app({"SQLALCHEMY_DATABASE_URI": f"sqlite:///{path}"})
    with app.app_context():
        rows = list(make())
        held = range(7, len(rows), 31)
        db.session.execute(insert(ExternalApplication), rows)
        db.session.execute(insert(HeldToken), [held_by(at) for at in held])
        db.session.commit()
    yield (
        app,
        [
            Row(
                id=at,
                key=row["application_name_key"],
                domain=row["salesforce_domain"],
                words=row["search_words"],
                state=shown(row),
                rank=row["attention_rank"],
                lapsing=lapses(row),
                held=at in held,
            )
            for at, row in enumerate(rows, start=1)
        ],
    )
    with app.app_context():
        db.engine.dispose()


def many_records() -> Iterator[dict[str, Any]]:
    for at, row in enumerate(records(random.Random(4712), MANY + 1_500)):
        name = str(at * 7_919 % 20_011)
        yield ranked(
            row
            | {
                "application_name": name,
                "application_name_key": name,
                "salesforce_domain": "acme.my.site.com",
                "search_words": "q" if at % 16 else "no",
                "lapses_at": datetime.now(UTC) + DAY if at % 8 == 0 else None,
            }
        )


def records(chance: random.Random, number: int = RECORDS) -> Iterator[dict[str, Any]]:
    now, secret = datetime.now(UTC), seal("a-secret")
    for at in range(number):
        name = "".join(chance.choices(PIECES, k=chance.randint(1, 7))) + f"{at}"
        yield ranked(
            {
                "application_name": name,
                "application_name_key": name_key(name),
                "salesforce_domain": chance.choice(DOMAINS).format(at % 97),
                "client_id": "3MVG9",
                "consumer_secret": secret,
                "callback_url": "https://orgdesk.example.com/callback",
                "search_words": name_key(chance.choice(("", "", *WRITTEN))),
                "state": chance.choices(list(State), WEIGHTS)[0],
                "expires_at": chance.choice([None, now + DAY, now - DAY]),
                "lapses_at": chance.choice(
                    [None, now + 6 * DAY, now + 8 * DAY, now - DAY]
                ),
            }
        )


def ranked(row: dict[str, Any]) -> dict[str, Any]:
    rank = max(OF_STATE[shown(row)], Attention.LAPSES_SOON * lapses(row))
    return row | {"attention_rank": rank}


def held_by(record: int, lifetime: timedelta = HOUR) -> dict[str, Any]:
    return {
        "application_id": record,
        "reason": HoldReason.ANOTHER_USER,
        "lane": Lane.BROWSER,
        "lane_reason": "",
        "actor": "ada@acme.example",
        "salesforce_domain": "acme.my.salesforce.com",
        "client_id": "3MVG9",
        "access_token": seal("held"),
        "response": "{}",
        "expires_at": datetime.now(UTC) + lifetime,
    }


def shown(row: dict[str, Any]) -> State:
    passed = row["expires_at"] and row["expires_at"] < datetime.now(UTC)
    connected = row["state"] is State.CONNECTED
    return State.EXPIRED if connected and passed else State(row["state"])


def lapses(row: dict[str, Any]) -> bool:
    at = row["lapses_at"]
    return at is not None and at <= datetime.now(UTC) + 7 * DAY


def expected(
    rows: list[Row],
    q: str = "",
    state: str = "",
    lapsing: str = "",
    held: str = "",
    sort: str = "newest",
) -> list[int]:
    """Return the ids of the whole list, as plain Python finds and sorts them."""
    needle = name_key(q.replace("\x00", " ").strip()[:255])
    found = [
        row
        for row in rows
        if row.says(needle)
        and state in ("", row.state)
        and (row.lapsing or not lapsing)
        and (row.held or not held)
    ]
    if sort == "name":
        return [row.id for row in sorted(found, key=lambda row: row.key)]
    if sort == "attention" and not state:
        found.sort(key=lambda row: (row.rank, row.id))
    return [row.id for row in reversed(found)]


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
    with sql_taken() as taken:
        page(**arguments)
    return taken


def plan(sql: str, values: Any) -> list[str]:
    connection = db.session.connection()
    lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
    return [line.detail for line in lines]


SORTS = ("newest", "name", "attention")
FILTERS: tuple[dict[str, str], ...] = (
    *({}, {"state": "expired"}, {"lapsing": "1"}, {"state": "connected"}),
    *({"state": "connected", "lapsing": "1"}, {"held": "1"}, {"state": "blocked"}),
)
LISTS = [
    {"q": q, "sort": sort} | filters
    for sort, (q, filters) in product(
        SORTS,
        (
            *product(("", "a", "com", "call"), FILTERS[:4]),
            *product(("", "ab1"), FILTERS[4:]),
            ("nowhere", {}),
        ),
    )
]


@pytest.mark.parametrize("asked", LISTS, ids=urlencode)
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


@pytest.mark.parametrize("sort", SORTS)
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
    only = page(q=catalogue[6].key)
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
    for row in chance.sample(catalogue, 30):
        text = chance.choice([row.key, row.domain, row.words or row.key])
        begin = chance.randrange(len(text))
        q = text[begin : begin + chance.randint(1, 5)].partition("\n")[0]
        assert ids(pages("next", q=q, sort="name")) == expected(
            catalogue, q=q, sort="name"
        ), (row.id, q)


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
        ({"lapsing": "0", "held": "yes"}, Query()),
        *(
            ({"sort": "attention", "after": place}, Query(sort=Sort.ATTENTION))
            for place in ("5", "5-", "-5", "55-5", "5-2147483648", "５-5", "5-5-5")
        ),
        (
            {"sort": "attention", "before": "5-2147483647"},
            Query(sort=Sort.ATTENTION, before="5-2147483647"),
        ),
        (
            {"sort": "attention", "state": "blocked", "after": "5-7"},
            Query(sort=Sort.ATTENTION, state=State.BLOCKED),
        ),
    ],
)
def test_what_makes_no_sense_is_as_if_it_were_not_there(
    arguments: dict[str, str], query: Query
) -> None:
    assert Query.from_arguments(arguments) == query


def test_a_query_survives_the_address(catalogue: list[Row]) -> None:
    for sort, q, held in product(SORTS, ("", "com", '%_"', "🚀"), ("", "1")):
        first = page(q=q, sort=sort, held=held, lapsing=held)
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
        application.owner = "Ada"
        db.session.commit()
        assert ids([page(q="ada")]) == ids([page(q="before")]) == [record]
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
    for filters, sort, place in product(FILTERS, SORTS, PLACES):
        taken = statements(q=q, sort=sort, **filters | place)
        assert len(taken) <= 2, (q, filters, sort, place)
        for sql, _ in taken:
            assert not re.search("secret|s_token|h_token|response|oauth_code", sql)


@pytest.mark.parametrize("q", ["", "a", "com", "ab1"])
def test_no_list_scans_or_sorts_the_table(catalogue: list[Row], q: str) -> None:
    for filters, sort, place in product(FILTERS, SORTS, PLACES):
        asked = {"q": q, "sort": sort} | filters
        few = bool(q) and len(expected(catalogue, q=q)) <= FEW
        few = few or "lapsing" in filters or "held" in filters
        sql, values = statements(**asked | place)[-1]
        hold_to_its_index(sql, values, few=few)
        assert "NOT INDEXED" in sql or "search_words" not in sql


def hold_to_its_index(sql: str, values: Any, *, few: bool) -> None:
    lines = plan(sql, values)
    way = next(line for line in lines if "external_application " in f"{line} ")
    if few or "external_application NOT INDEXED" in sql:
        assert "USING INTEGER PRIMARY KEY (rowid=?)" in way, (sql, lines)
        assert few or not [line for line in lines if "ORDER BY" in line], sql
    else:
        assert "INDEX ix_external_application_" in way, (sql, lines)
        assert not [line for line in lines if "ORDER BY" in line], sql


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize(
    "filters",
    [
        *({"q": "q"}, {"q": "no"}, {"q": "77"}, {"lapsing": "1"}, {"held": "1"}),
        *({"q": "q", "lapsing": "1"}, {"q": "no", "lapsing": "1"}),
        *({"q": "site", "state": "blocked"}, {"q": "q", "held": "1"}),
    ],
    ids=urlencode,
)
def test_many_are_walked_past_and_few_are_fetched(
    crowd: list[Row], sort: str, filters: dict[str, str]
) -> None:
    whole = expected(crowd, sort=sort, **filters)
    first, last = page(sort=sort, **filters), page(sort=sort, last="1", **filters)
    assert ids([first]) == whole[:PAGE_SIZE]
    assert ids([last]) == whole[-PAGE_SIZE:]
    assert first.next
    assert ids([page(**first.next.arguments())]) == whole[PAGE_SIZE : 2 * PAGE_SIZE]
    if len(filters) == 1:
        assert first.many is (len(whole) > FEW)
    sql, values = statements(sort=sort, **filters)[-1]
    hold_to_its_index(sql, values, few="NOT INDEXED" in sql)
    if "NOT INDEXED" not in sql:
        assert ("search_words" in sql) is (filters.get("q") == "q")


def test_of_two_filters_the_one_that_leaves_less_is_fetched(crowd: list[Row]) -> None:
    sql, _ = statements(held="1", lapsing="1")[-1]
    assert "external_application.id IN (SELECT held_token.application_id" in sql
    assert "external_application.id + ? IN (SELECT external_application_1.id" in sql


def test_a_text_that_is_written_down_does_not_run_into_the_next(app: Flask) -> None:
    add_application(
        app,
        application_name="Acme",
        owner="Ada",
        tags="prod, etl",
        notes="One line,\nand another.",
    )
    with app.app_context():
        for q in ("ada", "ADA", "prod", "d, e", "acme", "a", "r.", "line, and"):
            assert ids([page(q=q)]) == [1], q
        for q in ("adaprod", "comada", "acmeada", "da pro", "etlone"):
            assert ids([page(q=q)]) == [], q


def test_the_index_is_made_anew_for_the_records_that_are_there(app: Flask) -> None:
    add_application(app, application_name="Acme", owner="Ada")
    with app.app_context():
        downgrade(revision="0006")
        assert (ids([page(q="acme")]), ids([page(q="ada")])) == ([1], [])
        upgrade()
        assert (ids([page(q="acme")]), ids([page(q="ada")])) == ([1], [1])


def test_a_held_token_that_is_over_holds_nothing(app: Flask) -> None:
    for at in range(2):
        add_application(app, application_name=f"Acme {at}")
    with app.app_context():
        db.session.execute(insert(HeldToken), [held_by(1, -HOUR), held_by(2)])
        db.session.commit()
        assert ids([page(held="1")]) == [2]


def test_what_time_alone_has_changed_is_in_the_order_of_attention(app: Flask) -> None:
    now = datetime.now(UTC)
    fine = {"state": State.CONNECTED, "attention_rank": Attention.FINE}
    times = (
        {"expires_at": now - HOUR, "lapses_at": now + DAY},
        {"expires_at": now - HOUR, "lapses_at": None},
        {"expires_at": now + HOUR, "lapses_at": None},
    )
    with app.app_context():
        rows = zip(records(random.Random(1), 3), times, strict=True)
        db.session.execute(
            insert(ExternalApplication), [row | fine | at for row, at in rows]
        )
        db.session.commit()
        assert ids([page(sort="attention")]) == [1, 2, 3]
        assert ids([page(lapsing="1")]) == [1]
