"""The list of records: search, filter, order and pages, for 100,000 records.

Nothing here counts or scans the table. A page is a walk along an index from a
known place (keyset paging). A search asks the trigram index first: where few
records match, those are fetched and sorted; where many do, the walk meets 25
of them soon, and the searched columns stand in the index it walks along. At
worst it passes once over that index. By the newest, the default, not even
that: the trigram index gives the matches in the order of their ids.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sqlalchemy import Integer, Select, column, false, func, null, or_, select, text
from sqlalchemy.orm import load_only

from database import db
from engine import settle
from models import (
    LARGEST_ID,
    ExternalApplication,
    any_open,
    any_to_mark,
    mark_time,
    name_key,
)
from salesforce import State

PAGE_SIZE = 25
FEW = 1_000
"""Up to this many matches are fetched and sorted; it is also the capped count."""
TRIGRAM = 3
LONGEST_SEARCH = 255
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""No name holds one, and a NUL ends the text for a database."""

SHOWN = (
    ExternalApplication.id,
    ExternalApplication.application_name,
    ExternalApplication.application_name_key,
    ExternalApplication.salesforce_domain,
    ExternalApplication.state,
    ExternalApplication.expires_at,
    ExternalApplication.organization_id,
    ExternalApplication.user_id,
    ExternalApplication.issued_at,
)

# The migration's triggers keep this index. They pad the text, so that its last
# characters begin trigrams too and one or two characters are a range of them.
MATCHES = text(
    "SELECT rowid AS id FROM application_search WHERE application_search MATCH :phrase"
)
SHORT_MATCHES = text(
    "SELECT DISTINCT doc AS id FROM application_search_trigram"
    " WHERE term >= :needle AND term < :beyond"
)
LAST_CHARACTER = "\U0010ffff"


class Sort(StrEnum):
    NEWEST = "newest"
    NAME = "name"


@dataclass(frozen=True)
class Query:
    """What the address of the list asks for. `after` and `before` are the sort
    keys of the neighbouring records; `last` asks for the last page."""

    search: str = ""
    state: State | None = None
    sort: Sort = Sort.NEWEST
    after: str | None = None
    before: str | None = None
    last: bool = False

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, str]) -> "Query":
        """Read the query string; what makes no sense is as if it were not there."""
        state, sort = arguments.get("state", ""), arguments.get("sort", "")
        query = cls(
            search=CONTROLS.sub(" ", arguments.get("q", "")).strip()[:LONGEST_SEARCH],
            state=State(state) if state in list(State) else None,
            sort=Sort(sort) if sort in list(Sort) else Sort.NEWEST,
            last="last" in arguments,
        )
        if query.last:
            return query
        if before := query._place(arguments.get("before")):
            return query.at(before=before)
        return query.at(after=query._place(arguments.get("after")))

    def arguments(self) -> dict[str, str]:
        """Return the query string's arguments, without those at their default."""
        arguments = {
            "q": self.search,
            "state": self.state or "",
            "sort": "" if self.sort is Sort.NEWEST else self.sort,
            "after": self.after or "",
            "before": self.before or "",
            "last": "1" if self.last else "",
        }
        return {name: value for name, value in arguments.items() if value}

    def at(self, **place: Any) -> "Query":
        """Return the same list at another place: `after=`, `before=`, `last=`."""
        return replace(self, **{"after": None, "before": None, "last": False, **place})

    def sorted_by(self, sort: Sort) -> "Query":
        """Return the start of the same list in another order."""
        return replace(self.at(), sort=sort)

    @property
    def filtered(self) -> bool:
        return bool(self.search or self.state)

    @property
    def backwards(self) -> bool:
        return self.last or self.before is not None

    def _place(self, value: str | None) -> str | None:
        if not value or self.sort is Sort.NAME:
            return CONTROLS.sub(" ", value or "") or None
        good = value.isascii() and value.isdigit() and len(value) < 20
        return value if good and int(value) <= LARGEST_ID else None


@dataclass(frozen=True)
class Page:
    """Up to 25 records, and where the pages around them begin.

    `found` is the number of records, where it is known without counting them
    all; `many` tells that a search has more than `FEW` matches.
    """

    query: Query
    applications: list[ExternalApplication]
    first: Query | None
    previous: Query | None
    next: Query | None
    last: Query | None
    found: int | None
    many: bool


