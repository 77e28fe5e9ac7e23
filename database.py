"""The database: how tables are declared, and how SQLite is set up for them."""

import sqlite3
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import DateTime, MetaData, event, func, select
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler
from sqlalchemy.engine import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.sql.expression import FromClause
from sqlalchemy.types import TypeDecorator


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(model_class=Base)

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


def now() -> datetime:
    return datetime.now(UTC)


def tick() -> float:
    """Return seconds on a clock that nobody sets, the same for all processes.

    They are for leases: what is set or steps is the time of day. SQLite's
    processes share a machine, whose monotonic clock is system-wide (Python's
    documentation of `time.monotonic`); PostgreSQL's share the server.
    """
    if db.engine.dialect.name != "postgresql":
        return time.monotonic()
    epoch = func.extract("epoch", func.clock_timestamp())
    return float(db.session.execute(select(epoch)).scalar_one())


def unusable(error: DBAPIError) -> str:
    """Say on the command line what to do about a database that fails."""
    return (
        f"The database cannot be used ({error.orig}). Is it up, and migrated with"
        " flask --app app db upgrade?"
    )


class Moment(TypeDecorator[datetime]):
    """A moment: aware UTC in Python, naive UTC in the database."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class _HintingCompiler(SQLiteCompiler):
    """Writes table hints, which SQLAlchemy leaves out on SQLite."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:
        return text


@event.listens_for(Engine, "engine_connect")
def _write_hints(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.dialect.statement_compiler = _HintingCompiler


@event.listens_for(Engine, "connect")
def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Readers beside one writer, who waits his turn; nothing lost in a power cut."""
    if isinstance(connection, sqlite3.Connection):
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")
