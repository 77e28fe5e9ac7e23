"""The history of a record: its attempts, newest first, and what the org changed.

A page is a walk down the ids from a known place, as in the audit trail. Each
answer is compared with the one that was stored before it, so that a scope that
went missing is seen in the row where it did.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import func, select, union_all

from database import db
from models import KEPT, LARGEST_ID, Attempt, Outcome

PAGE_SIZE = 10
LONGEST_VALUE = 100
"""Characters of a value that changed; the answers of the latest are on the page."""
ALWAYS_NEW = frozenset(
    {"access_token", "refresh_token", "id_token", "signature", "issued_at"}
)
"""Fields that differ in every answer, or come with some alone."""


class Entry(NamedTuple):
    """An attempt, and how its answer differs from the last one that was stored."""

    attempt: Attempt
    changes: list[str]


@dataclass(frozen=True)
class Page:
    """Up to ten attempts. `older` is where the page behind this one begins."""

    entries: list[Entry]
    is_newest: bool
    older: int | None
    days_kept: int = KEPT.days


def place(arguments: Mapping[str, str]) -> int | None:
    """Read from a query string where a page begins; None for the newest."""
    before = arguments.get("before", "")
    good = before.isascii() and before.isdigit() and len(before) < 11
    return int(before) if good and 0 < int(before) <= LARGEST_ID else None


def get_page(application_id: int, before: int | None = None) -> Page:
    """Fetch one page: one statement."""
    rows = _rows(application_id, before)
    shown = rows[:PAGE_SIZE]
    entries = [
        Entry(attempt, compare(attempt.answer, _stored_before(rows[at:])))
        for at, attempt in enumerate(shown, 1)
    ]
    more = len(rows) > PAGE_SIZE
    return Page(entries, before is None, shown[-1].id if more else None)


def compare(answer: str | None, previous: str | None) -> list[str]:
    """Say in words what an answer has that the previous one had not, and so on.

    A refusal is no answer to compare, nor is what is no JSON object.
    """
    new, old = _fields(answer), _fields(previous)
    if new is None or old is None or "error" in new:
        return []
    return list(_changes(new, old))


def _changes(new: dict[str, object], old: dict[str, object]) -> Iterator[str]:
    for name in (name for name in [*old, *new] if name not in ALWAYS_NEW):
        if name not in new:
            yield f"field gone: {name}"
        elif name not in old:
            yield f"new field: {name}"
    for name, value in new.items():
        if name in ALWAYS_NEW or name not in old or value == old[name]:
            continue
        before = old[name]
        if name == "scope" and isinstance(value, str) and isinstance(before, str):
            yield from _scopes(value.split(), before.split())
        else:
            yield f"{name} changed: {_short(before)} → {_short(value)}"


def _scopes(new: list[str], old: list[str]) -> Iterator[str]:
    if lost := [scope for scope in old if scope not in new]:
        yield f"scope lost: {', '.join(lost)}"
    if gained := [scope for scope in new if scope not in old]:
        yield f"scope gained: {', '.join(gained)}"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def _fields(answer: str | None) -> dict[str, object] | None:
    try:
        fields = json.loads(answer or "")
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) else None


def _rows(application_id: int, before: int | None) -> list[Attempt]:
    """Return a page, one row more, and the one that was stored last before them."""
    own = select(Attempt.id).where(Attempt.application_id == application_id)
    newest = own if before is None else own.where(Attempt.id < before)
    page = newest.order_by(Attempt.id.desc()).limit(PAGE_SIZE + 1).cte()
    first = select(func.min(page.c.id)).scalar_subquery()
    stored = own.where(Attempt.outcome == Outcome.STORED, Attempt.id < first)
    last_stored = stored.order_by(Attempt.id.desc()).limit(1).cte()
    ids = union_all(select(page.c.id), select(last_stored.c.id))
    statement = select(Attempt).where(Attempt.id.in_(ids)).order_by(Attempt.id.desc())
    return list(db.session.scalars(statement))


def _stored_before(earlier: list[Attempt]) -> str | None:
    stored = (one for one in earlier if one.outcome is Outcome.STORED)
    found = next(stored, None)
    return found.answer if found else None
