"""Part of the form of an External Application: what no org knows of it."""

from wtforms import Field, IntegerField, StringField, TextAreaField
from wtforms.validators import Length, ValidationError

from forms.assertions import AssertionForm
from forms.fields import legible, refuse_unseen, stripped
from models import (
    DEFAULT_IDLE_LIMIT,
    LONGEST_IDLE_LIMIT,
    LONGEST_NOTES,
    LONGEST_TEXT,
    name_key,
)

MOST_TAGS = 20
LONGEST_TAG = 40
DIGITS = len(str(LONGEST_IDLE_LIMIT))


def tags(value: str | None) -> str:
    """Write tags in one way: what folds alike is there once."""
    found: dict[str, str] = {}
    for tag in (value or "").split(","):
        if name := stripped(tag):
            found.setdefault(name_key(name), name)
    return ", ".join(found.values())


def lines(value: str | None) -> str:
    """Write the ends of lines in one way, whichever a browser sent."""
    return stripped(value).replace("\r\n", "\n").replace("\r", "\n")


class DaysField(IntegerField):
    """A number of days; nothing is None."""

    def process_formdata(self, valuelist: list[str]) -> None:
        if not valuelist:
            return
        self.data, typed = None, valuelist[0].strip()
        if not typed:
            return
        is_number = typed.isascii() and typed.isdigit() and len(typed) <= DIGITS
        if not is_number or not 1 <= int(typed) <= LONGEST_IDLE_LIMIT:
            raise ValueError(
                f"Type a number of days from 1 to {LONGEST_IDLE_LIMIT:,}, or nothing."
            )
        self.data = int(typed)


class DetailsForm(AssertionForm):
    """The fields that say who answers for a record, and what people know of it."""

    idle_limit = DaysField(
        "Refresh Token Idle Limit (days)", default=DEFAULT_IDLE_LIMIT
    )
    owner = StringField(
        "Owner",
        filters=[stripped],
        validators=[Length(max=LONGEST_TEXT), legible],
    )
    used_by = StringField(
        "Used by",
        filters=[stripped],
        validators=[Length(max=LONGEST_TEXT), legible],
    )
    tags = StringField("Tags", filters=[tags], validators=[Length(max=LONGEST_TEXT)])
    notes = TextAreaField(
        "Notes", filters=[lines], validators=[Length(max=LONGEST_NOTES)]
    )

    def validate_tags(self, field: Field) -> None:
        found = field.data.split(", ") if field.data else []
        for tag in found:
            refuse_unseen(tag)
        if len(found) > MOST_TAGS or any(len(tag) > LONGEST_TAG for tag in found):
            raise ValidationError(
                f"At most {MOST_TAGS} tags of at most {LONGEST_TAG} characters each,"
                " with commas between."
            )

    def validate_notes(self, field: Field) -> None:
        refuse_unseen(field.data.replace("\n", "").replace("\t", ""))
