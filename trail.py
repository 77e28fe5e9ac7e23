"""The audit trail for reading: filters, pages, and the same rows as CSV.

The newest rows come first. A page is a walk down the ids from a known place,
as in the list of records; an export is such walks, one behind the other.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.sql.expression import ColumnElement

from database import db
from models import LARGEST_ID, AuditEvent, Event

PAGE_SIZE = 50
BATCH = 500
LONGEST_SEARCH = 255
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
ID = re.compile(r"#?(\d{1,18})", re.ASCII)
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the start of a formula, or skips before one."""
COLUMNS = (
    "id",
    "at",
    "actor",
    "actor_id",
    "address",
    "request_id",
    "event",
    "subject_kind",
    "subject",
    "subject_id",
    "detail",
    "previous_hash",
    "hash",
)


@dataclass(frozen=True)
class Query:
    """What the page's address asks for. Days are UTC and `until` is included;
    `after` and `before` are the ids of the neighbouring rows."""

    event: Event | None = None
    actor: str = ""
    subject: str = ""
    since: date | None = None
    until: date | None = None
    after: int | None = None
    before: int | None = None
    last: bool = False

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> "Query":
        """Read the query string; what makes no sense is as if it were not there."""
        event = arguments.get("event", "")
        query = cls(
            event=Event(event) if event in list(Event) else None,
            actor=_searched(arguments.get("actor", "")),
            subject=_searched(arguments.get("subject", "")),
            since=_day(arguments.get("from", "")),
            until=_day(arguments.get("to", "")),
            last="last" in arguments,
        )
        if query.last:
            return query
        before = _id(arguments.get("before", ""))
        return query.at(
            before=before,
            after=None if before else _id(arguments.get("after", "")),
        )

    def arguments(self) -> dict[str, str]:
        """Return the query string's arguments, without those at their default."""
        arguments = {
            "event": self.event or "",
            "actor": self.actor,
            "subject": self.subject,
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "after": str(self.after or ""),
            "before": str(self.before or ""),
            "last": "1" if self.last else "",
        }
        return {name: value for name, value in arguments.items() if value}

    def at(self, **place: Any) -> "Query":
        """Return the same trail at another place: `after=`, `before=`, `last=`."""
        return replace(self, **{"after": None, "before": None, "last": False, **place})

    @property
    def backwards(self) -> bool:
        return self.last or self.before is not None

    def conditions(self) -> Iterator[ColumnElement[bool]]:
        """Yield what a row has to meet, wherever the page begins."""
        if self.event:
            yield AuditEvent.event == self.event
        if self.actor:
            yield AuditEvent.actor.icontains(self.actor, autoescape=True)
        if self.subject:
            yield self._of_subject()
        if self.since:
            yield AuditEvent.at >= _midnight(self.since)
        if self.until and self.until < date.max:
            yield AuditEvent.at < _midnight(self.until + timedelta(days=1))

    def _of_subject(self) -> ColumnElement[bool]:
        named = AuditEvent.subject.icontains(self.subject, autoescape=True)
        number = ID.fullmatch(self.subject)
        if number is None:
            return named
        numbered = AuditEvent.subject_id == int(number[1])
        return numbered if self.subject.startswith("#") else numbered | named


@dataclass(frozen=True)
class Page:
    """Up to 50 rows, and where the pages around them begin."""

    query: Query
    events: list[AuditEvent]
    first: Query | None
    previous: Query | None
    next: Query | None
    last: Query | None


def get_page(query: Query) -> Page:
    """Fetch one page: one statement."""
    rows = _rows(query)
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    if query.backwards:
        rows.reverse()
        before, after = more, query.before is not None
    else:
        before, after = query.after is not None, more
    return Page(
        query=query,
        events=rows,
        first=query.at() if before else None,
        previous=query.at(before=rows[0].id) if before and rows else None,
        next=query.at(after=rows[-1].id) if after and rows else None,
        last=query.at(last=True) if after else None,
    )


def csv_lines(query: Query) -> Iterator[str]:
    """Yield the filtered rows as CSV, a batch of lines at a time."""
    yield _csv([COLUMNS])
    table, last = AuditEvent.__table__, LARGEST_ID
    while True:
        batch = db.session.execute(
            select(*(table.c[name] for name in COLUMNS))
            .where(*query.conditions(), AuditEvent.id < last)
            .order_by(AuditEvent.id.desc())
            .limit(BATCH)
        ).all()
        db.session.rollback()  # nobody waits for a slow reader
        if not batch:
            return
        yield _csv([[_cell(value) for value in row] for row in batch])
        last = batch[-1].id


def _rows(query: Query) -> list[AuditEvent]:
    row_id = AuditEvent.id
    statement = (
        select(AuditEvent)
        .where(*query.conditions())
        .order_by(row_id.asc() if query.backwards else row_id.desc())
        .limit(PAGE_SIZE + 1)
    )
    if query.before is not None:
        statement = statement.where(row_id > query.before)
    elif query.after is not None:
        statement = statement.where(row_id < query.after)
    return list(db.session.scalars(statement))


def _searched(value: str) -> str:
    return CONTROLS.sub(" ", value).strip()[:LONGEST_SEARCH]


def _day(value: str) -> date | None:
    try:
        return date.fromisoformat(value) if DAY.fullmatch(value) else None
    except ValueError:
        return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _id(value: str) -> int | None:
    found = ID.fullmatch(value)
    return int(found[1]) if found else None


def _csv(rows: list[Any]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(timespec="microseconds")
    text = "" if value is None else str(value)
    return "'" + text if text.startswith(FORMULA) else text
