"""Secrets at rest: an encrypted column type and the ring of keys it uses.

Encryption is `cryptography`'s MultiFernet (AES-128-CBC with HMAC-SHA256, the
first key encrypts, every key decrypts). A value leaves the database as a
`Sealed`: it is opened where it is used and shows nothing anywhere else.
"""

import hashlib
import logging
from collections.abc import Iterable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from flask import Flask, current_app
from sqlalchemy import Text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from config import SettingError, parse_vault_keys

EXTENSION = "orgdesk_vault"
FINGERPRINT_DIGITS = 8

log = logging.getLogger(__name__)


class UnreadableSecret(Exception):
    """No key on the ring opens this value."""


class Sealed:
    """A stored secret, still encrypted. It never shows its value by itself."""

    __slots__ = ("ciphertext",)

    def __init__(self, ciphertext: str) -> None:
        self.ciphertext = ciphertext

    def reveal(self) -> str:
        """Return the secret; raise `UnreadableSecret` if no key opens it."""
        return key_ring().decrypt(self)

    @property
    def fingerprint(self) -> str | None:
        """The secret's fingerprint, or None where no key opens it."""
        try:
            return fingerprint(self.reveal())
        except UnreadableSecret:
            return None

    def __repr__(self) -> str:
        return "<Sealed>"


def opened(secret: Sealed | None) -> str | None:
    """Return a secret's value, None where there is none or no key opens it."""
    try:
        return secret.reveal() if secret else None
    except UnreadableSecret:
        return None


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


class KeyRing:
    """The keys in use, newest first. It follows the file that they stand in.

    So a process that serves takes part in a rotation without a restart.
    """

    def __init__(self, keys: Iterable[str], file: Path | None = None) -> None:
        self.file = file
        # Unknown: the file may have changed since `keys` were read from it.
        self._version: tuple[int, int] | None = None
        self._take(keys)

    @property
    def keys(self) -> tuple[str, ...]:
        self._follow()
        return self._keys

    def encrypt(self, secret: str) -> Sealed:
        self._follow()
        return Sealed(self._all.encrypt(secret.encode()).decode())

    def decrypt(self, sealed: Sealed) -> str:
        """Return the secret; raise `UnreadableSecret` if no key opens it."""
        self._follow()
        try:
            return self._all.decrypt(sealed.ciphertext.encode()).decode()
        except (InvalidToken, UnicodeError):
            raise UnreadableSecret from None

    def key_of(self, sealed: Sealed) -> str | None:
        """Return the key that opens a value, None where there is none."""
        for key in self.keys:
            try:
                Fernet(key).decrypt(sealed.ciphertext.encode())
            except (InvalidToken, UnicodeError):
                continue
            return key
        return None

    def _follow(self) -> None:
        version = _version(self.file)
        if self.file is None or version in (None, self._version):
            return
        try:
            self._take(parse_vault_keys(self.file.read_text(), str(self.file)))
        except (OSError, ValueError, SettingError) as error:
            log.warning("The keys are as they were: %s", error)
        self._version = version

    def _take(self, keys: Iterable[str]) -> None:
        self._keys = tuple(keys)
        self._all = MultiFernet([Fernet(key) for key in self._keys])


def _version(file: Path | None) -> tuple[int, int] | None:
    """Tell one content of the key file from the next, None where it is away."""
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns) if status else None


def init_app(app: Flask, keys: Iterable[str], file: Path | None = None) -> None:
    """Give `app` its ring: Fernet keys, newest first, and the file they stand in."""
    app.extensions[EXTENSION] = KeyRing(keys, file)


def key_ring() -> KeyRing:
    ring: KeyRing = current_app.extensions[EXTENSION]
    return ring


def seal(secret: str) -> Sealed:
    """Encrypt `secret` with the newest key."""
    return key_ring().encrypt(secret)


def fingerprint(value: str) -> str:
    """Return the first 8 hex digits of the SHA-256 of `value`."""
    return hashlib.sha256(value.encode()).hexdigest()[:FINGERPRINT_DIGITS]
