"""The callback doctor: how a record's Callback URL differs from this server's own.

An org compares redirect URIs as text (RFC 6749, section 3.1.2.3), and so does this:
what means the same and is written otherwise differs. Nothing is asked or looked up.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import NamedTuple
from urllib.parse import unquote, urlencode

URL = re.compile(
    r"(?P<scheme>[^:/?#]*:)?(?P<authority>//[^/?#]*)?"
    r"(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.DOTALL,
)
"""RFC 3986, appendix B; any text is one."""
AUTHORITY = re.compile(
    r"(?P<user>.*@)?(?P<host>\[[^\]]*\]|.*?)(?P<port>:[^:]*)?", re.DOTALL
)
DEFAULT_PORTS = {"https://": ":443", "http://": ":80"}
THIS_MACHINE = ("localhost", "127.0.0.1", "[::1]")
UNSEEN = ("Cc", "Cf", "Zs", "Zl", "Zp")
"""Categories of characters that leave no mark on paper."""
ALIKE = 0.6
"""How much of two parts is the same where single characters are worth marking."""
MOST_NAMED = 3

LOOK_ALIKES = str.maketrans(
    {
        **dict.fromkeys("1i|\u0131\u0456\u04cf\u03b9", "l"),
        **dict.fromkeys("0\u043e\u03bf\u0585", "o"),
        **dict.fromkeys("\u0430\u03b1", "a"),
        **dict.fromkeys("\u03bd", "v"),
        **dict(zip("\u0435\u0440\u0441\u0443\u0445", "epcyx", strict=True)),
        **dict(zip("\u0455\u0458\u04bb\u0501\u051b\u051d", "sjhdqw", strict=True)),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-"),
        **dict.fromkeys("\u2044\u2215", "/"),
    }
)


class Part(StrEnum):
    """The parts of a URL, in their order."""

    SCHEME = "Scheme"
    USER = "User name"
    HOST = "Host"
    PORT = "Port"
    PATH = "Path"
    QUERY = "Query"
    FRAGMENT = "Fragment"


Parts = dict[Part, str]
"""The text of each part, with what sets it off; together they are the URL."""


class Difference(NamedTuple):
    """A part that is not the same; the sentence says in what way."""

    part: Part
    record: str
    server: str
    sentence: str


class Segment(NamedTuple):
    """A piece of a URL; whether the other one has something else there."""

    text: str
    differs: bool


@dataclass(frozen=True)
class Comparison:
    """The record's Callback URL beside this server's."""

    record: str
    server: str
    differences: tuple[Difference, ...] = ()
    record_segments: tuple[Segment, ...] = ()
    server_segments: tuple[Segment, ...] = ()

    @property
    def equal(self) -> bool:
        return not self.differences

    @property
    def form_encoded(self) -> str:
        """The record's, as it goes to the org: in the login's address and the form."""
        return urlencode({"redirect_uri": self.record}, errors="replace")


def compare(record: str, server: str) -> Comparison:
    """Compare letter by letter, and say part by part what is not the same."""
    there, here = split(record), split(server)
    return Comparison(
        record,
        server,
        tuple(
            Difference(part, there[part], here[part], _sentence(part, there, here))
            for part in Part
            if there[part] != here[part]
        ),
        _segments(there, here),
        _segments(here, there),
    )


def split(url: str) -> Parts:
    """Cut any text into the parts of a URL, of which nothing is lost."""
    found = URL.fullmatch(url)
    assert found
    authority = found["authority"] or ""
    inner = AUTHORITY.fullmatch(authority.removeprefix("//"))
    assert inner
    return {
        Part.SCHEME: (found["scheme"] or "") + authority[:2],
        Part.USER: inner["user"] or "",
        Part.HOST: inner["host"],
        Part.PORT: inner["port"] or "",
        Part.PATH: found["path"],
        Part.QUERY: found["query"] or "",
        Part.FRAGMENT: found["fragment"] or "",
    }


def _sentence(part: Part, there: Parts, here: Parts) -> str:
    record, server = there[part], here[part]
    if part is Part.PORT and (said := _of_ports(there, here)):
        return said
    if part is Part.PATH and record.rstrip("/") == server.rstrip("/"):
        return _of_slashes(record, server)
    if part is Part.HOST and {record, server} <= set(THIS_MACHINE):
        return (
            "Both are this machine, but two sites to a browser: at the other one it is"
            " not signed in."
        )
    if not server:
        return f"The record has a {part.lower()}, and this server's address has none."
    if not record:
        return f"This server's address has a {part.lower()}, and the record has none."
    return _of_characters(record, server) or _PLAIN[part]


_PLAIN = {
    Part.SCHEME: "One is for an encrypted connection and the other is not.",
    Part.USER: "They name two users.",
    Part.HOST: "They are two hosts.",
    Part.PORT: "They are two ports.",
    Part.PATH: "They are two paths.",
    Part.QUERY: "They are two queries.",
    Part.FRAGMENT: "They are two fragments.",
}


def _of_ports(there: Parts, here: Parts) -> str | None:
    port = there[Part.PORT] or here[Part.PORT]
    where = "in the record" if there[Part.PORT] else "here"
    if there[Part.PORT] and here[Part.PORT]:
        return None
    if port == ":":
        return f"There is a colon without a port {where}."
    if port == DEFAULT_PORTS.get(there[Part.SCHEME]):
        return (
            f"The port goes without saying, and is written {where} alone. An org"
            " compares the text, and takes the two for different."
        )
    return None


def _of_slashes(record: str, server: str) -> str:
    """Say which of the two has more slashes at its end."""
    longer, other = (
        ("in the record", "here")
        if len(record) > len(server)
        else ("here", "in the record")
    )
    if abs(len(record) - len(server)) == 1 and not min(record, server).endswith("/"):
        return f"The path ends in a slash {longer} and not {other}."
    return f"The path ends in more slashes {longer} than {other}."


def _of_characters(record: str, server: str) -> str | None:
    """Say what is odd where the two are nearly the same."""
    unseen = [one for one in record + server if unicodedata.category(one) in UNSEEN]
    if unseen:
        names = ", ".join(dict.fromkeys(map(_name, unseen)))
        return f"There is something in it that nobody can see: {names}."
    if record.casefold() == server.casefold():
        return (
            "They differ in upper and lower case alone. An org compares the text, and"
            " takes the two for different."
        )
    if unquote(record) == unquote(server):
        return (
            "They mean the same and are percent-encoded differently. An org compares"
            " the text, and takes the two for different."
        )
    if _skeleton(record) == _skeleton(server):
        return f"They look alike and are not the same: {_named(record, server)}."
    return None


def _skeleton(text: str) -> str:
    """Return what is left of a text for somebody who reads it quickly."""
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
    letters = "".join(one for one in plain if not unicodedata.combining(one))
    shapes = letters.casefold().translate(LOOK_ALIKES)
    return shapes.replace("rn", "m").replace("vv", "w")


def _named(record: str, server: str) -> str:
    """Name the characters that are confused, the record's first."""
    pairs = [
        f"{_names(record[a:b])} in the record, {_names(server[c:d])} here"
        for tag, a, b, c, d in _matcher(record, server).get_opcodes()
        if tag != "equal"
    ]
    return "; ".join(dict.fromkeys(pairs[:MOST_NAMED]))


def _names(characters: str) -> str:
    return " and ".join(f"‘{one}’ ({_name(one)})" for one in characters) or "nothing"


def _name(character: str) -> str:
    return unicodedata.name(character, f"control character {ord(character)}")


def _segments(own: Parts, other: Parts) -> tuple[Segment, ...]:
    """Cut a URL where it begins or ends to differ from the other one."""
    merged: list[Segment] = []
    for part in Part:
        for text, differs in _pieces(own[part], other[part]):
            if merged and merged[-1].differs is differs:
                merged[-1] = Segment(merged[-1].text + text, differs)
            elif text:
                merged.append(Segment(text, differs))
    return tuple(merged)


def _pieces(own: str, other: str) -> Iterator[Segment]:
    if own == other:
        yield Segment(own, differs=False)
        return
    matcher = _matcher(own, other)
    if matcher.ratio() < ALIKE:  # marks here and there would tell nothing
        yield Segment(own, differs=True)
        return
    for tag, begin, end, _, _ in matcher.get_opcodes():
        yield Segment(own[begin:end], differs=tag != "equal")


def _matcher(one: str, other: str) -> SequenceMatcher[str]:
    return SequenceMatcher(None, one, other, autojunk=False)
