"""Held tokens: what an org answered, and nobody should simply believe.

A login may end at another org, or as another user, than the record is of; a
signature may be wrong. Such a token is kept apart until somebody decides, for
a day at most.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, Moment, now
from models.clients import LONGEST_TEXT, Lane, Secret, words
from models.identities import Identified
from vault import Encrypted, Sealed


class HoldReason(StrEnum):
    """Why a token is held, the graver first."""

    SIGNATURE_FAILED = "signature_failed"
    ANOTHER_ORGANIZATION = "another_organization"
    ANOTHER_USER = "another_user"


class HeldToken(Identified, Model):
    """An answer with a token, as it would have been stored: one a record."""

    __tablename__ = "held_token"
    LIFETIME = timedelta(days=1)

    id: Mapped[int] = mapped_column(primary_key=True)
    application_id: Mapped[int] = mapped_column(
        ForeignKey("external_application.id", ondelete="CASCADE"), unique=True
    )
    reason: Mapped[HoldReason] = mapped_column(words(HoldReason))
    lane: Mapped[Lane] = mapped_column(words(Lane))
    lane_reason: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    salesforce_domain: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    client_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    secret_used: Mapped[Secret | None] = mapped_column(words(Secret))
    access_token: Mapped[Sealed] = mapped_column(Encrypted)
    refresh_token: Mapped[Sealed | None] = mapped_column(Encrypted)
    instance_url: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    issued_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_in: Mapped[int | None]
    """Seconds from when it was held."""
    scope: Mapped[str | None] = mapped_column(Text)
    response: Mapped[str] = mapped_column(Text)
    approval_id: Mapped[int | None]
    """The approval that the login used up."""
    held_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime] = mapped_column(
        Moment, default=lambda: now() + HeldToken.LIFETIME, index=True
    )
