"""Approvals: what logins used up at the orgs, over all records.

A user has five approvals an app; one more ends the oldest, and with it the
refresh token of whichever record holds that one (Salesforce Help and Oracle's
"Error When a Connected Application…"). No org tells how many are left, so the
logins that were made from here are counted.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, Moment, now
from models.clients import LONGEST_TEXT, words
from models.identities import LONGEST_ID

LIMIT = 5


class Ending(StrEnum):
    """How an approval ended."""

    REVOKED = "revoked"
    EVICTED = "evicted"
    """A later login of the same user took its place."""
    DEAD = "dead"
    """The org said so."""


class Approval(Model):
    """A user's approval of an app, given by a login. Without an end, it lives."""

    __tablename__ = "approval"

    id: Mapped[int] = mapped_column(primary_key=True)
    client_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    organization_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    user_id: Mapped[str] = mapped_column(String(LONGEST_ID))
    username: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    application_id: Mapped[int | None] = mapped_column(
        ForeignKey("external_application.id", ondelete="SET NULL"), index=True
    )
    application_name: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    """The record's, when it was given: it outlives the record."""
    granted_at: Mapped[datetime] = mapped_column(Moment, default=now)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)
    ending: Mapped[Ending | None] = mapped_column(words(Ending))

    __table_args__ = (
        Index(
            "ix_approval_live",
            "client_id",
            "organization_id",
            "user_id",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
        {"sqlite_autoincrement": True},
    )
