"""Part of the form of an External Application: for whom a key signs, and which."""

import re
from contextlib import suppress

from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    StringField,
    TextAreaField,
)
from wtforms.validators import Length, ValidationError

from forms.clients import ClientForm
from forms.fields import stripped
from models import LONGEST_TEXT, Flow, User
from salesforce import (
    LOGIN,
    LONGEST_COMMON_NAME,
    TEST,
    DomainError,
    KeyPair,
    KeyPairError,
    check_pair,
    generate,
    parse_domain,
    parse_https_url,
    read_certificate,
    read_private_key,
)
from vault import UnreadableSecret

USERNAME = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
)
LONGEST_USERNAME = 80
"""Characters of Salesforce's field."""
NOT_APPROVED = (
    "The org would answer ‘invalid_grant: user hasn't approved this consumer’."
)


class SecretAreaField(TextAreaField):
    """A text area that never shows what was typed into it."""

    def _value(self) -> str:
        return ""


class AssertionForm(ClientForm):
    """The fields of the JWT bearer flow: username, audience, key and certificate."""

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

    @property
    def audiences(self) -> tuple[str, ...]:
        """What is offered as Audience."""
        try:
            return parse_domain(self.salesforce_domain.data or "").audiences
        except DomainError:
            return LOGIN, TEST

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
