"""What people write down about a record: who answers for it, and what uses it."""

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from models.clients import LONGEST_TEXT
from models.names import name_key

LONGEST_NOTES = 4_000
"""Characters."""
SPACES = str.maketrans("\n\t", "  ")
"""What is searched for is one line: it is found across the lines of the notes."""


class Details:
    """The columns that no org knows of."""

    owner: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    """Who answers for it: an address, or a name."""
    used_by: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    """What uses its tokens."""
    tags: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    """In the order in which they were typed, with a comma and a space between."""
    notes: Mapped[str] = mapped_column(Text, default="")
    search_words: Mapped[str] = mapped_column(Text, default="")
    """All of these, and whose access it is, folded as names are, each on lines of its
    own."""

    @property
    def tag_list(self) -> list[str]:
        return self.tags.split(", ") if self.tags else []

    def fold_details(self, *names: str | None) -> None:
        """Keep what the search looks at in step with what is shown.

        That is what people wrote down, and the `names` that the record goes by.
        """
        shown = [self.owner, self.used_by, self.tags, self.notes, *names]
        self.search_words = "\n\n".join(
            name_key(text).translate(SPACES) for text in shown if text
        )
