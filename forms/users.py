"""The forms by which users come in: a password behind a link, and an invitation."""

from typing import Any

from flask import current_app
from flask_wtf import FlaskForm
from wtforms import Field, PasswordField, SelectField, StringField
from wtforms.validators import DataRequired, Length, ValidationError

import users
from forms.fields import stripped
from models import LONGEST_TEXT, Role, User

ROLES: Any = [role.value for role in Role]
"""Untyped, because the stubs want pairs, which WTForms wants no more."""


class WelcomeForm(FlaskForm):  # type: ignore[misc]
    """What a one-time link asks for: a password, and whose it is to be.

    Who was `invited` by an address has that one, whatever is sent for it.
    """

    email = StringField(
        "E-mail address",
        filters=[stripped],
        validators=[
            DataRequired("Type your e-mail address."),
            Length(max=LONGEST_TEXT),
        ],
    )
    password = PasswordField(
        "Password", validators=[DataRequired("Choose a password.")]
    )

    def __init__(self, invited: str | None) -> None:
        super().__init__()
        self.email.data = invited or self.email.data

    def validate_email(self, field: Field) -> None:
        try:
            field.data = users.normalized(field.data)
        except ValueError as error:
            raise ValidationError(str(error)) from None

    def validate_password(self, field: Field) -> None:
        util = current_app.extensions["security"].password_util
        problems, field.data = util.validate(
            field.data, is_register=True, email=self.email.data
        )
        if problems:
            raise ValidationError(" ".join(problems))


class InvitationForm(FlaskForm):  # type: ignore[misc]
    """Invite somebody."""

    email = StringField(
        "E-mail address",
        filters=[stripped],
        validators=[
            DataRequired("Type the address of who is to come."),
            Length(max=LONGEST_TEXT),
        ],
    )
    role = SelectField(
        "Role",
        choices=ROLES,
    )

    def validate_email(self, field: Field) -> None:
        try:
            self.address = users.normalized(field.data)
        except ValueError as error:
            raise ValidationError(str(error)) from None
        if User.find(self.address):
            raise ValidationError("This is a user already.")
