"""No log line of the process holds a secret, whoever wrote it and wherever to."""

import json
import logging
import logging.handlers
import queue
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
import requests
from flask import Flask
from hypothesis import assume, given
from hypothesis import strategies as st

import logs
from app import create_app
from practice_org import CONSUMER_SECRET
from salesforce.redaction import LOGGED_FIELDS, SECRET_FIELDS, redact_log
from tests.conftest import StrictClient, browser_of
from tests.servers import ROOT, PracticeOrg, free_port, process

VALUE = "opaqueValue-4711-of-nobody-else"
ACCESS_TOKEN = "00D5e000001N20Q!ASAAQEDBeG8bOwPu8NWxJ.Zd3FgYfkZzQ_T0y8vLwVnXkQpRsTu"
REFRESH_TOKEN = "5Aep861KIwKdekr90I4iHdZDgYwfoH7O_5RGiaLLt.JxT8v2bQ1nP5Kx0mZ"
WEB_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIwMDUifQ.c2lnbmF0dXJl-_x"
SFDX_URL = f"force://PlatformCLI::{REFRESH_TOKEN}@acme.my.salesforce.com"
FIELDS = sorted(
    SECRET_FIELDS
    | LOGGED_FIELDS
    | {
        "consumer_secret", "Authorization", "Proxy-Authorization", "Cookie",
        "Set-Cookie", "csrf_token", "X-CSRF-Token", "new_password", "totp_secret",
        "accessToken", "ORGDESK_VAULT_KEYS", "ORGDESK_SECRET_KEY", "passphrase",
    }
)  # fmt: skip
MEGABYTE = 1_000_000


@pytest.fixture(autouse=True)
def _redacting() -> None:
    logs.redact_records()


@pytest.fixture
def log() -> Iterator[logging.Logger]:
    """A library's logger, which writes everything."""
    logger = logging.getLogger("some.library")
    logger.setLevel(logging.DEBUG)
    yield logger
    logger.handlers.clear()


