"""Key pairs for the JWT bearer flow: the private key here, its certificate there.

Salesforce takes an X.509 certificate with an RSA key of 2,048 bits or more and
checks signatures of RS256 with it (Salesforce Help, "OAuth 2.0 JWT Bearer Flow
for Server-to-Server Integration"). Whatever is wrong with a pair, the org says
no more than "invalid assertion", so it is found out here. Nothing that is read
here is ever part of a message.
"""

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from salesforce.redaction import printable

FEWEST_BITS = 2_048
MOST_BITS = 8_192
"""To check and to sign with a longer key takes seconds."""
LIFETIME = timedelta(days=2 * 365)
"""How long a certificate that is made here is valid: nothing renews it by itself."""
EXPONENT = 65_537
LONGEST_PEM = 32_768
"""Characters: a key of 8,192 bits has 6,400."""
LONGEST_COMMON_NAME = 64
"""Bytes of a common name (RFC 5280, appendix A.1)."""
BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----")
PRIVATE = "PRIVATE KEY"
CERTIFICATE = "CERTIFICATE"
OPENSSH = "OPENSSH PRIVATE KEY"
_ORG_SAYS = " The org would say no more than ‘invalid assertion’."


class KeyPairError(ValueError):
    """A key or certificate cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class KeyPair:
    """Two PEM texts: the private key (PKCS #8) stays here, the certificate is shown."""

    private_key: str = field(repr=False)
    certificate: str


@dataclass(frozen=True)
class CertificateFacts:
    """What an admin compares; the moments are UTC, `fingerprint` is of SHA-256."""

    subject: str
    fingerprint: str
    not_before: datetime
    not_after: datetime


def generate(common_name: str) -> KeyPair:
    """Make a key of 2,048 bits and a certificate of its own signature for two years.

    The certificate is valid from an hour ago, so that an org whose clock is behind
    takes it at once. Raises `KeyPairError` for a name that no certificate holds.
    """
    name = printable(common_name).strip()
    if not 0 < len(name.encode()) <= LONGEST_COMMON_NAME or "\ufffd" in name:
        raise KeyPairError(
            f"A name has 1 to {LONGEST_COMMON_NAME} bytes of visible characters."
        )
    key = rsa.generate_private_key(EXPONENT, FEWEST_BITS)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return KeyPair(_pem_of(key), certificate.public_bytes(Encoding.PEM).decode())


def read_private_key(pem: str) -> str:
    """Return the key as PEM of PKCS #8; raise `KeyPairError`."""
    return _pem_of(_private_key(pem))


def read_certificate(pem: str) -> str:
    """Return the certificate alone, as PEM; raise `KeyPairError`."""
    return _certificate(pem).public_bytes(Encoding.PEM).decode()


def check_pair(private_key: str, certificate: str) -> None:
    """Raise `KeyPairError` unless the two belong together and are valid today."""
    key, made = _private_key(private_key), _certificate(certificate)
    if key.public_key() != made.public_key():
        raise KeyPairError(
            f"The certificate is of another key than this private key.{_ORG_SAYS}"
        )
    now = datetime.now(UTC)
    if made.not_valid_after_utc <= now:
        day = made.not_valid_after_utc.date()
        raise KeyPairError(f"The certificate expired on {day}.{_ORG_SAYS}")
    if made.not_valid_before_utc > now:
        day = made.not_valid_before_utc.date()
        raise KeyPairError(f"The certificate is not valid before {day}.{_ORG_SAYS}")


def describe_certificate(pem: str) -> CertificateFacts:
    """Return what a certificate says of itself; raise `KeyPairError`."""
    made = _certificate(pem)
    try:
        subject = printable(made.subject.rfc4514_string()) or "(no subject)"
    except ValueError:
        raise KeyPairError("The certificate's subject cannot be read.") from None
    return CertificateFacts(
        subject=subject,
        fingerprint=made.fingerprint(hashes.SHA256()).hex(":").upper(),
        not_before=made.not_valid_before_utc,
        not_after=made.not_valid_after_utc,
    )


def _private_key(pem: str) -> rsa.RSAPrivateKey:
    text = _block(pem, PRIVATE)
    try:
        # Its size first: what is checked then takes long for a long key.
        key = load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, rsa.RSAPrivateKey):
            _check_size(key.key_size)
            key = load_pem_private_key(text, None)
    except TypeError:
        raise KeyPairError(
            "The private key is encrypted with a passphrase. Take the passphrase off"
            " first: openssl pkcs8 -topk8 -nocrypt -in FILE."
        ) from None
    except UnsupportedAlgorithm:
        raise KeyPairError(f"The private key is not RSA.{_ORG_SAYS}") from None
    except KeyPairError:
        raise
    except ValueError:
        raise KeyPairError(
            "The private key is broken: part of it is missing or was changed."
        ) from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise KeyPairError(f"The private key is not RSA.{_ORG_SAYS}")
    return key


def _certificate(pem: str) -> x509.Certificate:
    text = _block(pem, CERTIFICATE)
    try:
        made = x509.load_pem_x509_certificate(text)
        key = made.public_key()
    except UnsupportedAlgorithm:
        raise KeyPairError("The certificate's key is not RSA.") from None
    except ValueError:
        raise KeyPairError(
            "The certificate is broken: part of it is missing or was changed."
        ) from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise KeyPairError("The certificate's key is not RSA.")
    _check_size(key.key_size)
    return made


def _check_size(bits: int) -> None:
    if bits < FEWEST_BITS:
        raise KeyPairError(
            f"The key has {bits:,} bits; Salesforce takes {FEWEST_BITS:,} or more."
            f"{_ORG_SAYS}"
        )
    if bits > MOST_BITS:
        raise KeyPairError(f"The key has {bits:,} bits; {MOST_BITS:,} are the most.")


def _block(pem: str, wanted: str) -> bytes:
    """Return the first PEM block of this kind; other text and blocks may be there."""
    if len(pem) > LONGEST_PEM:
        raise KeyPairError(f"This is longer than {LONGEST_PEM:,} characters.")
    labels = []
    for begin in BEGIN.finditer(pem):
        labels.append(begin[1])
        if begin[1] == OPENSSH:
            raise KeyPairError(
                "The private key is in OpenSSH's own form. Write it as PEM first:"
                " ssh-keygen -p -m PEM -f FILE."
            )
        if not begin[1].endswith(wanted):
            continue
        end = f"-----END {begin[1]}-----"
        at = pem.find(end, begin.end())
        if at < 0:
            raise KeyPairError(f"The line {end} is missing.")
        return f"{pem[begin.start() : at]}{end}\n".encode("utf-8", "replace")
    if not labels:
        raise KeyPairError(
            f"This is not PEM: a line -----BEGIN {wanted}----- is missing."
        )
    raise KeyPairError(f"This holds ‘{labels[0]}’, not a {wanted.lower()}.")


def _pem_of(key: rsa.RSAPrivateKey) -> str:
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode("ascii")
