"""The database, and its tables."""

from typing import TYPE_CHECKING

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import DeclarativeBase
from sqlalchemy.schema import CreateColumn


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)

if TYPE_CHECKING:
    Model = Base
else:
    Model = db.Model


def make_tables() -> None:
    """Make them; those of an earlier version's file get the columns they lack."""
    event.listen(db.engine, "connect", _let_many_write)
    db.create_all()
    for table in db.metadata.tables.values():
        there = {
            column["name"] for column in inspect(db.engine).get_columns(table.name)
        }
        for column in table.columns:
            if column.name not in there:
                words = CreateColumn(column).compile(db.engine)
                db.session.execute(text(f"ALTER TABLE {table.name} ADD COLUMN {words}"))
    db.session.commit()


def _let_many_write(connection: DBAPIConnection, _record: object) -> None:
    """Let a crowd of writers wait for each other, and none of them for the disk."""
    cursor = connection.cursor()
    for setting in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "busy_timeout = 60000",
    ):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
