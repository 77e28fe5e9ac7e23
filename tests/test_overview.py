"""The overview: each section with something to tell and without, and its figures."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as clock
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest
from flask import Flask
from sqlalchemy import insert, update

import overview
import tally
from database import db, now
from models import (
    APPROVAL_LIMIT,
    Approval,
    Attempt,
    ExternalApplication,
    Lane,
    Outcome,
    Role,
)
from overview import DAYS, SHOWN, Figures, get_figures
from salesforce import State
from tests.conftest import StrictClient, browser_of, sql_taken
from vault import seal

DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
HOSTILE = "<b>x</b>\"'&\u202egro.live" + "W" * 235
"""255 characters, markup and an override of the reading direction among them."""
RECORD = {
    "salesforce_domain": "acme.my.salesforce.com",
    "client_id": "3MVG9",
    "callback_url": "https://orgdesk.example/callback",
    "state": State.CONNECTED,
    "owner": "ada@orgdesk.example",
    "idle_limit": 30,
}


def add(app: Flask, *names: str, **values: Any) -> None:
    """Add records as they are, which no verb makes."""
    rows = [
        RECORD | {"application_name": name, "application_name_key": name} | values
        for name in names
    ]
    with app.app_context():
        db.session.execute(insert(ExternalApplication), rows)
        db.session.commit()


def add_attempts(app: Flask, *outcomes: Outcome | None, **values: Any) -> None:
    rows = [
        {
            "application_id": 1,
            "lane": Lane.SILENT,
            "actor": "ada@orgdesk.example",
            "request_id": "",
            "lease_ends": time.monotonic() + 60,
            "started_at": now(),
            "finished_at": now() if outcome else None,
            "outcome": outcome,
        }
        | values
        for outcome in outcomes
    ]
    with app.app_context():
        db.session.execute(insert(Attempt), rows)
        db.session.commit()


def add_approvals(app: Flask, number: int, **values: Any) -> None:
    rows = [
        {
            "client_id": "3MVG9",
            "organization_id": "00D1",
            "user_id": "0051",
            "application_id": 1,
            "application_name": f"Acme {at}",
            "granted_at": now() - at * DAY,
        }
        | values
        for at in range(number)
    ]
    with app.app_context():
        db.session.execute(insert(Approval), rows)
        db.session.commit()


def midnight() -> datetime:
    """Return the moment at which today began."""
    return datetime.combine(now(), clock(), UTC)


def figures(app: Flask) -> Figures:
    with app.app_context():
        return get_figures()


def section(client: StrictClient, name: str) -> str:
    """Return one section of the page."""
    page = client.get("/overview").text
    found = re.search(rf'<section [^>]*id="{name}".*?</section>', page, re.DOTALL)
    assert found
    return found[0]


def words(part: str) -> str:
    """Return the text of a part, as it is read."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", part)).split())


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    with sql_taken() as taken:
        yield taken


# --- the page --------------------------------------------------------------


def test_an_empty_installation_says_what_to_do_first(
    app: Flask, client: StrictClient
) -> None:
    page = client.get("/overview").text
    assert "There is nothing to watch yet" in page
    assert 'href="/applications/new"' in page
    assert "<svg" not in page
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    page = viewer.get("/overview").text
    assert "An admin can connect the first org" in page
    assert "/applications/new" not in page


def test_it_is_the_first_in_the_navigation(client: StrictClient) -> None:
    links = re.findall(r'<a href="([^"]+)', client.get("/").text.split("<nav", 1)[1])
    assert links[0] == "/overview"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("lapses", "No refresh token is going to lapse"),
        ("failures", "No try has failed of late"),
        ("unused", "Every token was used here within 30 days"),
        ("broad", "No token was granted full or web"),
        ("ownerless", "Every record has an owner"),
        ("approvals", "No user has used up the five approvals"),
    ],
)
def test_a_section_with_nothing_to_tell_is_one_short_line(
    app: Flask, client: StrictClient, name: str, sentence: str
) -> None:
    add(app, "Acme")
    part = section(client, name)
    assert sentence in words(part)
    assert "<table" not in part


