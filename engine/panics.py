"""The panic switch: all that is covered is revoked at once, and nothing new comes.

The rows of a panic say what is left to do, so that whoever looks can go on where
a process that died has stopped. One process at a time works at them, by a lease
on the panic. It does so in a thread of its own beside the pages: a queue, or
another process, could be down when it is needed most.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial

from flask import Flask, current_app
from sqlalchemy import (
    Insert,
    Select,
    Update,
    case,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

import audit
from database import db, now
from engine.results import RecordGone
from engine.revocation import NOTHING, Revoked, revoke
from models import (
    DELETED,
    WORK_LEASE,
    Event,
    ExternalApplication,
    HeldToken,
    Panic,
    PanicRevocation,
    Progress,
    Scope,
    is_worked_at,
    keep_work,
    leave_work,
    progress_of,
    take_work,
)

WORKERS = 8
"""Orgs that are asked at a time."""
BATCH = 100
TRIES = 3
RENEWED_EVERY = 5.0
"""Seconds, of a lease of thirty."""
STUCK = 5
"""Passes over the rows, a second apart, in which the database let none be finished:
then they are left to whoever looks next."""
PAUSE = 1.0
LATE = 1.0
"""Seconds after which no transaction is open any more that knows of no panic."""

LET_GO = (
    "Nothing is stored any more that could be revoked, and what was may live on at the"
    " org. The audit trail says what was done."
)
BROKEN = "Orgdesk failed at it. Its log says why."

log = logging.getLogger(__name__)


def start(scope: Scope, application_ids: Collection[int], reason: str) -> Panic:
    """Begin a panic, in one transaction; who presses twice begins one.

    From its commit on, what it covers gets no token; `run` ends those that are
    there. Of selected records each has a row, which is also what blocks it.
    """
    chosen = [] if scope is Scope.ALL else sorted(set(application_ids))
    for _ in range(TRIES):
        with suppress(IntegrityError):  # a record was deleted just now
            return _start(scope, chosen, reason)
        db.session.rollback()
    return _start(scope, chosen, reason)


def _start(scope: Scope, chosen: list[int], reason: str) -> Panic:
    panic = Panic(scope=scope, reason=reason, started_by=audit.actor_name())
    db.session.add(panic)
    db.session.flush()
    records = _execute(_rows_of(panic, chosen))
    # This locks the trail's head: of two who press at once, one sees the other.
    audit.record(
        Event.PANIC_STARTED, panic, scope=scope, records=records, reason=reason or None
    )
    same = db.session.scalar(_same_as(panic, chosen, records))
    if same is not None:
        db.session.rollback()
        return db.session.get_one(Panic, same)
    db.session.commit()
    return panic


def _rows_of(panic: Panic, chosen: list[int]) -> Insert:
    """Write down what is to be revoked: one statement, however many there are."""
    record, row = ExternalApplication, PanicRevocation
    has_row = exists().where(row.panic_id == panic.id, row.application_id == record.id)
    is_covered = record.id.in_(chosen) if panic.scope is Scope.SELECTED else _HOLDS
    values = {
        row.panic_id: literal(panic.id),
        row.application_id: record.id,
        row.application_name: record.application_name,
        row.salesforce_domain: record.salesforce_domain,
        row.progress: case(
            (_HOLDS, literal(Progress.PENDING, row.progress.type)),
            else_=literal(Progress.GONE, row.progress.type),
        ),
        row.sentence: case((_HOLDS, null()), else_=NOTHING),
        row.tries: literal(0),
    }
    rows = select(*values.values()).where(is_covered, ~has_row).order_by(record.id)
    return insert(row).from_select(list(values), rows)


_HELD = exists().where(HeldToken.application_id == ExternalApplication.id)
_HOLDS = or_(
    ExternalApplication.access_token.is_not(None),
    ExternalApplication.refresh_token.is_not(None),
    _HELD,
)
"""Whether a record has anything that could be revoked."""


def _same_as(panic: Panic, chosen: list[int], records: int) -> Select[int]:
    """Look for a panic that is open and covers all of this one.

    Its id may be the higher one: on PostgreSQL ids are given before the lock is.
    """
    others = select(Panic.id).where(
        Panic.id != panic.id, Panic.lifted_at.is_(None), Panic.scope == panic.scope
    )
    if panic.scope is Scope.SELECTED:
        others = (
            others.join(PanicRevocation, PanicRevocation.panic_id == Panic.id)
            .where(PanicRevocation.application_id.in_(chosen))
            .group_by(Panic.id)
            .having(func.count() == records)
        )
    return others.order_by(Panic.id).limit(1)


def see_to(panic_id: int, lease_ends: float = 0.0) -> None:
    """Have this process work at the rows, in the background, unless one does.

    For an open panic with rows that are pending, whose lease ends so.
    """
    if is_worked_at(lease_ends):
        return
    app = current_app._get_current_object()  # type: ignore[attr-defined]
    name = f"panic {panic_id}"
    thread = threading.Thread(
        target=_in_background, args=(app, panic_id), name=name, daemon=True
    )
    thread.start()


def _in_background(app: Flask, panic_id: int) -> None:
    with app.app_context():
        try:
            panic = db.session.get_one(Panic, panic_id)
            run(panic_id, in_the_name_of=panic.started_by)
        except SQLAlchemyError as error:
            log.warning("Panic %s waits for the next who looks: %s", panic_id, error)
        except RuntimeError:  # no thread is begun any more
            log.warning("Panic %s waits: this process ends", panic_id)


def run(
    panic_id: int,
    *,
    in_the_name_of: str | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> bool:
    """Revoke what is pending, a few at a time; False where another process does.

    `tell` is called with the id of each row that was tried. Where the database
    fails, rows stay pending.
    """
    lease = take_work(panic_id)
    db.session.commit()
    if lease is None:
        return False
    work = _Work(panic_id, lease, in_the_name_of, tell)
    try:
        while work.do_all() and _find_late(panic_id):
            pass
    except _LeaseLost:
        log.warning("Panic %s: another process is at it, or it was lifted", panic_id)
    finally:
        with suppress(SQLAlchemyError):
            db.session.rollback()
            leave_work(panic_id, work.lease)
            db.session.commit()
    return True


class _LeaseLost(Exception):
    """The rows are somebody else's now, or nobody's."""


class _Work:
    """One process at the rows of a panic, as long as it has the lease."""

    def __init__(
        self,
        panic_id: int,
        lease: float,
        in_the_name_of: str | None,
        tell: Callable[[int], None],
    ) -> None:
        self.panic_id, self.lease = panic_id, lease
        self.in_the_name_of, self.tell = in_the_name_of, tell
        self.app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
        self.renewed_at = time.monotonic()

    def do_all(self) -> bool:
        """Try each row that is pending; False where some are left to a later look.

        Those that come to be pending meanwhile are tried too.
        """
        stuck = 0
        with ThreadPoolExecutor(WORKERS, f"panic-{self.panic_id}") as pool:
            while stuck < STUCK:
                tried, finished = self._do_each(pool)
                if not tried:
                    return True
                stuck = 0 if finished else stuck + 1
                time.sleep(PAUSE if stuck else 0)
        return False

    def _do_each(self, pool: ThreadPoolExecutor) -> tuple[int, int]:
        """Pass over the rows once; return how many were tried, and finished."""
        last = tried = finished = 0
        waiting, under_way = deque[int](), dict[Future[bool], int]()
        while True:
            if not waiting:
                waiting.extend(self._pending(last))
                last = waiting[-1] if waiting else last
            while waiting and len(under_way) < WORKERS:
                row_id = waiting.popleft()
                future = pool.submit(_try, self.app, row_id, self.in_the_name_of)
                under_way[future] = row_id
                tried += 1
            if not under_way:
                return tried, finished
            done, _ = wait(under_way, RENEWED_EVERY, FIRST_COMPLETED)
            for future in done:
                finished += self._look_at(future, under_way.pop(future))
            self._renew()

    def _pending(self, after: int) -> list[int]:
        """Return the next rows; none once the panic is lifted."""
        ids = db.session.scalars(
            select(PanicRevocation.id)
            .join(Panic, Panic.id == PanicRevocation.panic_id)
            .where(
                PanicRevocation.panic_id == self.panic_id,
                PanicRevocation.progress == Progress.PENDING,
                PanicRevocation.id > after,
                Panic.lifted_at.is_(None),
            )
            .order_by(PanicRevocation.id)
            .limit(BATCH)
        ).all()
        db.session.rollback()
        return list(ids)

    def _look_at(self, future: Future[bool], row_id: int) -> bool:
        """Tell of a row that was tried; return whether it is finished."""
        if error := future.exception():
            log.error("Panic %s: row %s", self.panic_id, row_id, exc_info=error)
            PanicRevocation.finish(row_id, Progress.FAILED, BROKEN)
            db.session.commit()
        elif not future.result():
            return False
        self.tell(row_id)
        return True

    def _renew(self) -> None:
        """Keep the lease, also where the database does not answer for a moment."""
        age = time.monotonic() - self.renewed_at
        if age < RENEWED_EVERY:
            return
        try:
            kept = keep_work(self.panic_id, self.lease)
            db.session.commit()
        except OperationalError as error:
            db.session.rollback()
            log.warning("Panic %s: %s", self.panic_id, error.orig)
            if age < WORK_LEASE:
                return
            raise _LeaseLost from None
        if kept is None:
            raise _LeaseLost
        self.lease, self.renewed_at = kept, time.monotonic()


def _try(app: Flask, row_id: int, in_the_name_of: str | None) -> bool:
    """Finish a row, in a thread of the pool; False where the database fails."""
    with app.app_context():
        if in_the_name_of is not None:
            audit.act_for(in_the_name_of)
        try:
            _end_tokens(row_id)
        except SQLAlchemyError as error:
            db.session.rollback()
            log.warning("Row %s of a panic stays pending: %s", row_id, error)
            return False
        return True


def _end_tokens(row_id: int) -> None:
    row = db.session.get(PanicRevocation, row_id)
    panic = db.session.get(Panic, row.panic_id) if row else None
    if row is None or panic is None or not panic.is_open:
        return
    if row.progress is not Progress.PENDING:
        return
    application_id = row.application_id or 0  # no record's
    has_failed = row.tried_at is not None
    try:
        application = db.session.get(ExternalApplication, application_id)
        if application is None:
            raise RecordGone
        revoke(
            application,
            keep_failed=True,
            reason=panic.audit_name,
            note=partial(_note, row_id, has_failed),
        )
    except RecordGone:
        db.session.rollback()
        PanicRevocation.finish(row_id, Progress.FAILED, DELETED)
        db.session.commit()


def _note(row_id: int, has_failed: bool, revoked: Revoked) -> None:
    """Write down what the org said, in the transaction that forgets the tokens."""
    progress, sentence = Progress.REVOKED, revoked.sentence
    if not revoked.anything:
        progress = Progress.FAILED if has_failed else Progress.GONE
        sentence = LET_GO if has_failed else sentence
    elif not revoked.everywhere:
        progress = Progress.FAILED
    PanicRevocation.finish(row_id, progress, sentence)


def _find_late(panic_id: int) -> bool:
    """Find tokens that came just when the panic began; True where there are any.

    Whoever stores one asks first whether that is blocked. On PostgreSQL that may
    have been answered a moment before, and nothing of it was seen here.
    """
    panic = db.session.get(Panic, panic_id, populate_existing=True)
    if panic is None or not panic.is_open:
        return False
    if db.engine.dialect.name == "postgresql":
        age = (now() - panic.started_at).total_seconds()
        db.session.rollback()
        time.sleep(min(max(LATE - age, 0), LATE))
    found = _execute(_rows_of(panic, [])) if panic.scope is Scope.ALL else 0
    found += _execute(
        update(PanicRevocation)
        .where(
            PanicRevocation.panic_id == panic.id,
            PanicRevocation.progress.in_((Progress.REVOKED, Progress.GONE)),
            PanicRevocation.application_id.in_(
                select(ExternalApplication.id).where(_HOLDS)
            ),
        )
        .values(progress=Progress.PENDING)
        .execution_options(synchronize_session=False)
    )
    db.session.commit()
    return found > 0


def retry(panic: Panic) -> int:
    """Have another try at what failed; return how many that are.

    With a record that was deleted its tokens are gone: its row is left as it is.
    """
    rows = _execute(
        update(PanicRevocation)
        .where(
            PanicRevocation.panic_id == panic.id,
            PanicRevocation.progress == Progress.FAILED,
            PanicRevocation.application_id.is_not(None),
            exists().where(Panic.id == panic.id, Panic.lifted_at.is_(None)),
        )
        .values(progress=Progress.PENDING)
        .execution_options(synchronize_session=False)
    )
    if rows:
        audit.record(Event.PANIC_RETRIED, panic, records=rows)
    db.session.commit()
    return rows


def lift(panic: Panic) -> bool:
    """End the block; False where somebody has done so. What is pending stays so."""
    if not panic.lift(audit.actor_name()):
        db.session.rollback()
        return False
    counts = progress_of(panic.id)
    audit.record(
        Event.PANIC_LIFTED,
        panic,
        failed=counts[Progress.FAILED],
        not_tried=counts[Progress.PENDING],
    )
    db.session.commit()
    return True


def _execute(statement: Insert | Update) -> int:
    return int(db.session.execute(statement).rowcount)  # type: ignore[attr-defined]
