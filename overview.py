"""The overview: what is in which state, and what wants a person next, in figures.

They are plain values of one moment, so that they are kept as the counts are (see
`tally`). A statement counts along an index that holds all it takes, or walks
along one as far as ten records; none scans or sorts a table.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Label, Select, func, literal_column, select, text
from sqlalchemy.orm import InstrumentedAttribute, aliased
from sqlalchemy.sql.expression import ColumnElement, TextClause

import engine
import tally
from database import db, now
from models import (
    APPROVAL_LIMIT,
    LAPSES_SOON,
    OVER_BROAD,
    TROUBLED,
    Approval,
    Attempt,
    ExternalApplication,
    Outcome,
)

DAYS = 30
"""Of the calendar, with today."""
UNUSED = timedelta(days=30)
SHOWN = 10
"""Of each kind; how many there are in all is said beside."""
LONGEST_WORDS = 300
"""Characters of what an org said that are kept here; the record has them all."""

Condition = ColumnElement[bool] | TextClause

# As the partial indexes have it: SQLite takes one where its words are asked for.
IN_TROUBLE = text(TROUBLED)
IS_OVER_BROAD = text("over_broad")
HAS_NO_OWNER = ExternalApplication.owner == literal_column("''")
HOLDS_TOKEN = ExternalApplication.access_token.is_not(None)


class Listed(NamedTuple):
    """A record, and the moment or the words that it is listed with."""

    id: int
    name: str
    at: datetime | None = None
    words: str = ""


class Some(NamedTuple):
    """How many records there are of a kind, and the first few."""

    number: int
    records: list[Listed]


class Day(NamedTuple):
    """A day of the calendar, in UTC, and how many refresh tokens lapse on it."""

    date: date
    number: int
    soon: bool


class Failure(NamedTuple):
    """An attempt that brought no token, or one that nobody should just believe."""

    application_id: int
    name: str
    at: datetime
    actor: str
    outcome: Outcome
    error_code: str | None
    reason: str | None


class UsedUp(NamedTuple):
    """A user with no approval of an app left: the next login ends the oldest."""

    client_id: str
    organization_id: str
    user: str
    number: int
    oldest_id: int | None
    """Of its record; None where that is gone."""
    oldest_name: str
    granted_at: datetime


class Figures(NamedTuple):
    """All that the page shows."""

    counts: tally.Counts
    calendar: list[Day]
    next_to_lapse: list[Listed]
    lapsed: Some
    failures: list[Failure]
    unused: Some
    over_broad: Some
    without_owner: Some
    used_up: list[UsedUp]
    all_used_up: int

    @property
    def age(self) -> timedelta:
        return now() - self.counts.counted_at

    @property
    def lapse_soon(self) -> int:
        """How many lapse in the first days of the calendar."""
        return sum(day.number for day in self.calendar if day.soon)


KEEPER = tally.Keeper[Figures]("orgdesk_overview")


def get_figures() -> Figures:
    """Return the figures: kept ones, or new ones by nine statements."""
    if (found := KEEPER.kept()) is not None:
        return found
    engine.settle()
    found = _figures(now())
    return KEEPER.keep(found, found.counts.total)


def _figures(moment: datetime) -> Figures:
    wanted = [*tally.columns(), *_numbers(moment)]
    row = dict(db.session.execute(select(*wanted)).one()._mapping)
    lapses_at = ExternalApplication.lapses_at
    last_used_at = ExternalApplication.last_used_at
    long_ago = last_used_at < moment - UNUSED
    used_up, all_used_up = _used_up()
    return Figures(
        counts=tally.keep(row),
        calendar=[
            Day(day, row[f"lapse_{at}"], at < LAPSES_SOON.days)
            for at, day in enumerate(_days(moment))
        ],
        next_to_lapse=_by_time(lapses_at, lapses_at >= moment),
        lapsed=Some(row["lapsed"], _by_time(lapses_at, lapses_at < moment)),
        failures=_failures(),
        unused=Some(row["unused"], _by_time(last_used_at, HOLDS_TOKEN, long_ago)),
        over_broad=Some(row["over_broad"], _over_broad()),
        without_owner=Some(row["without_owner"], _without_owner()),
        used_up=used_up,
        all_used_up=all_used_up,
    )


def _days(moment: datetime) -> list[date]:
    return [moment.date() + timedelta(days=at) for at in range(DAYS)]


def _numbers(moment: datetime) -> Iterator[Label[int]]:
    """Yield what has to be selected to count, beside the states."""
    lapses_at = ExternalApplication.lapses_at
    begin = moment
    for at, day in enumerate(_days(moment)):
        end = datetime.combine(day + timedelta(days=1), time(), UTC)
        yield _number(f"lapse_{at}", lapses_at >= begin, lapses_at < end)
        begin = end
    yield _number("lapsed", lapses_at < moment)
    long_ago = ExternalApplication.last_used_at < moment - UNUSED
    yield _number("unused", HOLDS_TOKEN, long_ago)
    yield _number("over_broad", IS_OVER_BROAD)
    yield _number("without_owner", HAS_NO_OWNER)


def _number(name: str, *conditions: Condition) -> Label[int]:
    counted = select(func.count()).select_from(ExternalApplication).where(*conditions)
    return counted.scalar_subquery().label(name)


def _by_time(
    key: InstrumentedAttribute[datetime | None], *conditions: Condition
) -> list[Listed]:
    """List the records whose `key` is the longest ago, or the next to come."""
    statement = _few(key.key, key).where(*conditions).order_by(key)
    return [Listed(*row) for row in db.session.execute(statement)]


def _over_broad() -> list[Listed]:
    granted = ExternalApplication.granted_scopes
    rows = db.session.execute(_newest("over_broad", granted).where(IS_OVER_BROAD))
    return [Listed(id_, name, words=_broad_ones(said)) for id_, name, said in rows]


def _broad_ones(scopes: str | None) -> str:
    return " and ".join(sorted(OVER_BROAD & {*(scopes or "").split()}))


def _without_owner() -> list[Listed]:
    domain = ExternalApplication.salesforce_domain
    rows = db.session.execute(_newest("without_owner", domain).where(HAS_NO_OWNER))
    return [Listed(id_, name, words=said) for id_, name, said in rows]


def _newest(index: str, shown: InstrumentedAttribute[Any]) -> Select[Any]:
    return _few(index, shown).order_by(ExternalApplication.id.desc())


def _few(index: str, shown: InstrumentedAttribute[Any]) -> Select[Any]:
    record = ExternalApplication
    return (
        select(record.id, record.application_name, shown)
        .with_hint(record, f"INDEXED BY ix_external_application_{index}", "sqlite")
        .limit(SHOWN)
    )


def _failures() -> list[Failure]:
    statement = (
        select(
            Attempt.application_id,
            ExternalApplication.application_name,
            Attempt.started_at,
            Attempt.actor,
            Attempt.outcome,
            Attempt.error_code,
            func.substr(Attempt.reason, 1, LONGEST_WORDS),
        )
        .join(ExternalApplication, ExternalApplication.id == Attempt.application_id)
        .with_hint(Attempt, "INDEXED BY ix_attempt_troubled", "sqlite")
        .where(IN_TROUBLE)
        .order_by(Attempt.id.desc())
        .limit(SHOWN)
    )
    return [Failure(*row) for row in db.session.execute(statement)]


def _used_up() -> tuple[list[UsedUp], int]:
    """Return the first users who have no approval of an app left, and how many
    there are."""
    app_and_user = (Approval.client_id, Approval.organization_id, Approval.user_id)
    groups = (
        select(
            *app_and_user,
            func.count().label("number"),
            func.count().over().label("groups"),
        )
        .where(Approval.ended_at.is_(None))
        .group_by(*app_and_user)
        .having(func.count() >= APPROVAL_LIMIT)
        .limit(SHOWN)
        .subquery()
    )
    other = aliased(Approval)
    oldest = (
        select(other.id)
        .where(
            other.ended_at.is_(None),
            other.client_id == groups.c.client_id,
            other.organization_id == groups.c.organization_id,
            other.user_id == groups.c.user_id,
        )
        .order_by(other.granted_at, other.id)
        .limit(1)
        .scalar_subquery()
    )
    statement = select(
        *app_and_user[:2],
        func.coalesce(Approval.username, Approval.user_id),
        groups.c.number,
        Approval.application_id,
        Approval.application_name,
        Approval.granted_at,
        groups.c.groups,
    ).join(groups, Approval.id == oldest)
    rows = db.session.execute(statement).all()
    return [UsedUp._make(row[:-1]) for row in rows], rows[0].groups if rows else 0
