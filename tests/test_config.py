"""The settings: what each takes, what each refuses, and keys made once."""

import multiprocessing
import os
import stat
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from config import SettingError, Settings, read_settings

KEYS = [urlsafe_b64encode(bytes([at] * 32)).decode() for at in (1, 2, 3)]
KEY_FILES = ("secret.key", "vault.key")


def read(folder: Path, **settings: str) -> Settings:
    return read_settings(
        {f"ORGDESK_{name}": value for name, value in settings.items()}, folder
    )


@pytest.fixture(params=[0o022, 0o000, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def test_the_defaults_suit_a_newcomer(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.instance == tmp_path
    assert settings.database_url == f"sqlite:///{tmp_path}/orgdesk.db"
    assert (settings.port, settings.practice_port) == (8000, 8001)
    assert (settings.external_url, settings.is_https) == (None, False)
    assert settings.hosts == ["localhost", "127.0.0.1"]
    assert settings.proxies == 0
    assert settings.log_level == "WARNING"


def test_an_empty_setting_is_one_that_is_not_there(tmp_path: Path) -> None:
    names = ("SECRET_KEY", "VAULT_KEYS", "DATABASE_URL", "EXTERNAL_URL", "PORT",
             "PRACTICE_PORT", "PROXIES", "LOG_LEVEL")  # fmt: skip
    assert read(tmp_path, **dict.fromkeys(names, "")) == read(tmp_path)


@pytest.mark.usefixtures("umask")
def test_keys_are_made_for_the_owner_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "instance"
    settings = read(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in folder.iterdir()) == sorted(KEY_FILES)
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(settings.secret_key) >= 64
    assert Fernet(settings.vault_keys[0])


def test_keys_are_found_again_and_differ_between_installations(tmp_path: Path) -> None:
    first, again, other = (read(tmp_path / name) for name in ("a", "a", "b"))
    assert first == again
    assert first.secret_key != other.secret_key
    assert first.vault_keys != other.vault_keys


def test_keys_that_are_set_are_used_and_none_is_made(tmp_path: Path) -> None:
    settings = read(tmp_path, SECRET_KEY="set", VAULT_KEYS=KEYS[0])
    assert (settings.secret_key, settings.vault_keys) == ("set", (KEYS[0],))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("between", [",", ", ", " ", "\n", ",,", " ,\n"])
def test_vault_keys_keep_their_order(tmp_path: Path, between: str) -> None:
    assert read(tmp_path, VAULT_KEYS=between.join(KEYS)).vault_keys == tuple(KEYS)
    (tmp_path / "vault.key").write_text(between.join(KEYS) + "\n")
    assert read(tmp_path).vault_keys == tuple(KEYS)


def start_together(arguments: tuple[Any, str]) -> tuple[str, tuple[str, ...]]:
    barrier, folder = arguments
    barrier.wait(30)
    settings = read(Path(folder))
    return settings.secret_key, settings.vault_keys


def test_processes_that_start_at_once_agree_on_the_keys(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager, spawn.Pool(6) as pool:
        for attempt in range(10):
            barrier, folder = manager.Barrier(6), tmp_path / str(attempt)
            try:
                found = pool.map(start_together, [(barrier, str(folder))] * 6, 1)
            except BrokenBarrierError:
                pytest.fail("the six did not start at once")
            assert len(set(found)) == 1
            names = sorted(path.name for path in folder.iterdir())
            assert names == sorted(KEY_FILES)


@pytest.mark.parametrize(
    ("name", "given_", "used"),
    [("database_url", "postgresql://u:p%40@h:5432/orgdesk",
      "postgresql+psycopg://u:p%40@h:5432/orgdesk"),
     ("database_url", "postgres://h/x", "postgresql+psycopg://h/x"),
     ("database_url", "postgresql+psycopg://h/x?sslmode=require",
      "postgresql+psycopg://h/x?sslmode=require"),
     ("database_url", "postgresql://u@[::1]:5432/x",
      "postgresql+psycopg://u@[::1]:5432/x"),
     ("database_url", "postgresql:///x?host=/run/postgresql",
      "postgresql+psycopg:///x?host=%2Frun%2Fpostgresql"),
     ("database_url", "sqlite:////folder/orgdesk.db", "sqlite:////folder/orgdesk.db"),
     ("external_url", "https://orgdesk.example.com", "https://orgdesk.example.com"),
     ("external_url", "https://orgdesk.example.com/", "https://orgdesk.example.com"),
     ("external_url", "http://10.0.0.1:8000", "http://10.0.0.1:8000"),
     ("external_url", "https://[::1]:8443", "https://[::1]:8443"),
     ("port", "1", 1), ("port", "65535", 65535), ("practice_port", "8080", 8080),
     ("proxies", "0", 0), ("proxies", "5", 5)])  # fmt: skip
def test_a_setting_that_can_be_used(
    tmp_path: Path, name: str, given_: str, used: object
) -> None:
    assert getattr(read(tmp_path, **{name.upper(): given_}), name) == used


@pytest.mark.parametrize(
    ("url", "https", "hosts"),
    [("https://orgdesk.example.com:8443", True, ["orgdesk.example.com"]),
     ("HTTPS://Orgdesk.Example.com", True, ["orgdesk.example.com"]),
     ("http://orgdesk.example.com", False, ["orgdesk.example.com"])])  # fmt: skip
def test_the_external_url_says_host_and_https(
    tmp_path: Path, url: str, https: bool, hosts: list[str]
) -> None:
    settings = read(tmp_path, EXTERNAL_URL=url)
    assert (settings.is_https, settings.hosts) == (https, hosts)


NO_PORT = ["0", "-1", "65536", "x", "80 ", " 80", "8_0", "+80", "80.0", "0x50", "٨٠",
           "²", "9" * 5_000]  # fmt: skip
NO_URL = ["orgdesk.example.com", "//orgdesk.example.com", "ftp://orgdesk.example.com",
          "https://", "https:///", "https://:8000", "https://orgdesk.example.com/path",
          "https://orgdesk.example.com?x=y", "https://orgdesk.example.com#x",
          "https://user:pw@orgdesk.example.com", "https://orgdesk.example.com:x",
          "https://orgdesk.example.com:99999", "https://orgdesk example.com",
          "https://orgdesk.example.com\n", "https://[::1", "javascript:x"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("PORT", value) for value in NO_PORT),
        *(("PRACTICE_PORT", value) for value in NO_PORT),
        *(("PROXIES", value) for value in NO_PORT[1:]),
        ("PROXIES", "6"),
        *(("EXTERNAL_URL", value) for value in NO_URL),
        ("DATABASE_URL", "orgdesk.db"),
        ("DATABASE_URL", "://"),
        ("DATABASE_URL", "mysql://u:pw-of-the-tests@h/x"),
        ("DATABASE_URL", "postgresql//u:pw-of-the-tests@h/x"),
        ("DATABASE_URL", "postgresql://u:pw-of-the-tests@h:port/x"),
        ("DATABASE_URL", "postgresql://u:pw-of-the-tests@[::1/x"),
        ("VAULT_KEYS", ","),
        ("VAULT_KEYS", " "),
        ("VAULT_KEYS", "pw-of-the-tests"),
        ("VAULT_KEYS", KEYS[0] + KEYS[1]),
        ("VAULT_KEYS", f"{KEYS[0]} {KEYS[1][:-2]}"),
        ("VAULT_KEYS", "é" * 44),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, value: str
) -> None:
    with pytest.raises(SettingError, match=rf"^ORGDESK_{name}\b") as refusal:
        read(tmp_path, **{name: value})
    assert "pw-of-the-tests" not in str(refusal.value)
    assert KEYS[0] not in str(refusal.value)


def test_of_several_vault_keys_the_bad_one_is_counted(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="key 2 is not a Fernet key"):
        read(tmp_path, VAULT_KEYS=f"{KEYS[0]},bad,{KEYS[1]}")


@pytest.mark.parametrize("name", KEY_FILES)
@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_key_file_that_holds_no_key_stops_the_start(
    tmp_path: Path, name: str, content: bytes
) -> None:
    """An empty secret key would sign cookies that anybody can sign."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SettingError):
        read(tmp_path)
    assert (tmp_path / name).read_bytes() == content


@pytest.mark.parametrize("below", ["", "/deeper"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"^ORGDESK_INSTANCE\b"):
        read_settings({"ORGDESK_INSTANCE": f"{tmp_path}/file{below}"})


def test_the_folder_of_the_environment_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    assert read_settings({"ORGDESK_INSTANCE": str(folder)}).instance == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(KEY_FILES)


NAMES = [
    "PORT",
    "PRACTICE_PORT",
    "PROXIES",
    "EXTERNAL_URL",
    "DATABASE_URL",
    "VAULT_KEYS",
]
PIECES = ["https://", "http:", "postgresql://", "sqlite:///", "/", ":", "@", "[", "]",
          "::1", "a.example", "80", "?", "#", "%", ",", " ", "\x00", "é"]  # fmt: skip


@given(
    name=st.sampled_from(NAMES),
    value=st.text() | st.lists(st.sampled_from(PIECES)).map("".join),
)
def test_any_text_is_a_setting_or_refused_by_name(
    tmp_path: Path, name: str, value: str
) -> None:
    try:
        used = isinstance(read(tmp_path, **{name: value}), Settings)
    except SettingError as error:
        used = str(error).startswith(f"ORGDESK_{name}")
    assert used


@pytest.mark.parametrize("level", ["DEBUG", "info", "Warning", "ERROR"])
def test_a_log_level_is_one_of_four(tmp_path: Path, level: str) -> None:
    assert read(tmp_path, LOG_LEVEL=level).log_level == level.upper()


@pytest.mark.parametrize("level", ["CRITICAL", "10", "NOTSET", "debug,info", " "])
def test_another_log_level_is_named(tmp_path: Path, level: str) -> None:
    with pytest.raises(SettingError, match="ORGDESK_LOG_LEVEL is none of DEBUG, INFO"):
        read(tmp_path, LOG_LEVEL=level)
