"""Who may use Orgdesk: users and their roles, sign-ins, passkeys, one-time links."""

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from flask_security import UserMixin, WebAuthnMixin
from passlib.exc import UsedTokenError
from sqlalchemy import (
    JSON,
    Enum,
    ForeignKey,
    String,
    delete,
    exists,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import (
    Mapped,
    joinedload,
    mapped_column,
    query_expression,
    relationship,
    with_expression,
)

from database import Model, Moment, db, now
from models.clients import LONGEST_TEXT
from models.panics import any_open_panic
from vault import Encrypted, Sealed, UnreadableSecret, seal

TOKEN_BYTES = 32


class Role(StrEnum):
    """What a user may do; each role may also do what the ones before it may."""

    VIEWER = "viewer"
    """Sees records and states, never a secret."""
    OPERATOR = "operator"
    """Refreshes and reconnects."""
    ADMIN = "admin"
    """Creates, edits, deletes, reveals, exports; manages users, sites and keys."""

    def includes(self, other: "Role") -> bool:
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(other)


ROLE = Enum(
    Role,
    native_enum=False,
    length=16,
    values_callable=lambda roles: [role.value for role in roles],
)


class User(Model, UserMixin):
    """Somebody who signs in.

    The names that start with fs_, tf_ or mf_ are Flask-Security's.
    """

    __tablename__ = "user_account"
    audit_kind: ClassVar = "User"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(LONGEST_TEXT), unique=True)
    """In lower case."""
    role: Mapped[Role] = mapped_column(ROLE)
    active: Mapped[bool] = mapped_column(default=True)
    password: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    """An argon2 hash."""
    fs_uniquifier: Mapped[str] = mapped_column(
        String(64), unique=True, default=lambda: secrets.token_hex(TOKEN_BYTES)
    )
    fs_webauthn_user_handle: Mapped[str] = mapped_column(
        String(64), unique=True, default=lambda: secrets.token_hex(TOKEN_BYTES)
    )
    tf_primary_method: Mapped[str | None] = mapped_column(String(64))
    totp_secret: Mapped[Sealed | None] = mapped_column(Encrypted)
    totp_last_counter: Mapped[int] = mapped_column(default=0)
    recovery_codes: Mapped[Sealed | None] = mapped_column(Encrypted)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)

    webauthn: Mapped[list["Passkey"]] = relationship(  # type: ignore[assignment]
        cascade="all, delete-orphan"
    )
    sign_ins: Mapped[list["SignIn"]] = relationship(
        cascade="all, delete-orphan", back_populates="user", order_by="SignIn.id.desc()"
    )

    __table_args__ = ({"sqlite_autoincrement": True},)
    tf_phone_number = None

    @property
    def audit_name(self) -> str:
        return self.email

    @property
    def tf_totp_secret(self) -> str | None:
        return None if self.totp_secret is None else self.totp_secret.ciphertext

    @tf_totp_secret.setter
    def tf_totp_secret(self, ciphertext: str | None) -> None:
        self.totp_secret = None if ciphertext is None else Sealed(ciphertext)

    @property
    def mf_recovery_codes(self) -> list[str]:
        """The codes that are left; none where no key opens them."""
        if self.recovery_codes is None:
            return []
        try:
            return list(json.loads(self.recovery_codes.reveal()))
        except UnreadableSecret:
            return []

    @mf_recovery_codes.setter
    def mf_recovery_codes(self, codes: list[str] | None) -> None:
        self.recovery_codes = seal(json.dumps(codes)) if codes else None

    @property
    def second_factors(self) -> list[str]:
        """The second factors in use, in words."""
        passkeys = [f"passkey {passkey.name}" for passkey in self.webauthn]
        return ["authenticator app", *passkeys] if self.totp_secret else passkeys

    def may(self, role: Role | str) -> bool:
        return self.role.includes(Role(role))

    def use_totp(self, counter: int) -> None:
        """Take a code's counter, once; raise `UsedTokenError` the second time."""
        taken = db.session.execute(
            update(User)
            .where(User.id == self.id, User.totp_last_counter < counter)
            .values(totp_last_counter=counter)
        )
        if not taken.rowcount:  # type: ignore[attr-defined]
            raise UsedTokenError

    def use_recovery_code(self, code: str) -> bool:
        """Take a code out, once: the row is locked first, then read anew."""
        db.session.execute(
            update(User).where(User.id == self.id).values(active=User.active)
        )
        db.session.refresh(self, ["recovery_codes"])
        codes = self.mf_recovery_codes
        if code not in codes:
            return False
        codes.remove(code)
        self.mf_recovery_codes = codes
        return True

    def sign_out_everywhere(self) -> None:
        """End every sign-in of this user, in whatever browser."""
        self.fs_uniquifier = secrets.token_hex(TOKEN_BYTES)
        db.session.execute(
            update(SignIn)
            .where(SignIn.user_id == self.id, SignIn.ended_at.is_(None))
            .values(ended_at=now())
        )

    def start_afresh(self, password_hash: str) -> None:
        """Take a new password; what else opened the account is forgotten."""
        self.password = password_hash
        self.tf_primary_method = self.totp_secret = self.recovery_codes = None
        self.webauthn.clear()
        self.sign_out_everywhere()

    @staticmethod
    def find(email: str) -> "User | None":
        return db.session.scalar(select(User).where(User.email == email.lower()))

    @staticmethod
    def any() -> bool:
        return bool(db.session.scalar(select(exists().where(User.id.is_not(None)))))

    @staticmethod
    def active_admins() -> int:
        return (
            db.session.scalar(
                select(func.count())
                .select_from(User)
                .where(User.role == Role.ADMIN, User.active.is_(True))
            )
            or 0
        )


