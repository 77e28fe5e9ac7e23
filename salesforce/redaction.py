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
    }
)
LOOSE_FIELD = re.compile(
    rf"""(\b({"|".join(sorted(SECRET_FIELDS))})\b["']?\s*[=:>]\s*["']?)([^\s"'<>&,;}}]+)""",
    re.IGNORECASE,
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
            for spelling in _spellings(secret):
                text = re.sub(spelling, _mark(secret), text)
    return TOKEN_SHAPES.sub(lambda found: _mark(found[0]), text)


def printable(text: str) -> str:
    """Replace what neither a page nor a database takes: controls, half surrogates."""
    return "".join(
        character
        if character in "\n\t" or (character >= " " and not _odd(character))
        else "\ufffd"
        for character in text
    )


def _spellings(secret: str) -> set[str]:
    """Return patterns of the ways in which pages and addresses write `secret`."""
    plain = {secret, html.escape(secret), html.escape(secret).replace("=", "&#61;")}
    escaped = {quote(secret, safe=""), quote_plus(secret)}  # %3D or %3d
    return {
        *(re.escape(spelling) for spelling in plain),
        *(f"(?i:{re.escape(spelling)})" for spelling in escaped),
    }


def _secret_values(value: object) -> Iterator[str]:
    """Find what stands in secret fields: it may stand elsewhere as well."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in SECRET_FIELDS and isinstance(inner, str):
                yield inner
            yield from _secret_values(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secret_values(inner)


def _redact_fields(value: object, secrets: Collection[str]) -> object:
    if isinstance(value, dict):
        return {
            redact(str(name), secrets): (
                _mark(str(inner))
                if name in SECRET_FIELDS and inner is not None
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
    return 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF or code in (0x2028, 0x2029)
