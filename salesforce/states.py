"""The states of a connection, and what else goes by one of a few names."""

from enum import StrEnum


class State(StrEnum):
    """What an admin has to know about a connection before anything else."""

    NEVER_AUTHORIZED = "never_authorized"
    CONNECTED = "connected"
    EXPIRED = "expired"
    LOGIN_REQUIRED = "login_required"
    """The grant is dead: only a login brings the next token."""
    BLOCKED = "blocked"
    """Somebody has to act in the org."""
    MISCONFIGURED = "misconfigured"
    """The record, or the app in the org, has to be corrected."""
    UNREACHABLE = "unreachable"
    """The org did not answer, or not now: try later."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """A rotating refresh token was sent and the answer was lost."""


class GrantType(StrEnum):
    """The grant types that Orgdesk asks with, as the token endpoint calls them."""

    CODE = "authorization_code"
    REFRESH = "refresh_token"
    ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"
    CREDENTIALS = "client_credentials"


class Signature(StrEnum):
    """What the signature in a token answer says of its identity URL.

    It is made with the consumer secret, so it tells that the org has it too, and
    nothing of the token or of the instance URL.
    """

    VERIFIED = "verified"
    FAILED = "failed"
    """It is another's, or of no use, or what it signs is not there."""
    NOT_SENT = "not_sent"
    """None came, or there is no secret here to check it with."""


class Environment(StrEnum):
    """What kind of org a host leads to, as far as its name tells."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"
    SCRATCH = "scratch"
    DEVELOPER = "developer"
    """One for developing, trying or showing: none where a business runs."""
    SITE = "site"
    LOCAL = "local"
    CUSTOM = "custom"
    """A company's own name, before whatever org."""
