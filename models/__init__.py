"""The tables, and what their rows can do."""

from models.applications import (
    LARGEST_ID,
    LONGEST_RESPONSE,
    LONGEST_TEXT,
    ExternalApplication,
    Lane,
    any_to_mark,
    mark_expired,
    name_key,
)
from models.audit import AuditEvent, AuditHead, Event
from models.authorizations import PendingAuthorization
from models.sites import RemoteSite, find_site, gate, site_for
from models.users import Invitation, Passkey, Role, SignIn, User

__all__ = [
    "LARGEST_ID",
    "LONGEST_RESPONSE",
    "LONGEST_TEXT",
    "AuditEvent",
    "AuditHead",
    "Event",
    "ExternalApplication",
    "Invitation",
    "Lane",
    "Passkey",
    "PendingAuthorization",
    "RemoteSite",
    "Role",
    "SignIn",
    "User",
    "any_to_mark",
    "find_site",
    "gate",
    "mark_expired",
    "name_key",
    "site_for",
]
