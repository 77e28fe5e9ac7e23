"""Who lives in the practice org, and what it has given out."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from hmac import compare_digest

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import ForeignKey, delete, select, update
from sqlalchemy.orm import Mapped, mapped_column, relationship

from practice_org.board import now, switches
from practice_org.database import Model, db

LOGIN = "authorization_code"
LEAST_BITS = 2_048
SCOPES = ("api", "refresh_token", "id", "openid", "web", "full", "offline_access")
CODE_LIFETIME = 15 * 60
"""Seconds, as at Salesforce."""


@dataclass(frozen=True)
class User:
    username: str
    password: str
    display_name: str
    user_id: str
    organization_id: str


USERS = {
    user.username: user
    for user in (
        User(
            "admin@practice.example",
            "practice-makes-perfect",
            "Ada Admin",
            "005000000000001AAA",
            "00D000000000001EAA",
        ),
        User(
            "integration@practice.example",
            "practice-makes-perfect",
            "Ira Integration",
            "005000000000002AAA",
            "00D000000000001EAA",
        ),
    )
}
OTHER_ORGANIZATION_ID = "00D000000000002EAA"
OTHER_ORGANIZATION = "Another Practice Org"
"""What answers name while the switchboard says "wrong org"."""
OTHER_USER = User(
    "somebody.else@practice.example",
    "",
    "Sam Somebody",
    "005000000000009AAA",
    "00D000000000001EAA",
)
"""Whom answers name while it says "wrong user"; nobody can log in as Sam."""


@dataclass(frozen=True)
class PracticeClient(ClientMixin):
    """The one external client app of the org: confidential, PKCE required."""

    client_id: str
    callback_urls: tuple[str, ...]

    def get_client_id(self) -> str:
        return self.client_id

    def get_default_redirect_uri(self) -> str:
        return self.callback_urls[0]

    def get_allowed_scope(self, scope: str | None) -> str:
        """Without a scope the app's own are granted; offline_access is an alias."""
        asked = scope.split() if scope else ["api", "refresh_token", "id"]
        granted = {
            "refresh_token" if name == "offline_access" else name for name in asked
        }
        return " ".join(name for name in SCOPES if name in granted)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        return redirect_uri in self.callback_urls

    def check_client_secret(self, client_secret: str) -> bool:
        accepted = switches().consumer_secrets.split(",")
        return any(
            compare_digest(one.strip().encode(), client_secret.encode())
            for one in accepted
        )

    def check_endpoint_auth_method(self, method: str, _endpoint: str) -> bool:
        return method in ("client_secret_post", "client_secret_basic")

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return True


class Code(Model, AuthorizationCodeMixin):
    """An authorization code; it is used once."""

    __tablename__ = "code"

    code: Mapped[str] = mapped_column(primary_key=True)
    redirect_uri: Mapped[str]
    scope: Mapped[str]
    username: Mapped[str]
    code_challenge: Mapped[str]
    code_challenge_method: Mapped[str]
    expires_at: Mapped[float] = mapped_column(default=lambda: now() + CODE_LIFETIME)
    used: Mapped[bool] = mapped_column(default=False)

    def get_redirect_uri(self) -> str:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope

    @classmethod
    def take(cls, code: str) -> "Code | None":
        """Use the code up; None where it is unknown, used or too old."""
        return db.session.scalar(
            update(cls)
            .where(cls.code == code, cls.used.is_(False), cls.expires_at > now())
            .values(used=True)
            .returning(cls)
        )


class Certificate(Model):
    """The X.509 certificate of the key that signs assertions: one or none."""

    __tablename__ = "certificate"

    pem: Mapped[str] = mapped_column(primary_key=True)

    @property
    def fingerprint(self) -> str:
        """The hex digits of its SHA-256."""
        return (
            x509.load_pem_x509_certificate(self.pem.encode())
            .fingerprint(SHA256())
            .hex()
        )

    @classmethod
    def current(cls) -> "Certificate | None":
        return db.session.scalar(select(cls))

    @classmethod
    def upload(cls, pem: str) -> None:
        """Replace it, or take it away where `pem` is empty.

        Raises ValueError for anything else than a certificate of an RSA key of
        2,048 bits or more.
        """
        kept = []
        if pem.strip():
            certificate = x509.load_pem_x509_certificate(pem.encode())
            key = certificate.public_key()
            if not isinstance(key, RSAPublicKey) or key.key_size < LEAST_BITS:
                raise ValueError("its key is not RSA or too short")
            kept.append(cls(pem=certificate.public_bytes(Encoding.PEM).decode()))
        db.session.execute(delete(cls))
        db.session.add_all(kept)
        db.session.commit()


