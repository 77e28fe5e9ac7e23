"""The tables, and what their rows can do."""

from models.applications import (
    LARGEST_ID,
    ExternalApplication,
    any_to_mark,
    mark_time,
)
from models.approvals import LIMIT as APPROVAL_LIMIT
from models.approvals import (
    Approval,
    Budget,
    Ending,
    budgets,
    end_approval,
    live_approvals,
    used_approvals,
)
from models.attempts import (
    KEPT,
    LEASE,
    TROUBLED,
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
from models.grants import LONGEST_RESPONSE, OVER_BROAD, SESSION_TIMEOUTS, ExpirySource
from models.holds import HeldToken, HoldReason, why_held
from models.identities import Named
from models.life_lines import DEFAULT_IDLE_LIMIT, LONGEST_IDLE_LIMIT
from models.names import name_key
from models.panics import (
    DELETED,
    WORK_LEASE,
    Panic,
    PanicRevocation,
    Progress,
    Scope,
    any_block,
    any_open_panic,
    block_on,
    is_worked_at,
    keep_work,
    leave_work,
    progress_of,
    take_work,
)
from models.sites import RemoteSite, find_site, gate, site_for
from models.users import Invitation, Passkey, Role, SignIn, User

__all__ = [
    "APPROVAL_LIMIT",
    "DEFAULT_IDLE_LIMIT",
    "DEFAULT_SESSION_TIMEOUT",
    "DELETED",
    "KEPT",
    "LAPSES_SOON",
    "LARGEST_ID",
    "LEASE",
    "LONGEST_IDLE_LIMIT",
    "LONGEST_NOTES",
    "LONGEST_RESPONSE",
    "LONGEST_TEXT",
    "OVER_BROAD",
    "SESSION_TIMEOUTS",
    "TROUBLED",
    "USERNAME",
    "WORK_LEASE",
    "Approval",
    "Attempt",
    "Attention",
    "AuditEvent",
    "AuditHead",
    "Budget",
    "Ending",
    "Event",
    "ExpirySource",
    "ExternalApplication",
    "Flow",
    "HeldToken",
    "HoldReason",
    "Invitation",
    "Lane",
    "Named",
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
    "any_block",
    "any_open",
    "any_open_panic",
    "any_to_mark",
    "block_on",
    "budgets",
    "end_approval",
    "find_site",
    "finished_since",
    "gate",
    "is_held",
    "is_worked_at",
    "keep_work",
    "leave_work",
    "left_behind",
    "live_approvals",
    "mark_time",
    "name_key",
    "open_attempt",
    "progress_of",
    "prune_attempts",
    "site_for",
    "take_work",
    "used_approvals",
    "why_held",
]
