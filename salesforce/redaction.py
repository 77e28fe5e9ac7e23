"""Take secrets out of text that an org sent, before it is kept or shown."""

import hashlib
import html
import json
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
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
        "private_key",
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
ESCAPED = r"(?<=%[0-9A-Fa-f]{2})|(?<=%25[0-9A-Fa-f]{2})|(?<=\\[nrt])"
"""Behind a character that an address or a string writes with letters."""
GAP = r"(?:\s|\+|%20)"
TOKEN_SHAPES = re.compile(
    r"00D[A-Za-z0-9]{12,15}(?:!|%21)[A-Za-z0-9._]+"  # session id: organization ! secret
    r"|5Aep[A-Za-z0-9._]{20,}"  # refresh token
    # JSON web token, also behind an escaped character of an address or a string
    rf"|(?:(?<![A-Za-z0-9_-])|{ESCAPED})"
    r"eyJ[A-Za-z0-9_-]{10,}(?:\.[A-Za-z0-9_-]*){1,4}"
    # what the Salesforce CLI calls an SFDX auth URL: app, secret and refresh token
    r"|(?i:force(?:://|%3A%2F%2F)[^\s\"'<>\\]+)"
    # private key as PEM, also in a form; one that was cut short goes to the end
    rf"|-----BEGIN(?:{GAP}|[A-Z0-9]){{1,40}}PRIVATE{GAP}KEY-----"
    rf"(?s:.*?)(?:-----END(?:{GAP}|[A-Z0-9]){{1,40}}PRIVATE{GAP}KEY-----|\Z)"
)
LOGGED_FIELDS = SECRET_FIELDS | {
    "auth_code",
    "authorization_code",
    "backup_code",
    "backup_codes",
    "oauth_code",
    "one_time_code",
    "otp",
    "recovery_code",
    "recovery_codes",
    "sid",
    "state",
    "totp",
    "totp_code",
    "user_code",
}
"""What no log line shows. Endings that tell by themselves are in `ENDINGS`."""
ENDINGS = (
    r"(?:pass(?:word|wd|phrase)|secret|token|cookie|authorization"
    r"|(?:api|private|secret|signing|vault)[_-]?key)s?"
)
QUOTE = r"""(?:\\{0,8}["']|%(?:25){0,3}2[27]|&(?:quot|\#34|\#39|\#x27);)"""
_LOGGED_NAMES = "|".join(sorted(LOGGED_FIELDS, key=len, reverse=True))
FIELD = re.compile(
    rf"""
    (?P<name> {ENDINGS}
      | (?:(?<![A-Za-z0-9_])|{ESCAPED})
        (?:{_LOGGED_NAMES.replace("_", "[_-]?")}|(?:__Host-)?orgdesk(?==))
    )
    \]? (?P<closed>{QUOTE})? \]? \s{{0,8}}
    (?:[=:>]{{1,3}}|%(?:25){{0,3}}3[AD]|(?(closed),|(?!)))
    \s{{0,8}} (?:[bu]?(?P<opened>{QUOTE}))?
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""The name of a secret field and what stands before its value, in any text: forms,
headers, JSON, what Python prints of a dict, of pairs or of bytes."""
SCHEME = re.compile(
    r"\b((?i:Basic|Bearer))((?:\s|%20|\+){1,4})"
    r"(?:[A-Za-z0-9._~+/=%!-]{16,}"
    r"|(?=[a-z]*[A-Z0-9=+/])[A-Za-z0-9._~+/=%!-]{4,})"
)
"""Credentials as a header has them; shorter words in small letters are prose."""
HIDDEN = "(redacted)"
FINGERPRINT = re.compile(r"\(fingerprint [0-9a-f]{8}\)")
NOTHING = frozenset({"", "None", "null", "True", "False", "true", "false", HIDDEN})
SHORTEST_STATE = 20
"""Characters: a shorter `state` is a word, and no login's."""
LONGEST_STATUS = 3
"""Digits: such a `code` is a status, and no authorization's."""
WHOLE_LINE = re.compile(r"pass|cookie|authorization", re.IGNORECASE)
"""Fields whose value may have spaces in it though nothing quotes it."""
LINE_END = re.compile(r"[\r\n]")
HEADER_END = re.compile(r"[\r\n]|\\[rn]")
WORD_END = re.compile(r"[\s&<]")
MARKS = re.compile(r"""["'\[\](){}<>,&\n]""")
IN_QUOTES = {
    mark: re.compile(rf"[^{mark}\\]*+(?:\\.[^{mark}\\]*+)*+", re.DOTALL)
    for mark in "\"'"
}
_at_hand: ContextVar[frozenset[str]] = ContextVar("at_hand", default=frozenset())
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


@contextmanager
def at_hand(secrets: Collection[str]) -> Iterator[None]:
    """Keep these secrets out of whatever is logged within, also under other names.

    An org may send back what it was sent, and a library may log the answer.
    """
    before = _at_hand.set(frozenset(secrets))
    try:
        yield
    finally:
        _at_hand.reset(before)


def redact_log(text: str) -> str:
    """Return `text`, of which nothing is known, fit for a log.

    Where it cannot be told how far a secret goes, too much is taken out. It
    takes time in proportion to the text's length, whatever stands in it.
    """
    text = SCHEME.sub(_hide_credentials, redact(text, _at_hand.get()))
    pieces, at = [], 0
    while found := FIELD.search(text, at):
        while inner := FIELD.match(text, found.end()):  # a name where a value is due
            found = inner
        end = _end_of_value(text, found)
        value = text[found.end() : end]
        shown = value if _is_plain(found["name"].lower(), value) else HIDDEN
        pieces += [text[at : found.end()], shown]
        at = end
    return "".join(pieces) + text[at:]


def is_logged_field(name: str) -> bool:
    """Whether a log hides what stands under this name."""
    return FIELD.search(f"{name}=") is not None


def printable(text: str) -> str:
    """Replace what neither a page nor a database takes: controls, half surrogates."""
    return "".join(
        character
        if character in "\n\t" or (character >= " " and not _odd(character))
        else "\ufffd"
        for character in text
    )


def _hide_credentials(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{HIDDEN}"


def _is_plain(name: str, value: str) -> bool:
    """Whether a field holds no secret, though it is called like one that does."""
    if value in NOTHING or FINGERPRINT.fullmatch(value):
        return True
    if name == "state":
        return len(value) < SHORTEST_STATE
    return name == "code" and value.isdigit() and len(value) <= LONGEST_STATUS


def _end_of_value(text: str, field: re.Match[str]) -> int:
    start = field.end()
    if quote := field["opened"]:
        return _end_of_quoted(text, start, quote)
    if field["closed"] or text[start : start + 1] in tuple("[({"):
        return _end_of_item(text, start, alone=not field["closed"])
    if not WHOLE_LINE.match(field["name"]):
        end = WORD_END
    else:
        end = LINE_END if field["name"].lower().startswith("pass") else HEADER_END
    found = end.search(text, start)
    return found.start() if found else len(text)


def _end_of_quoted(text: str, start: int, quote: str) -> int:
    """Return where the quote that was opened is closed, or the text's end."""
    if quote in IN_QUOTES:
        found = IN_QUOTES[quote].match(text, start)
        assert found
        return found.end()
    if quote.startswith("\\"):  # JSON in a string: as many backslashes close it
        closed = re.compile(rf"(?<!\\){re.escape(quote)}").search(text, start)
        return closed.start() if closed else len(text)
    end = text.find(quote, start)
    return len(text) if end < 0 else end


def _end_of_item(text: str, start: int, *, alone: bool) -> int:
    """Return where a value of a dict or list ends, be it a list or dict itself.

    With `alone` it is one in brackets, and ends with them.
    """
    depth, at = 0, start
    while found := MARKS.search(text, at):
        mark, at = found[0], found.end()
        if mark in IN_QUOTES:
            at = _end_of_quoted(text, at, mark) + 1
        elif mark in "[({<":
            depth += 1
        elif mark in "])}>":
            depth -= 1
            if depth < 0:
                return found.start()
            if depth == 0 and alone:
                return at
        elif depth == 0:
            return found.start()
    return len(text)


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