def test_it_says_when_it_was_counted(app: Flask, client: StrictClient) -> None:
    add(app, "Acme")
    assert "Counted just now. Days and times are in UTC." in words(
        client.get("/overview").text
    )


# --- records by state ------------------------------------------------------


def test_the_chart_is_xml_and_has_the_numbers_of_the_table(
    app: Flask, client: StrictClient
) -> None:
    add(app, *"abc")
    add(app, *"de", state=State.BLOCKED)
    add(app, *map(str, range(1_234)), state=State.UNREACHABLE)
    part = section(client, "states")
    chart = ElementTree.fromstring(part[part.index("<svg") : part.index("</svg>") + 6])
    drawn = [["".join(text.itertext()) for text in group] for group in chart.iter("g")]
    drawn = [[text for text in texts if text] for texts in drawn]
    rows = re.findall(r'state=(\w+)">(.*?)</a>.*?"Records">([\d,]+)', part, re.DOTALL)
    assert [number for _, number in drawn] == [number for *_, number in rows]
    assert {state: number for state, _, number in rows if number != "0"} == {
        "connected": "3",
        "blocked": "2",
        "unreachable": "1,234",
    }
    labels = [words(chip).replace(" ", "", 1) for _, chip, _ in rows]
    assert [label for label, _ in drawn] == labels


def test_the_chart_is_an_image_with_a_name_and_needs_no_colour(
    app: Flask, client: StrictClient
) -> None:
    for at, state in enumerate(State):
        add(app, *(f"{state} {number}" for number in range(at + 1)), state=state)
    part = section(client, "states")
    chart = ElementTree.fromstring(part[part.index("<svg") : part.index("</svg>") + 6])
    assert chart.get("role") == "img"
    named = {one.get("id"): one.text for one in chart if one.get("id")}
    assert list(named) == str(chart.get("aria-labelledby")).split()
    assert all(named.values())
    bars = list(chart.iter("rect"))
    widths = [float(str(bar.get("width"))) for bar in bars]
    assert widths == sorted(widths)
    looks = [(bar.get("fill"), bar.get("class")) for bar in bars]
    assert len(set(looks)) == len(State)
    patterns = {one.get("id"): one[0].get("d") for one in chart.iter("pattern")}
    assert {f"url(#{name})" for name in patterns} == {fill for fill, _ in looks if fill}
    assert len(set(patterns.values())) == len(patterns)


def test_a_state_leads_to_its_records(app: Flask, client: StrictClient) -> None:
    add(app, "Fine")
    add(app, "Stuck", state=State.BLOCKED)
    links = re.findall(r'href="(/\?state=\w+)"', section(client, "states"))
    assert links == [f"/?state={state}" for state in State]
    page = client.get("/?state=blocked").text
    assert "Stuck" in page
    assert "Fine" not in page


# --- what lapses next ------------------------------------------------------


@pytest.mark.parametrize(
    ("later", "day"),
    [
        (DAY - TICK, 0),
        (DAY, 1),
        (7 * DAY - TICK, 6),
        (7 * DAY, 7),
        (DAYS * DAY - TICK, 29),
        (DAYS * DAY, None),
    ],
    ids=["today", "tomorrow", "last-soon", "first-later", "day-29", "day-30"],
)
def test_a_lapse_is_on_its_day(app: Flask, later: timedelta, day: int | None) -> None:
    add(app, "Acme", lapses_at=midnight() + later)
    found = figures(app)
    there = [at for at, one in enumerate(found.calendar) if one.number]
    assert there == ([] if day is None else [day])
    assert found.lapse_soon == (day is not None and day < 7)
    assert [one.name for one in found.next_to_lapse] == ["Acme"]
    assert found.lapsed.number == 0


