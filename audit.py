"""The audit trail's two ends: `record`, and `flask --app app audit verify`.

A row joins the caller's transaction: it and what it tells of are committed
together or not at all. So `record` is the last thing before the commit.
"""

import json
import os
import pwd
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple, Protocol

import click
from flask import current_app, g, has_request_context, request
from flask.cli import AppGroup
from flask_login import current_user
from sqlalchemy import String, func, select, type_coerce
from sqlalchemy.exc import DBAPIError

from database import db, unusable
from models import LARGEST_ID, LONGEST_TEXT
from models.audit import (
    HASH_DIGITS,
    NO_HASH,
    THE_HEAD,
    AuditEvent,
    AuditHead,
    Entry,
    Event,
    append,
    content_hash,
)
from salesforce.redaction import printable, redact, redact_answer

LONGEST_DETAIL = 4_000
"""Characters of the JSON."""
LONGEST_VALUES = (1_000, 200, 40, 5)
"""Characters of a text and items of a list, tried in turn until all fits."""
BATCH = 500
MOST_FINDINGS = 20

commands = AppGroup("audit", help="The audit trail: who did what, and when.")

Row = dict[str, object]
Value = str | int | bool | Sequence[str] | None


class Subject(Protocol):
    """What an event is about. Records say of themselves what kind they are."""

    @property
    def audit_kind(self) -> str: ...
    @property
    def audit_name(self) -> str: ...
    @property
    def id(self) -> int | None: ...


class Thing(NamedTuple):
    """A subject that is no record, or no longer one."""

    audit_kind: str
    audit_name: str
    id: int | None = None


class Account(Protocol):
    """Who acts: a user as the sign-in knows one."""

    @property
    def id(self) -> int: ...
    @property
    def email(self) -> str: ...


def record(
    event: Event,
    subject: Subject | None = None,
    /,
    *,
    actor: Account | None = None,
    **detail: Value,
) -> None:
    """Add an event to the trail, in the session's transaction.

    Who did it is the signed-in user, unless `actor` names another: signing out
    has nobody signed in any more. The detail is for names, counts and
    fingerprints. No secret belongs there; what looks like one is replaced.
    """
    name, user_id = _actor(actor)
    db.session.flush()  # so that a new record has its id
    append(
        Entry(
            event=event,
            actor=_text(name),
            actor_id=user_id,
            address=_text(request.remote_addr or "") if has_request_context() else "",
            request_id=request_id(),
            subject_kind=_text(subject.audit_kind) if subject else "",
            subject=_text(subject.audit_name) if subject else "",
            subject_id=subject.id if subject else None,
            detail=_detail(detail),
        )
    )


def act_for(name: str) -> None:
    """Do what this thread does from now on in the name of who asked for it."""
    g.acts_for = name


def actor_name() -> str:
    """Name who is acting, for a row of another table."""
    name, _ = _actor(None)
    return _text(name)


def request_id() -> str:
    """Return the id of the request, "" on the command line."""
    return _text(str(g.get("request_id", "")))


def _actor(actor: Account | None) -> tuple[str, int | None]:
    if actor is not None:
        return actor.email, actor.id
    if not has_request_context():
        return g.get("acts_for") or f"command line ({_system_user()})", None
    if hasattr(current_app, "login_manager") and current_user.is_authenticated:
        return current_user.email, current_user.id
    return "", None


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user may have a number alone
        return str(os.getuid())


def _text(value: str) -> str:
    return printable(redact(value, ()))[:LONGEST_TEXT]


