"""How urgently a record wants a person: what the list can be sorted by."""

from datetime import timedelta
from enum import IntEnum

from salesforce import State

LAPSES_SOON = timedelta(days=7)
"""How long before a refresh token lapses it is warned of."""


class Attention(IntEnum):
    """The higher, the more urgent. A value is stored: it is never changed."""

    FINE = 0
    NEW = 1
    """Nothing was ever granted."""
    EXPIRED = 2
    """The access token's time has passed; the next refresh brings another."""
    LAPSES_SOON = 3
    """Its refresh token goes unless it is used."""
    UNREACHABLE = 4
    """It may pass by itself."""
    ACT = 5
    """Nothing goes on until somebody acts."""


OF_STATE = {
    State.NEVER_AUTHORIZED: Attention.NEW,
    State.CONNECTED: Attention.FINE,
    State.EXPIRED: Attention.EXPIRED,
    State.LOGIN_REQUIRED: Attention.ACT,
    State.BLOCKED: Attention.ACT,
    State.MISCONFIGURED: Attention.ACT,
    State.UNREACHABLE: Attention.UNREACHABLE,
    State.OUTCOME_UNKNOWN: Attention.ACT,
}
