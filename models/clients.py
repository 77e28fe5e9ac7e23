"""The OAuth client of a record: the app in the org, and how it asks for tokens."""

import re
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache

from sqlalchemy import Enum, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from database import now
from salesforce import (
    CertificateFacts,
    Environment,
    KeyPairError,
    SalesforceDomain,
    describe_certificate,
    parse_domain,
)
from vault import Encrypted, Sealed

LONGEST_TEXT = 255
LONGEST_WORD = 32
USERNAME = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"
)
"""What Salesforce takes for a user's name: like an address, and often none."""
DEFAULT_SESSION_TIMEOUT = 120
"""Minutes: what Salesforce's orgs have unless an admin chose otherwise."""
ENDS_SOON = timedelta(days=30)
"""How long before its end a certificate is to be replaced."""


class Flow(StrEnum):
    """How a record gets its tokens, in Salesforce's own names."""

    WEB_SERVER = "web_server"
    JWT_BEARER = "jwt_bearer"
    CLIENT_CREDENTIALS = "client_credentials"


class Lane(StrEnum):
    """The ways to a token."""

    SILENT = "silent"
    """With the stored refresh token, without a page."""
    PAGE_LESS = "page_less"
    """By JWT bearer or client credentials: no refresh token, no page."""
    BROWSER = "browser"
    """Through the org's login page."""


class Secret(StrEnum):
    """Which of the two consumer secrets, in the order in which they are tried."""

    CURRENT = "current"
    NEXT = "next"


def words(kind: type[StrEnum], length: int = LONGEST_WORD) -> Enum:
    """Return a column type that stores the values of `kind` as short texts."""
    return Enum(
        kind,
        native_enum=False,
        length=length,
        values_callable=lambda members: [member.value for member in members],
    )


class OAuthClient:
    """The columns that say which app asks, where, and with what it proves itself."""

    salesforce_domain: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    client_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    flow: Mapped[Flow] = mapped_column(words(Flow), default=Flow.WEB_SERVER)
    consumer_secret: Mapped[Sealed | None] = mapped_column(Encrypted)
    next_consumer_secret: Mapped[Sealed | None] = mapped_column(Encrypted)
    """Tried where the org refuses the current one: it is being changed there."""
    secret_used: Mapped[Secret | None] = mapped_column(words(Secret))
    """The one that the org took last."""
    callback_url: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    requested_scopes: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    prompt_login: Mapped[bool] = mapped_column(default=True)
    username: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    """Whom a JWT bearer assertion is about."""
    audience: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    """Whom it is for; empty for the org's own address."""
    private_key: Mapped[Sealed | None] = mapped_column(Encrypted)
    certificate: Mapped[str | None] = mapped_column(Text)
    session_timeout: Mapped[int] = mapped_column(default=DEFAULT_SESSION_TIMEOUT)
    """Minutes that an access token is taken to live where nothing better is known."""

    @property
    def domain(self) -> SalesforceDomain:
        return parse_domain(self.salesforce_domain)

    @property
    def environment(self) -> Environment:
        """What kind of org it is, as far as its host tells."""
        return _environment(self.salesforce_domain)

    @property
    def app(self) -> tuple[str, str]:
        """Which app it is, and where: what a grant belongs to."""
        return self.salesforce_domain, self.client_id

    @property
    def assertion_audience(self) -> str:
        return self.audience or self.domain.issuer

    @property
    def certificate_facts(self) -> CertificateFacts | None:
        """What the certificate says of itself, None where there is none to read."""
        try:
            return describe_certificate(self.certificate) if self.certificate else None
        except KeyPairError:
            return None

    @property
    def certificate_ends(self) -> str | None:
        """`past` or `soon`, where that is so."""
        facts = self.certificate_facts
        if facts is None or facts.not_after > now() + ENDS_SOON:
            return None
        return "soon" if facts.not_after > now() else "past"

    @property
    def can_promote(self) -> bool:
        """Whether the org took the next secret and refused the current one."""
        return self.next_consumer_secret is not None and self.secret_used is Secret.NEXT

    def promote_secret(self) -> None:
        """Make the next consumer secret the current one."""
        self.consumer_secret, self.next_consumer_secret = (
            self.next_consumer_secret,
            None,
        )
        self.secret_used = Secret.CURRENT

    def drop_next_secret(self) -> bool:
        """Keep no next consumer secret; False where there is none already."""
        if self.next_consumer_secret is None:
            return False
        self.next_consumer_secret = None
        if self.secret_used is Secret.NEXT:
            self.secret_used = None
        return True


@lru_cache(maxsize=1_024)
def _environment(domain: str) -> Environment:
    """Read it once: a list asks for that of each row, and it takes its time."""
    return parse_domain(domain).environment
