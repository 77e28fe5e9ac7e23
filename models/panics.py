"""The panic switch: tokens are revoked at once, and refreshes stay blocked.

A panic has a row for each record whose tokens it is to end. What it covers gets
no token until an admin lifts it.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import Float, ForeignKey, Index, String, Text, exists, or_, select
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.expression import ColumnElement, Exists

from database import Model, Moment, db, now
from models.clients import LONGEST_TEXT, words


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
    """They may live on at the org; they are kept, so that it can be tried again."""
    GONE = "gone"
    """There was nothing to revoke any more, or no record."""


class Panic(Model):
    """A time in which what it covers gets no token."""

    __tablename__ = "panic"
    audit_kind = "Panic"

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
