"""Fresh tokens from the command line: `flask tokens refresh`, for people and cron.

It goes the way of the button, with nobody there who could log in. What it prints
is for logs and mails: no token is in it, nor anything else that is secret.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

import click
from flask.cli import AppGroup
from sqlalchemy import or_, select
from sqlalchemy.exc import DBAPIError

import engine
from database import db, now, unusable
from models import LARGEST_ID, ExternalApplication, name_key

Answer = TypeVar("Answer")

commands = AppGroup("tokens", help="Get access tokens without a browser.")


@commands.command("refresh")
@click.argument("records", nargs=-1, metavar="[NAME_OR_ID]...")
@click.option("--all", "every", is_flag=True, help="All records, by their ids.")
@click.option(
    "--older-than",
    type=click.IntRange(min=0),
    metavar="MINUTES",
    help="Leave alone what has a token that was issued since.",
)
def refresh(records: tuple[str, ...], every: bool, older_than: int | None) -> None:
    """Get fresh access tokens, and print name, lane, state and reason of each.

    Ends with 0 where every record has a fresh one, else with 1.
    """
    if every is bool(records):
        raise click.UsageError("Name records by name or id, or say --all.")
    named = None if every else [_ask(_find, record) for record in records]
    chosen = _ask(_choose, named, older_than)
    fresh = [_ask(_refresh, application_id) for application_id in chosen]
    raise SystemExit(0 if all(fresh) else 1)


def _refresh(application_id: int) -> bool:
    """Get a token for one record and say how it went; True where there is one."""
    application = db.session.get(ExternalApplication, application_id)
    name = application.application_name if application else f"#{application_id}"
    try:
        if application is None:
            raise engine.RecordGone
        result = engine.get_token(application)
    except engine.RecordGone:
        _print(name, "The record was deleted in the meantime.")
        return False
    finally:
        db.session.remove()
    _print(name, result.lane, result.state, result.reason)
    return result.stored


def _print(*words: str) -> None:
    click.echo("  ".join(" ".join(word.split()) for word in words))


def _find(record: str) -> int:
    """Return the id of a record by its name or, where none is called so, its id."""
    key = ExternalApplication.application_name_key == name_key(record)
    number = int(record) if record.isascii() and record.isdigit() else 0
    by_id = ExternalApplication.id == (number if number <= LARGEST_ID else 0)
    for condition in (key, by_id):
        found = db.session.scalar(select(ExternalApplication.id).where(condition))
        if found is not None:
            return found
    raise click.ClickException(f"{record} is no External Application's name or id.")


def _choose(named: Iterable[int] | None, older_than: int | None) -> list[int]:
    """Return the ids that are to be refreshed, each once."""
    chosen = select(ExternalApplication.id).order_by(ExternalApplication.id)
    if named is not None:
        chosen = chosen.where(ExternalApplication.id.in_(named))
    if older_than is not None:
        issued_at = ExternalApplication.issued_at
        since = now() - timedelta(minutes=older_than)
        no_token = ExternalApplication.access_token.is_(None)
        chosen = chosen.where(or_(no_token, issued_at.is_(None), issued_at < since))
    ids = list(db.session.scalars(chosen))
    db.session.rollback()
    return ids


def _ask(ask: Callable[..., Answer], *given: object) -> Answer:
    try:
        return ask(*given)
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None
