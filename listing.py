"""The list of records: search, filter, order and pages, for 100,000 records.

Nothing here counts or scans the table. A page is a walk along an index from a
known place (keyset paging). What narrows the list (a search, refresh tokens that
lapse, tokens that are held) names its records by an index of its own, which is
asked first: where there are few, those are fetched and sorted; where there are
many, the walk meets 25 of them soon, and passes the others by without fetching
them. At worst it passes once over its index. By the newest, the default, a search
needs not even that: the trigram index gives the matches in the order of their ids.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    Label,
    Select,
    column,
    false,
    func,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import aliased, load_only

import tally
from database import db, now
from engine import settle
from models import (
    LAPSES_SOON,
    LARGEST_ID,
    ExternalApplication,
    HeldToken,
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
MANY = 10_000
"""Of one or two characters: up to this many matches are looked up as a walk goes."""
LONGEST_SEARCH = 255
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""No name holds one, and a NUL ends the text for a database."""
PAIR = re.compile(r"([0-9])-([0-9]{1,10})")
"""A place in the order of attention: how urgent, and which record."""

SHOWN = (
    ExternalApplication.id,
    ExternalApplication.application_name,
    ExternalApplication.application_name_key,
    ExternalApplication.salesforce_domain,
    ExternalApplication.owner,
    ExternalApplication.state,
    ExternalApplication.attention_rank,
    ExternalApplication.expires_at,
    ExternalApplication.lapses_at,
    ExternalApplication.held_at,
    ExternalApplication.organization_id,
    ExternalApplication.organization_name,
    ExternalApplication.user_id,
    ExternalApplication.org_username,
    ExternalApplication.issued_at,
    ExternalApplication.last_error,
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

OTHERS = aliased(ExternalApplication)


class Sort(StrEnum):
    NEWEST = "newest"
    NAME = "name"
    ATTENTION = "attention"


KEYS: Mapping[Sort, tuple[Any, ...]] = {
    Sort.NEWEST: (ExternalApplication.id,),
    Sort.NAME: (ExternalApplication.application_name_key,),
    Sort.ATTENTION: (ExternalApplication.attention_rank, ExternalApplication.id),
}
"""What each order sorts by: names upwards, the others downwards."""


@dataclass(frozen=True)
class Query:
    """What the address of the list asks for. `after` and `before` are the sort
    keys of the neighbouring records; `last` asks for the last page."""

    search: str = ""
    state: State | None = None
    lapsing: bool = False
    """Only records whose refresh token lapses within days."""
    held: bool = False
    """Only records with a token that somebody has to decide about."""
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
            lapsing=arguments.get("lapsing") == "1",
            held=arguments.get("held") == "1",
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
            "lapsing": "1" if self.lapsing else "",
            "held": "1" if self.held else "",
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

    def only(self, **filters: Any) -> "Query":
        """Return the start of the list of what a filter leaves, in the same order."""
        return Query(sort=self.sort, **filters)

    @property
    def filters(self) -> int:
        """How many things narrow the list."""
        return sum(map(bool, (self.search, self.state, self.lapsing, self.held)))

    @property
    def order(self) -> Sort:
        """The order: within a state all want as much attention."""
        is_newest = self.state is not None and self.sort is Sort.ATTENTION
        return Sort.NEWEST if is_newest else self.sort

    @property
    def passes(self) -> bool:
        """Whether time alone moves records into this list, or within it."""
        by_time = self.state in (State.CONNECTED, State.EXPIRED) or self.lapsing
        return by_time or self.order is Sort.ATTENTION

    @property
    def backwards(self) -> bool:
        return self.last or self.before is not None

    @property
    def place(self) -> tuple[str | int, ...] | None:
        """The sort key to begin behind, None where the list begins."""
        key = self.after or self.before
        if key is None:
            return None
        by_name = self.order is Sort.NAME
        return (key,) if by_name else tuple(int(part) for part in key.split("-"))

    def _place(self, value: str | None) -> str | None:
        if not value or self.order is Sort.NAME:
            return CONTROLS.sub(" ", value or "") or None
        if self.order is Sort.ATTENTION:
            pair = PAIR.fullmatch(value)
            return value if pair and int(pair[2]) <= LARGEST_ID else None
        good = value.isascii() and value.isdigit() and len(value) < 20
        return value if good and int(value) <= LARGEST_ID else None


@dataclass(frozen=True)
class Page:
    """Up to 25 records, and where the pages around them begin.

    `found` is the number of records, where it is known without counting them
    all; `many` tells that a filter leaves more than `FEW`. The `counts` are of
    all records.
    """

    query: Query
    applications: list[ExternalApplication]
    first: Query | None
    previous: Query | None
    next: Query | None
    last: Query | None
    found: int | None
    many: bool
    counts: tally.Counts

    @property
    def counts_are_kept(self) -> bool:
        """Whether it was counted a while ago, perhaps."""
        return self.counts.total > tally.MANY


class _Ahead(NamedTuple):
    """What is known before the page is fetched."""

    sizes: Mapping[str, int]
    """Of what narrows the list, how much it leaves, up to one more than its cap."""
    is_late: bool
    is_open: bool
    counts: tally.Counts


def get_page(query: Query) -> Page:
    """Fetch one page: two statements, more when a token's time has just passed or
    an attempt was left behind."""
    needle = name_key(query.search)
    narrowed = _narrowed(query, needle)
    ahead = _look_ahead(query, needle, narrowed)
    if ahead.is_late:
        mark_time()
    if ahead.is_open:
        settle()
    if _is_newest_search(query, needle) and ahead.sizes.get("search", 0) > FEW:
        statement = _nearest(query, needle)
    else:
        statement = _walk(query, needle, narrowed, ahead.sizes)
    rows = list(db.session.scalars(statement.limit(PAGE_SIZE + 1)))
    more, rows = len(rows) > PAGE_SIZE, rows[:PAGE_SIZE]
    if query.backwards:
        rows.reverse()
        before, after = more, query.before is not None
    else:
        before, after = query.after is not None, more
    whole = not before and not after
    size = max(ahead.sizes.values(), default=None) if query.filters == 1 else None
    few = size is not None and size <= FEW
    return Page(
        query=query,
        applications=rows,
        first=query.at() if before else None,
        previous=query.at(before=_key(query, rows[0])) if before and rows else None,
        next=query.at(after=_key(query, rows[-1])) if after and rows else None,
        last=query.at(last=True) if after else None,
        found=len(rows) if whole else size if few else None,
        many=size is not None and not few,
        counts=ahead.counts,
    )


def _narrowed(query: Query, needle: str) -> dict[str, Select[int]]:
    """Return the ids of what narrows the list, where an index has them."""
    found: dict[str, Select[int]] = {}
    if needle and _on_sqlite():
        found["search"] = _matches(needle)
    if query.lapsing:
        found["lapsing"] = select(OTHERS.id).where(
            OTHERS.lapses_at <= now() + LAPSES_SOON
        )
    if query.held:
        found["held"] = select(HeldToken.application_id).where(
            HeldToken.expires_at > now()
        )
    return found


def _look_ahead(
    query: Query, needle: str, narrowed: Mapping[str, Select[int]]
) -> _Ahead:
    """Count what the filters leave, and all records where it is time to; ask whether
    there are tokens to mark as expired, and attempts that are open."""
    kept = tally.kept_counts()
    columns: list[Label[Any]] = [
        (any_to_mark() if query.passes else false()).label("is_late"),
        any_open().label("is_open"),
    ]
    for name, ids in narrowed.items():
        capped = ids.limit(_cap(name, needle) + 1).subquery()
        count = select(func.count()).select_from(capped).scalar_subquery()
        columns.append(count.label(name))
    columns += tally.columns() if kept is None else ()
    row = dict(db.session.execute(select(*columns)).one()._mapping)
    return _Ahead(
        sizes={name: row[name] for name in narrowed},
        is_late=bool(row["is_late"]),
        is_open=bool(row["is_open"]),
        counts=tally.keep(row) if kept is None else kept,
    )


def _cap(name: str, needle: str) -> int:
    return MANY if name == "search" and len(needle) < TRIGRAM else FEW


def _matches(needle: str) -> Select[int]:
    if len(needle) < TRIGRAM:
        found = SHORT_MATCHES.bindparams(needle=needle, beyond=needle + LAST_CHARACTER)
    else:
        phrase = '"' + needle.replace('"', '""') + '"'
        found = MATCHES.bindparams(phrase=phrase)
    return select(found.columns(column("id", Integer)).subquery().c.id)


def _is_newest_search(query: Query, needle: str) -> bool:
    """Tell whether the trigram index has the list in its order."""
    alone = query.filters == 1 and len(needle) >= TRIGRAM
    return alone and query.order is Sort.NEWEST


def _nearest(query: Query, needle: str) -> Select[ExternalApplication]:
    """Fetch the next matches in the order of their ids: the trigram index has it."""
    matches = _matches(needle)
    key = matches.selected_columns[0]
    if query.place is not None:
        (place,) = query.place
        matches = matches.where(key > place if query.backwards else key < place)
    matches = matches.order_by(key.asc() if query.backwards else key.desc())
    page = matches.limit(PAGE_SIZE + 1)
    return _select(query, "NOT INDEXED").where(ExternalApplication.id.in_(page))


def _walk(
    query: Query,
    needle: str,
    narrowed: Mapping[str, Select[int]],
    sizes: Mapping[str, int],
) -> Select[ExternalApplication]:
    """Walk along the index of the order, past what the filters do not want; where
    one leaves few, fetch those and sort them."""
    few = min(sizes, key=lambda name: sizes[name], default="")
    few = few if sizes.get(few, MANY) <= FEW else ""
    index = "ix_external_application_" + ("state_" if query.state else "") + query.order
    statement = _select(query, "NOT INDEXED" if few else f"INDEXED BY {index}")
    for name, ids in narrowed.items():
        if name == few:
            statement = statement.where(ExternalApplication.id.in_(ids))
        elif name != "search":
            statement = statement.where(_id_in_passing().in_(ids))
    if needle and few != "search":
        is_known = not few and sizes.get("search", MANY + 1) <= MANY
        statement = statement.where(
            _says(needle, narrowed["search"] if is_known else None)
        )
    return statement


def _says(needle: str, matches: Select[int] | None) -> ColumnElement[bool]:
    """Look for a text in the columns of a walk's index, then in what is written down.

    That is not in the index: a row is not fetched for it where `matches` tell.
    """
    record, on_sqlite = ExternalApplication, _on_sqlite()
    # SQLite's LIKE takes A for a; lower() would double the walk's time.
    domain = (
        record.salesforce_domain if on_sqlite else func.lower(record.salesforce_domain)
    )
    return or_(
        record.application_name_key.contains(needle, autoescape=True),
        domain.contains(needle, autoescape=True),
        record.search_words.contains(needle, autoescape=True)
        if matches is None
        else _id_in_passing().in_(matches),
    )


def _id_in_passing() -> ColumnElement[int]:
    """The id, so that SQLite looks it up on its way, and does not begin with it."""
    key = ExternalApplication.id
    return key + 0 if _on_sqlite() else key.expression


def _on_sqlite() -> bool:
    return db.engine.dialect.name == "sqlite"


def _select(query: Query, sqlite_hint: str) -> Select[ExternalApplication]:
    keys = KEYS[query.order]
    upwards = (query.order is Sort.NAME) is not query.backwards
    statement = (
        select(ExternalApplication)
        .options(load_only(*SHOWN))
        .with_hint(ExternalApplication, sqlite_hint, "sqlite")
        .order_by(*(key.asc() if upwards else key.desc() for key in keys))
    )
    if query.state is not None:
        statement = statement.where(ExternalApplication.state == query.state)
    if query.place is not None:
        here = tuple_(*keys)
        statement = statement.where(
            here > query.place if upwards else here < query.place
        )
    return statement


def _key(query: Query, row: ExternalApplication) -> str:
    return "-".join(str(getattr(row, key.key)) for key in KEYS[query.order])
