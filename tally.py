"""How many records are in which state: counted, and kept for a minute at most.

Up to 10,000 records are counted each time. More are counted once a minute by
each process, along an index that holds all it takes; pages say when that was.
The overview keeps its figures by the same rule.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar

from flask import current_app
from sqlalchemy import ColumnElement, Label, and_, func, or_, select

from database import db, now
from models import LAPSES_SOON, ExternalApplication, HeldToken
from salesforce import State

MANY = 10_000
LONGEST_AGE = 59.0
"""Seconds that figures of many may be used again. With what it took to count them,
they are a minute old at most."""

Figures = TypeVar("Figures")


class Counts(NamedTuple):
    """Records by state, those whose refresh token lapses within days, and when."""

    states: Mapping[State, int]
    lapse_soon: int
    held: int
    counted_at: datetime

    @property
    def total(self) -> int:
        return sum(self.states.values())


@dataclass(frozen=True)
class Keeper(Generic[Figures]):
    """Keeps one set of figures, plain values, for each app of this process."""

    name: str

    def kept(self) -> Figures | None:
        """Return what was counted a short while ago, None where it is time to."""
        figures, until = current_app.extensions.get(self.name, (None, 0.0))
        return figures if time.monotonic() < until else None

    def keep(self, figures: Figures, total: int) -> Figures:
        """Keep figures of so many records, if those are many."""
        age = LONGEST_AGE if total > MANY else 0.0
        current_app.extensions[self.name] = figures, time.monotonic() + age
        return figures


COUNTS = Keeper[Counts]("orgdesk_tally")


def counts() -> Counts:
    """Return the counts: kept ones, or new ones by one statement."""
    if (found := kept_counts()) is not None:
        return found
    return keep(dict(db.session.execute(select(*columns())).one()._mapping))


def kept_counts() -> Counts | None:
    """Return what was counted a short while ago, None where it is time to count."""
    return COUNTS.kept()


def columns() -> list[Label[int]]:
    """Return what has to be selected to count; `keep` wants it by its names."""
    record = ExternalApplication
    ran_out = and_(record.state == State.CONNECTED, record.expires_at <= now())
    lives = or_(record.expires_at.is_(None), record.expires_at > now())
    wanted: dict[str, ColumnElement[bool]] = {
        f"count_{state}": record.state == state for state in State
    }
    wanted["count_connected"] = and_(record.state == State.CONNECTED, lives)
    wanted["count_ran_out"] = ran_out
    wanted["count_lapse_soon"] = record.lapses_at <= now() + LAPSES_SOON
    wanted["count_held"] = HeldToken.expires_at > now()
    return [
        select(func.count()).where(condition).scalar_subquery().label(name)
        for name, condition in wanted.items()
    ]


def keep(row: Mapping[str, int]) -> Counts:
    """Make counts of a row of `columns`, and keep them where there are many."""
    states = {state: row[f"count_{state}"] for state in State}
    states[State.EXPIRED] += row["count_ran_out"]
    found = Counts(states, row["count_lapse_soon"], row["count_held"], now())
    return COUNTS.keep(found, found.total)
