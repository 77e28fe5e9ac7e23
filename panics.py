"""The panic switch for reading: progress, rows, the banner; and `flask panic`.

Rows are counted and walked along one index, what failed first: a panic may have
100,000 of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import click
from flask import Flask, g
from flask.cli import AppGroup
from sqlalchemy import Select, case, exists, func, select
from sqlalchemy.exc import DBAPIError

import engine
from database import db, unusable
from models import (
    LARGEST_ID,
    Panic,
    PanicRevocation,
    Progress,
    Scope,
    progress_of,
)

PAGE_SIZE = 25
MOST_OPEN = 100
MOST_ALARMS = 3
ORDER = (Progress.FAILED, Progress.PENDING, Progress.REVOKED, Progress.GONE)
"""What wants a person comes first."""

commands = AppGroup("panic", help="The panic switch: what is left of it to do.")


def init_app(app: Flask) -> None:
    """Let the layout ask for the banner, and add the commands."""
    app.add_template_global(alarms)
    app.cli.add_command(commands)


@dataclass(frozen=True)
class Place:
    """The row after which a page begins."""

    progress: Progress
    id: int

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> "Place | None":
        """Read `after=failed-12`; what makes no sense is the first page."""
        progress, _, number = arguments.get("after", "").partition("-")
        good = number.isascii() and number.isdigit() and len(number) < 11
        if progress not in list(Progress) or not good or int(number) > LARGEST_ID:
            return None
        return cls(Progress(progress), int(number))

    def __str__(self) -> str:
        return f"{self.progress}-{self.id}"


@dataclass(frozen=True)
class Page:
    """How far a panic is, and up to 25 of its rows."""

    panic: Panic
    counts: Mapping[Progress, int]
    rows: Sequence[PanicRevocation]
    place: Place | None
    next: Place | None

    @property
    def total(self) -> int:
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        return self.total - self.counts[Progress.PENDING]

    @property
    def failed(self) -> int:
        return self.counts[Progress.FAILED]

    @property
    def alive(self) -> int:
        """Records whose tokens may still be good for something."""
        return self.failed + self.counts[Progress.PENDING]

    @property
    def is_under_way(self) -> bool:
        return self.panic.is_open and self.done < self.total


def get_page(panic: Panic, place: Place | None) -> Page:
    """Fetch a page, and see to it that somebody works at what is pending."""
    counts = progress_of(panic.id)
    rows = _rows(panic.id, place, counts)
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    after = Place(rows[-1].progress, rows[-1].id) if more else None
    page = Page(panic, counts, rows, place, after)
    if page.is_under_way:
        engine.see_to_panic(panic.id, panic.lease_ends)
    return page


def _rows(
    panic_id: int, place: Place | None, counts: Mapping[Progress, int]
) -> list[PanicRevocation]:
    """Return the rows of a page and one more: a short walk for each progress."""
    first = ORDER.index(place.progress) if place else 0
    rows = list[PanicRevocation]()
    for progress in ORDER[first:]:
        if not counts[progress] or len(rows) > PAGE_SIZE:
            continue
        after = place.id if place and place.progress is progress else 0
        rows += db.session.scalars(
            select(PanicRevocation)
            .where(
                PanicRevocation.panic_id == panic_id,
                PanicRevocation.progress == progress,
                PanicRevocation.id > after,
            )
            .order_by(PanicRevocation.id)
            .limit(PAGE_SIZE + 1 - len(rows))
        )
    return rows


class History(NamedTuple):
    """The panics that are open, and up to 25 that were lifted, the newest first."""

    open: Sequence[Panic]
    lifted: Sequence[Panic]
    older: int | None


def get_history(before: int | None) -> History:
    """Fetch a page of all panics; `before` is the id where it begins."""
    newest = select(Panic).order_by(Panic.id.desc())
    still = newest.where(Panic.lifted_at.is_(None)).limit(MOST_OPEN)
    over = newest.where(Panic.lifted_at.is_not(None)).limit(PAGE_SIZE + 1)
    if before is not None:
        over = over.where(Panic.id < before)
    rows = db.session.scalars(over).all()
    older = rows[PAGE_SIZE - 1].id if len(rows) > PAGE_SIZE else None
    return History(db.session.scalars(still).all(), rows[:PAGE_SIZE], older)


class Alarm(NamedTuple):
    """What the banner says of a panic; `records` is None where it covers all."""

    id: int
    started_at: datetime
    started_by: str
    records: int | None


def alarms() -> list[Alarm]:
    """Return what the banner says: no statement where there is no panic, else one.

    Whether there is one is known from the statement that found the sign-in.
    Who looks at any page has the work go on that a process has left behind.
    """
    if not g.get("in_panic"):
        return []
    rows = db.session.execute(_ALARMS).all()
    for row in rows:
        if row.pending:
            engine.see_to_panic(row.id, row.lease_ends)
    shown = [Alarm(*row[:4]) for row in rows]
    return shown[:1] if shown and shown[0].records is None else shown


def _alarms() -> Select[Any]:
    row = PanicRevocation
    own = select(func.count()).where(row.panic_id == Panic.id).scalar_subquery()
    pending = exists().where(row.panic_id == Panic.id, row.progress == Progress.PENDING)
    return (
        select(
            Panic.id,
            Panic.started_at,
            Panic.started_by,
            case((Panic.scope == Scope.SELECTED, own)).label("records"),
            Panic.lease_ends,
            pending.label("pending"),
        )
        .where(Panic.lifted_at.is_(None))
        .order_by(Panic.scope, Panic.id)  # the one that covers all comes first
        .limit(MOST_ALARMS + 1)
    )


_ALARMS = _alarms()


WORDS = {
    Progress.PENDING: "waiting",
    Progress.REVOKED: "revoked",
    Progress.FAILED: "failed",
    Progress.GONE: "nothing to revoke",
}


@commands.command("status")
def status() -> None:
    """Say of each open panic how far it is."""
    with _answering():
        still = get_history(None).open
        for panic in still:
            _print(panic.audit_name, _describe(panic), _count(panic))
    if not still:
        click.echo("No panic is open: nothing is blocked.")


@commands.command("run")
@click.argument("panic_id", metavar="[PANIC]", type=int, required=False)
@click.option("--failed", is_flag=True, help="Try what failed again, too.")
def run(panic_id: int | None, failed: bool) -> None:
    """Revoke what waits, and print name, outcome and the org's answer of each.

    Of one panic, or of all that are open. Ends with 0 where no token may live on.
    """
    with _answering():
        unfinished = [not _run(panic, failed) for panic in _find(panic_id)]
    raise SystemExit(1 if any(unfinished) else 0)


@commands.command("lift")
@click.argument("panic_id", metavar="PANIC", type=int)
def lift(panic_id: int) -> None:
    """End the block. What may live on at the orgs can be used again."""
    with _answering():
        (panic,) = _find(panic_id)
        engine.lift_panic(panic)
        _print(panic.audit_name, "lifted", _count(panic))


def _run(panic: Panic, failed: bool) -> bool:
    if failed:
        engine.retry_panic(panic)
    if not engine.run_panic(panic.id, tell=_tell):
        _print(panic.audit_name, "Another process is at it.")
        return False
    _print(panic.audit_name, _count(panic))
    counts = progress_of(panic.id)
    return not counts[Progress.FAILED] + counts[Progress.PENDING]


def _tell(row_id: int) -> None:
    row = db.session.get(PanicRevocation, row_id, populate_existing=True)
    if row is not None:
        _print(row.application_name, WORDS[row.progress], row.sentence or "")
    db.session.rollback()


def _find(panic_id: int | None) -> list[Panic]:
    """Return the open panic of this id, or all where none is named."""
    still = [panic for panic in get_history(None).open if panic_id in {None, panic.id}]
    if panic_id is not None and not still:
        raise click.ClickException(f"There is no open panic {panic_id}.")
    return still


def _describe(panic: Panic) -> str:
    covered = "all records" if panic.scope is Scope.ALL else "selected records"
    since = f"{panic.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"{covered} since {since} by {panic.started_by}"


def _count(panic: Panic) -> str:
    counts = progress_of(panic.id)
    return ", ".join(f"{counts[one]:,} {WORDS[one]}" for one in ORDER)


def _print(*words: str) -> None:
    click.echo("  ".join(" ".join(word.split()) for word in words if word))


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None