class Everything(logging.Handler):
    """A handler that somebody adds: it writes out all that a record has."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        plain = logging.Formatter("%(levelname)s %(message)s").format(record)
        self.text += f"{plain}\n{record.getMessage()}\n{vars(record)!r}\n"
        self.text += json.dumps(vars(record), default=repr)
        if record.exc_info:
            self.text += logging.Formatter().formatException(record.exc_info)


@pytest.fixture
def written(log: logging.Logger) -> Everything:
    handler = Everything()
    log.addHandler(handler)
    return handler


# --- what is redacted ------------------------------------------------------


def spellings(name: str, value: str) -> dict[str, str]:
    """Return the ways in which a field and its value get into a log."""
    pair = {name: value}
    return {
        "form": f"x=1&{name}={value}&y=2",
        "encoded": urlencode({"x": 1, name: value, "y": 2}),
        "nested": quote_plus(urlencode({"next": f"/a?{name}={value}"})),
        "header": f"Host: x\r\n{name}: {value}\r\nAccept: y",
        "bytes": repr(f"Host: x\r\n{name}: {value}\r\nAccept: y".encode()),
        "json": json.dumps({"x": 1, **pair, "y": [pair]}),
        "compact": json.dumps(pair, separators=(",", ":")),
        "json in json": json.dumps({"body": json.dumps({"body": json.dumps(pair)})}),
        "encoded json": quote(json.dumps(pair)),
        "html": f"&quot;{name}&quot;:&quot;{value}&quot;",
        "dict": repr({"x": 1, **pair, "y": pair}),
        "dict of bytes": repr({name.encode(): value.encode()}),
        "dict of lists": repr({name: [value, value]}),
        "pairs": repr([("x", "y"), (name, value)]),
        "pairs of bytes": repr([(name.encode(), value.encode())]),
        "call": f"f({name}={value!r}, x=1)",
        "mixed": f"{name}={value.encode()!r}",
        "xml": f"<{name}>{value}</{name}>",
        "arrow": f"{name} => {value}",
        "object": f"{{'{name}': <Thing of {value} and more>, 'x': 1}}",
        "cut": json.dumps(pair)[:-3],
    }


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_known_by_its_name(name: str) -> None:
    for text in spellings(name, VALUE).values():
        assert VALUE[:-3] not in redact_log(text)


@pytest.mark.parametrize("name", ["orgdesk", "__Host-orgdesk"])
def test_a_cookie_of_our_own_is_known_by_its_name(name: str) -> None:
    assert VALUE not in redact_log(f"a=b; {name}={VALUE}; c=d")


@pytest.mark.parametrize(
    "value",
    ["correct horse battery staple", 'a"b\'c\\d"e', "a,b;c}d]e)f", "ünïcode ☃ x",
     "trailing\\", "'quoted'", "12345678"])  # fmt: skip
@pytest.mark.parametrize("spell", [json.dumps, repr, lambda d: repr(json.dumps(d))])
def test_a_value_is_hidden_to_its_end(value: str, spell: Any) -> None:
    text = redact_log(spell({"x": 1, "password": value, "after": "it"}))
    for part in re.findall(r"\w{3,}", value):
        assert part not in text


def test_what_follows_a_quoted_value_stays() -> None:
    text = redact_log("{'password': 'a b', 'user': 'bob', 'code': 404}")
    assert text == "{'password': '(redacted)', 'user': 'bob', 'code': 404}"


@pytest.mark.parametrize("token", [ACCESS_TOKEN, REFRESH_TOKEN, WEB_TOKEN, SFDX_URL])
@pytest.mark.parametrize("around", ["{}", "<{}>", "x={}", "a\\n{}", "%3D{}", "b'{}'"])
def test_a_token_is_known_by_its_shape(token: str, around: str) -> None:
    for spelled in (token, quote(token, safe="")):
        text = redact_log(around.format(spelled))
        assert not any(part in text for part in re.split(r"\W+", spelled)[-1:])
        assert spelled[-12:] not in text


@pytest.mark.parametrize(
    "header",
    [
        "Basic YTpi",
        "Bearer opaque7value",
        "bearer abcdefghijklmnopq",
        "Basic%20YTpiOmM=",
    ],
)
@pytest.mark.parametrize("around", ["{}", "Authorization: {}", "-H '{}'", "x {} y"])
def test_credentials_are_known_by_their_scheme(header: str, around: str) -> None:
    assert re.split(r" |%20", header)[1] not in redact_log(around.format(header))


@pytest.mark.parametrize(
    "text",
    ["", "Basic authentication is needed", "token_type: Bearer", "status_code=200",
     "code: 503", "state: connected", "the password was wrong", "code_challenge=abc",
     "The keys are as they were: nonsense", "Worker exited with code 3"])  # fmt: skip
def test_plain_words_stay(text: str) -> None:
    assert logs.redact(text) == text


def test_links_that_work_once_and_what_a_callback_brought() -> None:
    for text in (f"GET /welcome/{VALUE} HTTP/1.1", f"%2Fwelcome%2F{VALUE}"):
        assert VALUE not in logs.redact(text)
    line = f"GET /callback?state={VALUE}&code=x&error_description=y HTTP/1.1"
    assert logs.redact(line) == "GET /callback?(redacted) HTTP/1.1"


@given(
    before=st.text(),
    name=st.sampled_from(FIELDS),
    value=st.text("abcXYZ019._-~", min_size=20, max_size=60),
    spelling=st.sampled_from(sorted(spellings("", ""))),
    after=st.text(),
)
def test_no_secret_survives_in_any_surroundings(
    before: str, name: str, value: str, spelling: str, after: str
) -> None:
    assume(value not in before + after)
    text = f"{before} {spellings(name, value)[spelling]} {after}"
    assert value not in logs.redact(text)


@given(st.text() | st.text("'\"\\=:[](){}<>,& bcode%2357D\n"))
def test_a_second_look_finds_nothing_more_to_tell(text: str) -> None:
    once = logs.redact(f"x password=x{text}")
    assert once.startswith("x password=(redacted)")
    assert logs.redact(once).startswith("x password=(redacted)")


@pytest.mark.parametrize(
    "piece",
    ["a", "password", "password=", "code='", "code=[", 'code=\\"', "\\", "'", "eyJ",
     "Bearer ", "%25", "code%25", "00D", "5Aep", "force://", "'code',", "token: ",
     "'code':<", "code=%22", "&quot;", "/welcome/", "/callback?", 'code="\\', " ",
     "code=(", "\\'", "-eyJ", "state="])  # fmt: skip
def test_a_megabyte_takes_time_in_proportion(piece: str) -> None:
    def seconds(size: int) -> float:
        text = "code=" + piece * (size // len(piece))
        start = time.process_time()
        logs.redact(text)
        return time.process_time() - start

    small = max(min(seconds(MEGABYTE // 20) for _ in range(3)), 0.01)
    assert seconds(MEGABYTE // 2) < 40 * small


# --- every record, whichever handler writes it -----------------------------


class Thing:
    def __init__(self, shown: str) -> None:
        self.shown = shown

    def __repr__(self) -> str:
        return f"<Thing access_token={self.shown}>"


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (f"access_token={VALUE}", ()),
        ("access_token=%s", (VALUE,)),
        ("access_token=%s", (VALUE.encode(),)),
        ("%s=%s", ("access_token", VALUE)),
        ("%s: %r", (b"access_token", VALUE)),
        ("sent %s", ({"access_token": VALUE},)),
        ("sent %(access_token)s and access_token=%(access_token)s", ()),
        ("sent %s", ([("access_token", VALUE)],)),
        ("sent %s", (f"access_token={VALUE}".encode(),)),
        ("sent %s", (Thing(VALUE),)),
        (Thing(VALUE), ()),
        ({"access_token": VALUE}, ()),
        (f"access_token={VALUE} %d", ("no number",)),
        (f"access_token={VALUE} %s %s", ("too few",)),
        (f"access_token={VALUE} %s", (Broken(),)),
        (f"access_token={VALUE} 100%", ("x",)),
    ],
)
def test_messages_and_arguments(
    log: logging.Logger, written: Everything, message: Any, arguments: tuple[Any, ...]
) -> None:
    if isinstance(message, str) and "%(" in message:
        arguments = ({"access_token": f"access_token={VALUE}"},)
    log.debug(message, *arguments)
    assert written.text
    assert VALUE not in written.text


def test_an_object_that_cannot_be_written_is_no_reason_to_fail(
    log: logging.Logger, written: Everything
) -> None:
    log.debug(Broken())
    log.debug("%s", Broken())
    log.debug("x", extra={"thing": Broken(), "things": [{"x": Broken()}]})
    log.debug("a\ud800b", extra={"\ud800": "\ud800"})
    assert written.text.count("RuntimeError") >= 4
    assert r"a\ud800b" in written.text


@pytest.mark.parametrize(
    "extra",
    [
        {"access_token": VALUE},
        {"access_token": 4711},
        {"answer": {"access_token": VALUE, "x": [{"password": VALUE}]}},
        {"line": f"access_token={VALUE}"},
        {"body": f"access_token={VALUE}".encode()},
        {"thing": Thing(VALUE)},
        {"pair": ("x", [f"password={VALUE}"])},
        {f"access_token={VALUE}": 1} | {"x": 1},
    ],
)
def test_what_extra_adds(
    log: logging.Logger, written: Everything, extra: dict[str, Any]
) -> None:
    log.debug("x", extra=extra)
    if f"access_token={VALUE}" not in extra:
        assert VALUE not in written.text
    assert "'access_token': 4711" not in written.text


def test_other_extras_stay_what_they_are(log: logging.Logger) -> None:
    record = log.makeRecord(
        "x", logging.INFO, "x", 1, "x", (), None,
        extra={"count": 3, "names": ["a"], "none": None, "yes": True},
    )  # fmt: skip
    found = {name: vars(record)[name] for name in ("count", "names", "none", "yes")}
    assert found == {"count": 3, "names": ["a"], "none": None, "yes": True}


def test_exceptions_their_causes_and_stacks(
    log: logging.Logger, written: Everything
) -> None:
    try:
        try:
            raise ValueError(f"access_token={VALUE}")
        except ValueError as error:
            error.add_note(f"password: {VALUE}")
            raise RuntimeError({"refresh_token": VALUE}) from error
    except RuntimeError:
        log.exception("failed", stack_info=True)
    assert "test_exceptions_their_causes" in written.text
    assert "RuntimeError" in written.text
    assert VALUE not in written.text


def test_an_exception_that_cannot_be_written(
    log: logging.Logger, written: Everything
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RecursionError

    try:
        raise Odd
    except Odd:
        log.exception("failed")
    assert "Odd" in written.text


def test_records_that_came_from_elsewhere(
    log: logging.Logger, written: Everything
) -> None:
    log.handle(
        logging.makeLogRecord(
            {"msg": "access_token=%s", "args": (VALUE,), "password": VALUE}
            | {"levelno": logging.INFO, "levelname": "INFO"}
        )
    )
    assert "access_token" in written.text
    assert VALUE not in written.text


def test_records_go_through_queues_and_pickles(log: logging.Logger) -> None:
    line: queue.Queue[logging.LogRecord] = queue.Queue()
    log.addHandler(logging.handlers.QueueHandler(line))
    log.addHandler(logging.handlers.SocketHandler("127.0.0.1", None))
    log.error("access_token=%s", VALUE, extra={"password": VALUE})
    record = line.get_nowait()
    assert record.getMessage() == "access_token=(redacted)"
    pickled = logging.handlers.SocketHandler("127.0.0.1", None).makePickle(record)
    assert VALUE.encode() not in pickled


def test_the_factory_wraps_the_one_before_and_itself_never() -> None:
    installed = logging.getLogRecordFactory()
    try:
        logging.setLogRecordFactory(marked)
        logs.redact_records()
        mine = logging.getLogRecordFactory()
        logs.redact_records()
        assert logging.getLogRecordFactory() is mine
        record = logging.getLogger("x").makeRecord(
            "x", logging.INFO, "x", 1, f"password={VALUE}", (), None
        )
        assert vars(record)["mark"] == "theirs"
        assert VALUE not in record.getMessage()
    finally:
        logging.setLogRecordFactory(installed)


def marked(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    vars(record)["mark"] = "theirs"
    return record


def test_a_library_at_debug_shows_nothing_of_a_real_exchange(
    client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    handler, names = (
        Everything(),
        ("requests_oauthlib", "oauthlib", "urllib3", "werkzeug"),
    )
    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(handler)
    try:
        url = org.log_in(client.submit("/applications/1/authorization").location)
        assert client.get(f"/callback?{url.partition('?')[2]}").status_code == 303
        client.submit("/applications/1/authorization")
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.setLevel(logging.INFO)
    assert "refresh_token" in handler.text
    assert "5Aep861" not in handler.text
    assert "00D000000000001!" not in handler.text
    assert CONSUMER_SECRET not in handler.text
    code = re.search(r"[?&]code=([^&]+)", url)
    assert code
    assert code[1] not in handler.text


# --- the form of a line ----------------------------------------------------


def line_of(record: logging.LogRecord) -> dict[str, Any]:
    text = logs.JsonLines().format(record)
    assert len(text.splitlines()) == 1
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_is_json_and_forged_lines_are_none(log: logging.Logger) -> None:
    record = log.makeRecord(
        "x", logging.WARNING, "x", 1, 'a\n{"level": "ERROR"}\r\x1b[31m\u2028\x00b', (),
        None,
    )  # fmt: skip
    line = line_of(record)
    assert line["level"] == "WARNING"
    assert line["logger"] == "x"
    assert line["time"].endswith("+00:00")
    assert line["message"].startswith('a\n{"level"')
    assert set(line) == {"time", "level", "logger", "message"}


def test_the_formatter_redacts_what_no_factory_made() -> None:
    record = logging.LogRecord(
        "x", logging.INFO, "x", 1, "password=%s", (VALUE,),
        (ValueError, ValueError(f"code={VALUE}"), None),
    )  # fmt: skip
    record.request_id = f"token={VALUE}"
    line = line_of(record)
    assert VALUE not in json.dumps(line)
    assert "ValueError" in line["exception"]
    record.msg, record.args = "%s", ("one", "two")
    assert "cannot be written" in line_of(record)["message"]


def test_a_long_message_keeps_its_ends(log: logging.Logger) -> None:
    message = "first " + "x" * MEGABYTE + " last"
    line = line_of(log.makeRecord("x", 20, "x", 1, message, (), None))
    assert len(line["message"]) < logs.LONGEST + 100
    assert line["message"].startswith("first ")
    assert line["message"].endswith(" last")
    assert "characters left out" in line["message"]


def test_random_bytes_stop_nothing() -> None:
    chance = random.Random(4711)
    for _ in range(200):
        noise = chance.randbytes(chance.randrange(200))
        logs.redact(repr(noise))
        logs.redact(noise.decode("latin-1"))
        logs.redact(noise.decode("utf-8", "surrogateescape"))


# --- request ids -----------------------------------------------------------


def test_each_answer_has_an_id_of_its_own(client: StrictClient) -> None:
    first, second, nowhere, elsewhere = (
        client.get("/").headers["X-Request-ID"],
        client.get("/").headers["X-Request-ID"],
        client.get("/nowhere").headers["X-Request-ID"],
        client.get("/", headers={"Host": "evil.example.com"}).headers["X-Request-ID"],
    )
    ids = {first, second, nowhere, elsewhere}
    assert len(ids) == 4
    assert all(re.fullmatch(r"[0-9a-f]{16}", one) for one in ids)


def test_an_id_from_outside_is_not_believed(client: StrictClient) -> None:
    answer = client.get("/", headers={"X-Request-ID": "theirs"})
    assert answer.headers["X-Request-ID"] != "theirs"


@pytest.mark.parametrize(
    ("given_id", "believed"),
    [("theirs.1_2-3", True), ("a" * 64, True), ("a" * 65, False), ("a b", False),
     ("<b>", False), ("", False), ("a\n", False), ("é", False)])  # fmt: skip
def test_a_proxy_gives_ids(
    given_id: str, believed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORGDESK_PROXIES", "1")
    with create_app().test_client() as client:
        environ = {"HTTP_X_REQUEST_ID": given_id}
        answer = client.get("/static/app.css", environ_overrides=environ)
        assert (answer.headers["X-Request-ID"] == given_id) is believed
        answer.close()


def test_a_failure_shows_its_id_and_the_log_has_it(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    app.add_url_rule("/fails/<token>", view_func=fails)
    client = browser_of(app)
    answer = super(StrictClient, client).open(f"/fails/access_token={VALUE}")
    request_id = answer.headers["X-Request-ID"]
    assert answer.status_code == 500
    assert f"Request id {request_id}, for whoever runs Orgdesk" in answer.text
    (record,) = [record for record in caplog.records if record.exc_text]
    assert line_of(record)["request_id"] == request_id
    assert "ZeroDivisionError" in line_of(record)["exception"]
    assert VALUE not in answer.text + caplog.text
    assert "Request id" not in client.get("/nowhere").text


def fails(token: str) -> str:
    raise ZeroDivisionError(f"token={token}")


# --- whole processes -------------------------------------------------------


@pytest.fixture
def instance(tmp_path: Any, empty_database: bytes) -> dict[str, str]:
    (tmp_path / "orgdesk.db").write_bytes(empty_database)
    return {"ORGDESK_INSTANCE": str(tmp_path)}


def test_gunicorns_logs_hold_neither_queries_nor_links(
    instance: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    arguments = ["-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--log-level=debug"]
    arguments += ["--access-logfile=-", "app:create_app()"]
    with process(*arguments, ports=(port,), env=instance):
        address = f"http://127.0.0.1:{port}"
        headers = {
            "Referer": f"{address}/welcome/{VALUE}",
            "Cookie": f"orgdesk={VALUE}",
        }
        for path in (f"callback?code={VALUE}&state={VALUE}", f"welcome/{VALUE}"):
            requests.get(f"{address}/{path}", headers=headers, timeout=10)
        requests.get(f"{address}/?password={VALUE}&token={ACCESS_TOKEN}", timeout=10)
    out, err = capfd.readouterr()
    assert "GET /callback?(redacted) HTTP" in out
    assert "GET /welcome/(redacted) HTTP" in out
    assert "gunicorn.error" in err
    for secret in (VALUE, ACCESS_TOKEN):
        assert secret not in out + err
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {line["logger"] for line in lines} >= {"gunicorn.error"}


def test_a_failing_database_is_a_line_of_json_with_the_pages_id(
    instance: dict[str, str], tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "orgdesk.db").write_bytes(b"no database at all " * 1000)
    port = free_port()
    arguments = ["-m", "gunicorn", f"--bind=127.0.0.1:{port}", "--log-level=error"]
    with process(*arguments, "app:create_app()", ports=(port,), env=instance):
        page = requests.get(f"http://127.0.0.1:{port}/welcome/x", timeout=10)
    out, err = capfd.readouterr()
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert (page.status_code, out, line["level"]) == (503, "", "ERROR")
    assert line["request_id"] == page.headers["X-Request-ID"]
    assert line["request_id"] in page.text


def test_a_command_speaks_to_people(instance: dict[str, str]) -> None:
    command = [sys.executable, "-m", "flask", "--app", "app", "keys", "status"]
    said = subprocess.run(
        command, cwd=ROOT, env=instance, capture_output=True, text=True, check=True
    )
    assert "encrypts" in said.stdout
    assert said.stderr == ""


def test_the_level_is_a_setting(instance: dict[str, str]) -> None:
    code = (
        "import logging, app; app.create_app();"
        "log = logging.getLogger('x'); log.info('one'); log.warning('two')"
    )
    for level, lines in (("", 1), ("info", 2), ("ERROR", 0)):
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True,
            env=instance | {"ORGDESK_LOG_LEVEL": level}, check=True,
        )  # fmt: skip
        assert len([json.loads(line) for line in said.stderr.splitlines()]) == lines
