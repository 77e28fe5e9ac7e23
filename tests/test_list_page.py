"""The page of the list: how each connection is, and what wants attention."""

import gzip
import random
import re
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import insert, update

from database import db, now
from models import Attention, ExternalApplication, HeldToken
from salesforce import State
from tally import MANY
from tests.conftest import StrictClient, add_application
from tests.test_applications import statements
from tests.test_listing import held_by
from tests.test_tally import add

MINUTE, HOUR, DAY = (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1))
CONNECTED = {"state": State.CONNECTED, "attention_rank": Attention.FINE}


def change(app: Flask, record: int, **values: Any) -> None:
    with app.app_context():
        this = update(ExternalApplication).where(ExternalApplication.id == record)
        db.session.execute(this.values(values))
        db.session.commit()


def rows(page: str) -> list[str]:
    """Return what stands in each row, without its tags."""
    found = re.findall("<tr>(.*?)</tr>", page, re.DOTALL)[1:]
    return [" ".join(re.sub("<[^>]*>", " ", row).split()) for row in found]


def summary(page: str) -> dict[str, str]:
    """Return the parts of the summary, and where each leads."""
    line = page.partition('id="applications-summary"')[2].partition("</nav>")[0]
    found = re.findall(r'<a href="([^"]*)"[^>]*>([^<]*)</a>', line)
    return {words: address.replace("&amp;", "&") for address, words in found}


def test_a_row_says_how_the_connection_is(app: Flask, client: StrictClient) -> None:
    record = add_application(
        app, salesforce_domain="acme--uat.sandbox.my.salesforce.com", owner="Ada"
    )
    times = {
        "expires_at": now() + HOUR + 52.5 * MINUTE,
        "lapses_at": now() + 5 * DAY + 12.5 * HOUR,
        "issued_at": now() - 8.5 * MINUTE,
    }
    org = {"organization_id": "00D000000000001AAA", "user_id": "005000000000001AAA"}
    change(app, record, **CONNECTED | times | org)
    (row,) = rows(client.get("/").text)
    for words in (
        *("Owner: Ada", "sandbox", "● Connected", "expires in 1 h 52 min", "8 min ago"),
        *("lapses in 5 d 12 h", "00D000000000001AAA", "005000000000001AAA"),
    ):
        assert words in row
    assert "held" not in row
    change(app, record, expires_at=now() - 3.5 * MINUTE, lapses_at=now() - 36.5 * HOUR)
    change(app, record, held_at=now(), organization_name="Acme", org_username="a@b.c")
    (row,) = rows(client.get("/").text)
    for words in ("◐ Expired", "ran out 3 min ago", "lapsed 1 d 12 h ago", "is held"):
        assert words in row
    assert "Acme a@b.c" in row
    assert "00D0" not in row


def test_what_an_org_said_is_cut_and_is_text(app: Flask, client: StrictClient) -> None:
    record = add_application(app, owner="<u>" + "o" * 200)
    said = "<script>alert(1)</script> " + "long " * 40
    change(
        app,
        record,
        organization_id="00D000000000001AAA",
        user_id="005000000000001AAA",
        **dict.fromkeys(("organization_name", "org_username", "last_error"), said),
    )
    page = client.get("/").text
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert max(map(len, re.findall("(?:long )+", page))) < 60
    assert "o" * 41 not in page


def test_the_summary_counts_in_words_and_leads_to_what_it_counts(
    app: Flask, client: StrictClient
) -> None:
    assert "applications-summary" not in client.get("/").text
    add(app, 3, attention_rank=0)
    add(app, 1, state=State.LOGIN_REQUIRED, lapses_at=now() + DAY)
    with app.app_context():
        db.session.execute(insert(HeldToken), [held_by(2)])
        db.session.commit()
    found = summary(client.get("/?sort=name&q=x").text)
    assert found == {
        "3 connected": "/?state=connected&sort=name",
        "1 needs a login": "/?state=login_required&sort=name",
        "1 lapses within 7 days": "/?lapsing=1&sort=name",
        "1 waits for a decision": "/?held=1&sort=name",
    }
    for words, address in found.items():
        page = client.get(address).text
        assert len(rows(page)) == int(words[0])
        (active,) = re.findall('aria-current="true">([^<]*)', page)
        assert active == words


def test_a_filter_of_the_summary_can_be_taken_off_in_the_form(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    box = '<input type="checkbox" name="lapsing" value="1" checked>'
    assert box in client.get("/?lapsing=1").text
    page = client.get("/").text
    assert 'name="lapsing"' not in page
    assert 'name="held"' not in page


def test_what_wants_attention_comes_first_by_a_click_on_its_head(
    app: Flask, client: StrictClient
) -> None:
    for name, state in (("Dead", State.BLOCKED), ("New", State.NEVER_AUTHORIZED)):
        record = add_application(app, application_name=name)
        rank = Attention.ACT if state is State.BLOCKED else Attention.NEW
        change(app, record, state=state, attention_rank=rank)
    assert [row[:3] for row in rows(client.get("/").text)] == ["New", "Dea"]
    assert '<a href="/?sort=attention">State</a>' in client.get("/").text
    page = client.get("/?sort=attention").text
    assert [row[:3] for row in rows(page)] == ["Dea", "New"]
    assert 'aria-sort="descending">State' in page


def test_the_count_of_many_is_kept_and_says_when_it_was_made(
    app: Flask, client: StrictClient
) -> None:
    add(app, 1)
    assert "counted" not in client.get("/").text
    add(app, MANY, owner="many")
    assert re.search("counted [01] s ago", client.get("/").text)
    taken = statements(client, "/?q=many&sort=attention")
    assert not [sql for sql in taken if "count_connected" in sql]
    assert len(taken) <= 1 + 2


def test_a_full_page_of_troubled_records_is_small(
    app: Flask, client: StrictClient
) -> None:
    chance = random.Random(1)
    for number in range(26):
        letters = "".join(chance.choices("abcdefghijklmnop", k=300))
        record = add_application(
            app, application_name=f"{number} {letters[:30]}", owner=letters[30:60]
        )
        change(
            app,
            record,
            last_error=letters[60:120],
            organization_id=letters[120:138],
            organization_name=letters[140:180],
            user_id=letters[180:198],
            org_username=letters[200:260],
            issued_at=now() - number * HOUR,
            lapses_at=now() + number * HOUR,
        )
    page = client.get("/")
    assert len(rows(page.text)) == 25
    assert len(gzip.compress(page.data)) < 8_000


@pytest.mark.parametrize("address", ["/?lapsing=1&held=1", "/?sort=attention&after=x"])
def test_nothing_found_is_no_error(client: StrictClient, address: str) -> None:
    assert client.get(address).status_code == 200
