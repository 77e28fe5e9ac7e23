"""Part of the form of an External Application: its name, its org and its app."""

from typing import Any

from flask_wtf import FlaskForm
from wtforms import Field, PasswordField, RadioField, StringField
from wtforms.validators import DataRequired, Length, ValidationError

from forms.fields import legible, stripped, visible
from models import LONGEST_TEXT, ExternalApplication, Flow, name_key
from salesforce import DomainError, SalesforceDomain, parse_domain

FLOWS: Any = [flow.value for flow in Flow]
"""Untyped, because the stubs want pairs, which WTForms wants no more."""
LONGEST_KEY = 2_000
"""Bytes of a folded name; a PostgreSQL index takes no more than 2,704."""


class ClientForm(FlaskForm):  # type: ignore[misc]
    """The fields of a name, a Salesforce Domain, and an app with its secrets."""

    stored: ExternalApplication | None = None
    domain: SalesforceDomain | None = None
    """The Salesforce Domain, once it is read."""

    application_name = StringField(
        "Application Name",
        filters=[stripped],
        validators=[
            DataRequired("Give it a name."),
            Length(max=LONGEST_TEXT),
            legible,
        ],
    )
    salesforce_domain = StringField(
        "Salesforce Domain",
        filters=[stripped],
        validators=[DataRequired("Type the host name of the org.")],
    )
    client_id = StringField(
        "Client ID",
        filters=[stripped],
        validators=[
            DataRequired("Paste the app’s Consumer Key."),
            Length(max=LONGEST_TEXT),
            visible,
        ],
    )
    flow = RadioField("Flow", choices=FLOWS, default=Flow.WEB_SERVER)
    consumer_secret = PasswordField(
        "Consumer Secret",
        filters=[stripped],
        validators=[Length(max=LONGEST_TEXT), visible],
    )
    next_consumer_secret = PasswordField(
        "Next Consumer Secret",
        filters=[stripped],
        validators=[Length(max=LONGEST_TEXT), visible],
    )

    def validate_application_name(self, field: Field) -> None:
        if len(name_key(field.data).encode("utf-8", "replace")) > LONGEST_KEY:
            raise ValidationError("This is too long once its characters are spelt out.")

    def validate_salesforce_domain(self, field: Field) -> None:
        try:
            self.domain = parse_domain(field.data)
        except DomainError as error:
            raise ValidationError(str(error)) from None
        if self._takes(Flow.CLIENT_CREDENTIALS):
            self._take_client_credentials(self.domain)

    def _take_client_credentials(self, domain: SalesforceDomain) -> None:
        if not domain.serves_client_credentials:
            raise ValidationError(
                "Client credentials take the org’s My Domain, such as"
                " acme.my.salesforce.com. This host would answer"
                " ‘invalid_grant: request not supported on this domain’."
            )

    def validate_consumer_secret(self, field: Field) -> None:
        self._keep_at_home(field)
        needed = self._takes(Flow.CLIENT_CREDENTIALS)
        if needed and not field.data and not self._stores("consumer_secret"):
            raise ValidationError(
                "Client credentials are Client ID and Consumer Secret, and no secret"
                " is stored. Type it."
            )

    def validate_next_consumer_secret(self, field: Field) -> None:
        self._keep_at_home(field)

    def _keep_at_home(self, field: Field) -> None:
        """Let nobody read the stored secret by having it sent to a host of theirs."""
        if field.data or not self.domain or not self.stored:
            return
        if self._stores(field.name) and self.domain.kin != self.stored.domain.kin:
            raise ValidationError(
                "The Salesforce Domain was changed to one of somebody else. Type the"
                " secret again if it is to be sent there."
            )

    def _takes(self, flow: Flow) -> bool:
        return bool(self.flow.data == flow)

    def _stores(self, column: str) -> bool:
        return self.stored is not None and getattr(self.stored, column) is not None
