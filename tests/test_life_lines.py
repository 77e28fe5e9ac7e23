"""The life line of a refresh token: when it was used, and when it lapses."""

import html
from datetime import datetime, timedelta

import pytest
from flask import Flask

from database import now
from models import Attention, Flow
from tests.conftest import CLICK, StrictClient, connect, load
from tests.servers import PracticeOrg
from tests.test_attempts import words
from tests.test_authorizations import change

PAGE = "/applications/1"


def said(client: StrictClient) -> str:
    return html.unescape(words(client.get(PAGE).text))


def unused_for(app: Flask, **span: float) -> datetime:
    """Let nobody have used record 1's refresh token so long; return its lapse."""
    change(app, refresh_token_used_at=now() - timedelta(**span))
    lapses_at = load(app, 1).lapses_at
    assert lapses_at
    return lapses_at


def test_a_login_and_each_refresh_begin_it_anew(
    app: Flask, client: StrictClient, connected: int
) -> None:
    lapses_at = load(app, 1).lapses_at
    assert lapses_at
    assert abs(lapses_at - now() - timedelta(days=30)) < timedelta(minutes=1)
    unused_for(app, days=20)
    client.submit(CLICK, htmx=True)
    again = load(app, 1).lapses_at
    assert again
    assert again >= lapses_at


def test_the_page_says_when_it_was_used_and_when_it_lapses(
    app: Flask, client: StrictClient, connected: int
) -> None:
    lapses_at = unused_for(app, days=10)
    page = said(client)
    assert f"lapses on {lapses_at:%-d %B %Y} unless it is used" in page
    assert f"last used {lapses_at - timedelta(days=30):%-d %b %Y}" in page
    assert "A refresh keeps it" not in page
    assert load(app, 1).attention is Attention.FINE


@pytest.mark.parametrize("days", [23.01, 29.9])
def test_from_seven_days_before_it_is_warned_of(
    app: Flask, client: StrictClient, connected: int, days: float
) -> None:
    lapses_at = unused_for(app, days=days)
    page = said(client)
    assert f"The refresh token lapses on {lapses_at:%-d %B %Y}" in page
    assert "A refresh keeps it for 30 days more." in page
    assert load(app, 1).attention is Attention.LAPSES_SOON
    client.submit(CLICK, htmx=True)
    assert "A refresh keeps it" not in said(client)
    assert load(app, 1).attention is Attention.FINE


def test_one_that_was_not_used_in_time_has_probably_lapsed(
    app: Flask, client: StrictClient, connected: int
) -> None:
    lapses_at = unused_for(app, days=31)
    page = said(client)
    assert f"has probably lapsed on {lapses_at:%-d %B %Y}" in page
    assert "it was not used for 30 days" in page


def test_each_record_has_a_limit_of_its_own_or_none(
    app: Flask, client: StrictClient, connected: int
) -> None:
    change(app, idle_limit=90)
    lapses_at = load(app, 1).lapses_at
    assert lapses_at
    assert lapses_at - now() > timedelta(days=89)
    change(app, idle_limit=None)
    assert load(app, 1).lapses_at is None
    assert "lapses" not in said(client)


@pytest.mark.parametrize(
    "changes",
    [
        {"refresh_token": None},
        {"refresh_token_problem": "The org ended the grant."},
        {"flow": Flow.CLIENT_CREDENTIALS},
    ],
    ids=["none", "dead", "page-less"],
)
def test_nothing_lapses_where_none_is_in_use(
    app: Flask, client: StrictClient, connected: int, changes: dict[str, object]
) -> None:
    change(app, **changes)
    assert load(app, 1).lapses_at is None
    assert "lapse" not in said(client)


def test_a_refresh_that_failed_is_no_use(
    app: Flask, client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    connect(client, org)
    lapses_at = unused_for(app, days=10)
    org.switch(fault="outage")
    client.submit(CLICK, htmx=True)
    assert load(app, 1).lapses_at == lapses_at
