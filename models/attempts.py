"""Attempts: one row each time a record's org is asked for a token.

The row is there before the request leaves and is finished with what came of
it, so that a process that dies in between leaves a trace. It is also the lease:
the database lets a record have one open attempt at a time.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import (
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    delete,
    exists,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.expression import Exists

from database import Model, Moment, db, now, tick
from models.clients import LONGEST_TEXT, Lane, Secret, words
from salesforce import State

LEASE = 60.0
"""Seconds that an attempt is its owner's: longer than all that it may do."""
KEPT = timedelta(days=90)
"""How long the history goes back."""
HEX_DIGITS = 8
TROUBLED = "outcome IN ('failed', 'lost', 'held')"
"""What brought no token, or one that nobody should just believe."""


class Outcome(StrEnum):
    """What came of an attempt."""

    STORED = "stored"
    FAILED = "failed"
    LOST = "lost"
    """Its process ended, or did not come back in time: nobody knows."""
    HELD = "held"
    """A token came, and is kept apart until somebody decides about it."""
    SUPERSEDED = "superseded"
    """Another grant was stored, or the record was changed, meanwhile."""


class Attempt(Model):
    """A try to get a token, and the right to be the only one who tries.

    The lease's version is the row's id, its owner whoever started it. A login
    in the browser has a grant of its own, and holds nobody up.
    """

    __tablename__ = "attempt"

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[int] = mapped_column(
        ForeignKey("external_application.id", ondelete="CASCADE")
    )
    lane: Mapped[Lane] = mapped_column(words(Lane))
    actor: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    request_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    started_at: Mapped[datetime] = mapped_column(Moment, default=now)
    lease_ends: Mapped[float] = mapped_column(Float(53))
    """Seconds on the clock of `tick`."""
    finished_at: Mapped[datetime | None] = mapped_column(Moment)
    finished_tick: Mapped[float | None] = mapped_column(Float(53))
    outcome: Mapped[Outcome | None] = mapped_column(words(Outcome))
    state: Mapped[State | None] = mapped_column(words(State))
    """The record's, after it."""
    reason: Mapped[str | None] = mapped_column(Text)
    error_code: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    status: Mapped[int | None]
    """HTTP's, of the last answer."""
    retry_after: Mapped[int | None]
    """Seconds."""
    duration: Mapped[int | None]
    """Milliseconds that the org took, over all requests of the attempt."""
    requests: Mapped[int] = mapped_column(default=0)
    secret_used: Mapped[Secret | None] = mapped_column(words(Secret))
    rotated: Mapped[bool | None]
    access_token_before: Mapped[str | None] = mapped_column(String(HEX_DIGITS))
    access_token_after: Mapped[str | None] = mapped_column(String(HEX_DIGITS))
    refresh_token_before: Mapped[str | None] = mapped_column(String(HEX_DIGITS))
    refresh_token_after: Mapped[str | None] = mapped_column(String(HEX_DIGITS))
    answer: Mapped[str | None] = mapped_column(Text)
    """The org's last answer, fit to be shown."""

    __table_args__ = (
        Index("ix_attempt_application_id", "application_id", "id"),
        Index("ix_attempt_started_at", "started_at"),
        Index(
            "ix_attempt_troubled",
            "id",
            sqlite_where=text(TROUBLED),
            postgresql_where=text(TROUBLED),
        ),
        # The few that are open are found among many that are not.
        Index(
            "ix_attempt_open",
            "application_id",
            sqlite_where=text("finished_at IS NULL"),
            postgresql_where=text("finished_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )

    @property
    def is_held(self) -> bool:
        return is_held(self.lease_ends)

    @property
    def fingerprints_before(self) -> tuple[str | None, str | None]:
        return self.access_token_before, self.refresh_token_before

    def finish(self, outcome: Outcome, **facts: object) -> bool:
        """Close it; False where somebody has done so. Flushes nothing else."""
        closed = db.session.execute(
            update(Attempt)
            .where(Attempt.id == self.id, Attempt.finished_at.is_(None))
            .values(outcome=outcome, finished_at=now(), finished_tick=tick(), **facts)
            .returning(Attempt.id)
            .execution_options(synchronize_session=False)
        )
        return closed.first() is not None


def is_held(lease_ends: float) -> bool:
    """Tell whether the owner of a lease may still be at it.

    An end that no lease reaches is of a clock that began anew.
    """
    return 0 < lease_ends - tick() <= LEASE


_EXCLUSIVE = (Attempt.finished_at.is_(None)) & (Attempt.lane != Lane.BROWSER)
Index(
    "uq_attempt_open",
    Attempt.application_id,
    unique=True,
    sqlite_where=_EXCLUSIVE,
    postgresql_where=_EXCLUSIVE,
)
"""One at a time for each record."""


def open_attempt(application_id: int) -> Attempt | None:
    """Return the attempt that holds the record's lease, held or left behind."""
    return db.session.scalar(
        select(Attempt).where(Attempt.application_id == application_id, _EXCLUSIVE)
    )


def finished_since(application_id: int, moment: float) -> Attempt | None:
    """Return the latest attempt that ended after `moment`, on the clock of `tick`."""
    latest = db.session.scalar(
        select(Attempt)
        .where(
            Attempt.application_id == application_id, Attempt.finished_at.is_not(None)
        )
        .order_by(Attempt.id.desc())
        .limit(1)
    )
    ended = latest.finished_tick if latest else None
    return latest if ended is not None and moment < ended <= tick() else None


def left_behind(application_id: int | None = None) -> list[Attempt]:
    """Return the attempts whose owners let the lease pass, of one record or of all."""
    is_open = select(Attempt).where(Attempt.finished_at.is_(None))
    if application_id is not None:
        is_open = is_open.where(Attempt.application_id == application_id)
    return [attempt for attempt in db.session.scalars(is_open) if not attempt.is_held]


def any_open(application_id: int | None = None) -> Exists:
    """Ask whether there is anything for `left_behind` to look at."""
    found = exists().where(Attempt.finished_at.is_(None))
    if application_id is None:
        return found
    return found.where(Attempt.application_id == application_id)


def prune_attempts() -> None:
    """Drop what is older than the history goes back."""
    db.session.execute(delete(Attempt).where(Attempt.started_at < now() - KEPT))
