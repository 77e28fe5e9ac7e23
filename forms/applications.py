"""The form of an External Application: what Salesforce would refuse is refused here."""

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask_wtf import FlaskForm
from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import DataRequired, Length, ValidationError

from forms.fields import NAME_RULES, NAME_TAKEN, one_line, stripped, visible
from models import (
    DEFAULT_SESSION_TIMEOUT,
    LONGEST_TEXT,
    SESSION_TIMEOUTS,
    USERNAME,
    ExternalApplication,
    Flow,
    User,
)
from salesforce import (
    LOGIN,
    LONGEST_COMMON_NAME,
    TEST,
    DomainError,
    KeyPair,
    KeyPairError,
    SalesforceDomain,
    check_pair,
    generate,
    parse_domain,
    parse_https_url,
    read_certificate,
    read_private_key,
)
from vault import UnreadableSecret

FLOWS: Any = [flow.value for flow in Flow]
"""Untyped, because the stubs want pairs, which WTForms wants no more."""
MINUTES: Any = [str(int(timeout.total_seconds() // 60)) for timeout in SESSION_TIMEOUTS]
SCOPES = re.compile(r"([\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*)?")
"""RFC 6749, section 3.3."""
LONGEST_USERNAME = 80
"""Characters of Salesforce's field."""
NOT_APPROVED = (
    "The org would answer ‘invalid_grant: user hasn't approved this consumer’."
)

DESCRIBING = (
    "application_name",
    "salesforce_domain",
    "client_id",
    "flow",
    "consumer_secret",
    "next_consumer_secret",
    "username",
    "audience",
    "private_key",
    "certificate",
    "callback_url",
    "requested_scopes",
    "prompt_login",
    "session_timeout",
)
SECRETS = ("consumer_secret", "next_consumer_secret", "private_key")
"""What the form takes and never shows."""


class SecretAreaField(TextAreaField):
    """A text area that never shows what was typed into it."""

    def _value(self) -> str:
        return ""


class ApplicationForm(FlaskForm):  # type: ignore[misc]
    """Create or edit an External Application.

    Secrets are write-only: they are never put into the form, and left empty
    they keep the stored ones. `stored` is the record that is edited.
    """

    stored: ExternalApplication | None = None
    domain: SalesforceDomain | None = None
    """The Salesforce Domain, once it is read."""

    application_name = StringField(
        "Application Name",
        filters=[stripped],
        validators=NAME_RULES,
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
    username = StringField(
        "Username", filters=[stripped], validators=[Length(max=LONGEST_USERNAME)]
    )
    confirmed_username = HiddenField()
    """The username, and where, that was saved again after a warning."""
    audience = StringField(
        "Audience", filters=[stripped], validators=[Length(max=LONGEST_TEXT)]
    )
    generate_key_pair = BooleanField("Generate a key pair here")
    private_key = SecretAreaField("Private Key", filters=[stripped])
    certificate = TextAreaField("Certificate", filters=[stripped])
    callback_url = StringField(
        "Callback URL",
        filters=[stripped],
        validators=[
            DataRequired(
                "Without a Callback URL the org cannot send the browser back."
            ),
            Length(max=LONGEST_TEXT),
        ],
    )
    requested_scopes = StringField(
        "Scopes", filters=[one_line], validators=[Length(max=LONGEST_TEXT)]
    )
    prompt_login = BooleanField("Ask for the login every time", default=True)
    session_timeout = SelectField(
        "Session Timeout (minutes)",
        choices=MINUTES,
        default=str(DEFAULT_SESSION_TIMEOUT),
    )
    changed_at = HiddenField()
    """When the record had last been changed, as the form was opened."""

    @property
    def audiences(self) -> tuple[str, ...]:
        """What is offered as Audience."""
        try:
            return parse_domain(self.salesforce_domain.data or "").audiences
        except DomainError:
            return LOGIN, TEST

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

    def validate_username(self, field: Field) -> None:
        if field.data and not USERNAME.fullmatch(field.data):
            raise ValidationError(
                "Usernames look like ada@acme.com, with nothing before or behind."
                f" {NOT_APPROVED}"
            )
        if not self._takes(Flow.JWT_BEARER):
            return
        if not field.data:
            raise ValidationError(
                "The JWT bearer flow gets a token of a certain user. Type who."
            )
        meant = f"{field.data} {self.domain}"
        doubt = self._doubt(field.data)
        if doubt and self.confirmed_username.data != meant:
            self.confirmed_username.data = meant
            raise ValidationError(
                f"{doubt} {NOT_APPROVED} Save again if it is right all the same."
            )

    def _doubt(self, username: str) -> str | None:
        """Say why this may be an e-mail address or a user of production."""
        stored, sandbox = self.stored, self.domain and self.domain.sandbox
        meant = (Flow.JWT_BEARER, username, str(self.domain))
        if stored and meant == (
            stored.flow,
            stored.username,
            stored.salesforce_domain,
        ):
            return None
        if sandbox and not username.lower().endswith(f".{sandbox}"):
            return f"In this sandbox usernames end in .{sandbox}, unless changed."
        if User.find(username):
            return (
                "This is the e-mail address of a user of Orgdesk, and no username"
                " perhaps."
            )
        return None

    def validate_audience(self, field: Field) -> None:
        if field.data:
            try:
                parse_https_url(field.data)
            except DomainError as error:
                raise ValidationError(str(error)) from None
        if self._sends_signature_away(field.data):
            raise ValidationError(
                "What is signed for this audience would be sent to a host of somebody"
                " else, who could use it. Paste the private key again if that is meant."
            )

    def _sends_signature_away(self, audience: str) -> bool:
        """Tell whether a stored key would now sign for one owner and send to another.

        The key itself is never sent, but for some minutes the assertion is as good.
        """
        domain, stored = self.domain, self.stored
        if not domain or not stored or not stored.private_key or self._brings_key:
            return False
        audience = audience or domain.issuer
        before = (stored.salesforce_domain, stored.assertion_audience)
        is_new = (str(domain), audience) != before
        return is_new and _kin(audience) != domain.kin

    def validate_private_key(self, field: Field) -> None:
        if field.data:
            if self.generate_key_pair.data:
                raise ValidationError("Paste a key or have one generated, not both.")
            try:
                field.data = read_private_key(field.data)
            except KeyPairError as error:
                raise ValidationError(str(error)) from None
        needed = self._takes(Flow.JWT_BEARER)
        if needed and not self._brings_key and not self._stores("private_key"):
            raise ValidationError(
                "The JWT bearer flow signs with a private key, and none is stored."
                " Paste one, or have a key pair generated."
            )

    def validate_certificate(self, field: Field) -> None:
        """Take it beside its key, typed now or stored; show no key that is in it."""
        typed = field.data
        if "PRIVATE KEY" in typed:
            field.data = ""
        if not typed or self.private_key.errors:
            return
        if self.generate_key_pair.data:
            raise ValidationError(
                "A pair that is generated brings its certificate. Leave this empty."
            )
        try:
            certificate = read_certificate(typed)
            check_pair(self._key(), certificate)
        except KeyPairError as error:
            raise ValidationError(str(error)) from None
        field.data = certificate

    def _key(self) -> str:
        """Return the private key that a certificate is to be of."""
        if self.private_key.data:
            return str(self.private_key.data)
        try:
            stored = self.stored.reveal("private_key") if self.stored else None
        except UnreadableSecret:
            raise KeyPairError(
                "No key of this server opens the stored private key. Paste it again"
                " beside its certificate."
            ) from None
        if stored is None:
            raise KeyPairError(
                "This needs its private key beside it: a certificate signs nothing."
            )
        return stored

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
            self._ask_for_secrets_again()
        return valid

    def apply_to(self, application: ExternalApplication) -> list[str]:
        """Write the form into the record; the form has to be valid.

        Returns the labels of the fields that are not as they were.
        """
        assert self.domain is not None
        before = {name: getattr(application, name) for name in DESCRIBING}
        pair = self._pair()
        application.describe(
            application_name=self.application_name.data or "",
            salesforce_domain=self.domain,
            client_id=self.client_id.data or "",
            flow=Flow(self.flow.data),
            consumer_secret=self.consumer_secret.data or "",
            next_consumer_secret=self.next_consumer_secret.data or "",
            username=self.username.data or "",
            audience=self.audience.data or "",
            private_key=pair.private_key,
            certificate=pair.certificate,
            callback_url=self.callback_url.data or "",
            requested_scopes=self.requested_scopes.data or "",
            prompt_login=bool(self.prompt_login.data),
            session_timeout=int(self.session_timeout.data),
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
            NAME_TAKEN,
        ]
        self._ask_for_secrets_again()

    def _takes(self, flow: Flow) -> bool:
        return bool(self.flow.data == flow)

    def _stores(self, column: str) -> bool:
        return self.stored is not None and getattr(self.stored, column) is not None

    @property
    def _brings_key(self) -> bool:
        return bool(self.private_key.data or self.generate_key_pair.data)

    def _pair(self) -> KeyPair:
        """Return the key and the certificate that are new; "" keeps what is stored."""
        if self.generate_key_pair.data:
            return _pair_named(self.application_name.data or "")
        key, certificate = self.private_key.data or "", self.certificate.data or ""
        stored = self.stored.certificate if self.stored else None
        if key and stored and not certificate:
            with suppress(KeyPairError):  # it goes with the key of before
                check_pair(key, stored)
                certificate = stored
        return KeyPair(key, certificate)

    def _ask_for_secrets_again(self) -> None:
        for name in SECRETS:
            field = self[name]
            if field.data:
                verb = "Paste" if isinstance(field, TextAreaField) else "Type"
                again = f"{verb} the {field.label.text} again: it is not kept until it"
                field.errors = [*field.errors, f"{again} is saved."]


def _kin(url: str) -> str | None:
    """Tell whose host a URL names, None where no org is there."""
    try:
        return parse_domain(url).kin
    except DomainError:
        return None


def _pair_named(name: str) -> KeyPair:
    """Make a key pair with this name, as far as a certificate holds it."""
    cut = name.encode("utf-8", "replace")[:LONGEST_COMMON_NAME]
    try:
        return generate(cut.decode("utf-8", "ignore"))
    except KeyPairError:
        return generate("Orgdesk")
