"""The history of a record: pages of attempts, and what their answers changed."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, select, text

import history
from database import db, now, tick
from history import PAGE_SIZE, compare, get_page
from models import (
    LEASE,
    Attempt,
    Lane,
    Outcome,
    finished_since,
    left_behind,
    open_attempt,
)
from salesforce import State
from tests.conftest import add_application, sql_taken

ANSWER = {
    "access_token": "(fingerprint 11111111)",
    "signature": "one",
    "scope": "api refresh_token",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D1/0051",
    "token_type": "Bearer",
    "issued_at": "1700000000000",
}


def add(app: Flask, application_id: int = 1, **values: Any) -> int:
    """Add an attempt that is over, and return its id."""
    with app.app_context():
        facts: dict[str, Any] = {
            "lane": Lane.SILENT,
            "actor": "ada@orgdesk.example",
            "request_id": "",
            "lease_ends": tick() + LEASE,
            "finished_at": now(),
            "outcome": Outcome.STORED,
            "state": State.CONNECTED,
            "answer": json.dumps(ANSWER),
        }
        attempt = Attempt(application_id=application_id, **facts | values)
        db.session.add(attempt)
        db.session.commit()
        return attempt.id


def add_open(app: Flask, **values: Any) -> int:
    """Add an attempt that is under way."""
    is_open = {"finished_at": None, "outcome": None, "state": None, "answer": None}
    return add(app, **is_open | values)


@pytest.fixture(autouse=True)
def record(app: Flask) -> int:
    return add_application(app)


# --- what changed ----------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"access_token": "x", "signature": "two", "issued_at": "17"}, []),
        ({"refresh_token": "new", "id_token": "new"}, []),
        ({"scope": "refresh_token"}, ["scope lost: api"]),
        ({"scope": "api refresh_token web full"}, ["scope gained: web, full"]),
        ({"scope": "refresh_token web"}, ["scope lost: api", "scope gained: web"]),
        ({"scope": "refresh_token api"}, []),
        ({"scope": None}, ["scope changed: api refresh_token → null"]),
        (
            {"instance_url": "https://b.my.salesforce.com"},
            [
                f"instance_url changed: {ANSWER['instance_url']} → https://b.my.salesforce.com"
            ],
        ),
        (
            {"id": "https://login.salesforce.com/id/00D1/0052"},
            [f"id changed: {ANSWER['id']} → {ANSWER['id'][:-1]}2"],
        ),
        ({"token_format": "opaque"}, ["new field: token_format"]),
        ({"id": ["x" * 500]}, [f'id changed: {ANSWER["id"]} → ["{"x" * 97}…']),
    ],
)
def test_what_an_answer_changed_is_said_in_words(
    changed: dict[str, object], words: list[str]
) -> None:
    assert compare(json.dumps(ANSWER | changed), json.dumps(ANSWER)) == words


def test_a_field_that_is_gone_is_said_to_be() -> None:
    less = {name: value for name, value in ANSWER.items() if name != "instance_url"}
    assert compare(json.dumps(less), json.dumps(ANSWER)) == ["field gone: instance_url"]


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        "<h1>Down</h1>",
        "[]",
        '"text"',
        "[" * 5_000,
        '{"error": "invalid_grant"}',
    ],
)
def test_what_is_no_answer_is_not_compared(answer: str | None) -> None:
    assert compare(answer, json.dumps(ANSWER)) == []


# --- pages -----------------------------------------------------------------


def test_pages_walk_from_the_newest_to_the_oldest(app: Flask) -> None:
    other = add_application(app, application_name="Other")
    ids = []
    for _ in range(2 * PAGE_SIZE + 1):
        ids.append(add(app))
        add(app, other)
    seen, before = [], None
    with app.app_context():
        while True:
            page = get_page(1, before)
            assert page.is_newest is (before is None)
            seen += [entry.attempt.id for entry in page.entries]
            before = page.older
            if before is None:
                break
    assert seen == ids[::-1]


def test_a_full_page_has_nothing_behind_it(app: Flask) -> None:
    for _ in range(PAGE_SIZE):
        add(app)
    with app.app_context():
        page = get_page(1)
    assert (len(page.entries), page.older) == (PAGE_SIZE, None)


def test_an_answer_is_compared_with_the_last_one_that_was_stored(app: Flask) -> None:
    add(app, answer=json.dumps(ANSWER | {"scope": "full"}))
    for outcome in (Outcome.FAILED, Outcome.LOST, Outcome.SUPERSEDED):
        add(app, outcome=outcome, answer="<h1>Down</h1>")
    add(app)
    with app.app_context():
        newest, *_ = get_page(1).entries
    assert newest.changes == ["scope lost: full", "scope gained: api, refresh_token"]


def test_the_last_row_of_a_page_is_compared_across_pages(app: Flask) -> None:
    add(app, answer=json.dumps(ANSWER | {"scope": "api"}))
    for _ in range(3):
        add(app, outcome=Outcome.FAILED, answer=None)
    add(app)
    for _ in range(PAGE_SIZE - 1):
        add(app, outcome=Outcome.FAILED, answer=None)
    with app.app_context():
        *_, last = get_page(1).entries
    assert last.changes == ["scope gained: refresh_token"]


def test_a_page_is_one_statement_and_scans_no_table(app: Flask) -> None:
    for _ in range(2 * PAGE_SIZE):
        add(app)
    with app.app_context():
        with sql_taken() as taken:
            get_page(1, 15)
        assert len(taken) == 1
        asked = taken[0][0].replace("?", "1")
        plan = db.session.execute(text(f"EXPLAIN QUERY PLAN {asked}")).all()
    assert not [step for step in plan if "SCAN attempt" in step.detail]


@pytest.mark.parametrize(
    ("argument", "place"),
    [
        ("7", 7),
        ("2147483647", 2_147_483_647),
        ("2147483648", None),
        ("99999999999999999999", None),
        ("0", None),
        ("-1", None),
        ("x", None),
        ("", None),
        ("²", None),
        ("٣", None),
    ],
)
def test_a_place_that_makes_no_sense_is_none(argument: str, place: int | None) -> None:
    assert history.place({"before": argument}) == place
    assert history.place({}) is None


# --- a long history ----------------------------------------------------------


def steps_of(app: Flask, ask: Callable[[], object]) -> int:
    """Count the steps of SQLite's machine, in hundreds, whatever else is going on."""
    counted = [0]

    def count() -> None:
        counted[0] += 1

    with app.app_context():
        line = db.session.connection().connection.driver_connection
        assert line
        line.set_progress_handler(count, 100)
        ask()
        line.set_progress_handler(None, 0)
    return counted[0]


ASKS: tuple[Callable[[], object], ...] = (
    lambda: get_page(1),
    lambda: left_behind(1),
    left_behind,
    lambda: open_attempt(1),
    lambda: finished_since(1, 0.0),
)


@pytest.mark.parametrize("ask", ASKS)
def test_a_long_history_costs_no_more_than_a_short_one(
    app: Flask, ask: Callable[[], object]
) -> None:
    add(app)
    with app.app_context():
        columns = db.session.execute(select(Attempt.__table__)).mappings().one()
        row = {name: value for name, value in columns.items() if name != "id"}
        db.session.execute(insert(Attempt), [row] * 20)
        db.session.commit()
    short = steps_of(app, ask)
    with app.app_context():
        db.session.execute(insert(Attempt), [row] * 5_000)
        db.session.commit()
    assert steps_of(app, ask) <= short + 5
