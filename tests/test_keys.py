"""Keys are changed while Orgdesk serves, and nothing becomes unreadable."""

import fcntl
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import select

from app import create_app
from database import db
from models import ExternalApplication
from tests.conftest import SECRET, add_application
from tests.servers import ROOT
from vault import KeyRing, fingerprint, key_ring, seal


@pytest.fixture
def app(
    tmp_path: Path, empty_database: bytes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    """An app whose keys stand in its instance folder, as after `make run`."""
    (tmp_path / "orgdesk.db").write_bytes(empty_database)
    monkeypatch.setenv("ORGDESK_INSTANCE", str(tmp_path))
    app = create_app({"TESTING": True})
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "vault.key"


def run(app: Flask, *arguments: str) -> Result:
    result = app.test_cli_runner().invoke(args=["keys", *arguments])
    assert SECRET not in result.output
    return result


def revealed(app: Flask) -> set[str]:
    with app.app_context():
        rows = db.session.scalars(select(ExternalApplication)).all()
        return {row.consumer_secret.reveal() for row in rows if row.consumer_secret}


def test_status_counts_the_values_of_each_key(app: Flask, key_file: Path) -> None:
    add_application(app)
    old = key_file.read_text().strip()
    new = Fernet.generate_key().decode()
    key_file.write_text(f"{new}\n{old}\n")
    add_application(app, application_name="Other")
    output = run(app, "status").output
    assert re.search(rf"{fingerprint(new)}  encrypts +1 values", output)
    assert re.search(rf"{fingerprint(old)}  only decrypts +1 values", output)
    assert old not in output


def test_a_rotation_leaves_one_new_key_that_opens_everything(
    app: Flask, key_file: Path
) -> None:
    old = key_file.read_text().strip()
    for number in range(5):
        add_application(app, application_name=f"Acme {number}")
    result = run(app, "rotate", "--grace", "0")
    assert result.exit_code == 0, result.output
    assert "5 values were encrypted anew" in result.output
    assert f"Retired: {fingerprint(old)}" in result.output
    (new,) = key_file.read_text().split()
    assert new != old
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert revealed(app) == {SECRET}
    assert len(list(key_file.parent.glob(".*"))) == 0


def test_a_process_that_serves_takes_part(app: Flask, key_file: Path) -> None:
    serving = create_app({"TESTING": True})
    add_application(serving)
    assert run(app, "rotate", "--grace", "0").exit_code == 0
    assert revealed(serving) == {SECRET}
    add_application(serving, application_name="Afterwards")
    assert revealed(app) == {SECRET}
    with app.app_context():
        assert len(key_ring().keys) == 1
    with serving.app_context():
        db.engine.dispose()


def test_what_is_stored_meanwhile_is_neither_lost_nor_overwritten(app: Flask) -> None:
    for number in range(300):
        add_application(app, application_name=f"Acme {number}")
    stop, stored = threading.Event(), dict[int, str]()

    def keep_storing() -> None:
        number = 0
        while not stop.is_set():
            number = number % 300 + 1
            with app.app_context():
                record = db.session.get_one(ExternalApplication, number)
                stored[number] = f"newer-secret-{time.monotonic()}"
                record.consumer_secret = seal(stored[number])
                db.session.commit()

    thread = threading.Thread(target=keep_storing)
    thread.start()
    try:
        result = run(app, "rotate", "--grace", "0.2")
    finally:
        stop.set()
        thread.join()
    assert result.exit_code == 0, result.output
    assert stored
    with app.app_context():
        for row in db.session.scalars(select(ExternalApplication)):
            assert row.consumer_secret
            assert row.consumer_secret.reveal() == stored.get(row.id, SECRET)


def test_a_rotation_that_was_killed_goes_on_where_it_stopped(
    app: Flask, key_file: Path
) -> None:
    with app.app_context():
        for number in range(4_000):
            application = ExternalApplication(
                application_name=f"Acme {number}",
                salesforce_domain="acme.my.salesforce.com",
                client_id="x",
                callback_url="https://x.example",
                consumer_secret=seal(SECRET),
            )
            db.session.add(application)
        db.session.commit()
    rotate = [sys.executable, "-m", "flask", "--app", "app", "keys", "rotate"]
    killed = subprocess.Popen(rotate, cwd=ROOT, stdout=subprocess.PIPE)
    before = key_file.read_text()
    while key_file.read_text() == before:
        time.sleep(0.01)
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    keys = key_file.read_text().split()
    assert len(keys) == 2
    assert revealed(app) == {SECRET}
    result = run(app, "rotate", "--grace", "0")
    assert "Added" not in result.output
    assert key_file.read_text().split() == keys[:1]
    assert revealed(app) == {SECRET}


ROTATE = """
import sys
from app import create_app
app = create_app()
print("ready", flush=True)
sys.stdin.readline()
result = app.test_cli_runner().invoke(args=["keys", "rotate", "--grace", "0"])
sys.exit(result.exit_code)
"""
KILLS = 20
SEED = 20_261_125
ROWS = 500


def rotation() -> subprocess.Popen[bytes]:
    """Start a process that rotates the keys as soon as it is told to."""
    return subprocess.Popen(
        [sys.executable, "-c", ROTATE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def test_a_rotation_that_is_killed_twenty_times_loses_nothing(
    app: Flask, key_file: Path
) -> None:
    """At moments that chance chooses; each value is a different one."""
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    names = ("consumer_secret", "access_token", "refresh_token")
    with app.app_context():
        for number in range(ROWS):
            application = ExternalApplication(
                application_name=f"Acme {number}",
                salesforce_domain="acme.my.salesforce.com",
                client_id="x",
                callback_url="https://x.example",
                **{name: seal(f"{name} {number}") for name in names},
            )
            db.session.add(application)
        db.session.commit()
    expected = {f"{name} {number}" for name in names for number in range(ROWS)}
    retired: set[str] = set()
    in_the_middle = 0
    following = rotation()
    for _ in range(KILLS):
        process, following = following, rotation()
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        before = set(key_file.read_text().split())
        process.stdin.write(b"go\n")
        process.stdin.flush()
        time.sleep(chance.uniform(0, 1.2))
        process.kill()
        process.communicate()
        values = every_value(app)
        assert {value for value, _ in values} == expected
        under = {key for _, key in values}
        assert not under & retired
        in_the_middle += len(under) == 2
        retired |= before - set(key_file.read_text().split())
    following.kill()
    following.communicate()
    print(f"{in_the_middle} of {KILLS} kills left values under two keys")
    assert in_the_middle
    assert run(app, "rotate", "--grace", "0").exit_code == 0
    values = every_value(app)
    (newest,) = key_file.read_text().split()
    assert sorted(value for value, _ in values) == sorted(expected)
    assert {key for _, key in values} == {newest}
    assert newest not in retired


def test_a_key_that_came_while_the_app_started_is_known(
    app: Flask, key_file: Path
) -> None:
    """The settings were read before the file changed, the ring was made after."""
    old = key_file.read_text().strip()
    new = Fernet.generate_key().decode()
    key_file.write_text(f"{new}\n{old}\n")
    ring = KeyRing((old,), key_file)
    assert ring.keys == (new, old)
    assert ring.decrypt(KeyRing((new,)).encrypt("x")) == "x"


def test_two_rotations_at_once_are_one(app: Flask, key_file: Path) -> None:
    add_application(app)
    folder = os.open(key_file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    before = key_file.read_text()
    result = run(app, "rotate", "--grace", "0")
    assert result.exit_code == 1
    assert "Another rotation is under way" in result.output
    assert key_file.read_text() == before
    os.close(folder)
    assert run(app, "rotate", "--grace", "0").exit_code == 0
    assert revealed(app) == {SECRET}


def every_value(app: Flask) -> list[tuple[str, str | None]]:
    """Return what is stored in the clear, each with the key that it is under."""
    with app.app_context():
        ring = key_ring()
        return [
            (sealed.reveal(), ring.key_of(sealed))
            for row in db.session.scalars(select(ExternalApplication))
            for sealed in (row.consumer_secret, row.access_token, row.refresh_token)
            if sealed
        ]


def test_a_database_that_is_not_there_is_said_to_be_so(app: Flask) -> None:
    with app.app_context():
        db.session.execute(db.text("DROP TABLE pending_authorization"))
        db.session.commit()
    for command in ("status", "rotate"):
        result = run(app, command)
        assert result.exit_code == 1
        assert "flask --app app db upgrade" in result.output


def test_no_key_is_added_that_the_trail_cannot_take(app: Flask, key_file: Path) -> None:
    before = key_file.read_text()
    with app.app_context():
        db.session.execute(db.text("DROP TABLE audit_head"))
        db.session.commit()
    result = run(app, "rotate")
    assert result.exit_code == 1
    assert "flask --app app db upgrade" in result.output
    assert key_file.read_text() == before


def test_keys_of_the_environment_are_changed_by_hand(
    app: Flask, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_application(app)
    old = key_file.read_text().strip()
    monkeypatch.setenv("ORGDESK_VAULT_KEYS", old)
    result = run(create_app(), "rotate")
    assert result.exit_code == 1
    new = result.output.strip().rpartition(" ")[2]
    monkeypatch.setenv("ORGDESK_VAULT_KEYS", f"{new},{old}")
    result = run(create_app(), "rotate", "--grace", "0")
    assert f"Take out of ORGDESK_VAULT_KEYS what nothing needs: {fingerprint(old)}" in (
        result.output
    )
    monkeypatch.setenv("ORGDESK_VAULT_KEYS", new)
    assert revealed(create_app()) == {SECRET}


def test_what_no_key_opens_stays_and_is_counted(app: Flask, key_file: Path) -> None:
    add_application(app)
    lost = key_file.read_text()
    key_file.write_text(Fernet.generate_key().decode())
    add_application(app, application_name="Other")
    assert "No key opens 1 values" in run(app, "status").output
    assert "they are as they were" in run(app, "rotate", "--grace", "0").output
    key_file.write_text(key_file.read_text() + lost)
    assert revealed(app) == {SECRET}


def test_a_key_file_that_turns_to_nonsense_stops_nobody(
    app: Flask, key_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add_application(app)
    for nonsense in (b"no key", b"", b"\xff\xfe"):
        key_file.write_bytes(nonsense)
        assert revealed(app) == {SECRET}
    key_file.unlink()
    assert revealed(app) == {SECRET}
    assert "The keys are as they were" in caplog.text


@pytest.mark.parametrize("elsewhere", [True, False])
@pytest.mark.parametrize("external_url", ["", "https://orgdesk.example.com"])
def test_a_key_beside_its_database_is_warned_of(
    app: Flask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    external_url: str,
    elsewhere: bool,
) -> None:
    monkeypatch.setenv("ORGDESK_EXTERNAL_URL", external_url)
    file = tmp_path / "vault.key"
    if elsewhere:
        (tmp_path / "mounted").mkdir()
        file = file.rename(tmp_path / "mounted" / "vault.key")
        monkeypatch.setenv("ORGDESK_VAULT_KEY_FILE", str(file))
    started = create_app()
    warning = f"The vault key lies beside the database it opens: {file}; set"
    warnings = [one for one in caplog.messages if one.startswith(warning)]
    assert len(warnings) == (0 if elsewhere or not external_url else 1)
    assert (warning in run(started, "status").output) is not elsewhere


@pytest.mark.parametrize("path", ["orgdesk.db", "../{}/orgdesk.db", "{}/orgdesk.db"])
def test_a_key_beside_its_database_is_found_by_any_spelling(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    folder = tmp_path if path.startswith("{") else tmp_path.name
    url = f"sqlite:///{path.format(folder)}"
    monkeypatch.setenv("ORGDESK_DATABASE_URL", url)
    assert "lies beside the database" in run(create_app(), "status").output


def test_keys_of_the_environment_lie_beside_nothing(
    app: Flask, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORGDESK_VAULT_KEYS", key_file.read_text().strip())
    assert "lies beside" not in run(create_app(), "status").output
