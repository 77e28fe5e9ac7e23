"""Secrets at rest: an encrypted column type and the ring of keys it uses.

Encryption is `cryptography`'s MultiFernet (AES-128-CBC with HMAC-SHA256, the
first key encrypts, every key decrypts). A value leaves the database as a
`Sealed`: it is opened where it is used and shows nothing anywhere else.
"""

import hashlib
from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import Flask, current_app
from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

EXTENSION = "orgdesk_vault"
FINGERPRINT_DIGITS = 8


class UnreadableSecret(Exception):
    """No key on the ring opens this value."""


class Sealed:
    """A stored secret, still encrypted. It never shows its value by itself."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: str) -> None:
        self.ciphertext = ciphertext

    def reveal(self) -> str:
        """Return the secret; raise `UnreadableSecret` if no key opens it."""
        try:
            return _ring().decrypt(self.ciphertext.encode()).decode()
        except (InvalidToken, UnicodeError):
            raise UnreadableSecret from None

    @property
    def fingerprint(self) -> str | None:
        """The secret's fingerprint, or None where no key opens it."""
        try:
            return fingerprint(self.reveal())
        except UnreadableSecret:
            return None

    def __repr__(self) -> str:
        return "<Sealed>"


class Encrypted(TypeDecorator[Sealed]):
    """A text column whose values are encrypted with the app's key ring."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Sealed | None, dialect: Dialect) -> str | None:
        return None if value is None else value.ciphertext

    def process_result_value(
        self, value: str | None, dialect: Dialect
    ) -> Sealed | None:
        return None if value is None else Sealed(value)


def init_app(app: Flask, keys: Iterable[str]) -> None:
    """Give `app` its ring: Fernet keys, newest first."""
    app.extensions[EXTENSION] = MultiFernet([Fernet(key) for key in keys])


def seal(secret: str) -> Sealed:
    """Encrypt `secret` with the newest key."""
    return Sealed(_ring().encrypt(secret.encode()).decode())


def fingerprint(value: str) -> str:
    """Return the first 8 hex digits of the SHA-256 of `value`."""
    return hashlib.sha256(value.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def _ring() -> MultiFernet:
    ring: MultiFernet = current_app.extensions[EXTENSION]
    return ring