def _detail(detail: dict[str, Value]) -> str:
    safe = json.loads(redact_answer(json.dumps(detail), ()))
    for longest in LONGEST_VALUES:
        short = {name: _cut(value, longest) for name, value in safe.items()}
        text = json.dumps(
            short, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        if len(text) <= LONGEST_DETAIL:
            return text
    return '{"cut":true}'


def _cut(value: object, longest: int) -> object:
    if isinstance(value, str):
        text = printable(value)
        return text if len(text) <= longest else text[: longest - 1] + "…"
    if isinstance(value, list):
        kept = [_cut(item, longest) for item in value[:longest]]
        return kept if len(value) <= longest else [*kept, "…"]
    return value


@commands.command()
@click.option("--head", "noted", help="A head that was noted earlier.")
def verify(noted: str | None) -> None:
    """Check that no row was changed, moved, added or taken out.

    Note the head that this prints somewhere else, and give it next time: who
    writes the whole chain anew is found out by that alone.
    """
    try:
        trail = _Trail()
        findings = list(islice(trail.findings(_hash(noted)), MOST_FINDINGS + 1))
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None
    for finding in findings[:MOST_FINDINGS]:
        click.echo(finding)
    if len(findings) > MOST_FINDINGS:
        click.echo("... and more.")
    if findings:
        raise SystemExit(1)
    click.echo(f"{trail.last_id:,} rows, the chain holds. Head: {trail.last_hash}")


def _hash(noted: str | None) -> str | None:
    if noted is None:
        return None
    text = noted.strip().lower()
    if len(text) != HASH_DIGITS or set(text) - set("0123456789abcdef"):
        raise click.BadParameter(f"A head is {HASH_DIGITS} hex digits.")
    return text


class _Trail:
    """The chain as it was at one moment, and what is wrong with it.

    Head and last row are read by one statement, which sees one moment on both
    databases. Rows up to there never change, so they may be read one batch
    after the other, and what the app appends meanwhile is left out.
    """

    def __init__(self) -> None:
        head = select(AuditHead).where(AuditHead.id == THE_HEAD).subquery()
        last_id, last_hash, self.highest = db.session.execute(
            select(
                select(head.c.last_id).scalar_subquery(),
                select(head.c.last_hash).scalar_subquery(),
                select(func.max(AuditEvent.id)).scalar_subquery(),
            )
        ).one()
        self.highest = self.highest or 0
        self.has_head = isinstance(last_id, int)
        self.last_id: int = last_id if self.has_head else self.highest
        self.last_hash = last_hash

    def findings(self, noted: str | None) -> Iterator[str]:
        """Yield a sentence for each fault; what concerns the whole comes first."""
        if not self.has_head:
            yield "The head is missing: rows may be missing at the end."
        if self.highest < self.last_id:
            first = max(self.highest, 0) + 1
            yield f"{_missing(first, self.last_id)} at the end."
        if noted not in (None, NO_HASH) and not self._has(noted):
            yield (
                "The noted head is not in the chain: rows were written anew, or taken"
                " out, since it was noted."
            )
        last: Row = {"id": 0, "hash": NO_HASH}
        for row in self._rows():
            yield from self._faults(row, last)
            if _id(row) > 0:
                last = row
        complete = self.has_head and last["id"] == self.last_id
        if complete and last["hash"] != self.last_hash:
            yield f"Row {self.last_id} is not the row that was written last."

    def _faults(self, row: Row, before: Row) -> Iterator[str]:
        row_id, expected = _id(row), _id(before) + 1
        if row_id < 1:
            yield f"Row {row_id} was inserted: the first row is 1."
            return
        if row_id > expected:
            yield f"{_missing(expected, row_id - 1)}."
        if row_id > self.last_id:
            yield f"Row {row_id} was inserted: the last one written is {self.last_id}."
        if row["hash"] != content_hash(row):
            origin = self._origin(row)
            if origin is not None:
                yield f"Row {row_id} holds what was written as row {origin}."
                return
            yield f"Row {row_id} was changed: its hash is not that of what it holds."
        if row_id == expected and row["previous_hash"] != before["hash"]:
            yield (
                f"Row {row_id} does not follow row {row_id - 1}: the hash that it"
                " names is another."
            )

    def _origin(self, row: Row) -> int | None:
        """Return the id that a row's content had, where it was moved or copied.

        The row that it follows tells: it stands before, or took its place.
        """
        before = db.session.scalar(
            select(AuditEvent.id).where(AuditEvent.hash == row["previous_hash"])
        )
        for row_id in ((before or 0) + 1, before or 0):
            digest = content_hash(row | {"id": row_id})
            if row_id != row["id"] and self._has(digest):
                return row_id
        return None

    def _has(self, digest: str | None) -> bool:
        found = select(AuditEvent.id).where(
            AuditEvent.hash == digest, AuditEvent.id <= self.highest
        )
        return db.session.scalar(found) is not None

    def _rows(self) -> Iterator[Row]:
        columns = [
            # As text from SQLite, where a moment may have been made nonsense.
            type_coerce(column, String).label(column.name)
            if column.name == "at"
            else column
            for column in AuditEvent.__table__.columns
        ]
        last = -LARGEST_ID
        while True:
            batch = db.session.execute(
                select(*columns)
                .where(AuditEvent.id > last, AuditEvent.id <= self.highest)
                .order_by(AuditEvent.id)
                .limit(BATCH)
            ).all()
            db.session.rollback()
            if not batch:
                return
            for found in batch:
                row = dict(found._mapping)
                yield row | {"at": _moment(row["at"])}
            last = batch[-1].id


def _id(row: Row) -> int:
    row_id = row["id"]
    assert isinstance(row_id, int)
    return row_id


def _missing(first: int, last: int) -> str:
    if first == last:
        return f"Row {first} is missing"
    return f"Rows {first} to {last} are missing"


def _moment(value: object) -> object:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
