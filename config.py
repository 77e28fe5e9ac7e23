"""The settings of Orgdesk, read once, here and nowhere else.

Every setting has a default that suits `make run`; the README lists them. A
setting that cannot be used stops the start with a sentence that names it.
"""

import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).parent
INSTANCE = ROOT / "instance"
HIGHEST_PORT = 65_535
LOCAL_HOSTS = ("localhost", "127.0.0.1")
MOST_PROXIES = 5
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
NUMBER = re.compile(r"[0-9]{1,5}")
FERNET_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
EXTERNAL_URL = re.compile(
    r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:(?P<port>[0-9]{1,5}))?/?",
    re.IGNORECASE,
)
LIMITS_URL = re.compile(r"memory://|rediss?://[\x21-\x7e]+")
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


class SettingError(Exception):
    """A setting cannot be used; the message names it and says what it takes."""


@dataclass(frozen=True)
class Settings:
    """The settings as typed values.

    `secret_key` signs cookies, and those that one of `secret_key_fallbacks`
    signed are good as well. `vault_keys` are Fernet keys, newest first: the
    first one encrypts, all of them decrypt. `vault_key_file` is the file they
    stand in, or None where they stand in the environment. `external_url` is
    the address browsers reach Orgdesk under, without a trailing slash, or None
    to take it from the request. `instance` is the folder of the local database
    and keys. `proxies` is the number of reverse proxies in front, whose
    X-Forwarded headers are believed. `limits_url` is the store that counts
    tries, in the terms of the `limits` package. `log_level` is the least that
    is logged.
    """

    instance: Path
    secret_key: str
    secret_key_fallbacks: list[str]
    vault_keys: tuple[str, ...]
    vault_key_file: Path | None
    database_url: str
    external_url: str | None
    port: int
    practice_port: int
    proxies: int
    limits_url: str
    log_level: str

    @property
    def is_https(self) -> bool:
        """Whether browsers come by https; cookies are for https alone then."""
        return (self.external_url or "").startswith("https://")

    @property
    def address(self) -> str:
        """The address to give to people, without a trailing slash."""
        return self.external_url or f"http://localhost:{self.port}"

    @property
    def hosts(self) -> list[str]:
        """The host names that a request may be for."""
        host = urlsplit(self.external_url or "").hostname
        return [host] if host else list(LOCAL_HOSTS)


def read_settings(
    environ: Mapping[str, str] = os.environ, instance: Path | None = None
) -> Settings:
    """Read the settings; raise `SettingError` for one that cannot be used.

    Keys that are not set are made in `instance` on the first start and found
    there on the next.
    """
    instance = instance or Path(environ.get("ORGDESK_INSTANCE") or INSTANCE).absolute()
    try:
        return _read(environ, instance)
    except OSError as error:
        raise SettingError(
            f"ORGDESK_INSTANCE: {instance} cannot be used ({error.strerror})"
        ) from None


def _read(environ: Mapping[str, str], instance: Path) -> Settings:
    instance.mkdir(mode=0o700, parents=True, exist_ok=True)
    vault_keys, vault_key_file = _vault_keys(environ, instance)
    return Settings(
        instance=instance,
        secret_key=environ.get("ORGDESK_SECRET_KEY")
        or _kept_in(instance / "secret.key", lambda: secrets.token_urlsafe(48)),
        secret_key_fallbacks=environ.get("ORGDESK_SECRET_KEY_FALLBACKS", "").split(),
        vault_keys=vault_keys,
        vault_key_file=vault_key_file,
        database_url=_database_url(environ, instance),
        external_url=_external_url(environ),
        port=_port(environ, "ORGDESK_PORT", 8000),
        practice_port=_port(environ, "ORGDESK_PRACTICE_PORT", 8001),
        proxies=_proxies(environ),
        limits_url=_limits_url(environ),
        log_level=_log_level(environ),
    )


def parse_vault_keys(text: str, source: str) -> tuple[str, ...]:
    """Read Fernet keys, separated by commas or white space.

    Raises `SettingError`, which names the `source`.
    """
    keys = tuple(text.replace(",", " ").split())
    for position, key in enumerate(keys, start=1):
        if not FERNET_KEY.fullmatch(key):
            raise SettingError(
                f"{source}: key {position} is not a Fernet key"
                " (32 bytes as URL-safe base64)"
            )
    if not keys:
        raise SettingError(f"{source} holds no key")
    return keys


def _vault_keys(
    environ: Mapping[str, str], instance: Path
) -> tuple[tuple[str, ...], Path | None]:
    if text := environ.get("ORGDESK_VAULT_KEYS"):
        return parse_vault_keys(text, "ORGDESK_VAULT_KEYS"), None
    path = Path(environ.get("ORGDESK_VAULT_KEY_FILE") or instance / "vault.key")
    text = _kept_in(path, lambda: Fernet.generate_key().decode())
    return parse_vault_keys(text, str(path)), path.absolute()


def _kept_in(path: Path, make: Callable[[], str]) -> str:
    """Return what `path` holds, having made it with mode 0600 if need be.

    The file appears whole or not at all, and the first of several processes
    that start at once wins.
    """
    if not path.exists():
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        draft.touch(mode=0o600, exist_ok=False)
        try:
            draft.write_text(make() + "\n")
            path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    kept = path.read_bytes().strip()
    if not kept or not kept.isascii():
        raise SettingError(
            f"{path} holds no key. Bring back the one that was there: what it encrypted"
            " cannot be read without it."
        )
    return kept.decode()


def _database_url(environ: Mapping[str, str], instance: Path) -> str:
    text = environ.get("ORGDESK_DATABASE_URL")
    if not text:
        return f"sqlite:///{instance / 'orgdesk.db'}"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        backend = ""
    else:
        backend = url.get_backend_name()
    if backend not in DRIVERS:
        raise SettingError(
            "ORGDESK_DATABASE_URL is not an address like"
            " postgresql://user:password@host/orgdesk or sqlite:////folder/orgdesk.db"
        )
    return url.set(drivername=DRIVERS[backend]).render_as_string(hide_password=False)


def _external_url(environ: Mapping[str, str]) -> str | None:
    text = environ.get("ORGDESK_EXTERNAL_URL", "")
    if not text:
        return None
    found = EXTERNAL_URL.fullmatch(text)
    if found is None or int(found["port"] or 0) > HIGHEST_PORT:
        raise SettingError(
            "ORGDESK_EXTERNAL_URL is not an address like https://orgdesk.example.com,"
            " without a path"
        )
    return text.lower().rstrip("/")


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    return _number(name, text, 1, HIGHEST_PORT)


def _proxies(environ: Mapping[str, str]) -> int:
    text = environ.get("ORGDESK_PROXIES") or "0"
    return _number("ORGDESK_PROXIES", text, 0, MOST_PROXIES)


def _limits_url(environ: Mapping[str, str]) -> str:
    text = environ.get("ORGDESK_LIMITS_URL") or "memory://"
    if not LIMITS_URL.fullmatch(text):
        raise SettingError(
            "ORGDESK_LIMITS_URL is not an address like redis://host:6379/0"
        )
    return text


def _log_level(environ: Mapping[str, str]) -> str:
    text = environ.get("ORGDESK_LOG_LEVEL") or "WARNING"
    if text.upper() not in LOG_LEVELS:
        raise SettingError(
            f"ORGDESK_LOG_LEVEL is none of {', '.join(LOG_LEVELS)}: {text:.20}"
        )
    return text.upper()


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (NUMBER.fullmatch(text) and least <= int(text) <= most):
        raise SettingError(f"{name} is not a number from {least} to {most}: {text:.20}")
    return int(text)
