"""The one door to Salesforce: plain values out, one exception family.

Nothing else in Orgdesk touches the network or requests-oauthlib.
"""

from salesforce.answers import TokenAnswer
from salesforce.errors import NO_SITE, TIMEOUT, SalesforceError, decode, no_remote_site
from salesforce.hosts import (
    DomainError,
    Origin,
    SalesforceDomain,
    origin_of,
    parse_domain,
    parse_https_url,
    parse_origin,
)
from salesforce.key_pairs import (
    CertificateFacts,
    KeyPair,
    KeyPairError,
    check_pair,
    describe_certificate,
    generate,
    read_certificate,
    read_private_key,
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
from salesforce.transport import init_app, quiet_loggers
from salesforce.trips import Trip

from salesforce.shim import *  # noqa
from salesforce.shim import Revocation, Introspection, introspect, is_alive, present_assertion, revoke, setup_url, use_client_credentials

__all__ = [
    "NO_SITE",
    "TIMEOUT",
    "AuthorizationRequest",
    "CertificateFacts",
    "Client",
    "DomainError",
    "KeyPair",
    "KeyPairError",
    "Origin",
    "SalesforceDomain",
    "SalesforceError",
    "State",
    "TokenAnswer",
    "Trip",
    "authorization_request",
    "check_pair",
    "decode",
    "describe_certificate",
    "exchange_code",
    "generate",
    "init_app",
    "is_logged_field",
    "no_remote_site",
    "origin_of",
    "parse_domain",
    "parse_https_url",
    "parse_origin",
    "quiet_loggers",
    "read_certificate",
    "read_private_key",
    "redact",
    "redact_log",
    "refresh_access_token",
]
