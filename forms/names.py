"""What a record may be called."""

from flask_wtf import FlaskForm
from wtforms import Field, StringField
from wtforms.validators import DataRequired, Length, ValidationError

from forms.fields import legible, stripped
from models import LONGEST_TEXT, name_key

LONGEST_KEY = 2_000
"""Bytes of a folded name; a PostgreSQL index takes no more than 2,704."""


class NamedForm(FlaskForm):  # type: ignore[misc]
    """The field of an Application Name."""

    application_name = StringField(
        "Application Name",
        filters=[stripped],
        validators=[
            DataRequired("Give it a name."),
            Length(max=LONGEST_TEXT),
            legible,
        ],
    )

    def validate_application_name(self, field: Field) -> None:
        if len(name_key(field.data).encode("utf-8", "replace")) > LONGEST_KEY:
            raise ValidationError("This is too long once its characters are spelt out.")

    def refuse_name(self) -> None:
        """Say that another record has the name already."""
        self.application_name.errors = [
            *self.application_name.errors,
            "Another record has this name. Upper and lower case count as the same.",
        ]
