"""Run by Alembic: connect as the app does, and compare with its models."""

from alembic import context
from flask import current_app

from database import db

SEARCH = "application_search"
"""What the search stands on is in no model: migrations make it."""


def include_name(name: str | None, kind: str, _: object) -> bool:
    return not (kind in ("table", "index") and (name or "").startswith(SEARCH))


def run_migrations() -> None:
    assert current_app
    with db.engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            # The driver begins no transaction before DDL by itself; without one
            # a process killed half-way would leave half a schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        context.configure(
            connection=connection,
            target_metadata=db.metadata,
            include_name=include_name,
            render_as_batch=True,
            transactional_ddl=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run_migrations()
