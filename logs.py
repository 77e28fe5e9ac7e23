"""What Orgdesk's process writes to its log: a JSON object a line, no secrets.

Redaction happens where a record is made, so that it holds for every logger,
Orgdesk's or a library's, and for every handler, whoever added it. A record
has its whole text then: message and arguments are one string, an exception is
its traceback as text. The handler redacts again what it writes.
"""

import json
import logging
import re
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import click
from flask import Flask, g, has_app_context, request
from werkzeug.wrappers import Response

from salesforce import is_logged_field, redact_log

LONGEST = 16_384
"""Characters of a message, or of a traceback; more is left out in the middle."""
DEEPEST = 5
"""Levels of lists and dicts that `extra` is followed into; what is below is text."""
HIDDEN = "(redacted)"
LINKS = re.compile(r"((?:/|%2F)welcome(?:/|%2F))[^\s/?#\"'<>&\\]+", re.IGNORECASE)
"""One-time links: who reads one in a log could use it."""
CALLBACK = re.compile(r"(/callback\?)[^\s\"'<>\\]+")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST_ID_BYTES = 8
HEADER = "X-Request-ID"


def init_app(app: Flask, *, level: str, proxies: int) -> None:
    """Log from `level` on as JSON, and give each request of `app` an id.

    People at a terminal, with a `flask` command, get plain sentences; and a
    handler that stands at the root already is somebody's choice, and stays.
    """
    redact_records()
    root = logging.getLogger()
    if not root.handlers and click.get_current_context(silent=True) is None:
        root.addHandler(_Stderr())
        root.setLevel(level)
        for handler in logging.getLogger("gunicorn.error").handlers:
            handler.setFormatter(JsonLines())

    def give_request_id() -> None:
        g.arrived_at = time.monotonic()
        g.request_id = _believed(proxies) or secrets.token_hex(REQUEST_ID_BYTES)

    app.before_request(give_request_id)
    app.after_request(_tell_request_id)


def redact_records() -> None:
    """Have every record of this process made without secrets."""
    before = logging.getLogRecordFactory()
    if not isinstance(before, _Factory):
        logging.setLogRecordFactory(_Factory(before))


def redact(text: str) -> str:
    """Return `text` without secrets, one-time links and what a callback brought."""
    text = CALLBACK.sub(rf"\1{HIDDEN}", LINKS.sub(rf"\1{HIDDEN}", text))
    return redact_log(text)


class JsonLines(logging.Formatter):
    """A record as one line of JSON; control characters are escaped in it."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record.msg, record.args),
            "request_id": getattr(record, "request_id", None),
            "exception": record.exc_text or _traceback(record.exc_info),
            "stack": record.stack_info,
        }
        return json.dumps(
            {name: _text_of(value) for name, value in line.items() if value}
        )


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is at the time."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonLines())

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Factory:
    """Makes records as `before` does, and takes their secrets out."""

    def __init__(self, before: Callable[..., logging.LogRecord]) -> None:
        self.before = before

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self.before(*args, **kwargs)
        record.__dict__ = _Fields(record.__dict__)
        if has_app_context() and (request_id := g.get("request_id")):
            record.request_id = request_id
        return record


class _Fields(dict[str, Any]):
    """The attributes of a record. What `extra` adds to them later is redacted too."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        super().__init__(fields)
        self._settle()

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, _clean({name: value})[name])

    def update(self, fields: Mapping[str, Any]) -> None:  # type: ignore[override]
        """Take what `logging.makeLogRecord` fills an empty record with."""
        super().update(_clean(fields, keep={"msg", "args", "exc_info"}))
        self._settle()

    def _settle(self) -> None:
        exception = self.get("exc_text") or _traceback(self.get("exc_info"))
        stack = self.get("stack_info")
        super().update(
            msg=_text_of(_message(self.get("msg"), self.get("args"))),
            args=(),
            # Whoever has the exception itself would write it out anew.
            exc_info=None,
            exc_text=_text_of(exception) if exception else None,
            stack_info=_text_of(stack) if stack else None,
        )


def _message(message: object, arguments: Any) -> str:
    try:
        text = str(message)
        return text % arguments if arguments else text
    except Exception as error:  # noqa: BLE001  a log line must not end a request
        kind = type(error).__name__
        shown = message if isinstance(message, str) else type(message).__name__
        return f"{shown} (its arguments cannot be written: {kind})"


def _traceback(exc_info: Any) -> str:
    if not isinstance(exc_info, tuple) or exc_info[0] is None:
        return ""
    try:
        return logging.Formatter().formatException(exc_info)
    except Exception as error:  # noqa: BLE001
        name = getattr(exc_info[0], "__name__", "an exception")
        return f"{name} (it cannot be written: {type(error).__name__})"


def _text_of(value: object) -> str:
    """Return `value` as text that is redacted, not too long, and can be written.

    Half a surrogate pair would make a handler of somebody else's fail, and print
    the record to say so.
    """
    try:
        text = redact(str(value)).encode("utf-8", "backslashreplace").decode()
    except Exception as error:  # noqa: BLE001
        return f"({type(value).__name__} cannot be written: {type(error).__name__})"
    if len(text) <= LONGEST:
        return text
    left_out = f" ... ({len(text) - LONGEST:,} characters left out) ... "
    return text[: LONGEST // 2] + left_out + text[-LONGEST // 2 :]


def _clean(fields: Mapping[str, Any], keep: Iterable[str] = ()) -> dict[str, Any]:
    return {
        name: value if name in keep else _cleaned(name, value, DEEPEST)
        for name, value in fields.items()
    }


def _cleaned(name: object, value: Any, deepest: int) -> Any:
    """Return the value that stands under `name`, fit for any handler."""
    if value is None or isinstance(value, bool):
        return value
    if name is not None and is_logged_field(_text_of(name)):
        return HIDDEN
    if isinstance(value, int | float):
        return value
    if deepest and type(value) is dict:
        return {
            _text_of(key) if isinstance(key, str) else key: _cleaned(
                key, inner, deepest - 1
            )
            for key, inner in value.items()
        }
    if deepest and type(value) in (list, tuple):
        return type(value)(_cleaned(None, inner, deepest - 1) for inner in value)
    return _text_of(value)


def _believed(proxies: int) -> str | None:
    """Return the id that a proxy gave the request, where there is a proxy."""
    asked = request.headers.get(HEADER, "") if proxies else ""
    return asked if REQUEST_ID.fullmatch(asked) else None


def _tell_request_id(response: Response) -> Response:
    if request_id := g.get("request_id"):
        response.headers[HEADER] = request_id
    return response
