"""One record has one id, in two forms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salesforce.ids import CHECKS, long_id, same_id

FORMS = [
    ("00D000000000001", "00D000000000001EAA"),
    ("005000000000001", "005000000000001AAA"),
    ("00D5e000001N20Q", "00D5e000001N20QEAS"),
    ("0055e000003E8oo", "0055e000003E8ooAAC"),
    ("abcdefghijklmno", "abcdefghijklmnoAAA"),
    ("ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNO555"),
]
SHORT_IDS = st.from_regex(r"[A-Za-z0-9]{15}", fullmatch=True)


@pytest.mark.parametrize(("short", "long"), FORMS)
def test_a_short_id_has_a_long_form(short: str, long: str) -> None:
    assert long_id(short) == long
    assert long_id(long) == long
    assert same_id(short, long)
    assert same_id(long, short)


@pytest.mark.parametrize(
    "text",
    ["", "00D", "0" * 14, "0" * 16, "0" * 17, "00D00000000000-", "00D0000000000é1",
     "00D00000000000٣", "00D000000000001\n", "00D000000000001EAB", "x" * 10_000],
)  # fmt: skip
def test_what_is_no_short_id_stays_as_it_is(text: str) -> None:
    assert long_id(text) == text
    assert same_id(text, text)


def test_ids_differ_by_the_case_of_a_letter() -> None:
    assert not same_id("00D00000000000a", "00D00000000000A")
    assert not same_id("00D00000000000a", long_id("00D00000000000A"))
    assert not same_id("00D000000000001", "00D000000000002EAA")


@given(one=SHORT_IDS, other=SHORT_IDS)
def test_the_long_forms_differ_even_where_case_is_lost(one: str, other: str) -> None:
    long = long_id(one)
    assert (long[:15], len(long)) == (one, 18)
    assert set(long[15:]) <= set(CHECKS)
    assert same_id(one, other) is (one == other)
    assert (long.upper() == long_id(other).upper()) is (one == other)
    assert long != long_id(one.swapcase()) or one == one.swapcase()
