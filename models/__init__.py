"""The tables, and what their rows can do."""

from models.applications import (
    LARGEST_ID,
    ExternalApplication,
    any_to_mark,
    mark_expired,
    name_key,
)
from models.attempts import (
    KEPT,
    LEASE,
    Attempt,
    Outcome,
    any_open,
    finished_since,
    is_held,
    left_behind,
    open_attempt,
    prune_attempts,
)
from models.audit import AuditEvent, AuditHead, Event
from models.authorizations import PendingAuthorization
from models.clients import DEFAULT_SESSION_TIMEOUT, LONGEST_TEXT, Flow, Lane, Secret
from models.grants import LONGEST_RESPONSE, SESSION_TIMEOUTS, ExpirySource
from models.sites import RemoteSite, find_site, gate, site_for
from models.users import Invitation, Passkey, Role, SignIn, User

__all__ = [
    "DEFAULT_SESSION_TIMEOUT",
    "KEPT",
    "LARGEST_ID",
    "LEASE",
    "LONGEST_RESPONSE",
    "LONGEST_TEXT",
    "SESSION_TIMEOUTS",
    "Attempt",
    "AuditEvent",
    "AuditHead",
    "Event",
    "ExpirySource",
    "ExternalApplication",
    "Flow",
    "Invitation",
    "Lane",
    "Outcome",
    "Passkey",
    "PendingAuthorization",
    "RemoteSite",
    "Role",
    "Secret",
    "SignIn",
    "User",
    "any_open",
    "any_to_mark",
    "find_site",
    "finished_since",
    "gate",
    "is_held",
    "left_behind",
    "mark_expired",
    "name_key",
    "open_attempt",
    "prune_attempts",
    "site_for",
]