def test_the_calendar_has_thirty_days_and_marks_the_first_seven_in_words(
    app: Flask, client: StrictClient
) -> None:
    add(app, *"abc", lapses_at=midnight() + 3.5 * DAY)
    days = re.findall(r"<li.*?</li>", section(client, "lapses"), re.DOTALL)
    assert len(days) == DAYS
    assert [words(day).endswith("soon") for day in days] == [True] * 7 + [False] * 23
    wanted = midnight() + 3 * DAY
    assert words(days[3]) == f"{wanted:%a} {wanted:%-d %b} 3 soon"
    assert "quiet" not in days[3]
    assert all("quiet" in day for day in [*days[:3], *days[4:]])


def test_the_next_to_lapse_are_named_with_their_dates(
    app: Flask, client: StrictClient
) -> None:
    for at in range(12):
        add(app, f"Acme {at:02}", lapses_at=midnight() + (12 - at) * DAY)
    part = section(client, "lapses")
    named = re.findall(r"Acme \d\d", words(part))
    assert named == [f"Acme {at:02}" for at in range(11, 1, -1)]
    assert f"{midnight() + DAY:%-d %b %Y, 00:00}" in words(part)
    assert 'href="/applications/12"' in part


def test_what_is_past_its_lapse_has_probably_lapsed(
    app: Flask, client: StrictClient
) -> None:
    add(app, *"abcdefghijkl", lapses_at=now() - timedelta(seconds=1))
    found = figures(app)
    assert (found.lapsed.number, found.calendar[0].number) == (12, 0)
    said = words(section(client, "lapses"))
    assert "Probably lapsed: 12" in said
    assert "None is known to lapse later." in said
    assert said.endswith("and 2 more")


# --- recent failures -------------------------------------------------------


def test_the_latest_failures_are_listed_with_who_what_and_why(
    app: Flask, client: StrictClient
) -> None:
    add(app, "Acme")
    add_attempts(app, *[Outcome.FAILED] * 9)
    troubles = Outcome.FAILED, Outcome.LOST, Outcome.HELD
    add_attempts(
        app,
        *(*troubles, Outcome.STORED, Outcome.SUPERSEDED, None),
        error_code="invalid_grant",
        reason="The grant is dead.",
    )
    found = figures(app).failures
    assert len(found) == SHOWN
    assert [one.outcome for one in found[:3]] == [*reversed(troubles)]
    part = section(client, "failures")
    assert 'href="/applications/1"' in part
    said = words(part)
    assert "by ada@orgdesk.example Held invalid_grant The grant is dead." in said
    assert said.count("The grant is dead.") == 3


def test_an_attempt_that_was_left_behind_is_among_them(app: Flask) -> None:
    add(app, "Acme")
    add_attempts(app, None, lease_ends=0.0)
    assert [one.outcome for one in figures(app).failures] == [Outcome.LOST]


# --- unused, over-broad, without an owner ----------------------------------


def test_tokens_that_nobody_used_for_30_days_are_listed_the_longest_first(
    app: Flask, client: StrictClient
) -> None:
    token = {"access_token": seal_in(app, "00D1!token")}
    for at, days in enumerate((29.9, 30.1, 45, 40)):
        add(app, f"Acme {at}", last_used_at=now() - days * DAY, **token)
    add(app, "Forgotten", last_used_at=now() - 99 * DAY)
    add(app, "Not known", **token)
    found = figures(app).unused
    assert [one.name for one in found.records] == ["Acme 2", "Acme 3", "Acme 1"]
    assert found.number == 3
    part = section(client, "unused")
    assert "got, refreshed, shown, copied, exported or tested here" in words(part)
    assert f"{now() - 45 * DAY:%-d %b %Y}" in part
    assert 'href="/applications/3/revocation"' in part


def seal_in(app: Flask, secret: str) -> Any:
    with app.app_context():
        return seal(secret)


