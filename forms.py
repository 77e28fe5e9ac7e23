"""The forms: labels, limits, and a sentence for everything that cannot be taken."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from flask import current_app
from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    PasswordField,
    SelectField,
    StringField,
)
from wtforms.validators import DataRequired, Length, ValidationError

import users
from models import LONGEST_TEXT, ExternalApplication, RemoteSite, Role, User, name_key
from salesforce import (
    DomainError,
    SalesforceDomain,
    parse_domain,
    parse_https_url,
    parse_origin,
)

FILLERS = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that are drawn as nothing."""
ROLES: Any = [role.value for role in Role]
"""Untyped, because the stubs want pairs, which WTForms wants no more."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
JOINERS = "\u200c\u200d"
"""Scripts and emoji need these two, which cannot be seen either."""
LONGEST_KEY = 2_000
"""Bytes of a folded name; a PostgreSQL index takes no more than 2,704."""
VISIBLE = re.compile(r"[\x21-\x7e]*")
SCOPES = re.compile(r"([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?")
"""RFC 6749, section 3.3."""

DESCRIBING = (
    "application_name",
    "salesforce_domain",
    "client_id",
    "consumer_secret",
    "callback_url",
    "requested_scopes",
    "prompt_login",
)


def _stripped(value: str | None) -> str:
    return (value or "").strip()


def _one_line(value: str | None) -> str:
    return " ".join((value or "").split())


def visible(form: FlaskForm, field: Field) -> None:
    """Refuse what no client id or secret has in it: spaces, controls, accents."""
    if not VISIBLE.fullmatch(field.data):
        raise ValidationError(
            "There is a space or another character in it that such a value never has."
        )


class WelcomeForm(FlaskForm):  # type: ignore[misc]
    """What a one-time link asks for: a password, and whose it is to be.

    Who was `invited` by an address has that one, whatever is sent for it.
    """

    email = StringField(
        "E-mail address",
        filters=[_stripped],
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
        filters=[_stripped],
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


class ApplicationForm(FlaskForm):  # type: ignore[misc]
    """Create or edit an External Application.

    The Consumer Secret is write-only: it is never put into the form, and left
    empty it keeps the stored one. `stored` is the record that is edited.
    """

    stored: ExternalApplication | None = None

    application_name = StringField(
        "Application Name",
        filters=[_stripped],
        validators=[DataRequired("Give it a name."), Length(max=LONGEST_TEXT)],
    )
    salesforce_domain = StringField(
        "Salesforce Domain",
        filters=[_stripped],
        validators=[DataRequired("Type the host name of the org.")],
    )
    client_id = StringField(
        "Client ID",
        filters=[_stripped],
        validators=[
            DataRequired("Paste the app’s Consumer Key."),
            Length(max=LONGEST_TEXT),
            visible,
        ],
    )
    consumer_secret = PasswordField(
        "Consumer Secret",
        filters=[_stripped],
        validators=[Length(max=LONGEST_TEXT), visible],
    )
    callback_url = StringField(
        "Callback URL",
        filters=[_stripped],
        validators=[
            DataRequired(
                "Without a Callback URL the org cannot send the browser back."
            ),
            Length(max=LONGEST_TEXT),
        ],
    )
    requested_scopes = StringField(
        "Scopes", filters=[_one_line], validators=[Length(max=LONGEST_TEXT)]
    )
    prompt_login = BooleanField("Ask for the login every time", default=True)
    changed_at = HiddenField()
    """When the record had last been changed, as the form was opened."""

    def validate_application_name(self, field: Field) -> None:
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

    def validate_salesforce_domain(self, field: Field) -> None:
        try:
            self.domain = parse_domain(field.data)
        except DomainError as error:
            raise ValidationError(str(error)) from None

    def validate_consumer_secret(self, field: Field) -> None:
        """Let nobody read the stored secret by having it sent to a host of theirs."""
        domain: SalesforceDomain | None = getattr(self, "domain", None)
        if field.data or not domain or not self.stored:
            return
        if self.stored.consumer_secret and domain.kin != self.stored.domain.kin:
            raise ValidationError(
                "The Salesforce Domain was changed to one of somebody else. Type the"
                " secret again if it is to be sent there."
            )

    def validate_callback_url(self, field: Field) -> None:
        try:
            parse_https_url(field.data)
        except DomainError as error:
            raise ValidationError(str(error)) from None

    def validate_requested_scopes(self, field: Field) -> None:
        if not SCOPES.fullmatch(field.data):
            raise ValidationError(
                "Scopes are words like api refresh_token, with spaces between."
            )

    def validate_changed_at(self, field: Field) -> None:
        """Let nobody undo what somebody else saved meanwhile without knowing it."""
        current = self.stored.changed_at.isoformat() if self.stored else ""
        if field.data and field.data != current:
            field.data = current
            raise ValidationError(
                "This record was saved by somebody else, or in another tab, after you"
                " opened this form. Save again to replace what was saved there."
            )

    def validate(self, extra_validators: Mapping[str, Any] | None = None) -> bool:
        valid = bool(super().validate(extra_validators))
        if not valid:
            self._ask_for_the_secret_again()
        return valid

    def apply_to(self, application: ExternalApplication) -> list[str]:
        """Write the form into the record; the form has to be valid.

        Returns the labels of the fields that are not as they were.
        """
        before = {name: getattr(application, name) for name in DESCRIBING}
        application.describe(
            application_name=self.application_name.data or "",
            salesforce_domain=self.domain,
            client_id=self.client_id.data or "",
            consumer_secret=self.consumer_secret.data or "",
            callback_url=self.callback_url.data or "",
            requested_scopes=self.requested_scopes.data or "",
            prompt_login=bool(self.prompt_login.data),
        )
        return [
            self[name].label.text
            for name in DESCRIBING
            if getattr(application, name) != before[name]
        ]

    @property
    def rewritten(self) -> str | None:
        """What became of the Salesforce Domain, where it is not what was typed."""
        typed = self.salesforce_domain.data or ""
        return None if typed == str(self.domain) else str(self.domain)

    def refuse_name(self) -> None:
        """Say that another record has the name already."""
        self.application_name.errors = [
            *self.application_name.errors,
            "Another record has this name. Upper and lower case count as the same.",
        ]
        self._ask_for_the_secret_again()

    def _ask_for_the_secret_again(self) -> None:
        if self.consumer_secret.data:
            again = "Type the Consumer Secret again: it is not kept until it is saved."
            self.consumer_secret.errors = [*self.consumer_secret.errors, again]


class SiteForm(FlaskForm):  # type: ignore[misc]
    """Create or edit a Remote Site."""

    address = StringField(
        "Address",
        filters=[_stripped],
        validators=[DataRequired("Type the address of the host.")],
    )
    local_network = BooleanField("This site is in the local network")

    def validate_address(self, field: Field) -> None:
        try:
            self.origin = parse_origin(field.data)
        except DomainError as error:
            raise ValidationError(str(error)) from None

    def apply_to(self, site: RemoteSite) -> None:
        """Write the form into the site; the form has to be valid."""
        site.describe(self.origin, local_network=bool(self.local_network.data))

    def refuse_address(self) -> None:
        """Say that there is such a site already."""
        self.address.errors = [
            *self.address.errors,
            f"There is a site for {self.origin} already. It may be switched off.",
        ]
