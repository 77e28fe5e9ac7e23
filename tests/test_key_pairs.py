"""Keys and certificates: made, read, described, and refused in words."""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import quote, quote_plus

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from hypothesis import example, given
from hypothesis import strategies as st

from salesforce.key_pairs import (
    LONGEST_PEM,
    KeyPair,
    KeyPairError,
    check_pair,
    describe_certificate,
    generate,
    read_certificate,
    read_private_key,
)
from salesforce.redaction import redact, redact_answer, redact_log

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
PKCS1 = serialization.PrivateFormat.TraditionalOpenSSL
OPENSSH = serialization.PrivateFormat.OpenSSH
PLAIN = serialization.NoEncryption()
LOCKED = serialization.BestAvailableEncryption(b"passphrase")
SPKI = serialization.PublicFormat.SubjectPublicKeyInfo
HOUR = timedelta(hours=1)


@lru_cache
def rsa_key(bits: int = 2_048, number: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


def pem(key: Any, form: Any = PKCS8, lock: Any = PLAIN) -> str:
    return str(key.private_bytes(PEM, form, lock).decode())


def certificate(
    key: Any, start: timedelta = -HOUR, end: timedelta = HOUR, name: str = "a test"
) -> str:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), 4711)
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .sign(rsa_key(), hashes.SHA256())
    )
    return made.public_bytes(PEM).decode()


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return generate("Orgdesk: Acme Sales é")


def test_a_pair_is_what_salesforce_takes(pair: KeyPair) -> None:
    check_pair(pair.private_key, pair.certificate)
    made = x509.load_pem_x509_certificate(pair.certificate.encode())
    key = made.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2_048
    assert isinstance(made.signature_hash_algorithm, hashes.SHA256)
    made.verify_directly_issued_by(made)
    assert pair.private_key.startswith("-----BEGIN PRIVATE KEY-----\n")
    signed = jwt.encode({"sub": "x"}, pair.private_key, "RS256")
    assert jwt.decode(signed, key, ["RS256"]) == {"sub": "x"}
    assert generate("x").private_key != pair.private_key


def test_a_certificate_tells_its_facts(pair: KeyPair) -> None:
    facts = describe_certificate(pair.certificate)
    assert facts.subject == "CN=Orgdesk: Acme Sales é"
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", facts.fingerprint)
    assert facts.not_after - facts.not_before == timedelta(days=730)
    assert timedelta(0) < datetime.now(UTC) - facts.not_before - HOUR < HOUR
    assert facts.not_after.tzinfo is UTC


def test_a_private_key_shows_itself_nowhere(pair: KeyPair) -> None:
    assert "PRIVATE" not in repr(pair)
    assert pair.certificate in repr(pair).replace("\\n", "\n")


@pytest.mark.parametrize("name", ["", " ", "a" * 65, "a\x00b", "a\u202eb", "\ud800"])
def test_a_name_that_no_certificate_holds_is_refused(name: str) -> None:
    with pytest.raises(KeyPairError, match="1 to 64"):
        generate(name)


@pytest.mark.parametrize("form", [PKCS8, PKCS1])
@pytest.mark.parametrize(
    "around", ["{}", "\r\n \n{}\n\n", "Bag Attributes\n  name: x\n{}rest"]
)
def test_a_private_key_is_read_however_it_comes(form: Any, around: str) -> None:
    expected = pem(rsa_key())
    text = around.format(pem(rsa_key(), form))
    assert read_private_key(text) == expected
    assert read_private_key(text.replace("\n", "\r\n")) == expected


def test_key_and_certificate_may_stand_in_one_file() -> None:
    made = certificate(rsa_key())
    both = made + pem(rsa_key())
    assert read_private_key(both) == pem(rsa_key())
    assert read_certificate(both) == read_certificate(made) == made
    check_pair(both, both)


PUBLIC = rsa_key().public_key().public_bytes(PEM, SPKI).decode()
CURVE = ec.generate_private_key(ec.SECP256R1())
BROKEN = pem(rsa_key())


