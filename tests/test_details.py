"""What people write down about a record: owner, use, tags, notes, idle limit."""

import re

import pytest
from flask import Flask

from forms.details import MOST_TAGS
from models import LONGEST_NOTES, Role
from tests.conftest import StrictClient, add_application, browser_of, load
from tests.test_applications import FORM, count
from tests.test_audit import trail

DETAILS = {
    "owner": "ada@acme.example",
    "used_by": "The nightly export",
    "tags": "prod, ETL",
    "notes": "Call before changing.\r\n\r\n<b>Not</b> on Mondays.",
    "idle_limit": "90",
}


def test_what_is_written_down_is_kept_and_shown(
    app: Flask, client: StrictClient
) -> None:
    assert client.submit("/applications/new", **FORM | DETAILS).status_code == 303
    record, page = load(app, 1), client.get("/applications/1").text
    assert (record.owner, record.used_by, record.idle_limit) == (
        *("ada@acme.example", "The nightly export", 90),
    )
    assert record.notes == "Call before changing.\n\n<b>Not</b> on Mondays."
    assert "Call before changing.\n\n&lt;b&gt;Not&lt;/b&gt; on Mondays." in page
    assert '<a href="/?q=prod">prod</a>, <a href="/?q=ETL">ETL</a>' in page
    assert "90 days" in page


def test_the_form_comes_back_as_it_was_filled_in(
    app: Flask, client: StrictClient
) -> None:
    client.submit("/applications/new", **FORM | DETAILS)
    page = client.get("/applications/1/edit").text
    for name in ("owner", "used_by", "tags", "idle_limit"):
        assert f'value="{DETAILS[name]}"' in page
    assert "Call before changing.\n\n&lt;b&gt;Not" in page


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("", ""),
        (" , ,, ", ""),
        ("  prod ,ETL,", "prod, ETL"),
        ("Straße, STRASSE, strasse", "Straße"),
        ("data loader, Data  loader", "data loader, Data  loader"),
        ("\u200d, 🚀", "🚀"),
        (",".join(map(str, range(20))), ", ".join(map(str, range(20)))),
        ("x" * 40, "x" * 40),
    ],
)
def test_tags_are_written_in_one_way(
    app: Flask, client: StrictClient, typed: str, stored: str
) -> None:
    assert client.submit("/applications/new", **FORM, tags=typed).status_code == 303
    assert load(app, 1).tags == stored


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("owner", "x" * 256, "longer than 255"),
        ("owner", "ada\x00", "control character"),
        ("used_by", "a\u202eb", "nobody can see"),
        ("used_by", "a\nb", "control character"),
        ("tags", ",".join(map(str, range(MOST_TAGS + 1))), "At most 20 tags"),
        ("tags", "x" * 41, "at most 40 characters"),
        ("tags", "prod, a\tb", "control character"),
        ("tags", ",".join(str(n) * 30 for n in range(9)), "longer than 255"),
        ("notes", "x" * (LONGEST_NOTES + 1), "longer than 4000"),
        ("notes", "a\x0bb", "control character"),
        ("notes", "a\u2028b", "control character"),
        ("idle_limit", "0", "from 1 to 3,650"),
        ("idle_limit", "3651", "from 1 to 3,650"),
        ("idle_limit", "-1", "from 1 to 3,650"),
        ("idle_limit", "1.5", "from 1 to 3,650"),
        ("idle_limit", "٣٠", "from 1 to 3,650"),
        ("idle_limit", "9" * 5_000, "from 1 to 3,650"),
    ],
)
def test_bad_input_gets_a_sentence_beside_its_field(
    app: Flask, client: StrictClient, field: str, value: str, sentence: str
) -> None:
    page = client.submit("/applications/new", **FORM | {field: value})
    assert page.status_code == 422
    error = page.text.partition(f'id="{field}-error">')[2].partition("</p>")[0]
    assert sentence in error
    assert count(app) == 0


@pytest.mark.parametrize(
    ("typed", "days"),
    [({}, 30), ({"idle_limit": ""}, None), ({"idle_limit": " 3650 "}, 3_650)],
    ids=["not asked", "for good", "the longest"],
)
def test_an_org_may_keep_an_unused_refresh_token_for_good(
    app: Flask, client: StrictClient, typed: dict[str, str], days: int | None
) -> None:
    assert client.submit("/applications/new", **FORM, **typed).status_code == 303
    assert load(app, 1).idle_limit == days
    shown = "none: kept for good" if days is None else f"{days} days"
    assert shown in client.get("/applications/1").text
    value = "" if days is None else str(days)
    field = re.search('id="idle_limit"[^>]*', client.get("/applications/1/edit").text)
    assert field
    assert f'value="{value}"' in field[0]


def test_the_longest_notes_are_taken(app: Flask, client: StrictClient) -> None:
    form = FORM | {"notes": "🚀" * LONGEST_NOTES}
    assert client.submit("/applications/new", **form).status_code == 303
    assert load(app, 1).notes == "🚀" * LONGEST_NOTES


def test_the_trail_names_what_was_changed_and_not_to_what(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    client.submit("/applications/1/edit", **FORM | DETAILS)
    *_, row = trail(app)
    for label in ("Owner", "Used by", "Tags", "Notes", "Idle Limit (days)"):
        assert label in row.detail
    assert "ada" not in row.detail


def test_a_record_that_nobody_answers_for_says_so(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    nobody, edit = "Nobody is named who answers", "/applications/1/edit#owner"
    page = client.get("/applications/1").text
    assert nobody in page
    assert edit in page
    viewers = browser_of(app, "v@acme.example", Role.VIEWER)
    page = viewers.get("/applications/1").text
    assert nobody in page
    assert edit not in page
