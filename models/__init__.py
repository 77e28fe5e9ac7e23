"""The tables, and what their rows can do."""

from models.applications import (
    LARGEST_ID,
    ExternalApplication,
    any_to_mark,
    mark_time,
)
from models.approvals import LIMIT as APPROVAL_LIMIT
from models.approvals import Approval, Ending
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
from models.attention import LAPSES_SOON, Attention
from models.audit import AuditEvent, AuditHead, Event
from models.authorizations import PendingAuthorization
from models.clients import (
    DEFAULT_SESSION_TIMEOUT,
    LONGEST_TEXT,
    USERNAME,
    Flow,
    Lane,
    Secret,
)
from models.details import LONGEST_NOTES
from models.grants import LONGEST_RESPONSE, SESSION_TIMEOUTS, ExpirySource
from models.holds import HeldToken, HoldReason
from models.life_lines import DEFAULT_IDLE_LIMIT, LONGEST_IDLE_LIMIT
from models.names import name_key
from models.panics import Panic, PanicRevocation, Progress, Scope, block_on
from models.sites import RemoteSite, find_site, gate, site_for
from models.users import Invitation, Passkey, Role, SignIn, User

__all__ = [
    "APPROVAL_LIMIT",
    "DEFAULT_IDLE_LIMIT",
    "DEFAULT_SESSION_TIMEOUT",
    "KEPT",
    "LAPSES_SOON",
    "LARGEST_ID",
    "LEASE",
    "LONGEST_IDLE_LIMIT",
    "LONGEST_NOTES",
    "LONGEST_RESPONSE",
    "LONGEST_TEXT",
    "SESSION_TIMEOUTS",
    "USERNAME",
    "Approval",
    "Attempt",
    "Attention",
    "AuditEvent",
    "AuditHead",
    "Ending",
    "Event",
    "ExpirySource",
    "ExternalApplication",
    "Flow",
    "HeldToken",
    "HoldReason",
    "Invitation",
    "Lane",
    "Outcome",
    "Panic",
    "PanicRevocation",
    "Passkey",
    "PendingAuthorization",
    "Progress",
    "RemoteSite",
    "Role",
    "Scope",
    "Secret",
    "SignIn",
    "User",
    "any_open",
    "any_to_mark",
    "block_on",
    "find_site",
    "finished_since",
    "gate",
    "is_held",
    "left_behind",
    "mark_time",
    "name_key",
    "open_attempt",
    "prune_attempts",
    "site_for",
]