def test_over_broad_scopes_are_named_and_the_newest_come_first(
    app: Flask, client: StrictClient
) -> None:
    add(app, *map(str, range(12)), over_broad=True, granted_scopes="api web")
    add(app, "Full", over_broad=True, granted_scopes="web <i>full</i> full api")
    add(app, "Narrow", granted_scopes="api refresh_token")
    part = section(client, "broad")
    said = words(part)
    assert "Over-broad scopes: 13" in said
    assert "Ask for api refresh_token instead" in said
    assert "Full full and web Edit 11 web Edit 10" in said
    assert "Narrow" not in said
    assert said.endswith("and 3 more")
    assert 'href="/applications/13/edit"' in part


def test_records_without_an_owner_are_listed_the_newest_first(
    app: Flask, client: StrictClient
) -> None:
    add(app, "Owned")
    add(app, "Old", "New", owner="")
    part = section(client, "ownerless")
    said = words(part)
    assert "Without an owner: 2" in said
    assert "New acme.my.salesforce.com Edit Old" in said
    assert "Owned" not in said
    assert 'href="/applications/3/edit"' in part


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR], ids=str)
def test_others_see_it_all_without_what_an_admin_may_do(app: Flask, role: Role) -> None:
    add(
        app,
        "Acme",
        owner="",
        over_broad=True,
        granted_scopes="full",
        access_token=seal_in(app, "00D1!token"),
        last_used_at=now() - 31 * DAY,
    )
    client = browser_of(app, f"{role}@orgdesk.example", role)
    for name in ("unused", "broad", "ownerless"):
        part = section(client, name)
        assert 'href="/applications/1"' in part
        assert "/edit" not in part
        assert "/revocation" not in part


# --- approvals -------------------------------------------------------------


def test_a_user_with_five_live_approvals_is_told_of(
    app: Flask, client: StrictClient
) -> None:
    add(app, "Acme")
    add_approvals(app, APPROVAL_LIMIT, username="integration@acme.example")
    add_approvals(app, APPROVAL_LIMIT - 1, user_id="0052")
    add_approvals(app, 3, user_id="0052", ended_at=now())
    found = figures(app)
    assert (len(found.used_up), found.all_used_up) == (1, 1)
    said = words(section(client, "approvals"))
    assert "integration@acme.example 5 of 5 in 00D1" in said
    assert "Acme 4" in said
    assert "0052" not in said


def test_many_groups_are_counted_and_ten_are_shown(
    app: Flask, client: StrictClient
) -> None:
    add(app, "Acme")
    for at in range(12):
        add_approvals(
            app, APPROVAL_LIMIT + 1, organization_id=f"00D{at}", application_id=None
        )
    found = figures(app)
    assert (len(found.used_up), found.all_used_up) == (SHOWN, 12)
    said = words(section(client, "approvals"))
    assert "6 of 5" in said
    assert "Acme 5 , since deleted" in said
    assert said.endswith("and 2 more")


# --- hostile text ----------------------------------------------------------


def test_hostile_text_is_escaped_cut_and_kept_to_itself(
    app: Flask, client: StrictClient
) -> None:
    assert len(HOSTILE) == 255
    add(
        app,
        HOSTILE,
        owner="",
        salesforce_domain=HOSTILE,
        over_broad=True,
        granted_scopes=f"full {HOSTILE}",
        lapses_at=now() + DAY,
        last_used_at=now() - 31 * DAY,
        access_token=seal_in(app, "00D1!token"),
    )
    said = {"actor": HOSTILE, "error_code": HOSTILE, "reason": HOSTILE * 100}
    add_attempts(app, Outcome.FAILED, **said)
    theirs = {"username": HOSTILE, "client_id": HOSTILE, "organization_id": HOSTILE}
    add_approvals(app, APPROVAL_LIMIT, application_name=HOSTILE, **theirs)
    page = client.get("/overview").text
    assert "<b>" not in page
    assert "W" * 140 not in page
    alone = re.sub(r'aria-label="[^"]*"', "", page)
    outside = re.sub(r"<bdi>[^<]*</bdi>", "", alone)
    assert "\u202e" in page
    assert "\u202e" not in outside
    assert len(page) < 30_000


