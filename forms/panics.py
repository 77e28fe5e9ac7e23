"""The form of the panic switch: why, and the word that nobody types by accident."""

from flask_wtf import FlaskForm
from wtforms import Field, StringField
from wtforms.validators import Length, ValidationError

from forms.fields import one_line
from models import LONGEST_TEXT
from salesforce.redaction import printable

WORD = "REVOKE"


class PanicForm(FlaskForm):  # type: ignore[misc]
    """Start a panic."""

    reason = StringField(
        "Reason",
        filters=[one_line, printable],
        validators=[Length(max=LONGEST_TEXT, message="Use at most 255 characters.")],
    )
    word = StringField("Confirmation")

    def validate_word(self, field: Field) -> None:
        if field.data != WORD:
            raise ValidationError(f"Type {WORD}, in capitals, to go on.")
