"""The form of a Remote Site."""

from flask_wtf import FlaskForm
from wtforms import BooleanField, Field, StringField
from wtforms.validators import DataRequired, ValidationError

from forms.fields import stripped
from models import RemoteSite
from salesforce import DomainError, parse_origin


class SiteForm(FlaskForm):  # type: ignore[misc]
    """Create or edit a Remote Site."""

    address = StringField(
        "Address",
        filters=[stripped],
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
