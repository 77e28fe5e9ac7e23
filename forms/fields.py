"""What the fields of several forms share."""

import re

from flask_wtf import FlaskForm
from wtforms import Field
from wtforms.validators import ValidationError

VISIBLE = re.compile(r"[\x21-\x7e]*")


def stripped(value: str | None) -> str:
    return (value or "").strip()


def one_line(value: str | None) -> str:
    return " ".join((value or "").split())


def visible(form: FlaskForm, field: Field) -> None:
    """Refuse what no client id or secret has in it: spaces, controls, accents."""
    if not VISIBLE.fullmatch(field.data):
        raise ValidationError(
            "There is a space or another character in it that such a value never has."
        )
