"""The form that makes a record of its own of a held token."""

from flask_wtf import FlaskForm
from wtforms import StringField

from forms.fields import NAME_RULES, NAME_TAKEN, stripped


class SaveAsForm(FlaskForm):  # type: ignore[misc]
    """What the new record is to be called."""

    application_name = StringField(
        "Application Name", filters=[stripped], validators=NAME_RULES
    )

    def refuse_name(self) -> None:
        """Say that another record has the name already."""
        self.application_name.errors = [
            *self.application_name.errors,
            NAME_TAKEN,
        ]
