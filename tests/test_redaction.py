"""Secrets leave a text, and nothing else does."""

import json
import re
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from salesforce.redaction import SECRET_FIELDS, printable, redact, redact_answer
from vault import fingerprint

ACCESS_TOKEN = "00D5e000001N20Q!ASAAQEDBeG8bOwPu8NWxJ.Zd3FgYfkZzQ_T0y8vLwVnXkQpRsTu"
LONG_ACCESS_TOKEN = ACCESS_TOKEN.replace("!", "EAI!")
REFRESH_TOKEN = "5Aep861KIwKdekr90I4iHdZDgYwfoH7O_5RGiaLLt.JxT8v2bQ1nP5Kx0mZ"
WEB_TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIwMDUifQ.c2lnbmF0dXJl-_x"
CONSUMER_SECRET = "1234567890123456789"
"""All digits, as Salesforce made them for years."""
CODE = "aPrxY3.bXkZt0Q_7w=="
ODD = 'a b&c"<é>/+%'


def mark(secret: str) -> str:
    return f"(fingerprint {fingerprint(secret)})"


def answer(**fields: Any) -> Any:
    """Return what is kept of an answer with these fields."""
    return json.loads(redact_answer(json.dumps(fields), ()))


@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_a_secret_field_holds_its_fingerprint(name: str) -> None:
    assert answer(**{name: "any shape"}) == {name: mark("any shape")}
    assert answer(deep=[{name: "any shape"}]) == {"deep": [{name: mark("any shape")}]}


@pytest.mark.parametrize(
    "value", [12345678, 1.5, True, ["secret-1"], {"a": "secret-1"}]
)
def test_a_secret_field_hides_whatever_it_holds(value: object) -> None:
    assert re.fullmatch(r"\(fingerprint [0-9a-f]{8}\)", answer(code=value)["code"])


@pytest.mark.parametrize("name", ["accessToken", "Access_Token", "REFRESH-TOKEN"])
def test_a_secret_field_is_known_by_any_servers_spelling(name: str) -> None:
    assert answer(**{name: "any shape"}) == {name: mark("any shape")}
    assert "opaque-value-1" not in redact_answer(f"{name}=opaque-value-1&a=b", ())


def test_a_secret_field_that_is_null_says_so() -> None:
    assert answer(refresh_token=None) == {"refresh_token": None}


def test_other_fields_stay_as_they_are() -> None:
    fields = {
        "instance_url": "https://acme.my.salesforce.com",
        "id": "https://login.salesforce.com/id/00D5e000001N20QEAS/0055e000003E8ooAAC",
        "issued_at": "1442275535000",
        "scope": "api refresh_token",
        "signature": "c2lnbmF0dXJlLW9mLXRoZS1pZA==",
        "token_type": "Bearer",
        "n": [1, 1.5, None, True, {"é": "日本"}],
    }
    assert answer(**fields) == fields


def test_json_is_indented_for_reading_and_keeps_its_letters() -> None:
    assert redact_answer('{"a":"\\u00e9"}', ()) == '{\n  "a": "é"\n}'


@pytest.mark.parametrize(
    "token", [ACCESS_TOKEN, LONG_ACCESS_TOKEN, REFRESH_TOKEN, WEB_TOKEN]
)
@pytest.mark.parametrize(
    "around", ["{}", "<b>{}</b>", '"{}",', "a={}&b", "Bearer {}\n"]
)
def test_a_token_is_known_by_its_shape(token: str, around: str) -> None:
    assert redact(around.format(token), ()) == around.format(mark(token))
    assert token not in redact_answer(around.format(token), ())
    assert answer(message=around.format(token))["message"] == around.format(mark(token))


@pytest.mark.parametrize(
    "text",
    ["", "expired access/refresh token", "00D5e000001N20QEAS", "the eyJ prefix", "5Aep",
     "0055e000003E8ooAAC", "https://acme.my.salesforce.com/00D"])  # fmt: skip
def test_plain_words_are_no_tokens(text: str) -> None:
    assert redact(text, ()) == text


@pytest.mark.parametrize(
    "secret", [CONSUMER_SECRET, CODE, ODD, ".*[a-z]+(", "\\1\\g<0>"]
)
@pytest.mark.parametrize("spell", [str, quote_plus, lambda text: quote(text, safe="")])
def test_a_secret_of_the_request_is_hidden_in_every_spelling(
    secret: str, spell: Any
) -> None:
    assert redact(f"<{spell(secret)}>", {secret}) == f"<{mark(secret)}>"


@pytest.mark.parametrize(
    "body", ["{}", '["{}"]', '{{"x": "{}"}}', '{{"{}": 1}}', "<{}"]
)
def test_an_answer_that_sends_a_secret_back_is_kept_without_it(body: str) -> None:
    kept = redact_answer(body.format(CONSUMER_SECRET), {CONSUMER_SECRET})
    assert kept.count(mark(CONSUMER_SECRET)) == 1
    assert CONSUMER_SECRET not in kept