class Passkey(Model, WebAuthnMixin):
    """A WebAuthn credential of a user; the columns are Flask-Security's."""

    __tablename__ = "passkey"

    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), index=True
    )
    name: Mapped[str] = mapped_column(String(64))
    credential_id: Mapped[bytes] = mapped_column(unique=True)
    public_key: Mapped[bytes]
    sign_count: Mapped[int] = mapped_column(default=0)
    transports: Mapped[list[str] | None] = mapped_column(JSON)
    backup_state: Mapped[bool]
    device_type: Mapped[str] = mapped_column(String(64))
    extensions: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    usage: Mapped[str] = mapped_column(String(64))
    lastuse_datetime: Mapped[datetime] = mapped_column(Moment)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)


class SignIn(Model):
    """A browser that is signed in.

    The session cookie holds the token, this row its hash. A cookie that was
    copied is worth nothing once the row has ended, which signing out does.
    """

    __tablename__ = "sign_in"
    IDLE = timedelta(hours=4)
    """Without a request for this long, it ends."""
    LONGEST = timedelta(hours=24)
    KEPT = timedelta(days=90)
    """How long it can be told that there was one."""
    NOTED_EVERY = timedelta(minutes=5)
    """How often a request is noted, so that not each page view writes."""

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), index=True
    )
    address: Mapped[str] = mapped_column(String(64))
    browser: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    seen_at: Mapped[datetime] = mapped_column(Moment, default=now)
    ended_at: Mapped[datetime | None] = mapped_column(Moment)

    user: Mapped[User] = relationship(back_populates="sign_ins")
    in_panic: Mapped[bool | None] = query_expression()
    """Whether refreshes were blocked for anything when it was found."""

    __table_args__ = ({"sqlite_autoincrement": True},)

    @classmethod
    def begin(cls, user: User, address: str, browser: str) -> str:
        """Note a browser that has just signed in; return its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        db.session.execute(delete(cls).where(cls.created_at < now() - cls.KEPT))
        sign_in = cls(
            token_hash=token_hash(token),
            user=user,
            address=address[:64],
            browser=browser[:LONGEST_TEXT],
        )
        db.session.add(sign_in)
        return token

    @classmethod
    def find(cls, token: str) -> "SignIn | None":
        """Return the sign-in of this token if it is alive, with its user."""
        sign_in = db.session.scalar(
            select(cls)
            .where(cls.token_hash == token_hash(token))
            .options(
                joinedload(cls.user), with_expression(cls.in_panic, any_open_panic())
            )
        )
        return sign_in if sign_in and sign_in.is_alive else None

    @property
    def is_alive(self) -> bool:
        return (
            self.ended_at is None
            and self.seen_at > now() - self.IDLE
            and self.created_at > now() - self.LONGEST
            and self.user.active
        )

    def note(self) -> None:
        """Note a request; whoever asks for a page does not fail because of it."""
        if self.seen_at > now() - self.NOTED_EVERY:
            return
        try:
            self.seen_at = now()
            db.session.commit()
        except OperationalError:
            db.session.rollback()

    def end(self) -> None:
        self.ended_at = now()


class Invitation(Model):
    """A one-time link that lets somebody choose a password.

    With a `user` it gives that user a new start, else it makes one: with the
    `email` that is invited, or, for the first admin, with whatever is typed.
    """

    __tablename__ = "invitation"
    LIFETIME = timedelta(days=3)

    id: Mapped[int] = mapped_column(primary_key=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    email: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    role: Mapped[Role] = mapped_column(ROLE)
    user_id: Mapped[int | None] = mapped_column(
        ForeignKey("user_account.id", ondelete="CASCADE"), index=True
    )
    issued_by: Mapped[int | None]
    """The admin who made it, if it was one; their links end with them."""
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    expires_at: Mapped[datetime] = mapped_column(
        Moment, default=lambda: now() + Invitation.LIFETIME
    )
    used_at: Mapped[datetime | None] = mapped_column(Moment)

    user: Mapped[User | None] = relationship()
    audit_kind: ClassVar = "Invitation"

    @property
    def audit_name(self) -> str:
        return self.email or "the first admin"

    @classmethod
    def open(cls) -> "Sequence[Invitation]":
        """Return the links that can be used still."""
        alive = (cls.used_at.is_(None), cls.expires_at > now())
        return db.session.scalars(select(cls).where(*alive).order_by(cls.id)).all()

    @classmethod
    def end_all_of(cls, user: User) -> None:
        """End the links that lead to a user, and those that they made."""
        db.session.execute(
            update(cls)
            .where(
                cls.used_at.is_(None),
                or_(cls.user_id == user.id, cls.issued_by == user.id),
            )
            .values(used_at=now())
        )

    @classmethod
    def issue(cls, **values: Any) -> str:
        """Make a link, in place of earlier ones for that person; return its token."""
        email, user = values.get("email"), values.get("user")
        db.session.execute(
            update(cls)
            .where(
                cls.used_at.is_(None),
                cls.email == email if email else cls.email.is_(None),
                cls.user_id == user.id if user else cls.user_id.is_(None),
            )
            .values(used_at=now())
        )
        token = secrets.token_urlsafe(TOKEN_BYTES)
        db.session.add(cls(token_hash=token_hash(token), **values))
        return token

    @classmethod
    def find(cls, token: str) -> "Invitation | None":
        """Return the link with this token if it can be used still."""
        return db.session.scalar(select(cls).where(*cls._usable(token)))

    @classmethod
    def consume(cls, token: str) -> "Invitation | None":
        """Use the link up: the second caller gets None."""
        return db.session.scalar(
            update(cls).where(*cls._usable(token)).values(used_at=now()).returning(cls)
        )

    @classmethod
    def _usable(cls, token: str) -> tuple[Any, ...]:
        return (
            cls.token_hash == token_hash(token),
            cls.used_at.is_(None),
            cls.expires_at > now(),
            ~exists().where(User.id == cls.user_id, User.active.is_(False)),
        )


def token_hash(token: str) -> str:
    """Hash a token of 256 random bits, which needs no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
