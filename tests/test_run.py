"""`make run`, as a newcomer meets it: three lines, a clear no, a clean end."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.servers import (
    ROOT,
    PracticeOrg,
    become_admin,
    csrf,
    free_port,
    link_in,
)


@pytest.fixture
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture
def env(tmp_path: Path, ports: tuple[int, int]) -> dict[str, str]:
    return os.environ | {
        "ORGDESK_INSTANCE": str(tmp_path / "instance"),
        "ORGDESK_PORT": str(ports[0]),
        "ORGDESK_PRACTICE_PORT": str(ports[1]),
    }


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "run.py"],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_until_up(running: subprocess.Popen[str]) -> str:
    """Return its three lines."""
    assert running.stdout
    return "".join(running.stdout.readline() for _ in range(3))


def stop(running: subprocess.Popen[str]) -> tuple[str, str]:
    """Press Ctrl-C once it is up: the signal goes to the whole group."""
    lines = wait_until_up(running)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=20)
    return lines + out, err


def test_it_says_three_lines_and_stops_without_a_word(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    running = start(env)
    out, err = stop(running)
    assert (running.returncode, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == 3
    assert f"http://localhost:{ports[0]}" in lines[0]
    assert f"http://127.0.0.1:{ports[1]}" in lines[1]
    assert "Refresh Access Token" in lines[2]
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)


def test_the_practice_record_comes_once_and_not_again(env: dict[str, str]) -> None:
    def names() -> list[str]:
        path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
        with sqlite3.connect(path, isolation_level=None) as database:
            rows = database.execute("SELECT application_name FROM external_application")
            found = [name for (name,) in rows]
            database.execute("DELETE FROM external_application")
        return found

    stop(start(env))
    assert names() == ["Practice Org"]
    stop(start(env))
    assert names() == []


def test_keys_are_for_the_owner_alone(env: dict[str, str]) -> None:
    stop(start(env))
    instance = Path(env["ORGDESK_INSTANCE"])
    assert instance.stat().st_mode & 0o777 == 0o700
    for name in ("vault.key", "secret.key"):
        assert (instance / name).stat().st_mode & 0o777 == 0o600


def test_the_practice_record_follows_the_ports(env: dict[str, str]) -> None:
    stop(start(env))
    moved = {
        "ORGDESK_PORT": str(free_port()),
        "ORGDESK_PRACTICE_PORT": str(free_port()),
    }
    stop(start(env | moved))
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        rows = database.execute(
            "SELECT salesforce_domain, callback_url FROM external_application"
        )
        assert rows.fetchall() == [
            (
                f"http://127.0.0.1:{moved['ORGDESK_PRACTICE_PORT']}",
                f"http://localhost:{moved['ORGDESK_PORT']}/callback",
            )
        ]


def sites_of_this_machine(env: dict[str, str]) -> list[tuple[str, int, int, int]]:
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        return database.execute(
            "SELECT host, port, local_network, active FROM remote_site"
            " WHERE scheme = 'http' OR local_network ORDER BY port"
        ).fetchall()


def test_the_practice_orgs_site_follows_its_port_and_stays_off(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    stop(start(env))
    assert sites_of_this_machine(env) == [("127.0.0.1", ports[1], 1, 1)]
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE remote_site SET active = 0 WHERE scheme = 'http'")
    stop(start(env))
    assert sites_of_this_machine(env) == [("127.0.0.1", ports[1], 1, 0)]
    port = free_port()
    stop(start(env | {"ORGDESK_PRACTICE_PORT": str(port)}))
    assert sites_of_this_machine(env) == [("127.0.0.1", port, 1, 0)]


def test_a_practice_record_of_before_remote_sites_gets_its_site(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    stop(start(env))
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        database.execute("DELETE FROM remote_site WHERE scheme = 'http'")
    stop(start(env))
    assert sites_of_this_machine(env) == [("127.0.0.1", ports[1], 1, 1)]


def test_a_start_leaves_what_was_edited_as_it_is(env: dict[str, str]) -> None:
    stop(start(env))
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE external_application SET requested_scopes = ''")
        before = database.execute("SELECT * FROM external_application").fetchall()
    stop(start(env))
    with sqlite3.connect(path) as database:
        after = database.execute("SELECT * FROM external_application").fetchall()
    assert after == before


def test_the_practice_record_comes_to_a_database_that_is_migrated_already(
    env: dict[str, str],
) -> None:
    migrate = [sys.executable, "-m", "flask", "--app", "app", "db", "upgrade"]
    subprocess.run(migrate, cwd=ROOT, env=env, check=True)
    stop(start(env))
    path = Path(env["ORGDESK_INSTANCE"]) / "orgdesk.db"
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT application_name FROM external_application")
        assert rows.fetchall() == [("Practice Org",)]


def test_a_forwarded_scheme_is_not_believed_and_slow_orgs_block_nobody(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    running = start(env)
    lines = wait_until_up(running)
    address, org = f"http://localhost:{ports[0]}", PracticeOrg(ports[1])
    with requests.Session() as browser, ThreadPoolExecutor(20) as pool:
        become_admin(browser, link_in(lines))
        headers = {"X-Forwarded-Proto": "https"}
        page = browser.get(f"{address}/applications/new", headers=headers, timeout=5)
        assert f'value="{address}/callback"' in page.text
        form = {"csrf_token": csrf(page.text)}
        click = f"{address}/applications/1/authorization"
        login = browser.post(click, data=form, allow_redirects=False, timeout=5)
        browser.get(org.log_in(login.headers["Location"]), timeout=5)
        org.switch(fault="slow", seconds=3)
        clicks = [pool.submit(browser.post, click, form, timeout=30) for _ in range(20)]
        wait_until(lambda: org.waiting == 1)  # and the others wait for that one
        assert requests.get(address, timeout=2).ok
        assert all(click.result().ok for click in clicks)
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=20)


def test_the_first_admins_link_works_once_and_ends_with_the_next_start(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    out, _ = stop(start(env))
    before = link_in(out)
    running = start(env)
    link = link_in(wait_until_up(running))
    with requests.Session() as browser:
        assert browser.get(before, timeout=5).status_code == 410
        become_admin(browser, link)
    assert requests.get(link, timeout=5).status_code == 410
    os.killpg(running.pid, signal.SIGINT)
    running.communicate(timeout=20)
    out, _ = stop(start(env))
    assert "welcome" not in out
    assert len(out.splitlines()) == 3


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("setting", ["ORGDESK_PORT", "ORGDESK_PRACTICE_PORT"])
def test_a_port_in_use_names_the_setting(env: dict[str, str], setting: str) -> None:
    with socket.socket() as line:
        line.bind(("127.0.0.1", int(env[setting])))
        line.listen()
        running = start(env)
        out, err = running.communicate(timeout=20)
    assert running.returncode == 1
    assert out == ""
    assert f"Port {env[setting]} cannot be used" in err
    assert f"{setting}=" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ORGDESK_PORT", "eighty"),
        ("ORGDESK_VAULT_KEYS", "no-key"),
        ("ORGDESK_EXTERNAL_URL", "orgdesk"),
        ("ORGDESK_DATABASE_URL", "nonsense"),
        ("ORGDESK_DATABASE_URL", "mysql://localhost/orgdesk"),
        ("ORGDESK_DATABASE_URL", "sqlite:////nowhere/at/all.db"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    env: dict[str, str], setting: str, value: str
) -> None:
    running = start(env | {setting: value})
    _, err = running.communicate(timeout=20)
    assert running.returncode == 1
    assert setting in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_only_it_hears_how_it_is_to_end_and_nothing_is_left(
    env: dict[str, str], ports: tuple[int, int], ending: signal.Signals
) -> None:
    """gunicorn's worker hangs in one of ten cases where SIGINT reaches it at work."""
    running = start(env)
    wait_until_up(running)
    assert all(
        os.getsid(child) != os.getsid(running.pid) for child in children(running)
    )
    kept = [socket.create_connection(("127.0.0.1", ports[0])) for _ in range(20)]
    os.killpg(running.pid, ending)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (0, "")
    for line in kept:
        line.close()


def children(running: subprocess.Popen[str]) -> list[int]:
    path = Path(f"/proc/{running.pid}/task/{running.pid}/children")
    return [int(pid) for pid in path.read_text().split()]


def test_it_ends_when_one_of_the_two_dies(
    env: dict[str, str], ports: tuple[int, int]
) -> None:
    running = start(env)
    wait_until_up(running)
    assert requests.get(f"http://127.0.0.1:{ports[1]}/switchboard", timeout=5).ok
    os.kill(children(running)[0], signal.SIGKILL)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 1
    assert "has ended" in err
