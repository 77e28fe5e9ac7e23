"""What the fields of several forms share."""

import re
import unicodedata
from typing import Any

from flask_wtf import FlaskForm
from wtforms import Field
from wtforms.validators import DataRequired, Length, ValidationError

from models import LONGEST_TEXT, name_key

FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that are drawn as nothing."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"
"""Scripts and emoji need these two, which cannot be seen either."""
LONGEST_KEY = 2_000
"""Bytes of a folded name; a PostgreSQL index takes no more than 2,704."""
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


def can_be_told(form: FlaskForm, field: Field) -> None:
    """Refuse a name that nobody could read, or the database could not find."""
    seen = [character for character in field.data if character not in JOINERS]
    if any(
        unicodedata.category(character) in UNSEEN or character in FILLERS
        for character in seen
    ):
        raise ValidationError(
            "There is a control character in it, or another that nobody can see."
        )
    if not seen:
        raise ValidationError("Give it a name.")
    if len(name_key(field.data).encode("utf-8", "replace")) > LONGEST_KEY:
        raise ValidationError("This is too long once its characters are spelt out.")


NAME_RULES: list[Any] = [
    DataRequired("Give it a name."),
    Length(max=LONGEST_TEXT),
    can_be_told,
]
"""Those of an Application Name."""
NAME_TAKEN = "Another record has this name. Upper and lower case count as the same."
