"""The form of an External Application: what Salesforce would refuse is refused here."""

import re
from collections.abc import Mapping
from typing import Any

from wtforms import (
    BooleanField,
    Field,
    HiddenField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import DataRequired, Length, ValidationError

from forms.details import DetailsForm
from forms.fields import one_line, stripped
from models import (
    DEFAULT_SESSION_TIMEOUT,
    LONGEST_TEXT,
    SESSION_TIMEOUTS,
    ExternalApplication,
    Flow,
)
from salesforce import DomainError, parse_https_url

MINUTES: Any = [str(int(timeout.total_seconds() // 60)) for timeout in SESSION_TIMEOUTS]
SCOPES = re.compile(r"([A-Za-z0-9_.:/-]+( [A-Za-z0-9_.:/-]+)*)?")
"""Of what RFC 6749, section 3.3, allows, what scopes are made of in practice."""

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
    "idle_limit",
    "owner",
    "used_by",
    "tags",
    "notes",
)
SECRETS = ("consumer_secret", "next_consumer_secret", "private_key")
"""What the form takes and never shows."""


class ApplicationForm(DetailsForm):
    """Create or edit an External Application.

    Secrets are write-only: they are never put into the form, and left empty
    they keep the stored ones. `stored` is the record that is edited.
    """

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
            idle_limit=self.idle_limit.data,
            owner=self.owner.data or "",
            used_by=self.used_by.data or "",
            tags=self.tags.data or "",
            notes=self.notes.data or "",
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
        super().refuse_name()
        self._ask_for_secrets_again()

    def _ask_for_secrets_again(self) -> None:
        for name in SECRETS:
            field = self[name]
            if field.data:
                verb = "Paste" if isinstance(field, TextAreaField) else "Type"
                again = f"{verb} the {field.label.text} again: it is not kept until it"
                field.errors = [*field.errors, f"{again} is saved."]