class Approval(Model):
    """A user's approval of the app, and the family of tokens that came of it.

    Where the admin approved the user instead, by a flow without a login page, it
    stands for the session alone.
    """

    __tablename__ = "approval"

    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str]
    scope: Mapped[str]
    revoked: Mapped[bool] = mapped_column(default=False)
    flow: Mapped[str] = mapped_column(server_default=LOGIN)
    """The grant type by which it came."""

    @property
    def user(self) -> User:
        return USERS[self.username]

    def end(self) -> bool:
        """Revoke it; False where somebody was faster."""
        ended = db.session.execute(
            update(Approval)
            .where(Approval.id == self.id, Approval.revoked.is_(False))
            .values(revoked=True)
        )
        return bool(ended.rowcount)  # type: ignore[attr-defined]

    @classmethod
    def of(cls, user: User) -> "Approval | None":
        """Return a live one that the user gave at the login page."""
        return next(iter(cls.all_of(user)), None)

    @classmethod
    def all_of(cls, user: User) -> Sequence["Approval"]:
        """Return all that live of those that the user gave, the oldest first."""
        live = select(cls).where(
            cls.username == user.username, cls.flow == LOGIN, cls.revoked.is_(False)
        )
        return db.session.scalars(live.order_by(cls.id)).all()


class Token(Model, TokenMixin):
    """An access or a refresh token."""

    __tablename__ = "token"

    token: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    approval_id: Mapped[int] = mapped_column(ForeignKey("approval.id"))
    issued_at: Mapped[float] = mapped_column(default=now)
    lifetime: Mapped[int] = mapped_column(
        default=lambda: switches().session_timeout, server_default="7200"
    )
    """Seconds that an access token lives; a refresh token has no end."""
    revoked: Mapped[bool] = mapped_column(default=False)
    """For a refresh token: used up by rotation."""

    approval: Mapped[Approval] = relationship()

    @classmethod
    def find(cls, token: str, kind: str | None = None) -> "Token | None":
        found = db.session.get(cls, token)
        return found if found and kind in (None, found.kind) else None

    @classmethod
    def shared(cls, user: User, flow: str) -> "Token | None":
        """Return the access token that lives, of a flow without a login page."""
        given = select(cls).join(Approval).where(cls.revoked.is_(False))
        ours = given.where(Approval.username == user.username, Approval.flow == flow)
        live = (token for token in db.session.scalars(ours) if token.is_live)
        return next(live, None)

    def check_client(self, _client: PracticeClient) -> bool:
        return True

    def get_scope(self) -> str:
        return self.approval.scope

    def get_expires_in(self) -> int:
        return self.lifetime if self.kind == "access_token" else 0

    def is_expired(self) -> bool:
        return self.kind == "access_token" and self.issued_at + self.lifetime < now()

    def is_revoked(self) -> bool:
        return self.revoked or self.approval.revoked

    @property
    def is_live(self) -> bool:
        return not (self.is_expired() or self.is_revoked())

    def retire(self) -> bool:
        """Revoke it, or use it up by rotation; False where somebody was faster."""
        used = db.session.execute(
            update(Token)
            .where(Token.token == self.token, Token.revoked.is_(False))
            .values(revoked=True)
        )
        return bool(used.rowcount)  # type: ignore[attr-defined]


def new_code() -> str:
    """A code as Salesforce's look: it ends in signs that an URL has to escape."""
    return f"aPrx{secrets.token_urlsafe(48)}=="


def new_access_token(organization_id: str) -> str:
    """15 characters of the organization, an exclamation mark, 96 characters."""
    return f"{organization_id[:15]}!{secrets.token_hex(48)}"


def new_refresh_token() -> str:
    return f"5Aep861{secrets.token_urlsafe(60).replace('-', '.')}"
