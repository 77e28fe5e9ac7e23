"""What signs the identity URL: right, wrong, or not there."""

import base64
import hmac
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from salesforce import (
    Signature,
    TokenAnswer,
    exchange_code,
    present_assertion,
    refresh_access_token,
    use_client_credentials,
)
from salesforce.answers import read_token_answer
from salesforce.key_pairs import generate
from tests.wire import CONSUMER_SECRET, Server, answer, calling, plain, serving

IDENTITY = "https://login.salesforce.com/id/00D5e000001N20QEAS/0055e000003E8ooAAC"
ISSUED_AT = "1442275535000"
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="


def sign(identity: str, issued_at: str, secret: str = CONSUMER_SECRET) -> str:
    digest = hmac.digest(secret.encode(), (identity + issued_at).encode(), "sha256")
    return base64.b64encode(digest).decode()


RIGHT = sign(IDENTITY, ISSUED_AT)


def signed(**changes: object) -> dict[str, Any]:
    fields = {"id": IDENTITY, "issued_at": ISSUED_AT, "signature": RIGHT}
    return {"access_token": "opaque"} | fields | changes


def read(fields: dict[str, Any], secret: str | None = CONSUMER_SECRET) -> Signature:
    body = json.dumps(fields).encode()
    return read_token_answer(200, {}, body, (), consumer_secret=secret).signature


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"signature": RIGHT.rstrip("=")},
        {"issued_at": int(ISSUED_AT)},
        {"id": "https://a.example/", "issued_at": "1442275535",
         "signature": sign("https://a.example/", "1442275535")},
    ],
)  # fmt: skip
def test_a_right_signature_is_verified(changes: dict[str, Any]) -> None:
    assert read(signed(**changes)) is Signature.VERIFIED


@pytest.mark.parametrize(
    "signature",
    [
        "c2lnbmF0dXJl", "=", "====", RIGHT + "=", RIGHT + "\n", " " + RIGHT, RIGHT[:-2],
        RIGHT.replace("+", "-").replace("/", "_") + "-", RIGHT.swapcase(), "é" * 44,
        "\ud800", "\x00", "x" * 9_000, sign(IDENTITY, ISSUED_AT, "another secret"),
        sign(IDENTITY, ""), sign(ISSUED_AT, IDENTITY), RIGHT * 2,
        1, 0, 1.5, True, False, [], [RIGHT], {}, {"signature": RIGHT},
    ],
)  # fmt: skip
def test_a_signature_of_no_use_failed(signature: object) -> None:
    assert read(signed(signature=signature)) is Signature.FAILED


@pytest.mark.parametrize("missing", ["id", "issued_at"])
@pytest.mark.parametrize("empty", [None, ""])
def test_a_signature_failed_where_nothing_is_signed(
    missing: str, empty: str | None
) -> None:
    fields = signed(**{missing: empty})
    fields["signature"] = sign(fields["id"] or "", fields["issued_at"] or "")
    assert read(fields) is Signature.FAILED


@pytest.mark.parametrize("signature", [None, ""])
def test_no_signature_is_no_wrong_one(signature: str | None) -> None:
    assert read(signed(signature=signature)) is Signature.NOT_SENT
    fields = signed()
    del fields["signature"]
    assert read(fields) is Signature.NOT_SENT


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_nothing_is_checked(secret: str | None) -> None:
    assert read(signed(), secret) is Signature.NOT_SENT
    assert read(signed(signature="wrong"), secret) is Signature.NOT_SENT


def test_of_equal_texts_for_the_same_bytes_one_is_right() -> None:
    at = BASE64.index(RIGHT[-2])
    other = RIGHT[:-2] + BASE64[at ^ 1] + "="
    assert base64.b64decode(other) == base64.b64decode(RIGHT)
    assert read(signed(signature=other)) is Signature.FAILED


IDENTITIES = st.from_regex(r"https://[a-z]{1,9}/[a-zA-Z0-9?=&/]{0,40}", fullmatch=True)
MOMENTS = st.integers(1_000_000_000, 9_999_999_999).map(str)
SIGNATURES = st.text(BASE64, min_size=1, max_size=50) | st.text(min_size=1)


@given(
    identity=st.just(IDENTITY) | IDENTITIES,
    issued_at=st.just(ISSUED_AT) | MOMENTS,
    signature=st.just(RIGHT) | SIGNATURES,
)
@example(identity=IDENTITY, issued_at=ISSUED_AT + "0", signature=RIGHT)
@example(identity=IDENTITY + "1", issued_at=ISSUED_AT, signature=RIGHT)
@example(identity=IDENTITY[:-1], issued_at=ISSUED_AT, signature=RIGHT)
def test_nothing_that_was_altered_is_verified(
    identity: str, issued_at: str, signature: str
) -> None:
    assume((identity, issued_at, signature) != (IDENTITY, ISSUED_AT, RIGHT))
    fields = signed(id=identity, issued_at=issued_at, signature=signature)
    assert read(fields) is Signature.FAILED


@given(place=st.integers(0, len(RIGHT) - 1), sign_there=st.sampled_from(BASE64))
def test_no_other_character_does(place: int, sign_there: str) -> None:
    assume(RIGHT[place] != sign_there)
    altered = RIGHT[:place] + sign_there + RIGHT[place + 1 :]
    assert read(signed(signature=altered)) is Signature.FAILED


@pytest.fixture
def org(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    plain(monkeypatch)
    with serving() as server, calling():
        yield server


def ask(org: Server, flow: str, secret: str | None) -> TokenAnswer:
    client = replace(org.client, client_secret=secret)
    if flow == "code":
        return exchange_code(client, "a-code", "a-verifier")
    if flow == "refresh":
        return refresh_access_token(client, "a-refresh-token")
    return use_client_credentials(client)


@pytest.mark.parametrize("flow", ["code", "refresh", "credentials"])
def test_the_secret_that_was_sent_is_the_key(org: Server, flow: str) -> None:
    for secret, seen in (
        (CONSUMER_SECRET, Signature.VERIFIED),
        ("the next consumer secret", Signature.FAILED),
    ):
        org.script = [answer(signed())]
        assert ask(org, flow, secret).signature is seen


@pytest.mark.parametrize("flow", ["code", "refresh"])
def test_a_public_app_can_check_no_signature(org: Server, flow: str) -> None:
    org.script = [answer(signed())]
    assert ask(org, flow, None).signature is Signature.NOT_SENT


def test_an_assertion_sends_no_secret_to_check_with(org: Server) -> None:
    org.script = [answer(signed())]
    answered = present_assertion(
        org.client,
        username="ira@acme.example",
        audience="https://login.salesforce.com",
        private_key=generate("Orgdesk").private_key,
    )
    assert answered.signature is Signature.NOT_SENT