def get_page(query: Query) -> Page:
    """Fetch one page: two statements, more when a token's time has just passed or
    an attempt was left behind."""
    needle = name_key(query.search)
    count, late, is_open = _look_ahead(query, needle)
    if late:
        mark_time()
    if is_open:
        settle()
    few = count is not None and count <= FEW
    ordered = count is not None and len(needle) >= TRIGRAM and _is_newest(query)
    fetch = _few if few else _nearest if ordered else _walk
    statement = fetch(query, needle)
    rows = list(db.session.scalars(statement.limit(PAGE_SIZE + 1)))
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    if query.backwards:
        rows.reverse()
        before, after = more, query.before is not None
    else:
        before, after = query.after is not None, more
    return Page(
        query=query,
        applications=rows,
        first=query.at() if before else None,
        previous=query.at(before=_key(query, rows[0])) if before and rows else None,
        next=query.at(after=_key(query, rows[-1])) if after and rows else None,
        last=query.at(last=True) if after else None,
        found=_found(query, count, len(rows), whole=not before and not after),
        many=count is not None and not few and query.state is None,
    )


def _look_ahead(query: Query, needle: str) -> tuple[int | None, bool, bool]:
    """Count the matches up to one more than `FEW`, None where no index can; and ask
    whether there are tokens to mark as expired, and attempts that are open."""
    counts = bool(needle) and _on_sqlite()
    passes = query.state in (State.CONNECTED, State.EXPIRED)
    capped = _matches(needle).limit(FEW + 1).subquery()
    count = select(func.count()).select_from(capped).scalar_subquery()
    row = db.session.execute(
        select(
            count if counts else null(),
            any_to_mark() if passes else false(),
            any_open(),
        )
    ).one()
    return row[0], bool(row[1]), bool(row[2])


def _matches(needle: str) -> Select[int]:
    if len(needle) < TRIGRAM:
        found = SHORT_MATCHES.bindparams(needle=needle, beyond=needle + LAST_CHARACTER)
    else:
        phrase = '"' + needle.replace('"', '""') + '"'
        found = MATCHES.bindparams(phrase=phrase)
    return select(found.columns(column("id", Integer)).subquery().c.id)


def _few(query: Query, needle: str) -> Select[ExternalApplication]:
    """Fetch what the trigram index found, and sort it."""
    statement = _select(query, "NOT INDEXED")
    return statement.where(ExternalApplication.id.in_(_matches(needle)))


def _is_newest(query: Query) -> bool:
    return query.sort is Sort.NEWEST and query.state is None


def _nearest(query: Query, needle: str) -> Select[ExternalApplication]:
    """Fetch the next matches in the order of their ids: the trigram index has it."""
    matches = _matches(needle)
    key, place = matches.selected_columns[0], query.after or query.before
    if place is not None:
        matches = matches.where(
            key > int(place) if query.backwards else key < int(place)
        )
    matches = matches.order_by(key.asc() if query.backwards else key.desc())
    page = matches.limit(PAGE_SIZE + 1)
    return _select(query, "NOT INDEXED").where(ExternalApplication.id.in_(page))


def _walk(query: Query, needle: str) -> Select[ExternalApplication]:
    """Walk along the index of the order, past what the search does not want."""
    index = "ix_external_application_" + ("state_" if query.state else "") + query.sort
    statement = _select(query, f"INDEXED BY {index}")
    if needle:
        name = ExternalApplication.application_name_key
        domain = ExternalApplication.salesforce_domain
        statement = statement.where(
            or_(
                name.contains(needle, autoescape=True),
                # SQLite's LIKE takes A for a; lower() would double the walk's time.
                (domain if _on_sqlite() else func.lower(domain)).contains(
                    needle, autoescape=True
                ),
            )
        )
    return statement


def _on_sqlite() -> bool:
    return db.engine.dialect.name == "sqlite"


def _select(query: Query, sqlite_hint: str) -> Select[ExternalApplication]:
    by_name = query.sort is Sort.NAME
    key = (
        ExternalApplication.application_name_key if by_name else ExternalApplication.id
    )
    upwards = by_name is not query.backwards
    statement = (
        select(ExternalApplication)
        .options(load_only(*SHOWN))
        .with_hint(ExternalApplication, sqlite_hint, "sqlite")
        .order_by(key.asc() if upwards else key.desc())
    )
    if query.state is not None:
        statement = statement.where(ExternalApplication.state == query.state)
    place = query.after or query.before
    if place is not None:
        value = place if by_name else int(place)
        statement = statement.where(key > value if upwards else key < value)
    return statement


def _found(query: Query, count: int | None, shown: int, *, whole: bool) -> int | None:
    if whole:
        return shown
    return count if query.state is None and count is not None and count <= FEW else None


def _key(query: Query, row: ExternalApplication) -> str:
    return row.application_name_key if query.sort is Sort.NAME else str(row.id)
