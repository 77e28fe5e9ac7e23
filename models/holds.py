"""Held tokens: what an org answered, and nobody should simply believe.

A login may end at another org, or as another user, than the record is of; a
signature may be wrong. Such a token is kept apart until somebody decides, for
a day at most.
"""

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ForeignKey, String, Text, select
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, Moment, db, now
from models.clients import LONGEST_TEXT, Lane, Secret, words
from models.identities import Identified, Named
from salesforce import Identity, Signature, TokenAnswer
from vault import Encrypted, Sealed, seal


class HoldReason(StrEnum):
    """Why a token is held, the graver first."""

    SIGNATURE_FAILED = "signature_failed"
    ANOTHER_ORGANIZATION = "another_organization"
    ANOTHER_USER = "another_user"
    BLOCKED = "blocked"
    """It came by a login while refreshes were blocked: it is to be revoked."""


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

    # No id is used again: a page must not decide about another token.
    __table_args__ = ({"sqlite_autoincrement": True},)

    @classmethod
    def of(cls, application_id: int) -> "HeldToken | None":
        """Return the one that is held for a record, its time over or not."""
        return db.session.scalar(
            select(cls)
            .filter_by(application_id=application_id)
            .execution_options(populate_existing=True)
        )

    @property
    def mark(self) -> str:
        """What tells it from another one that is held later."""
        return self.held_at.isoformat()

    @property
    def is_over(self) -> bool:
        """Whether it is too late to take it."""
        return self.expires_at <= now()

    @property
    def is_grant_of_its_own(self) -> bool:
        """Whether it can be revoked without ending what the record holds."""
        return self.lane is Lane.BROWSER

    def suggested_name(self, application_name: str) -> str:
        """Return a name for a record of its own."""
        whose = self.org_username or self.organization_name or self.organization_id
        return f"{application_name} ({whose or 'another'})"[:LONGEST_TEXT]

    def keep(self, answer: TokenAnswer, identity: Identity | None) -> None:
        """Take over the answer; raises nothing, since it was checked when it came."""
        self.access_token = seal(answer.access_token)
        if answer.refresh_token:
            self.refresh_token = seal(answer.refresh_token)
        self.instance_url, self.identity_url = answer.instance_url, answer.identity_url
        named = Named.by(answer, identity)
        self.organization_id, self.user_id = named.organization, named.user
        self.name_identity(identity)
        self.signature, self.scope = answer.signature, answer.scope
        self.issued_at, self.response = answer.issued_at, answer.response
        if answer.expires_in is not None:
            self.expires_in = round(answer.expires_in.total_seconds())

    def answer(self) -> TokenAnswer:
        """Return what came, as it came; raise `UnreadableSecret`."""
        left = None
        if self.expires_in is not None:
            left = self.held_at + timedelta(seconds=self.expires_in) - now()
        refresh = self.refresh_token
        return TokenAnswer(
            access_token=self.access_token.reveal(),
            refresh_token=refresh.reveal() if refresh else None,
            instance_url=self.instance_url,
            identity_url=self.identity_url,
            issued_at=self.issued_at,
            scope=self.scope,
            expires_in=left,
            response=self.response,
            signature=self.signature or Signature.NOT_SENT,
        )


def why_held(
    known: Identified, answer: TokenAnswer, identity: Identity | None, lane: Lane
) -> HoldReason | None:
    """Say why a token must not simply be stored; None where it may.

    `known` is whose the record's tokens were until now. What the answer and the
    org's own word name has to agree, with it and with itself. A flow without a page
    may come to act as another user: that is set in the org, and is no mistake
    of somebody who logs in.
    """
    if answer.signature is Signature.FAILED:
        return HoldReason.SIGNATURE_FAILED
    named = Named.by(answer, identity)
    organizations, users = named.organizations, named.users
    if named.differ(organizations) or any(
        known.is_organization(one) is False for one in organizations
    ):
        return HoldReason.ANOTHER_ORGANIZATION
    if named.differ(users):
        return HoldReason.ANOTHER_USER
    if lane is not Lane.PAGE_LESS and any(known.is_user(one) is False for one in users):
        return HoldReason.ANOTHER_USER
    return None
