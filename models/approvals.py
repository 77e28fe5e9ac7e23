"""Approvals: what logins used up at the orgs, over all records.

A user has five approvals an app; one more ends the oldest, and with it the
refresh token of whichever record holds that one (Salesforce Help and Oracle's
"Error When a Connected Application…"). No org tells how many are left, so the
logins that were made from here are counted.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    ForeignKey,
    Index,
    ScalarSelect,
    String,
    func,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from database import Model, Moment, db, now
from models.clients import LONGEST_TEXT, words
from models.identities import LONGEST_ID
from salesforce import long_id

LIMIT = 5
MOST_BUDGETS = 3
MOST_ROWS = 200


class Ending(StrEnum):
    """How an approval ended."""

    REVOKED = "revoked"
    EVICTED = "evicted"
    """A later login of the same user took its place."""
    DEAD = "dead"
    """The org said so."""


class Budget(NamedTuple):
    """How many approvals a user has given an app, the newest and the oldest."""

    used: int
    newest: "Approval"
    oldest: "Approval"

    @property
    def is_tight(self) -> bool:
        """Whether at most one is left."""
        return self.used >= LIMIT - 1

    @property
    def is_used_up(self) -> bool:
        return self.used >= LIMIT


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
    evicted_by: Mapped[int | None]
    """The approval that took its place."""

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

    @classmethod
    def give(
        cls,
        application_id: int,
        application_name: str,
        client_id: str,
        ids: tuple[str, str],
        username: str | None,
    ) -> "Approval":
        """Note that a login used one up; those beyond the limit have ended by it."""
        given = cls(
            client_id=client_id,
            organization_id=ids[0],
            user_id=ids[1],
            username=username,
            application_id=application_id,
            application_name=application_name,
        )
        db.session.add(given)
        db.session.flush()
        for oldest in live_approvals(client_id, *ids)[:-LIMIT]:
            oldest.end(Ending.EVICTED)
            oldest.evicted_by = given.id
        return given

    @classmethod
    def of(cls, application_id: int, apart_from: int | None) -> "Approval | None":
        """Return the one that stands behind a record's grant.

        That is the last that lives, `apart_from` the one of a token that is held.
        """
        own = select(cls).where(
            cls.application_id == application_id, cls.ended_at.is_(None)
        )
        if apart_from is not None:
            own = own.where(cls.id != apart_from)
        return db.session.scalar(own.order_by(cls.id.desc()).limit(1))

    @classmethod
    def id_that_ended(cls, application_id: int) -> ScalarSelect[int | None]:
        """Ask for the one that took the place of the last one of this record."""
        return (
            select(cls.evicted_by)
            .where(cls.application_id == application_id)
            .order_by(cls.id.desc())
            .limit(1)
            .scalar_subquery()
        )

    def end(self, ending: Ending) -> None:
        self.ended_at, self.ending = now(), ending


def end_approval(approval_id: int | None, ending: Ending) -> None:
    """Note the end of an approval that lives, in the caller's transaction."""
    db.session.execute(
        update(Approval)
        .where(Approval.id == approval_id, Approval.ended_at.is_(None))
        .values(ended_at=now(), ending=ending)
    )


def live_approvals(
    client_id: str, organization_id: str, user_id: str
) -> Sequence[Approval]:
    """Return those of one user that live, the oldest first."""
    live = _live(client_id, organization_id, user_id)
    return db.session.scalars(select(Approval).where(*live).order_by(Approval.id)).all()


def used_approvals(
    client_id: str, organization_id: str | None, user_id: str | None
) -> ScalarSelect[int]:
    """Ask how many live: of one user or, where it is not known whose, of the app."""
    live = _live(client_id, organization_id, user_id)
    return select(func.count()).where(*live).scalar_subquery()


def budgets(
    client_id: str, organization_id: str | None, user_id: str | None
) -> list[Budget]:
    """Return what is used up: by one user or, where that is not known, by each.

    The most used up first, and at most `MOST_BUDGETS`.
    """
    live = _live(client_id, organization_id, user_id)
    rows = db.session.scalars(
        select(Approval).where(*live).order_by(Approval.id).limit(MOST_ROWS)
    )
    of_users: dict[tuple[str, str], list[Approval]] = {}
    for row in rows:
        of_users.setdefault((row.organization_id, row.user_id), []).append(row)
    found = [Budget(len(some), some[-1], some[0]) for some in of_users.values()]
    found.sort(key=lambda budget: -budget.used)
    return found[:MOST_BUDGETS]


def _live(
    client_id: str, organization_id: str | None, user_id: str | None
) -> list[ColumnElement[bool]]:
    conditions = [Approval.client_id == client_id, Approval.ended_at.is_(None)]
    if organization_id and user_id:
        conditions += [
            Approval.organization_id == long_id(organization_id),
            Approval.user_id == long_id(user_id),
        ]
    return conditions
