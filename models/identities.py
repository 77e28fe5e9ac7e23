"""Whose access a token is: the organization and the user, as the org named them."""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from database import Moment, now
from models.clients import LONGEST_TEXT, words
from salesforce import Identity, Signature, TokenAnswer, same_id

LONGEST_ID = 64


class Identified:
    """The columns of an identity. The names are the org's own words: never trusted."""

    identity_url: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    organization_id: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    """Of 18 characters, where it is Salesforce's."""
    user_id: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    organization_name: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    org_username: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    """The user's name in the org; a record's own `username` is whom it asks for."""
    display_name: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    user_type: Mapped[str | None] = mapped_column(String(LONGEST_ID))
    identity_read_at: Mapped[datetime | None] = mapped_column(Moment)
    """When the org was asked last who it is."""
    signature: Mapped[Signature | None] = mapped_column(words(Signature))
    """Whether the last answer's identity URL is as the org had signed it."""

    @property
    def names(self) -> tuple[str | None, ...]:
        """What somebody may look for who wonders whose access it is."""
        return (
            self.org_username,
            self.display_name,
            self.organization_name,
            self.organization_id,
            self.user_id,
        )

    def name_identity(self, identity: Identity | None) -> None:
        """Take over what the org said of who it is, None where it does not say."""
        self.organization_name = identity.organization_name if identity else None
        self.org_username = identity.username if identity else None
        self.display_name = identity.display_name if identity else None
        self.user_type = identity.user_type if identity else None
        self.identity_read_at = now()

    def learn_identity(self, identity: Identity | None) -> bool:
        """Take over what the org said of the token that is stored already.

        False where that is another's than the answer's which brought it; then
        nobody's name is kept.
        """
        ids = (identity.organization_id, identity.user_id) if identity else (None, None)
        fits = (
            ids[0] is None or self.is_organization(ids[0]) is not False,
            ids[1] is None or self.is_user(ids[1]) is not False,
        )
        self.name_identity(identity if all(fits) else None)
        if all(fits) and self.organization_id is None and all(ids):
            self.organization_id, self.user_id = ids
        return all(fits)

    def take_names(self, other: "Identified") -> None:
        """Take over what the org said of another token, which is this one's now."""
        self.organization_id, self.user_id = other.organization_id, other.user_id
        self.organization_name = other.organization_name
        self.org_username, self.display_name = other.org_username, other.display_name
        self.user_type, self.identity_read_at = other.user_type, other.identity_read_at

    def is_organization(self, organization_id: str) -> bool | None:
        """Whether it is this one; None where none is known."""
        known = self.organization_id
        return None if known is None else same_id(known, organization_id)

    def is_user(self, user_id: str) -> bool | None:
        """Whether it is this one; None where none is known."""
        return None if self.user_id is None else same_id(self.user_id, user_id)


class Named(NamedTuple):
    """Every id that was given for one token: in its answer, and by the org later."""

    organizations: list[str]
    users: list[str]

    @classmethod
    def by(cls, answer: TokenAnswer, identity: Identity | None) -> "Named":
        ids = answer.organization_and_user or (None, None)
        told = (identity.organization_id, identity.user_id) if identity else ()
        pairs = [told, ids] if told else [ids]
        return cls(
            [pair[0] for pair in pairs if pair[0]],
            [pair[1] for pair in pairs if pair[1]],
        )

    @property
    def organization(self) -> str | None:
        """The org's own word, else what the answer has."""
        return self.organizations[0] if self.organizations else None

    @property
    def user(self) -> str | None:
        return self.users[0] if self.users else None

    @property
    def both(self) -> tuple[str, str] | None:
        """Organization and user, where both are told."""
        ids = self.organization, self.user
        return ids if ids[0] and ids[1] else None  # type: ignore[return-value]

    @staticmethod
    def differ(ids: list[str]) -> bool:
        """Whether what is told contradicts itself."""
        return any(not same_id(ids[0], one) for one in ids[1:])
