"""`flask --app app keys`: which keys are in use, and how to change them.

A rotation adds a key, encrypts every value anew with it, and takes the old
keys away once nothing needs them. It can be stopped at any time and started
again: what is done is done. Orgdesk may serve meanwhile, because a value is
replaced only if it is still the one that was read, and because each process
follows the key file.
"""

import fcntl
import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from cryptography.fernet import Fernet
from flask import Flask
from flask.cli import AppGroup
from sqlalchemy import Column, func, select, update
from sqlalchemy.exc import DBAPIError

import audit
from database import db, unusable
from models import Event
from vault import Encrypted, Sealed, fingerprint, key_ring

BATCH = 200
"""Values of a column that are read and written in one transaction."""
GRACE = 5.0
"""Seconds in which whoever still has an old key in hand has stored its value."""
KEYS = audit.Thing("Keys", "Vault keys")

log = logging.getLogger(__name__)
commands = AppGroup("keys", help="The keys that encrypt secrets and tokens.")


def init_app(app: Flask) -> None:
    """Add the commands, and warn where people's secrets lie beside their key.

    Whoever tries Orgdesk out on their own machine is not bothered. A command
    in a terminal does not warn of it either, but for `keys status`.
    """
    app.cli.add_command(commands)
    if app.config["EXTERNAL_URL"] and not click.get_current_context(silent=True):
        with app.app_context():
            warning = _lies_beside()
        if warning:
            log.warning("%s", warning)


def _lies_beside() -> str | None:
    """Say so if whoever takes the folder of the database has its key as well."""
    file, url = key_ring().file, db.engine.url
    database = Path(url.database or "")
    if file is None or url.get_backend_name() != "sqlite" or not database.is_absolute():
        return None
    if file.resolve().parent != database.resolve().parent:
        return None
    return (
        f"The vault key lies beside the database it opens: {file}; set"
        " ORGDESK_VAULT_KEYS or ORGDESK_VAULT_KEY_FILE"
    )


@commands.command()
def status() -> None:
    """Count the values that each key opens."""
    counts = _count()
    for position, key in enumerate(key_ring().keys):
        role = "encrypts" if position == 0 else "only decrypts"
        click.echo(f"{fingerprint(key)}  {role:13}  {counts[key]:,} values")
    if counts[None]:
        click.echo(f"No key opens {counts[None]:,} values.")
    if warning := _lies_beside():
        click.echo(f"{warning}.")


@commands.command()
@click.option("--grace", default=GRACE, show_default=True, help="Seconds to wait.")
def rotate(grace: float) -> None:
    """Add a key, encrypt everything with it, and retire the old ones."""
    with _alone(key_ring().file):
        _rotate(grace)


@contextmanager
def _alone(file: Path | None) -> Iterator[None]:
    """Hold off a second rotation: each would write a key file without the other's key.

    The lock is on the file's folder, and goes with the process, however it ends.
    """
    if file is None:  # the keys are in the environment, and stay what they are
        yield
        return
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise click.ClickException("Another rotation is under way.") from None
    finally:
        os.close(folder)


def _rotate(grace: float) -> None:
    ring = key_ring()
    in_use = {key for key in _count() if key is not None}
    try:
        if in_use <= {ring.keys[0]}:
            _add_key()
        rotated = _encrypt_anew()
        time.sleep(grace if rotated else 0)
        rotated += _encrypt_anew()
        click.echo(f"{rotated:,} values were encrypted anew.")
        _retire_keys(rotated)
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None


def _add_key() -> None:
    key, file = Fernet.generate_key().decode(), key_ring().file
    if file is None:
        raise click.ClickException(
            "The keys stand in ORGDESK_VAULT_KEYS. Put a new one before them, restart"
            f" Orgdesk, and run this again. A new key is: {key}"
        )
    # Noted before the file is written and committed after: no key is added
    # that the trail cannot take.
    audit.record(Event.KEYS_ROTATED, KEYS, added=fingerprint(key))
    _write(file, (key, *key_ring().keys))
    db.session.commit()
    click.echo(f"Added the key {fingerprint(key)} to {file}.")


def _retire_keys(rotated: int) -> None:
    ring, counts = key_ring(), _count()
    needed = tuple(key for key in ring.keys[1:] if counts[key])
    old = [key for key in ring.keys[1:] if key not in needed]
    for key in needed:
        click.echo(f"The key {fingerprint(key)} is needed still: run this again.")
    if counts[None]:
        click.echo(f"No key opens {counts[None]:,} values; they are as they were.")
    retired = old if ring.file else []
    if rotated or retired:
        audit.record(
            Event.KEYS_ROTATED,
            KEYS,
            newest=fingerprint(ring.keys[0]),
            retired=[fingerprint(key) for key in retired],
            values_encrypted=rotated,
        )
    if ring.file and retired:
        _write(ring.file, (ring.keys[0], *needed))
    db.session.commit()
    names = ", ".join(map(fingerprint, old))
    if retired:
        click.echo(f"Retired: {names}.")
    elif old:
        click.echo(f"Take out of ORGDESK_VAULT_KEYS what nothing needs: {names}.")


def _encrypt_anew() -> int:
    """Encrypt with the newest key what another one encrypted; return how much."""
    total = sum(_size(column) for column in _columns())
    rotated = 0
    with click.progressbar(length=total, label="Encrypting anew") as bar:
        for column in _columns():
            for batch in _batches(column):
                for row_id, sealed in batch:
                    rotated += _replace(column, row_id, sealed)
                db.session.commit()
                bar.update(len(batch))
    return rotated


def _replace(column: Column[Any], row_id: int, sealed: Sealed) -> int:
    ring = key_ring()
    if ring.key_of(sealed) in (None, ring.keys[0]):
        return 0
    table = column.table
    replaced = db.session.execute(
        update(table)
        .where(table.c.id == row_id, column == sealed)
        .values({column: ring.encrypt(ring.decrypt(sealed))})
    )
    return int(replaced.rowcount)  # type: ignore[attr-defined]


def _count() -> Counter[str | None]:
    ring = key_ring()
    try:
        return Counter(
            ring.key_of(sealed)
            for column in _columns()
            for batch in _batches(column)
            for _, sealed in batch
        )
    except DBAPIError as error:
        raise click.ClickException(unusable(error)) from None


def _columns() -> list[Column[Any]]:
    return [
        column
        for table in db.metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, Encrypted)
    ]


def _size(column: Column[Any]) -> int:
    return db.session.scalar(select(func.count(column))) or 0


def _batches(column: Column[Any]) -> Iterator[list[tuple[int, Sealed]]]:
    table, last = column.table, 0
    while True:
        rows = db.session.execute(
            select(table.c.id, column)
            .where(column.is_not(None), table.c.id > last)
            .order_by(table.c.id)
            .limit(BATCH)
        ).all()
        db.session.rollback()
        if not rows:
            return
        yield [(row_id, sealed) for row_id, sealed in rows]
        last = rows[-1][0]


def _write(file: Path, keys: tuple[str, ...]) -> None:
    """Replace the key file: whole or not at all, and for its owner alone."""
    draft = file.with_name(f".{file.name}.new")
    try:
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text("\n".join(keys) + "\n")
        with draft.open() as written:
            os.fsync(written.fileno())
        draft.replace(file)
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from None
