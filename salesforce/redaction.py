"""Take secrets out of text that an org sent, before it is kept or shown."""

import hashlib
import html
import json
import re
from collections.abc import Collection, Iterator
from urllib.parse import quote, quote_plus

SECRET_FIELDS = frozenset(
    {
        "access_token",
        "refresh_token",
        "id_token",
        "client_secret",
        "code",
        "code_verifier",
        "assertion",
        "client_assertion",
        "device_code",
        "password",
        "session_id",
    }
)
SEPARATORS = re.compile(r"[_\s-]")
SECRET_NAMES = frozenset(SEPARATORS.sub("", name) for name in SECRET_FIELDS)
"""The same without underscores: other servers write accessToken."""
_NAMES = "|".join(sorted(SECRET_FIELDS)).replace("_", "[_-]?")
LOOSE_FIELD = re.compile(
    rf"""(\b({_NAMES})\b["']?\s*[=:>]\s*["']?)([^\s"'<>&,;}}]+)""", re.IGNORECASE
)
"""A secret field in text that is no JSON: a form, XML, JSON that was cut short."""
TOKEN_SHAPES = re.compile(
    r"00D[A-Za-z0-9]{12,15}(?:!|%21)[A-Za-z0-9._]+"  # session id: organization ! secret
    r"|5Aep[A-Za-z0-9._]{20,}"  # refresh token
    # JSON web token
    r"|(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?"
)
SHORTEST_SECRET = 6
"""Shorter strings are replaced nowhere: they would be found in plain words."""


def redact_answer(body: str, secrets: Collection[str]) -> str:
    """Return an answer's body fit to be kept: fingerprints stand for its secrets.

    JSON is indented for reading. `secrets` are those of the request; an org
    that sends one of them back does not get it stored.
    """
    try:
        answer = json.loads(body)
        secrets = {*secrets, *_secret_values(answer)}
        text = json.dumps(_redact_fields(answer, secrets), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        text = LOOSE_FIELD.sub(_mark_field, redact(body, secrets))
    return printable(text)


def redact(text: str, secrets: Collection[str]) -> str:
    """Replace the given secrets, and whatever looks like a token, in `text`."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = re.sub(_spellings(secret), _mark(secret), text)
    return TOKEN_SHAPES.sub(lambda found: _mark(found[0]), text)


def printable(text: str) -> str:
    """Replace what neither a page nor a database takes: controls, half surrogates."""
    return "".join(
        character
        if character in "\n\t" or (character >= " " and not _odd(character))
        else "\ufffd"
        for character in text
    )


def _spellings(secret: str) -> str:
    """Return a pattern of the ways in which pages and addresses write `secret`."""
    page = html.escape(secret)
    spellings = {secret, page, page.replace("=", "&#61;")}
    spellings |= {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    longest_first = sorted(spellings, key=len, reverse=True)
    return f"(?i:{'|'.join(map(re.escape, longest_first))})"


def _secret_values(value: object) -> Iterator[str]:
    """Find what stands in secret fields: it may stand elsewhere as well."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if _is_secret(name) and isinstance(inner, str):
                yield inner
            yield from _secret_values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secret_values(inner)


def _is_secret(name: str) -> bool:
    return SEPARATORS.sub("", name).lower() in SECRET_NAMES


def _redact_fields(value: object, secrets: Collection[str]) -> object:
    if isinstance(value, dict):
        return {
            redact(str(name), secrets): (
                _mark(str(inner))
                if _is_secret(name) and inner is not None
                else _redact_fields(inner, secrets)
            )
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [_redact_fields(inner, secrets) for inner in value]
    if isinstance(value, str):
        return redact(value, secrets)
    text = json.dumps(value)
    return value if redact(text, secrets) == text else redact(text, secrets)


def _mark_field(found: re.Match[str]) -> str:
    return found[0] if found[3] == "(fingerprint" else found[1] + _mark(found[3])


def _mark(secret: str) -> str:
    digest = hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
    return f"(fingerprint {digest[:8]})"


def _odd(character: str) -> bool:
    code = ord(character)
    return (
        0x7F <= code <= 0x9F
        or 0xD800 <= code <= 0xDFFF
        or 0x2028 <= code <= 0x202E  # line ends, and marks that turn text around
        or 0x2066 <= code <= 0x2069
    )
