"""`make run`: Orgdesk and a practice org on this machine, ready to be tried."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from flask_migrate import upgrade
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

import audit
import users
from app import create_app
from config import SettingError, Settings, read_settings
from database import db
from models import Event, ExternalApplication, RemoteSite, find_site
from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import parse_domain, parse_origin

ORGDESK_HOSTS = ("127.0.0.1", "::1")
"""What browsers may take "localhost" for."""
PRACTICE_HOST = "127.0.0.1"
PRACTICE_ORIGIN = f"http://{PRACTICE_HOST}:"
PRACTICE_RECORD = {
    "application_name": "Practice Org",
    "client_id": CLIENT_ID,
    "consumer_secret": CONSUMER_SECRET,
    "requested_scopes": "api refresh_token id",
    "prompt_login": True,
}
START_TIMEOUT = 30
"""Seconds for both to answer."""
GRACE = 5
"""Seconds in which Orgdesk, told to stop, answers what it has begun."""
STOP_TIMEOUT = 10
"""Seconds until what has not stopped is killed."""


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    os.umask(0o077)  # the database is for its owner alone
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        settings = read_settings()
        _refuse_used_ports(settings)
        try:
            first_admin = _prepare(settings)
        except DBAPIError as error:
            raise SettingError(
                "The database cannot be used, see ORGDESK_DATABASE_URL:"
                f" {str(error.orig).strip()}"
            ) from None
        processes.append(_start_practice_org(settings))
        processes.append(_start_orgdesk(settings))
        _wait_until_up(processes, settings)
        print(
            f"Orgdesk:      {settings.address}\n"
            f"Practice org: {_practice_address(settings)}\n"
            f"Next: open {first_admin or 'Orgdesk'}"
            f"{' to make the first admin' if first_admin else ''}, choose Practice Org,"
            " press Refresh Access Token. Ctrl-C stops both.",
            flush=True,
        )
        _wait_for_an_end(processes)
    except SettingError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        _stop(processes)
    return 1


def _refuse_used_ports(settings: Settings) -> None:
    for host, port, setting in (
        *((host, settings.port, "ORGDESK_PORT") for host in _local_hosts()),
        (PRACTICE_HOST, settings.practice_port, "ORGDESK_PRACTICE_PORT"),
    ):
        with socket.socket(_family(host)) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                line.bind((host, port))
            except OSError as error:
                raise SettingError(
                    f"Port {port} cannot be used ({error.strerror}). Orgdesk may be"
                    f" running already; if not, choose another: {setting}={port + 10}"
                    " make run"
                ) from None
    if settings.port == settings.practice_port:
        raise SettingError("ORGDESK_PORT and ORGDESK_PRACTICE_PORT are the same.")


def _local_hosts() -> list[str]:
    """Return those of `ORGDESK_HOSTS` that this machine has."""
    hosts = []
    for host in ORGDESK_HOSTS:
        with suppress(OSError), socket.socket(_family(host)) as line:
            line.bind((host, 0))
            hosts.append(host)
    return hosts


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _prepare(settings: Settings) -> str | None:
    """Bring the database up to date, and the practice org's record with it.

    The record comes with a new practice org, and follows its ports. So does the
    practice org's Remote Site, which is the only one on this machine. Returns a
    one-time link for the first admin, as long as there is none.
    """
    with create_app().app_context():
        upgrade()
        application = db.session.scalar(
            select(ExternalApplication).where(
                ExternalApplication.client_id == CLIENT_ID,
                ExternalApplication.salesforce_domain.startswith(PRACTICE_ORIGIN),
            )
        )
        if application is not None or _is_new(settings):
            _prepare_practice(settings, application)
        token = users.invite_first_admin()
        return token and users.link(token)


def _prepare_practice(
    settings: Settings, application: ExternalApplication | None
) -> None:
    today = {
        "salesforce_domain": _practice_address(settings),
        "callback_url": _callback_url(settings),
    }
    _list(_practice_address(settings), application)
    if application is None:
        _describe(ExternalApplication(), PRACTICE_RECORD | today)
    elif not today.items() <= application.description().items():
        kept = application.description() | {"consumer_secret": ""}
        _describe(application, kept | today)


def _list(address: str, moved: ExternalApplication | None) -> None:
    """Let the practice org be called at `address`, and not where its record was.

    A site that was switched off stays off.
    """
    origin = parse_origin(address)
    if find_site(origin) is None:
        former = find_site(parse_origin(moved.domain.origin)) if moved else None
        site = former or RemoteSite()
        site.describe(origin, local_network=True)
        db.session.add(site)
        audit.record(Event.SITE_EDITED if former else Event.SITE_CREATED, site)
        db.session.commit()


def _describe(application: ExternalApplication, description: dict[str, Any]) -> None:
    description.pop("changed_at", None)
    domain = parse_domain(description.pop("salesforce_domain"))
    application.describe(salesforce_domain=domain, **description)
    is_new = application.id is None
    db.session.add(application)
    audit.record(Event.RECORD_CREATED if is_new else Event.RECORD_EDITED, application)
    db.session.commit()


def _practice_address(settings: Settings) -> str:
    return f"{PRACTICE_ORIGIN}{settings.practice_port}"


def _is_new(settings: Settings) -> bool:
    one = db.session.scalar(select(ExternalApplication.id).limit(1))
    return one is None and not _practice_database(settings).exists()


def _practice_database(settings: Settings) -> Path:
    return settings.instance / "practice_org.db"


def _callback_url(settings: Settings) -> str:
    return f"{settings.address}/callback"


def _start_practice_org(settings: Settings) -> subprocess.Popen[bytes]:
    return _start(
        *("practice_org", "--port", str(settings.practice_port)),
        *("--callback-url", _callback_url(settings)),
        *("--database", str(_practice_database(settings))),
    )


def _start_orgdesk(settings: Settings) -> subprocess.Popen[bytes]:
    addresses = [
        f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
        for host in _local_hosts()
    ]
    return _start(
        *("gunicorn", "--log-level", "warning", f"--graceful-timeout={GRACE}"),
        *(f"--bind={address}" for address in addresses),
        "app:create_app()",
    )


def _start(*module_and_arguments: str) -> subprocess.Popen[bytes]:
    """Start a module as a process out of reach of the terminal's Ctrl-C.

    gunicorn's threaded worker can hang when SIGINT finds it at work, so it is
    this process alone that hears Ctrl-C, and it asks for the end by SIGTERM.
    """
    return subprocess.Popen(
        [sys.executable, "-m", *module_and_arguments], start_new_session=True
    )


def _wait_until_up(
    processes: list[subprocess.Popen[bytes]], settings: Settings
) -> None:
    end = time.monotonic() + START_TIMEOUT
    waiting_for = {(PRACTICE_HOST, settings.practice_port)}
    waiting_for |= {(host, settings.port) for host in _local_hosts()}
    while waiting_for:
        if any(process.poll() is not None for process in processes):
            raise SettingError("Orgdesk did not start; the reason stands above.")
        if time.monotonic() > end:
            raise SettingError(f"Orgdesk was not up within {START_TIMEOUT} seconds.")
        time.sleep(0.05)
        for address in tuple(waiting_for):
            with suppress(OSError), socket.create_connection(address, timeout=1):
                waiting_for.discard(address)


def _wait_for_an_end(processes: list[subprocess.Popen[bytes]]) -> None:
    while all(process.poll() is None for process in processes):
        time.sleep(0.2)
    print("One of the two has ended, so the other is stopped.", file=sys.stderr)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, signal.SIG_IGN)
    for process in processes:
        process.terminate()
    end = time.monotonic() + STOP_TIMEOUT
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0, end - time.monotonic()))
        with suppress(ProcessLookupError):  # what is left of it, its workers too
            os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