def odd_key(bits: int) -> str:
    """Return a key whose parts do not belong together."""
    p, q = (1 << bits // 2) + 1, (1 << bits // 2 - 1) + 1
    public = rsa.RSAPublicNumbers(65_537, p * q)
    made = rsa.RSAPrivateNumbers(p, q, 3, 3, 3, 3, public)
    return pem(made.private_key(unsafe_skip_rsa_key_validation=True))


NO_KEYS = [
    ("", "is missing"),
    ("nonsense", "is missing"),
    ("\x00", "is missing"),
    ("a" * (LONGEST_PEM + 1), "longer than 32,768"),
    (PUBLIC, "holds ‘PUBLIC KEY’, not a private key"),
    (certificate(rsa_key()), "holds ‘CERTIFICATE’, not a private key"),
    (pem(rsa_key(), PKCS8, LOCKED), "passphrase"),
    (pem(rsa_key(), PKCS1, LOCKED), "passphrase"),
    (pem(rsa_key(), OPENSSH), "OpenSSH's own form"),
    (pem(CURVE), "not RSA"),
    (pem(CURVE, PKCS1), "not RSA"),
    (pem(ed25519.Ed25519PrivateKey.generate()), "not RSA"),
    (pem(dsa.generate_private_key(2_048)), "not RSA"),
    (pem(rsa_key(1_024)), "1,024 bits"),
    (BROKEN[:400], "-----END PRIVATE KEY----- is missing"),
    (BROKEN.replace("MII", "MIJ"), "broken"),
    (odd_key(2_048), "broken"),
    (BROKEN[:400] + BROKEN[500:], "broken"),
    ("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----", "broken"),
    ("-----BEGIN PRIVATE KEY-----\né\ud800-----END PRIVATE KEY-----", "broken"),
]


@pytest.mark.parametrize(("text", "said"), NO_KEYS, ids=range(len(NO_KEYS)))
def test_what_is_no_usable_private_key_is_named(text: str, said: str) -> None:
    with pytest.raises(KeyPairError) as refused:
        read_private_key(text)
    assert said in str(refused.value)
    assert refused.value.__suppress_context__ or not refused.value.__context__
    lines = filter(None, text.split("\n")[1:-1])
    assert not [line for line in lines if line in str(refused.value)]


def test_the_size_is_looked_at_before_what_takes_long() -> None:
    """Whether the primes of such a key are any takes OpenSSL minutes."""
    with pytest.raises(KeyPairError, match="16,000 bits; 8,192 are the most"):
        read_private_key(odd_key(16_000))


NO_CERTIFICATES = [
    ("", "is missing"),
    (pem(rsa_key()), "holds ‘PRIVATE KEY’, not a certificate"),
    (PUBLIC, "holds ‘PUBLIC KEY’, not a certificate"),
    (certificate(CURVE), "not RSA"),
    (certificate(rsa_key(1_024)), "1,024 bits"),
    (certificate(rsa_key()).replace("MII", "MIJ"), "broken"),
    (certificate(rsa_key())[:200], "-----END CERTIFICATE----- is missing"),
]


@pytest.mark.parametrize(
    ("text", "said"), NO_CERTIFICATES, ids=range(len(NO_CERTIFICATES))
)
@pytest.mark.parametrize("read", [read_certificate, describe_certificate])
def test_what_is_no_usable_certificate_is_named(
    text: str, said: str, read: Any
) -> None:
    with pytest.raises(KeyPairError, match=said):
        read(text)


@pytest.mark.parametrize(
    ("start", "end", "number", "said"),
    [(-HOUR, HOUR, 1, "of another key"), (-2 * HOUR, -HOUR, 0, "expired on 20"),
     (HOUR, 2 * HOUR, 0, "not valid before 20")],
)  # fmt: skip
def test_a_pair_that_does_not_sign_is_named(
    start: timedelta, end: timedelta, number: int, said: str
) -> None:
    key = rsa_key(2_048, number) if number else rsa_key()
    made = certificate(rsa_key(), start, end)
    with pytest.raises(KeyPairError, match=f"{said}.*‘invalid assertion’"):
        check_pair(pem(key), made)


SCRAPS = st.sampled_from(
    ["-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n", "\n", "=", "é",
     "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", "MIIB", "-----",
     "-----BEGIN RSA PRIVATE KEY-----\n", "-----END RSA PRIVATE KEY-----\n", "AAAA",
     "Proc-Type: 4,ENCRYPTED\n", "DEK-Info: AES-256-CBC,00\n\n", BROKEN[28:300],
     "-----BEGIN ENCRYPTED PRIVATE KEY-----\n", BROKEN, "\ud800", "\x00"]
)  # fmt: skip


@given(st.lists(SCRAPS, max_size=8).map("".join) | st.text())
@example("-----BEGIN " + "A" * 30_000)
@example("-----BEGIN PRIVATE KEY-----" * 1_000)
@example(BROKEN.replace("A", "B"))
def test_nonsense_is_a_key_pair_error(text: str) -> None:
    for read in (read_private_key, read_certificate, describe_certificate):
        said = ""
        try:
            read(text)
        except KeyPairError as error:
            said = str(error)
        assert "MII" not in said.encode().decode()


BODIES = [pem(rsa_key()), pem(rsa_key(), PKCS1), pem(rsa_key(), PKCS8, LOCKED),
          pem(CURVE, PKCS1), pem(rsa_key(), OPENSSH)]  # fmt: skip


@pytest.mark.parametrize("key", BODIES, ids=range(len(BODIES)))
@pytest.mark.parametrize(
    "spell", [str, repr, quote, quote_plus, lambda key: key.replace("\n", "\r\n")]
)
def test_a_private_key_is_taken_out_of_answers_and_logs(key: str, spell: Any) -> None:
    half = spell(key[: len(key) // 2])
    for text in (f"before {spell(key)} after", f"key={spell(key)}&a=b after", half):
        for shown in (redact(text, ()), redact_answer(text, ()), redact_log(text)):
            assert not [line for line in key.split("\n")[1:-2] if line in shown]
            assert not [line for line in key.split("\n")[1:-2] if quote(line) in shown]
            assert shown.endswith("after") or text is half


def test_a_public_key_and_a_certificate_stay() -> None:
    for text in (PUBLIC, certificate(rsa_key())):
        assert redact_log(text) == redact(text, ()) == text


def test_a_private_key_is_hidden_by_its_name() -> None:
    assert "opaque" not in redact_log("jwt_private_key='opaque-value-1'")
    assert "opaque" not in redact_answer('{"private_key": "opaque-value-1"}', ())
