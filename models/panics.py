"""The panic switch: tokens are revoked at once, and refreshes stay blocked.

A panic has a row for each record whose tokens it is to end. What it covers gets
no token until an admin lifts it.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import (
    Float,
    ForeignKey,
    Index,
    String,
    Text,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.expression import ColumnElement, Exists

from database import Model, Moment, db, now, tick
from models.clients import LONGEST_TEXT, words

WORK_LEASE = 30.0
"""Seconds for which a process says that it is at a panic's rows."""

DELETED = (
    "The record was deleted, and its tokens are not known to be revoked: they may live"
    " on at the org. The audit trail says what was done."
)


class Scope(StrEnum):
    """What a panic covers."""

    SELECTED = "selected"
    ALL = "all"
    """Records that are made later too."""


class Progress(StrEnum):
    """How far the tokens of one record are."""

    PENDING = "pending"
    REVOKED = "revoked"
    """The org takes none of them any more."""
    FAILED = "failed"
    """They may live on at the org. They are kept, so that it can be tried again,
    unless somebody has had them forgotten, or the record deleted."""
    GONE = "gone"
    """There was nothing to revoke."""


class Panic(Model):
    """A time in which what it covers gets no token."""

    __tablename__ = "panic"
    audit_kind: ClassVar = "Panic"

    id: Mapped[int] = mapped_column(primary_key=True)
    scope: Mapped[Scope] = mapped_column(words(Scope))
    reason: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    started_by: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    started_at: Mapped[datetime] = mapped_column(Moment, default=now)
    lifted_by: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    lifted_at: Mapped[datetime | None] = mapped_column(Moment, index=True)
    lease_ends: Mapped[float] = mapped_column(Float(53), default=0.0)
    """Until then, on the clock of `tick`, a process is at its rows."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    @property
    def audit_name(self) -> str:
        return f"Panic {self.id}"

    @property
    def is_open(self) -> bool:
        return self.lifted_at is None

    def lift(self, by: str) -> bool:
        """End it; False where somebody has done so."""
        lifted = db.session.execute(
            update(Panic)
            .where(Panic.id == self.id, Panic.lifted_at.is_(None))
            .values(lifted_at=now(), lifted_by=by)
            .returning(Panic.id)
            .execution_options(synchronize_session=False)
        )
        return lifted.first() is not None

    def has_more(
        self, application_id: int, application_name: str, salesforce_domain: str
    ) -> None:
        """Note that a record it covers has come to hold a token after all."""
        row = PanicRevocation
        there = db.session.execute(
            update(row)
            .where(row.panic_id == self.id, row.application_id == application_id)
            .values(progress=Progress.PENDING)
            .execution_options(synchronize_session=False)
        )
        if there.rowcount:  # type: ignore[attr-defined]
            return
        db.session.add(
            row(
                panic_id=self.id,
                application_id=application_id,
                application_name=application_name,
                salesforce_domain=salesforce_domain,
            )
        )


class PanicRevocation(Model):
    """The tokens of one record, and what its org said when they were revoked."""

    __tablename__ = "panic_revocation"

    id: Mapped[int] = mapped_column(primary_key=True)
    panic_id: Mapped[int] = mapped_column(ForeignKey("panic.id", ondelete="CASCADE"))
    application_id: Mapped[int | None] = mapped_column(
        ForeignKey("external_application.id", ondelete="SET NULL"), index=True
    )
    application_name: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    salesforce_domain: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    progress: Mapped[Progress] = mapped_column(
        words(Progress), default=Progress.PENDING
    )
    sentence: Mapped[str | None] = mapped_column(Text)
    tried_at: Mapped[datetime | None] = mapped_column(Moment)
    tries: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        Index("ix_panic_revocation_progress", "panic_id", "progress", "id"),
    )

    @classmethod
    def finish(cls, row_id: int, progress: Progress, sentence: str) -> None:
        """Note what came of a try, unless somebody else has."""
        db.session.execute(
            update(cls)
            .where(cls.id == row_id, cls.progress == Progress.PENDING)
            .values(
                progress=progress,
                sentence=sentence,
                tried_at=now(),
                tries=cls.tries + 1,
            )
            .execution_options(synchronize_session=False)
        )

    @classmethod
    def settle(cls, application_id: int, progress: Progress, sentence: str) -> None:
        """Note what became of a record's tokens otherwise, while nobody knew better."""
        unsettled = (Progress.PENDING, Progress.FAILED)
        still_open = exists().where(Panic.id == cls.panic_id, Panic.lifted_at.is_(None))
        db.session.execute(
            update(cls)
            .where(cls.application_id == application_id, still_open)
            .where(cls.progress.in_(unsettled))
            .values(progress=progress, sentence=sentence, tried_at=now())
            .execution_options(synchronize_session=False)
        )


def any_block(application_id: int) -> Exists:
    """Ask whether `block_on` would find one."""
    return exists().where(*_covers(application_id))


def block_on(application_id: int) -> Panic | None:
    """Return the panic that keeps this record from getting a token, if one does."""
    return db.session.scalar(
        select(Panic).where(*_covers(application_id)).order_by(Panic.id).limit(1)
    )


def _covers(application_id: int) -> tuple[ColumnElement[bool], ...]:
    selected = exists().where(
        PanicRevocation.panic_id == Panic.id,
        PanicRevocation.application_id == application_id,
    )
    return Panic.lifted_at.is_(None), or_(Panic.scope == Scope.ALL, selected)


def any_open_panic() -> Exists:
    """Ask whether refreshes are blocked for anything at all."""
    return exists().where(Panic.lifted_at.is_(None))


def progress_of(panic_id: int) -> dict[Progress, int]:
    """Count the rows of a panic, along their index."""
    counted = db.session.execute(
        select(PanicRevocation.progress, func.count())
        .where(PanicRevocation.panic_id == panic_id)
        .group_by(PanicRevocation.progress)
    )
    return dict.fromkeys(Progress, 0) | {row[0]: row[1] for row in counted}


def take_work(panic_id: int) -> float | None:
    """Take the lease of an open panic's rows; return its end, None if it is taken.

    An end that no lease reaches is of a clock that began anew.
    """
    moment = tick()
    is_free = or_(Panic.lease_ends <= moment, Panic.lease_ends > moment + WORK_LEASE)
    return _lease(panic_id, is_free, moment + WORK_LEASE)


def keep_work(panic_id: int, lease_ends: float) -> float | None:
    """Renew a lease by its end; None where it is lost, or the panic is lifted."""
    return _lease(panic_id, Panic.lease_ends == lease_ends, tick() + WORK_LEASE)


def leave_work(panic_id: int, lease_ends: float) -> None:
    """Give a lease back."""
    db.session.execute(
        update(Panic)
        .where(Panic.id == panic_id, Panic.lease_ends == lease_ends)
        .values(lease_ends=0.0)
        .execution_options(synchronize_session=False)
    )


def _lease(panic_id: int, condition: ColumnElement[bool], until: float) -> float | None:
    taken = db.session.execute(
        update(Panic)
        .where(Panic.id == panic_id, Panic.lifted_at.is_(None), condition)
        .values(lease_ends=until)
        .returning(Panic.lease_ends)
        .execution_options(synchronize_session=False)
    )
    return taken.scalar()


def is_worked_at(lease_ends: float) -> bool:
    """Tell whether a process may still be at the rows."""
    return 0 < lease_ends - tick() <= WORK_LEASE