# --- how the figures are got -----------------------------------------------


@pytest.fixture
def filled(app: Flask) -> Flask:
    """An app with something in each section."""
    add(app, *"abc", over_broad=True, granted_scopes="full", owner="")
    add(app, *"de", lapses_at=now() + DAY)
    add_attempts(app, Outcome.FAILED, Outcome.LOST)
    add_approvals(app, APPROVAL_LIMIT)
    return app


def plan(sql: str, values: Any) -> list[str]:
    connection = db.session.connection()
    lines = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values)
    return [line.detail for line in lines]


def test_nothing_scans_or_sorts_a_table(
    filled: Flask, statements: list[tuple[str, Any]]
) -> None:
    figures(filled)
    taken = [one for one in statements if one[0].startswith("SELECT")]
    assert len(taken) == 9
    with filled.app_context():
        lines = [line for sql, values in taken for line in plan(sql, values)]
    scans = [line for line in lines if re.match("(SCAN|SEARCH) (exter|att|appr)", line)]
    assert len(scans) > DAYS
    known = r"USING (COVERING )?INDEX ix_|USING INTEGER PRIMARY KEY \(rowid=\?\)$"
    assert not [line for line in scans if not re.search(known, line)]
    # What is sorted is one user's approvals of one app.
    of_one = "(client_id=? AND organization_id=? AND user_id=?)"
    sorts = [at for at, line in enumerate(lines) if "TEMP B-TREE" in line]
    assert [lines[at - 1] for at in sorts] == [
        f"SEARCH approval_1 USING INDEX ix_approval_live {of_one}"
    ]


def test_a_count_reads_no_row_of_the_table(
    filled: Flask, statements: list[tuple[str, Any]]
) -> None:
    figures(filled)
    sql, values = next(one for one in statements if "lapse_29" in one[0])
    with filled.app_context():
        connection = db.session.connection()
        roots = {
            root
            for (root,) in connection.exec_driver_sql(
                "SELECT rootpage FROM sqlite_master WHERE type = 'table'"
            )
        }
        steps = list(connection.exec_driver_sql(f"EXPLAIN {sql}", values))
    tables = {one.p1 for one in steps if one.opcode == "OpenRead" and one.p2 in roots}
    read = [one for one in steps if one.opcode in ("Column", "Rowid", "SeekRowid")]
    assert not [one for one in read if one.p1 in tables]


def test_few_are_counted_each_time(app: Flask, client: StrictClient) -> None:
    add(app, "Acme")
    assert "Acme" not in section(client, "ownerless")
    add(app, "Beta", owner="")
    assert "Beta" in section(client, "ownerless")


def test_figures_of_many_are_kept_for_a_minute_and_the_page_says_so(
    app: Flask,
    client: StrictClient,
    statements: list[tuple[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add(app, *map(str, range(tally.MANY + 1)))
    begun = time.monotonic()
    first = figures(app)
    with app.app_context():
        db.session.execute(update(ExternalApplication).values(owner=""))
        db.session.commit()
    statements.clear()
    older = first.counts._replace(counted_at=now() - timedelta(seconds=12))
    with app.app_context():
        assert tally.counts() is first.counts
        overview.KEEPER.keep(first._replace(counts=older), tally.MANY + 1)
    page = client.get("/overview").text
    assert not [sql for sql, _ in statements if "FROM sign_in" not in sql]
    assert "Counted 12 s ago" in page
    assert "Every record has an owner" in page
    monkeypatch.setattr(time, "monotonic", lambda: begun + 60)
    assert f"Without an owner: {tally.MANY + 1:,}" in client.get("/overview").text
