"""Figures in words, as the pages write them."""

from datetime import datetime, timedelta

from flask import Flask

from database import now

MINUTE, HOUR, DAY = 60, 3_600, 86_400
MILLISECONDS = 1_000


def init_app(app: Flask) -> None:
    """Let templates write `value|duration`, `value|distance` and `value|seconds`."""
    app.add_template_filter(duration)
    app.add_template_filter(distance)
    app.add_template_filter(seconds)


def duration(span: timedelta) -> str:
    """Say how long, whichever way: 45 s, 12 min, 1 h 52 min, 3 d 4 h."""
    whole = int(abs(span).total_seconds())
    if whole < MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < DAY:
        return _two(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two(whole // DAY, "d", whole % DAY // HOUR, "h")


def distance(moment: datetime) -> str:
    """Say how long ago it was, or how long it is until then."""
    return duration(moment - now())


def seconds(milliseconds: int) -> str:
    """Say how long a request took: 0.42 s."""
    return f"{milliseconds / MILLISECONDS:,.2f} s"


def _two(large: int, unit: str, small: int, small_unit: str) -> str:
    return f"{large:,} {unit} {small} {small_unit}" if small else f"{large:,} {unit}"
