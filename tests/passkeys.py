"""A passkey made of software, which does what it is told, also what no device does.

It speaks WebAuthn (W3C, Level 2) as far as the tests need it: an ES256 key and
the attestation "none".
"""

import hashlib
import html
import json
import os
import re
import struct
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from werkzeug.test import TestResponse

from tests.conftest import StrictClient

ORIGIN = "http://localhost"
HOST = "localhost"
PRESENT, VERIFIED, NEW = 0x01, 0x04, 0x40
CEREMONY = re.compile(r'action="([^"]+)" data-passkey="\w+" data-options="([^"]+)"')


@dataclass
class Passkey:
    """One key; `knows_its_owner` tells whether it asks for a finger or a PIN."""

    knows_its_owner: bool = True
    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    id: bytes = field(default_factory=lambda: os.urandom(32))
    user_handle: str = ""

    def create(self, options: dict[str, Any]) -> str:
        """Answer `navigator.credentials.create`."""
        self.user_handle = options["user"]["id"]
        point = self.key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (point.x, point.y))
        public = cbor2.dumps({1: 2, 3: -7, -1: 1, -2: x, -3: y})
        data = self._data(NEW) + bytes(16) + struct.pack(">H", 32) + self.id + public
        attestation = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        client = _client_data("webauthn.create", options["challenge"])
        return self._answer(clientDataJSON=client, attestationObject=attestation)

    def get(self, options: dict[str, Any]) -> str:
        """Answer `navigator.credentials.get`."""
        data, client = self._data(0), _client_data("webauthn.get", options["challenge"])
        signed = data + hashlib.sha256(client).digest()
        signature = self.key.sign(signed, ec.ECDSA(hashes.SHA256()))
        return self._answer(
            clientDataJSON=client, authenticatorData=data, signature=signature
        )

    def _data(self, flags: int) -> bytes:
        flags |= PRESENT | (VERIFIED if self.knows_its_owner else 0)
        host = hashlib.sha256(HOST.encode()).digest()
        return host + bytes([flags]) + struct.pack(">I", 0)

    def _answer(self, **response: bytes) -> str:
        texts = {name: _base64(value) for name, value in response.items()}
        texts |= {"userHandle": self.user_handle} if "signature" in texts else {}
        name = _base64(self.id)
        return json.dumps(
            {
                "id": name,
                "rawId": name,
                "type": "public-key",
                "response": texts,
                "extensions": "{}",
            }
        )


@dataclass
class Ceremony:
    """What the server asks a passkey for, and where the answer goes."""

    action: str
    options: dict[str, Any]

    def answer(self, browser: StrictClient, credential: str) -> TestResponse:
        form = {"csrf_token": _csrf(browser), "credential": credential}
        return browser.post(self.action, data=form)


def asked(browser: StrictClient, path: str, **form: str) -> Ceremony:
    """Begin a ceremony at a page, as its form does."""
    page = browser.post(path, data=form | {"csrf_token": _csrf(browser)})
    found = CEREMONY.search(page.text)
    assert found, page.text
    return Ceremony(html.unescape(found[1]), json.loads(html.unescape(found[2])))


def add_passkey(browser: StrictClient, usage: str, **how: Any) -> Passkey:
    """Give whoever is signed in a passkey for this usage."""
    passkey = Passkey(**how)
    ceremony = asked(browser, "/account/passkeys", name=usage, usage=usage)
    answer = ceremony.answer(browser, passkey.create(ceremony.options))
    assert answer.location == "/account"
    return passkey


def _csrf(browser: StrictClient) -> str:
    signed_in = browser.get("/account").status_code == 200
    return browser.csrf("/account" if signed_in else "/sign-in/passkey")


def _client_data(kind: str, challenge: str) -> bytes:
    return json.dumps(
        {"type": kind, "challenge": challenge, "origin": ORIGIN, "crossOrigin": False}
    ).encode()


def _base64(value: bytes) -> str:
    return urlsafe_b64encode(value).rstrip(b"=").decode()
