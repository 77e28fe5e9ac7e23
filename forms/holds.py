"""The form that makes a record of its own of a held token."""

from forms.names import NamedForm


class SaveAsForm(NamedForm):
    """What the new record is to be called."""
