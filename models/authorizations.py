"""Logins under way: what has to be remembered until the org sends one back."""

from datetime import datetime, timedelta

from sqlalchemy import ForeignKey, String, Text, update
from sqlalchemy.orm import Mapped, mapped_column, relationship

from database import Model, Moment, db, now
from models.applications import ExternalApplication
from models.clients import LONGEST_TEXT
from vault import Encrypted, Sealed


class PendingAuthorization(Model):
    """A login that was begun and has not come back: one row an attempt.

    It is consumed once, by the callback, whatever the callback brings. State
    and browser are kept as hashes: a stolen database does not let anybody
    finish somebody else's login.
    """

    __tablename__ = "pending_authorization"
    LIFETIME = timedelta(minutes=10)

    id: Mapped[int] = mapped_column(primary_key=True)
    state_hash: Mapped[str] = mapped_column(String(64), unique=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    application_id: Mapped[int] = mapped_column(
        ForeignKey("external_application.id", ondelete="CASCADE"), index=True
    )
    salesforce_domain: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    client_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    redirect_uri: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    code_verifier: Mapped[Sealed] = mapped_column(Encrypted)
    reason: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime] = mapped_column(
        Moment, default=lambda: now() + PendingAuthorization.LIFETIME, index=True
    )
    consumed_at: Mapped[datetime | None] = mapped_column(Moment)

    application: Mapped[ExternalApplication] = relationship()

    @classmethod
    def consume(cls, state_hash: str) -> "PendingAuthorization | None":
        """Take the row with this state, once: the second caller gets None."""
        return db.session.scalar(
            update(cls)
            .where(cls.state_hash == state_hash, cls.consumed_at.is_(None))
            .values(consumed_at=now())
            .returning(cls)
        )
