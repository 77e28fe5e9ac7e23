"""Figures in words."""

from datetime import timedelta

import pytest

from wording import duration, seconds


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(0), "0 s"),
        (timedelta(seconds=59, milliseconds=999), "59 s"),
        (timedelta(minutes=1), "1 min"),
        (timedelta(minutes=59, seconds=59), "59 min"),
        (timedelta(hours=1), "1 h"),
        (timedelta(hours=1, minutes=52, seconds=30), "1 h 52 min"),
        (timedelta(days=1), "1 d"),
        (timedelta(days=1_000, hours=4), "1,000 d 4 h"),
        (timedelta(minutes=-12), "12 min"),
        (timedelta(hours=-1, minutes=-1), "1 h 1 min"),
    ],
)
def test_a_duration_is_said_in_its_two_largest_units(
    span: timedelta, words: str
) -> None:
    assert duration(span) == words


def test_milliseconds_are_said_in_seconds() -> None:
    assert [seconds(ms) for ms in (0, 4, 424, 1_234_567)] == [
        *("0.00 s", "0.00 s", "0.42 s", "1,234.57 s")
    ]
