"""Secrets at rest: what the ring opens, what it does not, and what never shows."""

import copy
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import Column, MetaData, Table, create_engine, insert, select, text
from sqlalchemy.exc import StatementError

import vault
from vault import Encrypted, Sealed, UnreadableSecret, fingerprint, seal

OLD, NEW, OTHER = (Fernet.generate_key().decode() for _ in range(3))
SECRET = "a-consumer-secret ü/+=%"

Ring = Callable[..., AbstractContextManager[Any]]


@pytest.fixture
def ring() -> Ring:
    """Enter an app whose ring has the given keys, newest first."""

    def enter(*keys: str) -> AbstractContextManager[Any]:
        app = Flask(__name__)
        vault.init_app(app, keys)
        return app.app_context()

    return enter


def opened_by(key: str, sealed: Sealed) -> str:
    return Fernet(key).decrypt(sealed.ciphertext.encode()).decode()


@pytest.mark.parametrize("secret", ["", SECRET, "\x00", "\U0001f680", "x" * 50_000])
def test_what_was_sealed_comes_out_again(ring: Ring, secret: str) -> None:
    with ring(NEW):
        sealed = seal(secret)
        assert sealed.reveal() == secret
        assert sealed.fingerprint == fingerprint(secret)


def test_the_same_secret_is_never_sealed_the_same_way(ring: Ring) -> None:
    with ring(NEW):
        first, second = seal(SECRET), seal(SECRET)
    assert first.ciphertext != second.ciphertext
    assert SECRET not in first.ciphertext


def test_the_first_key_encrypts_and_every_key_decrypts(ring: Ring) -> None:
    with ring(OLD):
        old = seal(SECRET)
    with ring(NEW, OLD):
        new = seal(SECRET)
        assert old.reveal() == new.reveal() == SECRET
    assert opened_by(NEW, new) == opened_by(OLD, old) == SECRET


def test_a_key_that_was_taken_off_the_ring_opens_nothing(ring: Ring) -> None:
    with ring(NEW, OLD):
        new = seal(SECRET)
    with ring(OLD):
        old = seal(SECRET)
    with ring(NEW):
        assert new.reveal() == SECRET
        with pytest.raises(UnreadableSecret):
            old.reveal()
        assert old.fingerprint is None


def tampered(ciphertext: str) -> str:
    return ciphertext[:40] + ("A" if ciphertext[40] != "A" else "B") + ciphertext[41:]


@pytest.mark.parametrize(
    "spoil",
    [tampered, lambda it: it[:-8], lambda it: it[8:], lambda it: it.swapcase(),
     lambda _: "", lambda _: "plain text", lambda _: "é", lambda _: "\ud800",
     lambda _: Fernet(OTHER).encrypt(SECRET.encode()).decode(),
     lambda _: Fernet(NEW).encrypt(b"\xff\xfe").decode()])  # fmt: skip
def test_what_is_not_whole_is_unreadable(
    ring: Ring, spoil: Callable[[str], str]
) -> None:
    with ring(NEW, OLD):
        sealed = Sealed(spoil(seal(SECRET).ciphertext))
        with pytest.raises(UnreadableSecret) as refusal:
            sealed.reveal()
        assert sealed.fingerprint is None
    assert SECRET not in repr(refusal.value)


@pytest.mark.parametrize("show", [repr, str, format, "{0}".format, "%s".__mod__, ascii])
def test_a_sealed_secret_shows_neither_value_nor_ciphertext(
    ring: Ring, show: Callable[[Sealed], str]
) -> None:
    with ring(NEW):
        assert show(seal(SECRET)) == "<Sealed>"
        assert show(copy.copy(seal(SECRET))) == "<Sealed>"


def test_a_fingerprint_is_the_start_of_a_digest() -> None:
    assert fingerprint("abc") == "ba7816bf"


@pytest.mark.parametrize("keys", [[], [""], ["short"], [NEW, "short"], ["é" * 44]])
def test_a_ring_of_no_or_bad_keys_is_refused_at_the_start(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        vault.init_app(Flask(__name__), keys)


def test_two_apps_have_two_rings(ring: Ring) -> None:
    with ring(NEW):
        sealed = seal(SECRET)
        with ring(OTHER), pytest.raises(UnreadableSecret):
            sealed.reveal()
        assert sealed.reveal() == SECRET


table = Table("things", MetaData(), Column("secret", Encrypted))


@pytest.fixture
def connection(caplog: pytest.LogCaptureFixture) -> Iterator[Any]:
    caplog.set_level(logging.DEBUG, "sqlalchemy.engine")
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        table.create(connection)
        yield connection
    engine.dispose()


def test_a_column_holds_ciphertext_and_gives_it_back_sealed(
    ring: Ring, connection: Any
) -> None:
    with ring(NEW):
        connection.execute(insert(table).values(secret=seal(SECRET)))
        stored = connection.scalar(text("SELECT secret FROM things"))
        assert opened_by(NEW, Sealed(stored)) == SECRET
        assert connection.scalar(select(table.c.secret)).reveal() == SECRET


def test_nothing_is_stored_as_nothing(connection: Any) -> None:
    connection.execute(insert(table).values(secret=None))
    assert connection.execute(select(table.c.secret)).all() == [(None,)]


def test_a_secret_that_is_not_sealed_is_not_stored(connection: Any) -> None:
    with pytest.raises(StatementError):
        connection.execute(insert(table).values(secret=SECRET))
    assert not connection.scalar(text("SELECT count(*) FROM things"))


def test_a_value_is_opened_where_it_is_used_and_not_before(
    ring: Ring, connection: Any
) -> None:
    connection.execute(text("INSERT INTO things VALUES ('no ciphertext')"))
    sealed = connection.scalar(select(table.c.secret))
    with ring(NEW), pytest.raises(UnreadableSecret):
        sealed.reveal()


def test_the_log_of_the_database_shows_no_secret(
    ring: Ring, connection: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with ring(NEW):
        connection.execute(insert(table).values(secret=seal(SECRET)))
        connection.execute(select(table.c.secret)).all()
    assert "INSERT INTO things" in caplog.text
    assert SECRET not in caplog.text
