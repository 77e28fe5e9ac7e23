"""What the fields of several forms share."""

import re
import unicodedata

from flask_wtf import FlaskForm
from wtforms import Field
from wtforms.validators import ValidationError

VISIBLE = re.compile(r"[\x21-\x7e]*")
FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that are drawn as nothing."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"
"""Scripts and emoji need these two, which cannot be seen either."""


def stripped(value: str | None) -> str:
    """Take away the spaces around a text, and all of it where nothing is drawn."""
    text = (value or "").strip()
    return text if text.strip(JOINERS + " ") else ""


def one_line(value: str | None) -> str:
    return " ".join((value or "").split())


def visible(form: FlaskForm, field: Field) -> None:
    """Refuse what no client id or secret has in it: spaces, controls, accents."""
    if not VISIBLE.fullmatch(field.data):
        raise ValidationError(
            "There is a space or another character in it that such a value never has."
        )


def legible(form: FlaskForm, field: Field) -> None:
    """Refuse what cannot be read by whoever sees it."""
    refuse_unseen(field.data)


def refuse_unseen(text: str) -> None:
    """Refuse a text with a character in it that nobody can see."""
    if any(
        unicodedata.category(character) in UNSEEN or character in FILLERS
        for character in text
        if character not in JOINERS
    ):
        raise ValidationError(
            "There is a control character in it, or another that nobody can see."
        )