@pytest.mark.parametrize("body", ['{{"x": {}}}', "[{}]", "{}", '{{"x": -{}}}'])
def test_a_secret_sent_back_as_a_number_is_hidden(body: str) -> None:
    assert CONSUMER_SECRET not in redact_answer(
        body.format(CONSUMER_SECRET), {CONSUMER_SECRET}
    )


def test_a_secret_spelled_with_escapes_in_json_is_hidden() -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in ODD)
    kept = redact_answer(f'{{"x": "{escaped}"}}', {ODD})
    assert json.loads(kept) == {"x": mark(ODD)}


@pytest.mark.parametrize(
    ("secret", "echo"),
    [
        ("a==-bcdef", "a%3d%3D-bcdef"),
        ("a&bcdefg", "<p>a&amp;bcdefg</p>"),
        ("a==-bcdef", "<p>a&#61;&#61;-bcdef</p>"),
        ("a<b>c'd\"e", "a&lt;b&gt;c&#x27;d&quot;e"),
    ],
)
def test_a_secret_echoed_as_a_page_spells_it_is_hidden(secret: str, echo: str) -> None:
    kept = redact_answer(echo, {secret})
    assert mark(secret) in kept
    assert "bcd" not in kept.replace(mark(secret), "")


def test_a_token_that_stands_twice_in_an_answer_is_hidden_twice() -> None:
    kept = answer(access_token="opaque-value-1", message="you got opaque-value-1")
    assert kept["message"] == f"you got {mark('opaque-value-1')}"


def test_of_two_secrets_the_longer_one_goes_first() -> None:
    short, long = "secret", "secret-and-more"
    assert redact(f"{long} {short}", {short, long}) == f"{mark(long)} {mark(short)}"


def test_a_short_string_is_no_secret_worth_the_words_it_hits() -> None:
    assert redact("the org refused", {"", "the", "org", "e"}) == "the org refused"


@pytest.mark.parametrize(
    "broken",
    ['{"access_token": "opaque-value-1", ',  # cut short
     '\ufeff{"access_token": "opaque-value-1"}',  # a byte order mark
     'while(1);{"access_token":"opaque-value-1"}',
     "access_token=opaque-value-1&token_type=Bearer",  # format=urlencoded
     "<OAuth><access_token>opaque-value-1</access_token></OAuth>"])  # fmt: skip
def test_a_token_in_an_answer_that_is_not_json_is_hidden(broken: str) -> None:
    assert "opaque-value-1" not in redact_answer(broken, ())


def test_a_salesforce_token_is_known_in_a_form_encoded_answer() -> None:
    encoded = quote_plus(ACCESS_TOKEN)
    kept = redact_answer(f"access_token={encoded}&x=1", ())
    assert ACCESS_TOKEN.partition("!")[2] not in kept
    assert kept.endswith("&x=1")


@pytest.mark.parametrize("depth", [10, 200, 400, 900, 5_000])
def test_nesting_does_not_uncover_a_token(depth: int) -> None:
    body = '{"access_token":"opaque-value-1","x":' + "[" * depth + "]" * depth + "}"
    assert "opaque-value-1" not in redact_answer(body, ())


@pytest.mark.parametrize(
    "odd", ["\x00", "\x07", "\x1b", "\r", "\x7f", "\x85", "\x9f", "\udc80",
            "\u2028", "\u2029"])  # fmt: skip
def test_what_neither_page_nor_database_takes_is_replaced(odd: str) -> None:
    assert printable(f"a{odd}b") == "a\ufffdb"
    assert printable(redact_answer(f"<{odd}>", ())) == "<\ufffd>"


def test_letters_of_every_script_and_line_ends_stay() -> None:
    text = "a\n\tb ÿ日\U0001f680 \u00a0"
    assert printable(text) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(body=st.text() | JSON.map(json.dumps), secret=st.text(min_size=6))
@example(body='"\\ud800"', secret="\u00e9" * 6)
@example(body="1234567", secret="1234567")
def test_any_text_comes_out_fit_to_be_kept(body: str, secret: str) -> None:
    secret = secret.encode("utf-8", "replace").decode()
    kept = redact_answer(body, {secret})
    assert "\x00" not in kept
    assert kept.encode("utf-8").decode() == kept
    assert len(kept) <= 40 * len(body) + 40


@given(
    before=st.text(),
    after=st.text(),
    secret=st.text("abcXYZ019._-~+/=%&", min_size=6),
)
def test_no_secret_survives_wherever_it_stands(
    before: str, after: str, secret: str
) -> None:
    for body in (before + secret + after, json.dumps({"x": [before + secret + after]})):
        assert secret not in redact_answer(body, {secret})
