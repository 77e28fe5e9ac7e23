"""The audit trail: rows that are only ever added, each sealed to the one before.

A row's hash covers all its columns and the hash of the row before, so that a
row cannot be changed, moved or taken out without breaking the chain. The head
notes how many rows were written and the last one's hash, so that rows missing
at the end are seen too.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import BigInteger, Index, Integer, String, Text, insert, update
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, Moment, db, now
from models.clients import LONGEST_TEXT

HASH_DIGITS = 64
NO_HASH = "0" * HASH_DIGITS
"""What the first row names as the hash before it."""
THE_HEAD = 1
LONG = BigInteger().with_variant(Integer, "sqlite")
"""A whole number of 64 bits: SQLite's INTEGER is one already."""


class Event(StrEnum):
    """What can happen. A value is stored: it is never renamed."""

    SIGN_IN = "sign_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_OUT = "sign_out"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105
    SECOND_FACTOR_CHANGED = "second_factor_changed"
    RECOVERY_CODE_USED = "recovery_code_used"
    USER_INVITED = "user_invited"
    INVITATION_ACCEPTED = "invitation_accepted"
    INVITATION_WITHDRAWN = "invitation_withdrawn"
    USER_CHANGED = "user_changed"
    USER_DEACTIVATED = "user_deactivated"
    USER_REACTIVATED = "user_reactivated"
    RECORD_CREATED = "record_created"
    RECORD_EDITED = "record_edited"
    RECORD_DELETED = "record_deleted"
    RECORD_EXPORTED = "record_exported"
    LOGIN_STARTED = "login_started"
    TOKEN_REFRESHED = "token_refreshed"  # noqa: S105
    REFRESH_FAILED = "refresh_failed"
    TOKEN_REVOKED = "token_revoked"  # noqa: S105
    TOKEN_HELD = "token_held"  # noqa: S105
    HELD_TOKEN_REJECTED = "held_token_rejected"  # noqa: S105
    HELD_TOKEN_TAKEN = "held_token_taken"  # noqa: S105
    HELD_TOKEN_SAVED = "held_token_saved"  # noqa: S105
    CONNECTION_TESTED = "connection_tested"
    SECRET_PROMOTED = "secret_promoted"  # noqa: S105
    SECRET_REVEALED = "secret_revealed"  # noqa: S105
    SECRET_COPIED = "secret_copied"  # noqa: S105
    SITE_CREATED = "site_created"
    SITE_EDITED = "site_edited"
    SITE_DELETED = "site_deleted"
    KEYS_ROTATED = "keys_rotated"
    PANIC_STARTED = "panic_started"
    PANIC_RETRIED = "panic_retried"
    PANIC_LIFTED = "panic_lifted"


class Entry(NamedTuple):
    """What a row says; its place in the chain is not the caller's to choose."""

    event: Event
    actor: str
    actor_id: int | None
    address: str
    request_id: str
    subject_kind: str
    subject: str
    subject_id: int | None
    detail: str


class AuditEvent(Model):
    """One thing that happened. Nothing refers to it and it refers to nothing:
    history outlives the users and records that it tells of."""

    __tablename__ = "audit_event"

    id: Mapped[int] = mapped_column(LONG, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(Moment)
    event: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    actor_id: Mapped[int | None] = mapped_column(LONG)
    address: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    request_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    subject_kind: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    subject: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    subject_id: Mapped[int | None] = mapped_column(LONG)
    detail: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(String(HASH_DIGITS))
    hash: Mapped[str] = mapped_column(String(HASH_DIGITS), unique=True)

    __table_args__ = (
        Index("ix_audit_event_at", "at", "id"),
        Index("ix_audit_event_event", "event", "id"),
        Index("ix_audit_event_actor", "actor", "id"),
        Index("ix_audit_event_subject", "subject_id", "id"),
    )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The detail for reading: names in words, values as short text."""
        try:
            detail = json.loads(self.detail)
        except ValueError:
            detail = None
        if not isinstance(detail, dict):  # somebody changed the row
            return [("unreadable", self.detail)]
        return [
            (name.replace("_", " "), _in_words(value)) for name, value in detail.items()
        ]


class AuditHead(Model):
    """How far the chain has come: one row, which every append locks first."""

    __tablename__ = "audit_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    last_id: Mapped[int] = mapped_column(LONG)
    last_hash: Mapped[str] = mapped_column(String(HASH_DIGITS))


def append(entry: Entry) -> None:
    """Add a row to the chain, in the caller's transaction.

    The head is updated before anything is read from it. That takes its row
    lock on PostgreSQL and the write lock on SQLite, so that appends come one
    after the other and none builds on a stale hash. What the transaction
    changes elsewhere is flushed before: records are locked first and the head
    last, by everybody, so that no two wait for each other. Commit soon after.
    """
    db.session.flush()
    head = AuditHead.id == THE_HEAD
    row_id, previous_hash = db.session.execute(
        update(AuditHead)
        .where(head)
        .values(last_id=AuditHead.last_id + 1)
        .returning(AuditHead.last_id, AuditHead.last_hash)
        .execution_options(synchronize_session=False)
    ).one()
    row: dict[str, object] = {
        **entry._asdict(),
        "id": row_id,
        "at": now(),
        "previous_hash": previous_hash,
    }
    row["hash"] = content_hash(row)
    db.session.execute(insert(AuditEvent).values(row))
    db.session.execute(
        update(AuditHead)
        .where(head)
        .values(last_hash=row["hash"])
        .execution_options(synchronize_session=False)
    )


def content_hash(row: Mapping[str, object]) -> str:
    """Return the SHA-256 of a row's canonical JSON: all columns but the hash."""
    content = {
        column.name: row[column.name]
        for column in AuditEvent.__table__.columns
        if column.name != "hash"
    }
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), default=_canonical
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return repr(value)  # SQLite takes bytes in any column: somebody changed the row


def _in_words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    return "none" if value is None else str(value)
