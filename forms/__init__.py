"""The forms: labels, limits, and a sentence for everything that cannot be taken."""

from forms.applications import ApplicationForm
from forms.holds import SaveAsForm
from forms.panics import PanicForm
from forms.sites import SiteForm
from forms.users import InvitationForm, WelcomeForm

__all__ = [
    "ApplicationForm",
    "InvitationForm",
    "PanicForm",
    "SaveAsForm",
    "SiteForm",
    "WelcomeForm",
]
