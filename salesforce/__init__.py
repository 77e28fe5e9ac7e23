"""The one door to Salesforce: plain values out, one exception family.

Nothing else in Orgdesk touches the network or requests-oauthlib.
"""

from salesforce.answers import Introspection, TokenAnswer
from salesforce.errors import (
    NO_SITE,
    TIMEOUT,
    SalesforceError,
    decode,
    no_remote_site,
)
from salesforce.hosts import (
    LOGIN,
    TEST,
    DomainError,
    Origin,
    SalesforceDomain,
    origin_of,
    parse_domain,
    parse_https_url,
    parse_origin,
    setup_url,
)
from salesforce.ids import long_id, same_id
from salesforce.key_pairs import (
    LONGEST_COMMON_NAME,
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
    authorization_request,
    exchange_code,
    present_assertion,
    refresh_access_token,
    use_client_credentials,
)
from salesforce.redaction import is_logged_field, redact, redact_log
from salesforce.session import Client
from salesforce.states import Environment, GrantType, Signature, State
from salesforce.tokens import Revocation, introspect, is_alive, revoke
from salesforce.transport import init_app, quiet_loggers
from salesforce.trips import Trip

__all__ = [
    "LOGIN",
    "LONGEST_COMMON_NAME",
    "NO_SITE",
    "TEST",
    "TIMEOUT",
    "AuthorizationRequest",
    "CertificateFacts",
    "Client",
    "DomainError",
    "Environment",
    "GrantType",
    "Introspection",
    "KeyPair",
    "KeyPairError",
    "Origin",
    "Revocation",
    "SalesforceDomain",
    "SalesforceError",
    "Signature",
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
    "introspect",
    "is_alive",
    "is_logged_field",
    "long_id",
    "no_remote_site",
    "origin_of",
    "parse_domain",
    "parse_https_url",
    "parse_origin",
    "present_assertion",
    "quiet_loggers",
    "read_certificate",
    "read_private_key",
    "redact",
    "redact_log",
    "refresh_access_token",
    "revoke",
    "same_id",
    "setup_url",
    "use_client_credentials",
]
