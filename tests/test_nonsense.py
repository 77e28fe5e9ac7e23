"""Nonsense typed into everything: never a 500, always a page of the house."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st

from forms import ApplicationForm, SiteForm
from tests.conftest import StrictClient, add_application

FIELDS = [
    "application_name", "salesforce_domain", "client_id", "consumer_secret",
    "callback_url", "requested_scopes", "prompt_login", "changed_at", "flow",
    "next_consumer_secret", "username", "confirmed_username", "audience",
    "generate_key_pair", "private_key", "certificate", "session_timeout",
    "idle_limit", "owner", "used_by", "tags", "notes",
]  # fmt: skip
WORDS = st.one_of(
    st.text(max_size=300),
    st.sampled_from(["\x00", "%", "_", '"', "'", "\\", "'; DROP TABLE x", "-1", "1e9",
                     "99999999999999999999", "\ud83d\ude00", "\u202e", "ı", "ﬁ"]),
)  # fmt: skip
SITE_FIELDS = ["address", "local_network"]
LIST_ARGUMENTS = [
    *("q", "state", "lapsing", "held", "sort", "after", "before", "last"),
]
TRAIL_ARGUMENTS = ["event", "actor", "subject", "from", "to", "after", "before", "last"]
PANIC_FIELDS = ["scope", "application", "reason", "word"]
CALLBACK_ARGUMENTS = ["state", "code", "error", "error_description", "iss"]
ENOUGH = {200, 303, 400, 404, 405, 415, 422}


@pytest.fixture
def limits() -> bool:
    return False


def test_every_field_of_the_form_is_tried(app: Flask) -> None:
    with app.test_request_context():
        names = {field.name for field in ApplicationForm()}
        of_a_site = {field.name for field in SiteForm()}
    assert names == {*FIELDS, "csrf_token"}
    assert of_a_site == {*SITE_FIELDS, "csrf_token"}


@given(query=st.dictionaries(st.sampled_from(LIST_ARGUMENTS), WORDS))
@example(query={"q": "abc\x00"})
@example(query={"q": "a\x00", "sort": "name", "after": "\x00"})
@example(query={"q": "%", "sort": "attention", "after": "9-9999999999"})
@example(query={"lapsing": "1", "held": "1", "sort": "attention", "last": "1"})
def test_the_list(client: StrictClient, query: dict[str, str]) -> None:
    assert client.get("/", query_string=safe(query)).status_code == 200


@given(query=st.dictionaries(st.sampled_from(TRAIL_ARGUMENTS), WORDS))
@example(query={"from": "2026-02-30", "to": "0000-00-00"})
def test_the_trail(client: StrictClient, query: dict[str, str]) -> None:
    for path in ("/audit", "/audit.csv"):
        assert client.get(path, query_string=safe(query)).status_code == 200


@given(query=st.dictionaries(st.sampled_from(CALLBACK_ARGUMENTS), WORDS))
def test_the_callback(client: StrictClient, query: dict[str, str]) -> None:
    assert client.get("/callback", query_string=safe(query)).status_code == 400


@given(form=st.fixed_dictionaries(dict.fromkeys(FIELDS, WORDS)))
def test_the_forms(app: Flask, client: StrictClient, form: dict[str, Any]) -> None:
    for path in ("/applications/new", "/applications/1/edit"):
        answer = client.submit(path, **safe(form))
        assert answer.status_code in ENOUGH


@given(form=st.fixed_dictionaries(dict.fromkeys(SITE_FIELDS, WORDS)), word=WORDS)
def test_the_forms_of_sites(
    client: StrictClient, form: dict[str, Any], word: str
) -> None:
    query = urlencode(safe({"url": word, "application": word}))
    assert client.get(f"/sites/new?{query}").status_code == 200
    for path in (f"/sites/new?{query}", "/sites/1/edit"):
        assert client.submit(path, **safe(form)).status_code in {303, 422}
    answer = client.submit("/sites/1/activation", **safe({"active": word}))
    assert answer.status_code == 303


@given(word=WORDS)
def test_the_addresses(client: StrictClient, word: str) -> None:
    quoted = quote(word.encode("utf-8", "surrogatepass"), safe="")
    for ending in ("", "/edit", "/delete", "/authorization"):
        assert client.get(f"/applications/{quoted}{ending}").status_code in ENOUGH
    for ending in ("/edit", "/delete", "/activation"):
        assert client.get(f"/sites/{quoted}{ending}").status_code in ENOUGH


@pytest.mark.parametrize("method", ["put", "delete", "patch", "options", "head"])
@pytest.mark.parametrize("path", ["/", "/applications/1", "/callback"])
def test_other_methods(
    app: Flask, client: StrictClient, method: str, path: str
) -> None:
    add_application(app)
    answer = getattr(client, method)(path)
    assert answer.status_code in ENOUGH
    assert ("Allow" in answer.headers) == (answer.status_code == 405) or (
        method == "options"
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"HX-Request": "true"},
        {"Host": "evil.example.com:99999"},
        {"Host": "a b"},
        {"Cookie": "session=nonsense"},
        {"Content-Type": "application/json"},
        {"X-Forwarded-Host": "evil.example.com"},
    ],
)
def test_odd_headers(client: StrictClient, headers: dict[str, str]) -> None:
    for path in ("/", "/applications/new", "/applications/1", "/callback?state=x"):
        assert client.get(path, headers=headers).status_code in ENOUGH
        assert client.post(path, headers=headers, data=b"{").status_code in ENOUGH


@given(form=st.dictionaries(st.sampled_from(PANIC_FIELDS), WORDS), place=WORDS)
def test_the_panic_switch(
    client: StrictClient, form: dict[str, str], place: str
) -> None:
    assert client.get("/panics/new", query_string=safe(form)).status_code == 200
    assert client.submit("/panics", **safe(form)).status_code == 422
    query = safe({"before": place, "after": place})
    assert client.get("/panics", query_string=query).status_code == 200


def safe(form: dict[str, str]) -> dict[str, str]:
    """What a client can send: half surrogates are no text on the wire."""
    return {
        name: text.encode("utf-8", "replace").decode() for name, text in form.items()
    }
