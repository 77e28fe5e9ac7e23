"""Whose access a token is: the organization and the user, as the org named them."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from database import Moment
from models.clients import LONGEST_TEXT, words
from salesforce import Signature

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
