"""The one door to Salesforce: plain values out, one exception family.

Nothing else in Orgdesk touches the network or requests-oauthlib.
"""

from salesforce.answers import TokenAnswer
from salesforce.errors import SalesforceError, decode
from salesforce.hosts import (
    DomainError,
    SalesforceDomain,
    parse_domain,
    parse_https_url,
)
from salesforce.oauth import (
    AuthorizationRequest,
    Client,
    authorization_request,
    exchange_code,
    refresh_access_token,
)
from salesforce.redaction import is_logged_field, redact, redact_log
from salesforce.states import State
from salesforce.transport import quiet_loggers

__all__ = [
    "AuthorizationRequest",
    "Client",
    "DomainError",
    "SalesforceDomain",
    "SalesforceError",
    "State",
    "TokenAnswer",
    "authorization_request",
    "decode",
    "exchange_code",
    "is_logged_field",
    "parse_domain",
    "parse_https_url",
    "quiet_loggers",
    "redact",
    "redact_log",
    "refresh_access_token",
]
