"""The practice org answers as Salesforce does (and the tests may believe it)."""

import base64
import hashlib
import hmac
import json
import re
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding

from practice_org import CLIENT_ID, CONSUMER_SECRET
from practice_org.log import LONGEST_LOG, Log
from tests.servers import USER, PracticeOrg, free_port, practice_org, process

CALLBACK = "http://localhost:8000/callback"
VERIFIER = secrets.token_urlsafe(64)
ADMIN, INTEGRATION = "admin@practice.example", "integration@practice.example"
BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GONE = "invalid_token: invalid token"
CLIENT = {"client_id": CLIENT_ID, "client_secret": CONSUMER_SECRET}


@pytest.fixture(scope="module")
def own_process() -> Iterator[PracticeOrg]:
    with practice_org() as org:
        yield org


@pytest.fixture
def org(own_process: PracticeOrg) -> PracticeOrg:
    own_process.switch()
    own_process.revoke_all()
    return own_process


def login_url(org: PracticeOrg, **changes: str) -> str:
    digest = hashlib.sha256(VERIFIER.encode()).digest()
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": CALLBACK,
        "state": "a-state",
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    } | changes
    return f"{org.address}/services/oauth2/authorize?{urlencode(query)}"


def code(org: PracticeOrg) -> str:
    return code_of(org.log_in(login_url(org)))


def code_of(url: str) -> str:
    return parse_qs(urlsplit(url).query)["code"][0]


def ask(org: PracticeOrg, endpoint: str = "token", **form: str) -> requests.Response:
    url = f"{org.address}/services/oauth2/{endpoint}"
    return requests.post(url, data=form, timeout=5)


def exchange(org: PracticeOrg, **changes: str) -> requests.Response:
    form = CLIENT | {
        "grant_type": "authorization_code",
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }
    form |= changes
    return ask(org, **form if "code" in form else form | {"code": code(org)})


def refresh(org: PracticeOrg, token: str, **changes: str) -> requests.Response:
    form = CLIENT | {"grant_type": "refresh_token", "refresh_token": token}
    return ask(org, **form | changes)


@lru_cache
def rsa_key(name: str, bits: int = 2_048) -> RSAPrivateKey:
    return generate_private_key(65_537, bits)


def certificate_of(key: Any) -> str:
    """Sign a certificate of a key with the key itself, as for Salesforce."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Orgdesk")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256() if isinstance(key, RSAPrivateKey) else None)
    )
    return certificate.public_bytes(Encoding.PEM).decode()


def assertion(
    key: RSAPrivateKey, *, alg: str = "RS256", left: float = 180, **changes: Any
) -> str:
    """Sign a JWT by hand: none of the org's own parts is used."""
    claims = {
        "iss": CLIENT_ID,
        "sub": INTEGRATION,
        "aud": "https://login.salesforce.com",
        "exp": int(time.time() + left),
    }
    parts = ({"alg": alg}, {k: v for k, v in (claims | changes).items() if v != ""})
    message = b".".join(base64url(json.dumps(part).encode()) for part in parts)
    secret = key.public_key().public_numbers().n.to_bytes(256, "big")
    signature = {
        "RS256": lambda: key.sign(message, PKCS1v15(), SHA256()),
        "RS512": lambda: key.sign(message, PKCS1v15(), SHA512()),
        "HS256": lambda: hmac.digest(secret, message, "sha256"),
        "none": lambda: b"",
    }[alg]()
    return b".".join((message, base64url(signature))).decode()


def base64url(value: bytes) -> bytes:
    return base64.urlsafe_b64encode(value).rstrip(b"=")


def bearer(org: PracticeOrg, signed: str, **form: str) -> requests.Response:
    return ask(org, grant_type=BEARER, assertion=signed, **form)


def refused(answer: requests.Response) -> str:
    assert answer.status_code == 400
    return "{error}: {error_description}".format_map(answer.json())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_answer_has_salesforces_fields(org: PracticeOrg) -> None:
    answer = exchange(org).json()
    assert set(answer) == {"access_token", "refresh_token", "signature", "scope",
                           "instance_url", "id", "token_type", "issued_at"}  # fmt: skip
    assert re.fullmatch(r"00D\w{12}!\w{96}", answer["access_token"])
    assert re.fullmatch(r"\d{13}", answer["issued_at"])
    message = (answer["id"] + answer["issued_at"]).encode()
    digest = hmac.digest(CONSUMER_SECRET.encode(), message, "sha256")
    assert answer["signature"] == base64.b64encode(digest).decode()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"code": "aPrxUnknown"}, "invalid_grant: expired authorization code"),
        ({"code_verifier": "x" * 43}, "invalid_grant: invalid code verifier"),
        ({"code_verifier": "~" * 43}, "invalid_grant: invalid code verifier"),
        ({"client_secret": "wrong"}, "invalid_client: invalid client credentials"),
        ({"client_id": "wrong"}, "invalid_client_id: client identifier invalid"),
        ({"scope": "api"}, "invalid_request: scope parameter not supported"),
        (
            {"grant_type": "password"},
            "unsupported_grant_type: grant type not supported",
        ),
        ({"redirect_uri": "http://x"}, "invalid_grant: redirect_uri must match"),
    ],
)
def test_it_says_no_in_salesforces_words(
    org: PracticeOrg, changes: dict[str, str], said: str
) -> None:
    assert refused(exchange(org, **changes)).startswith(said)


@pytest.mark.parametrize("basic", [False, True])
def test_a_staged_secret_works_beside_the_present_one(
    org: PracticeOrg, basic: bool
) -> None:
    def said(secret: str) -> requests.Response:
        form = {"grant_type": "refresh_token", "refresh_token": token}
        if basic:
            url = f"{org.address}/services/oauth2/token"
            auth = (CLIENT_ID, secret)
            return requests.post(url, data=form, auth=auth, timeout=5)
        return ask(org, client_id=CLIENT_ID, client_secret=secret, **form)

    token, wrong = exchange(org).json()["refresh_token"], "invalid_client: invalid "
    assert refused(said("staged")) == wrong + "client credentials"
    org.switch(consumer_secrets=f"{CONSUMER_SECRET}, staged")
    for secret in (CONSUMER_SECRET, "staged"):
        answer = said(secret).json()
        message = (answer["id"] + answer["issued_at"]).encode()
        digest = hmac.digest(secret.encode(), message, "sha256")
        assert answer["signature"] == base64.b64encode(digest).decode()
    org.switch(consumer_secrets="staged")
    assert refused(said(CONSUMER_SECRET)) == wrong + "client credentials"
    assert said("staged").ok
    org.switch()
    assert said(CONSUMER_SECRET).ok


def test_a_code_works_once(org: PracticeOrg) -> None:
    once = code(org)
    assert exchange(org, code=once).ok
    assert refused(exchange(org, code=once)) == (
        "invalid_grant: expired authorization code"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"client_id": "wrong"}, "invalid_client_id"),
        ({"redirect_uri": "http://localhost/other"}, "redirect_uri_mismatch"),
    ],
)
def test_a_wrong_app_or_address_stays_at_the_org(
    org: PracticeOrg, changes: dict[str, str], said: str
) -> None:
    page = requests.get(login_url(org, **changes), timeout=5)
    assert page.status_code == 400
    assert said in page.text


@pytest.mark.parametrize(
    "changes", [{"code_challenge": ""}, {"code_challenge_method": "plain"}]
)
def test_pkce_is_required_and_s256(org: PracticeOrg, changes: dict[str, str]) -> None:
    answer = requests.get(login_url(org, **changes), timeout=5, allow_redirects=False)
    query = parse_qs(urlsplit(answer.headers["Location"]).query)
    assert query["error"] == ["invalid_request"]
    assert query["state"] == ["a-state"]


def test_without_rotation_the_refresh_token_stays(org: PracticeOrg) -> None:
    token = exchange(org).json()["refresh_token"]
    assert "refresh_token" not in refresh(org, token).json()
    assert refresh(org, token).ok


def test_with_rotation_reuse_revokes_the_family(org: PracticeOrg) -> None:
    first = exchange(org).json()
    org.switch(rotation=True)
    second = refresh(org, first["refresh_token"]).json()
    assert refresh(org, second["refresh_token"]).ok
    dead = "invalid_grant: expired access/refresh token"
    assert refused(refresh(org, first["refresh_token"])) == dead
    assert refused(refresh(org, second["refresh_token"])) == dead
    assert userinfo(org, second["access_token"]).status_code == 403


def userinfo(org: PracticeOrg, token: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{org.address}/services/oauth2/userinfo"
    return requests.get(url, headers=headers, timeout=5)


def test_a_token_opens_what_it_should_until_it_is_revoked(org: PracticeOrg) -> None:
    answer = exchange(org).json()
    token, headers = (
        answer["access_token"],
        {"Authorization": f"Bearer {answer['access_token']}"},
    )
    assert userinfo(org, token).json()["organization_id"] == "00D000000000001EAA"
    who = requests.get(answer["id"], headers=headers, timeout=5).json()
    assert who["username"] == "admin@practice.example"
    assert requests.get(f"{org.address}/services/data", timeout=5).json()
    seen = ask(org, "introspect", token=token, **CLIENT).json()
    assert seen["active"]
    assert seen["exp"] - seen["iat"] == 7200
    assert ask(org, "revoke", token=answer["refresh_token"]).ok
    assert refused(ask(org, "revoke", token=token)) == "invalid_token: invalid token"
    assert userinfo(org, token).status_code == 403
    assert not ask(org, "introspect", token=token, **CLIENT).json()["active"]


def test_faults_are_switched_on_for_some_requests_and_off_again(
    org: PracticeOrg,
) -> None:
    token = exchange(org).json()["refresh_token"]
    org.switch(fault="too_many_requests", retry_after="7", times=1)
    answer = refresh(org, token)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    assert refresh(org, token).ok
    org.switch(fault="lost_answer", times=1)
    with pytest.raises(requests.ConnectionError):
        refresh(org, token)
    org.switch(wrong_org=True)
    assert "/00D000000000002EAA/" in refresh(org, token).json()["id"]


def test_another_sites_page_presses_no_button(org: PracticeOrg) -> None:
    answer = requests.post(
        f"{org.address}/switchboard",
        data={"fault": "outage"},
        headers={"Origin": "https://evil.example.com"},
        timeout=5,
    )
    assert answer.status_code == 403
    assert exchange(org).ok


def test_the_login_wants_the_right_password(org: PracticeOrg) -> None:
    query = login_url(org).partition("?")[2]
    form = {"username": "admin@practice.example", "password": "wrong"}
    page = requests.post(f"{org.address}/login?{query}", data=form, timeout=5)
    assert page.status_code == 401
    assert "check your username and password" in page.text


@pytest.fixture
def key(org: PracticeOrg) -> RSAPrivateKey:
    """The key of the certificate that the org knows."""
    key = rsa_key("ours")
    org.upload(certificate_of(key))
    return key


@pytest.mark.parametrize("path", ["", "/services/oauth2/token", None])
def test_an_assertion_is_worth_a_token(
    org: PracticeOrg, key: RSAPrivateKey, path: str | None
) -> None:
    audience = "https://test.salesforce.com" if path is None else org.address + path
    answer = bearer(org, assertion(key, aud=audience)).json()
    assert set(answer) == {"access_token", "scope", "instance_url", "id", "token_type"}
    assert answer["scope"] == "api refresh_token id"
    assert userinfo(org, answer["access_token"]).json()["preferred_username"] == (
        INTEGRATION
    )


def test_assertions_give_the_same_token_while_it_lives(
    org: PracticeOrg, key: RSAPrivateKey
) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: bearer(org, assertion(key)), range(8)))
    (token,) = {answer.json()["access_token"] for answer in answers}
    other = bearer(org, assertion(key, sub=ADMIN)).json()["access_token"]
    assert other != token
    assert ask(org, "revoke", token=token).ok
    assert userinfo(org, token).status_code == 403
    assert userinfo(org, other).ok
    again = bearer(org, assertion(key)).json()["access_token"]
    assert again != token
    assert userinfo(org, again).ok


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sub": "ira@practice.example"}, "user hasn't approved this consumer"),
        ({"sub": ["list"]}, "user hasn't approved this consumer"),
        ({"sub": ""}, "user hasn't approved this consumer"),
        ({"aud": "https://na1.salesforce.com"}, "audience is invalid"),
        ({"aud": "https://login.salesforce.com/"}, "audience is invalid"),
        ({"aud": [{}]}, "audience is invalid"),
        ({"aud": ""}, "audience is invalid"),
        ({"left": -1}, "expired authorization code"),
        ({"left": 310}, "expired authorization code"),
        ({"exp": int(time.time() + 180) * 1000}, "expired authorization code"),
        ({"exp": "soon"}, "expired authorization code"),
        ({"exp": ""}, "expired authorization code"),
        ({"alg": "HS256"}, "invalid assertion"),
        ({"alg": "RS512"}, "invalid assertion"),
        ({"alg": "none"}, "invalid assertion"),
        ({"iss": ""}, "invalid assertion"),
    ],
)
def test_an_assertion_that_is_not_right_is_refused(
    org: PracticeOrg, key: RSAPrivateKey, changes: dict[str, Any], said: str
) -> None:
    assert refused(bearer(org, assertion(key, **changes))) == f"invalid_grant: {said}"
    assert bearer(org, assertion(key, left=290)).ok


def test_an_assertion_is_signed_with_the_certificates_key(
    org: PracticeOrg, key: RSAPrivateKey
) -> None:
    invalid = "invalid_grant: invalid assertion"
    assert refused(bearer(org, assertion(rsa_key("theirs")))) == invalid
    assert refused(bearer(org, "no.jwt")) == invalid
    assert refused(bearer(org, assertion(key, iss="wrong"))) == (
        "invalid_client_id: client identifier invalid"
    )
    assert refused(bearer(org, assertion(key), scope="api")) == (
        "invalid_request: scope parameter not supported"
    )
    org.upload(certificate_of(rsa_key("theirs")).replace("\n", "\r\n"))
    org.switch()
    assert refused(bearer(org, assertion(key))) == invalid
    assert bearer(org, assertion(rsa_key("theirs"))).ok
    org.upload("")
    assert refused(bearer(org, assertion(key))) == invalid


def test_only_a_certificate_of_a_long_rsa_key_is_taken(
    org: PracticeOrg, key: RSAPrivateKey
) -> None:
    kept = org.state()["certificate"]
    for key_too_weak in (
        rsa_key("short", 1_024),
        Ed25519PrivateKey.generate(),
    ):
        with pytest.raises(requests.HTTPError, match="400"):
            org.upload(certificate_of(key_too_weak))
    with pytest.raises(requests.HTTPError, match="400"):
        org.upload("no certificate")
    assert org.state()["certificate"] == kept
    assert bearer(org, assertion(key)).ok


def test_without_the_admins_approval_it_takes_an_earlier_login(
    org: PracticeOrg, key: RSAPrivateKey
) -> None:
    dead = "invalid_grant: user hasn't approved this consumer"
    assert bearer(org, assertion(key, sub=ADMIN)).ok
    org.switch(pre_authorized=False)
    assert refused(bearer(org, assertion(key, sub=ADMIN))) == dead
    assert exchange(org).ok
    assert bearer(org, assertion(key, sub=ADMIN)).ok
    assert refused(bearer(org, assertion(key))) == dead
    org.revoke_all()
    assert refused(bearer(org, assertion(key, sub=ADMIN))) == dead
    org.switch()
    assert bearer(org, assertion(key, sub=ADMIN)).ok


def test_an_assertion_is_no_login(org: PracticeOrg, key: RSAPrivateKey) -> None:
    assert bearer(org, assertion(key, sub=ADMIN)).ok
    query = login_url(org).partition("?")[2]
    with requests.Session() as browser:
        page = browser.post(f"{org.address}/login?{query}", data=USER, timeout=5)
    assert "Allow Access?" in page.text


def own_access(org: PracticeOrg, **changes: str) -> requests.Response:
    return ask(org, **CLIENT | {"grant_type": "client_credentials"} | changes)


def test_the_apps_own_access_is_the_run_as_users(org: PracticeOrg) -> None:
    answer = own_access(org).json()
    assert set(answer) == {"access_token", "signature", "scope", "instance_url",
                           "id", "token_type", "issued_at"}  # fmt: skip
    who = userinfo(org, answer["access_token"]).json()
    assert who["preferred_username"] == INTEGRATION
    again = own_access(org).json()
    assert again["access_token"] == answer["access_token"]
    org.switch(run_as=ADMIN)
    token = own_access(org).json()["access_token"]
    assert userinfo(org, token).json()["preferred_username"] == ADMIN
    org.revoke_all()
    assert userinfo(org, token).status_code == 403
    assert own_access(org).json()["access_token"] != token


def test_the_apps_own_access_can_be_refused(org: PracticeOrg) -> None:
    assert refused(own_access(org, client_secret="wrong")) == (
        "invalid_client: invalid client credentials"
    )
    assert refused(own_access(org, scope="api")) == (
        "invalid_request: scope parameter not supported"
    )
    for nobody in ("none", "ira@practice.example"):
        org.switch(run_as=nobody)
        assert refused(own_access(org)) == (
            "invalid_grant: no client credentials user enabled"
        )
    org.switch(login_host=True)
    assert refused(own_access(org)) == (
        "invalid_grant: request not supported on this domain"
    )


def live_approvals(org: PracticeOrg) -> tuple[int, int]:
    live = org.state()["live_approvals"]
    return live[ADMIN], live[INTEGRATION]


def test_the_sixth_login_ends_the_oldest(org: PracticeOrg, key: RSAPrivateKey) -> None:
    assert bearer(org, assertion(key, sub=ADMIN)).ok
    assert live_approvals(org) == (0, 0)
    answers = [exchange(org).json() for _ in range(5)]
    other = exchange(
        org, code=code_of(org.log_in(login_url(org), username=INTEGRATION))
    ).json()
    assert live_approvals(org) == (5, 1)
    answers.append(exchange(org).json())
    assert live_approvals(org) == (5, 1)
    first, *others = answers
    assert refused(refresh(org, first["refresh_token"])) == (
        "invalid_grant: expired access/refresh token"
    )
    assert userinfo(org, first["access_token"]).status_code == 403
    assert all(refresh(org, each["refresh_token"]).ok for each in [*others, other])
    org.switch(approval_limit=2)
    last = exchange(org).json()
    assert live_approvals(org) == (2, 1)
    assert refresh(org, answers[-1]["refresh_token"]).ok
    assert ask(org, "revoke", token=last["refresh_token"]).ok
    assert live_approvals(org) == (1, 1)
    assert bearer(org, assertion(key, sub=ADMIN)).ok


def introspect(org: PracticeOrg, token: str) -> Any:
    return ask(org, "introspect", token=token, **CLIENT).json()


def test_the_session_timeout_is_that_of_new_tokens(org: PracticeOrg) -> None:
    before = exchange(org).json()["access_token"]
    org.switch(session_timeout=900, org_clock=1_000)
    short = exchange(org).json()["access_token"]
    seen = introspect(org, short)
    assert seen["exp"] - seen["iat"] == 900
    org.switch(org_clock=1_000 + 890)
    assert userinfo(org, short).ok
    org.switch(session_timeout=60, org_clock=1_000 + 910)
    assert userinfo(org, short).status_code == 403
    assert introspect(org, short) == {"active": False}
    seen = introspect(org, before)
    assert seen["exp"] - seen["iat"] == 7_200


def test_a_shared_token_that_expired_is_replaced(org: PracticeOrg) -> None:
    org.switch(session_timeout=60)
    token = own_access(org).json()["access_token"]
    org.switch(org_clock=50)
    assert own_access(org).json()["access_token"] == token
    org.switch(org_clock=70)
    assert own_access(org).json()["access_token"] != token


def test_introspection_can_be_refused_or_tell_no_end(org: PracticeOrg) -> None:
    answer = exchange(org).json()
    token = answer["access_token"]
    org.switch(introspection="without_exp")
    seen = introspect(org, token)
    assert seen["active"]
    assert "exp" not in seen
    assert "exp" not in introspect(org, answer["refresh_token"])
    org.switch(introspection="refused")
    refusal = ask(org, "introspect", token=token, **CLIENT)
    assert refusal.status_code == 403
    assert refusal.json()["error"] == "insufficient_access"
    org.switch()
    assert introspect(org, token)["exp"]


@pytest.mark.parametrize("ahead", [-100_000, 0, 100_000])
def test_the_org_goes_by_its_own_clock(
    org: PracticeOrg, key: RSAPrivateKey, ahead: int
) -> None:
    def is_right(seconds: float) -> bool:
        return abs(seconds - ahead - time.time()) < 5

    org.switch(org_clock=ahead)
    answer = exchange(org)
    assert is_right(parsedate_to_datetime(answer.headers["Date"]).timestamp())
    assert is_right(int(answer.json()["issued_at"]) / 1000)
    seen = introspect(org, answer.json()["access_token"])
    assert is_right(seen["iat"])
    assert is_right(seen["exp"] - 7_200)
    assert bearer(org, assertion(key, left=ahead + 180)).ok
    for left in (ahead - 1, ahead + 310):
        assert refused(bearer(org, assertion(key, left=left))) == (
            "invalid_grant: expired authorization code"
        )
    outage = requests.get(f"{org.address}/nowhere", timeout=5)
    assert is_right(parsedate_to_datetime(outage.headers["Date"]).timestamp())
    org.reset()
    exchange(org)
    assert abs(org.state()["log"][0]["at"] - time.time()) < 5


def test_a_code_ends_after_a_quarter_of_an_hour(org: PracticeOrg) -> None:
    young, old = code(org), code(org)
    org.switch(org_clock=890)
    assert exchange(org, code=young).ok
    org.switch(org_clock=910)
    assert refused(exchange(org, code=old)) == (
        "invalid_grant: expired authorization code"
    )


def revoke(org: PracticeOrg, token: str) -> requests.Response:
    return ask(org, "revoke", token=token)


def test_what_is_gone_is_not_revoked_again(org: PracticeOrg) -> None:
    first = exchange(org).json()
    org.switch(rotation=True)
    second = refresh(org, first["refresh_token"]).json()
    assert refused(revoke(org, first["refresh_token"])) == GONE
    assert revoke(org, first["access_token"]).ok
    assert refused(revoke(org, first["access_token"])) == GONE
    assert userinfo(org, second["access_token"]).ok
    assert revoke(org, second["refresh_token"]).ok
    assert userinfo(org, second["access_token"]).status_code == 403
    assert refused(revoke(org, second["refresh_token"])) == GONE
    assert refused(revoke(org, second["access_token"])) == GONE
    assert refused(revoke(org, "unknown")) == GONE
    assert refused(ask(org, "revoke")) == GONE


def test_one_of_many_revocations_succeeds(org: PracticeOrg) -> None:
    answer = exchange(org).json()
    with ThreadPoolExecutor(8) as pool:
        for token in (answer["access_token"], answer["refresh_token"]):
            answers = pool.map(lambda _, sent=token: revoke(org, sent), range(8))
            assert sorted(seen.status_code for seen in answers) == [200] + [400] * 7


def test_revocation_can_fail(org: PracticeOrg) -> None:
    token = exchange(org).json()["access_token"]
    org.switch(revocation="outage")
    answer = revoke(org, token)
    assert answer.status_code == 503
    assert answer.headers["Content-Type"].startswith("text/html")
    assert userinfo(org, token).ok
    org.switch(revocation="lost")
    with pytest.raises(requests.ConnectionError):
        revoke(org, token)
    assert userinfo(org, token).status_code == 403
    *_, lost, _ = org.state()["log"]
    assert (lost["status"], lost["answered"]) == (200, False)
    assert lost["sent"] == fingerprint(token)
    org.switch()
    assert refused(revoke(org, token)) == GONE


@pytest.mark.parametrize(("fault", "is_done"), [("hold", True), ("hold_before", False)])
def test_an_answer_is_held_until_it_is_released(
    org: PracticeOrg, fault: str, is_done: bool
) -> None:
    tokens = [exchange(org).json()["refresh_token"] for _ in range(3)]
    org.reset()
    org.switch(rotation=True, fault=fault, times=3)
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(refresh, org, token) for token in tokens]
        wait_until(lambda: org.held == 3)
        assert org.waiting == 3
        assert org.state()["fault"] == "none"
        for token in tokens:
            assert introspect(org, token)["active"] is not is_done
        assert not any(each.done() for each in held)
        assert org.token_requests == []
        org.release()
        assert all(each.result().json()["refresh_token"] for each in held)
    assert (org.waiting, org.held) == (0, 0)
    assert len(org.token_requests) == 3


def test_more_can_be_held_than_the_database_has_lines(org: PracticeOrg) -> None:
    org.switch(fault="hold")
    with ThreadPoolExecutor(40) as pool:
        held = [pool.submit(refresh, org, "unknown") for _ in range(40)]
        wait_until(lambda: org.held == 40)
        org.switch()
        assert exchange(org).ok
        org.release()
        assert all(refused(each.result()) for each in held)


def test_a_release_is_for_those_that_wait(org: PracticeOrg) -> None:
    org.release()
    org.switch(fault="hold_before")
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(refresh, org, "unknown")
        wait_until(lambda: org.held == 1)
        org.switch()
        assert refused(refresh(org, "unknown"))
        assert not held.done()
        org.release()
        assert refused(held.result())


def test_a_fault_may_meet_a_share_of_the_requests(org: PracticeOrg) -> None:
    def statuses(**faults: Any) -> list[int]:
        org.switch(fault="outage", **faults)
        return [refresh(org, "unknown").status_code for _ in range(60)]

    assert set(statuses(chance=50)) == {400, 503}
    assert statuses(chance=50, times=3).count(503) == 3
    assert set(statuses(chance=0)) == {400}
    assert set(statuses()) == {503}


def test_what_the_switchboard_does_not_know_changes_nothing(org: PracticeOrg) -> None:
    org.switch(rotation=True, chance=7)
    for wrong in (
        {"fault": "unheard-of"},
        {"introspection": ""},
        {"signature": "unheard-of"},
        {"rest": ""},
        {"times": "many"},
        {"retry_after": "later\r\n"},
        {"retry_after": "später"},
    ):
        with pytest.raises(requests.HTTPError, match="400"):
            org.switch(**wrong)
    state = org.state()
    assert (state["rotation"], state["chance"]) == (True, 7)
    org.switch()
    state = org.state()
    assert (state["rotation"], state["chance"]) == (False, 100)
    org.switch(chance=101, seconds=-1, session_timeout=10**9)
    state = org.state()
    assert (state["chance"], state["seconds"]) == (100, 0)
    assert state["session_timeout"] == 86_400


def test_the_certificate_survives_a_restart_and_comes_by_an_option(
    tmp_path: Path,
) -> None:
    key, file, port = rsa_key("ours"), tmp_path / "app.crt", free_port()
    file.write_text(certificate_of(key))
    command = ("-m", "practice_org", f"--port={port}", f"--database={tmp_path}/org.db")
    org = PracticeOrg(port)
    with process(*command, f"--certificate={file}", ports=(port,)):
        token = bearer(org, assertion(key)).json()["access_token"]
    with process(*command, ports=(port,)):
        assert bearer(org, assertion(key)).json()["access_token"] == token
    file.write_text("no certificate")
    with (
        pytest.raises(AssertionError, match="did not answer"),
        process(*command, f"--certificate={file}", ports=(port,)),
    ):
        pass


def test_a_database_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path, port = tmp_path / "org.db", free_port()
    with sqlite3.connect(path) as database:
        database.executescript("""
            CREATE TABLE approval (id INTEGER NOT NULL PRIMARY KEY,
              username VARCHAR NOT NULL, scope VARCHAR NOT NULL,
              revoked BOOLEAN NOT NULL);
            CREATE TABLE token (token VARCHAR NOT NULL PRIMARY KEY,
              kind VARCHAR NOT NULL, approval_id INTEGER NOT NULL REFERENCES approval,
              issued_at FLOAT NOT NULL, revoked BOOLEAN NOT NULL);
            INSERT INTO approval VALUES (1, 'admin@practice.example', 'api id', 0);
            INSERT INTO token VALUES ('old', 'refresh_token', 1, 1.0, 0);
        """)
    with process(
        *("-m", "practice_org", f"--port={port}", f"--database={path}"), ports=(port,)
    ):
        org = PracticeOrg(port)
        assert userinfo(org, refresh(org, "old").json()["access_token"]).ok


SOQL = "SELECT Name FROM Organization LIMIT 1"


def get(
    org: PracticeOrg, path: str, token: str = "", **query: str
) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = path if path.startswith("http") else org.address + path
    return requests.get(url, headers=headers, params=query, timeout=5)


def query(org: PracticeOrg, token: str, soql: str = SOQL) -> requests.Response:
    return get(org, "/services/data/v67.0/query", token, q=soql)


def limits(org: PracticeOrg, token: str) -> requests.Response:
    return get(org, "/services/data/v67.0/limits", token)


def rest_error(answer: requests.Response) -> str:
    (error,) = answer.json()
    return f"{answer.status_code} {error['errorCode']}: {error['message']}"


def granted(org: PracticeOrg, scope: str) -> dict[str, Any]:
    login = org.log_in(login_url(org, scope=scope, prompt="consent"))
    answer: dict[str, Any] = exchange(org, code=code_of(login)).json()
    return answer


@pytest.mark.parametrize(
    ("scope", "opened"),
    [
        ("api", {"limits", "query"}),
        ("id", {"userinfo", "identity"}),
        ("openid", {"userinfo"}),
        ("web refresh_token", set()),
        ("full", {"limits", "query", "userinfo", "identity"}),
        ("api id", {"limits", "query", "userinfo", "identity"}),
    ],
)
def test_a_scope_opens_what_it_is_for(
    org: PracticeOrg, scope: str, opened: set[str]
) -> None:
    answer = granted(org, scope)
    assert answer["scope"] == scope.replace("web refresh_token", "refresh_token web")
    token = answer["access_token"]
    answers = {
        "limits": limits(org, token),
        "query": query(org, token),
        "userinfo": userinfo(org, token),
        "identity": get(org, answer["id"], token),
    }
    assert {name for name, seen in answers.items() if seen.ok} == opened
    for name in answers.keys() - opened:
        if name in ("limits", "query"):
            assert rest_error(answers[name]) == (
                "401 INVALID_SESSION_ID:"
                " This session is not valid for use with the REST API"
            )
        else:
            assert answers[name].status_code == 403
            assert "Bad_OAuth_Token" not in answers[name].text


def test_a_dead_token_is_told_from_one_without_a_scope(org: PracticeOrg) -> None:
    answer = granted(org, "full")
    token = answer["access_token"]
    assert ask(org, "revoke", token=token).ok
    for seen in (limits(org, token), query(org, token), limits(org, "")):
        assert rest_error(seen) == "401 INVALID_SESSION_ID: Session expired or invalid"
    for seen in (userinfo(org, token), get(org, answer["id"], token)):
        assert (seen.status_code, seen.text) == (403, "Bad_OAuth_Token")


def test_the_organization_has_a_name(org: PracticeOrg) -> None:
    token = exchange(org).json()["access_token"]
    (record,) = query(org, token).json()["records"]
    assert record["Name"] == "Practice Org"
    for name in ("<b>Acme</b>", "a\x00b\x1b", "x" * 10_000, ""):
        org.switch(organization_name=name)
        (record,) = query(org, token).json()["records"]
        assert record["Name"] == org.state()["organization_name"] == name
        assert "<b>Acme" not in get(org, "/switchboard").text
    assert rest_error(query(org, token, "SELECT Id FROM User")).startswith(
        "400 MALFORMED_QUERY"
    )
    assert rest_error(get(org, "/services/data/v1.0/query", token)).startswith(
        "404 NOT_FOUND"
    )


@pytest.mark.parametrize(
    ("switch", "organization", "user"),
    [
        ({"wrong_org": True}, "00D000000000002EAA", "005000000000001AAA"),
        ({"wrong_user": True}, "00D000000000001EAA", "005000000000009AAA"),
    ],
)
def test_all_answers_agree_on_a_wrong_name(
    org: PracticeOrg, switch: dict[str, bool], organization: str, user: str
) -> None:
    first = exchange(org).json()
    token = first["access_token"]
    org.switch(**switch)
    later = refresh(org, first["refresh_token"]).json()["id"]
    assert later == f"{org.address}/id/{organization}/{user}"
    for seen in (userinfo(org, token), get(org, first["id"], token),
                 get(org, later, token)):  # fmt: skip
        fields = seen.json()
        assert (fields["organization_id"], fields["user_id"]) == (organization, user)
        assert later in (fields.get("sub"), fields.get("id"))
    assert introspect(org, token)["sub"] == later
    (record,) = query(org, token).json()["records"]
    is_ours = "wrong_org" not in switch
    assert record["Name"] == ("Practice Org" if is_ours else "Another Practice Org")
    named = userinfo(org, token).json()["preferred_username"]
    assert (named == ADMIN) is not ("wrong_user" in switch)
    assert get(org, f"/id/{organization}/005000000000003AAA", token).status_code == 404


def test_the_signature_can_be_wrong_or_absent(org: PracticeOrg) -> None:
    def is_right(answer: dict[str, str]) -> bool:
        message = (answer["id"] + answer["issued_at"]).encode()
        digest = hmac.digest(CONSUMER_SECRET.encode(), message, "sha256")
        return answer["signature"] == base64.b64encode(digest).decode()

    assert is_right(exchange(org).json())
    org.switch(signature="wrong")
    assert not is_right(exchange(org).json())
    org.switch(signature="absent")
    answer = exchange(org).json()
    assert "signature" not in answer
    assert answer["issued_at"]


def test_the_api_counts_and_ends(org: PracticeOrg) -> None:
    token = exchange(org).json()["access_token"]
    assert limits(org, token).json()["DailyApiRequests"] == {
        "Max": 15_000,
        "Remaining": 14_998,
    }
    org.switch(api_used=14_000)
    assert limits(org, token).json()["DailyApiRequests"]["Remaining"] == 1_000
    org.switch(api_used=10**6)
    assert org.state()["api_used"] == 15_000
    for seen in (limits(org, token), query(org, token)):
        assert rest_error(seen) == (
            "403 REQUEST_LIMIT_EXCEEDED: TotalRequests Limit exceeded."
        )
    assert userinfo(org, token).ok


def test_the_rest_api_can_be_out_or_slow(org: PracticeOrg) -> None:
    token = exchange(org).json()["access_token"]
    org.switch(rest="outage")
    for seen in (limits(org, token), query(org, token), get(org, "/services/data")):
        assert seen.status_code == 503
        assert seen.headers["Content-Type"].startswith("text/html")
    assert userinfo(org, token).ok
    assert exchange(org).ok
    org.reset()
    org.switch(rest="slow", seconds=0.3)
    assert limits(org, token).ok
    (seen,) = org.requests_of("/limits")
    assert 0.3 <= seen["seconds"] < 5


def fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def test_the_log_tells_all_but_the_secrets(org: PracticeOrg) -> None:
    org.reset()
    began, once = time.time(), code(org)
    first = exchange(org, code=once).json()
    org.switch(rotation=True)
    second = refresh(org, first["refresh_token"]).json()
    refresh(org, "unknown")
    userinfo(org, second["access_token"])
    ask(org, "revoke", token=second["refresh_token"])
    state = org.state()
    assert [seen["number"] for seen in state["log"]] == [1, 2, 3, 4, 5]
    for seen in state["log"]:
        assert began <= seen.pop("at") <= time.time()
        assert 0 <= seen.pop("seconds") < 5
    token = {"path": "/services/oauth2/token", "status": 200, "error": ""}
    nothing = {"access_token": "", "refresh_token": "", "answered": True}
    got_first, got_second = (
        {name: fingerprint(answer[name]) for name in ("access_token", "refresh_token")}
        for answer in (first, second)
    )
    assert state["log"][:3] == [
        nothing
        | token
        | {"number": 1, "grant_type": "authorization_code", "sent": fingerprint(once)}
        | got_first,
        nothing
        | token
        | {"number": 2, "grant_type": "refresh_token"}
        | {"sent": got_first["refresh_token"]}
        | got_second,
        nothing
        | token
        | {"number": 3, "grant_type": "refresh_token", "sent": fingerprint("unknown")}
        | {"status": 400, "error": "invalid_grant"},
    ]
    assert [(seen["path"], seen["sent"]) for seen in org.state(after=3)["log"]] == [
        ("/services/oauth2/userinfo", got_second["access_token"]),
        ("/services/oauth2/revoke", got_second["refresh_token"]),
    ]
    assert org.requests_of("/token", after=2) == org.token_requests[2:]
    assert "unknown" not in str(state)


def test_the_log_knows_a_lost_answer_and_a_refused_origin(org: PracticeOrg) -> None:
    token = exchange(org).json()["refresh_token"]
    org.reset()
    org.switch(fault="lost_answer", times=1)
    with pytest.raises(requests.ConnectionError):
        refresh(org, token)
    url, evil = f"{org.address}/services/oauth2/token", {"Origin": "https://evil"}
    assert requests.post(url, headers=evil, timeout=5).status_code == 403
    lost, refused = org.state()["log"]
    assert (lost["status"], lost["answered"]) == (200, False)
    assert lost["access_token"]
    assert (refused["status"], refused["answered"]) == (403, True)
    assert org.waiting == 0
    page = requests.get(f"{org.address}/switchboard", timeout=5).text
    assert "<td>lost</td>" in page


def test_the_log_counts_what_comes_at_the_same_time(org: PracticeOrg) -> None:
    org.reset()
    org.switch(fault="slow", seconds=1)
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(refresh, org, f"unknown-{one}") for one in range(20)]
        wait_until(lambda: org.waiting == 20)
        assert org.state()["log"] == []
        assert all(refused(answer.result()) for answer in asked)
    assert org.waiting == 0
    log = org.state()["log"]
    assert [seen["number"] for seen in log] == list(range(1, 21))
    sent = {fingerprint(f"unknown-{one}") for one in range(20)}
    assert {seen["sent"] for seen in log} == sent
    assert all(seen["seconds"] >= 1 for seen in log)


def test_the_log_keeps_more_than_the_page_shows(org: PracticeOrg) -> None:
    org.reset()
    with requests.Session() as line:
        for _ in range(120):
            line.get(f"{org.address}/services/data", timeout=5)
    assert len(org.state()["log"]) == 120
    page = requests.get(f"{org.address}/switchboard", timeout=5).text
    assert page.count("<td>/services/data</td>") == 100
    assert page.index("<td>120</td>") < page.index("<td>21</td>")


def test_the_log_keeps_its_newest_lines() -> None:
    log = Log()
    for _ in range(LONGEST_LOG + 5):
        log.add({})
    assert len(log.after(0)) == LONGEST_LOG
    assert log.after(0)[0] == {"number": 6}
    assert [line["number"] for line in log.after(LONGEST_LOG + 3)] == [20_004, 20_005]
    assert log.after(LONGEST_LOG + 5) == log.after(10**9) == []


def test_of_a_crowd_with_one_token_one_gets_the_next(org: PracticeOrg) -> None:
    token, before = exchange(org).json()["refresh_token"], org.families_revoked
    org.switch(rotation=True)
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: refresh(org, token), range(30)))
    assert sorted(seen.status_code for seen in answers) == [200] + [400] * 29
    assert org.families_revoked == before + 1


def test_families_that_reuse_ended_are_counted(org: PracticeOrg) -> None:
    token, before = exchange(org).json()["refresh_token"], org.families_revoked
    org.switch(rotation=True)
    assert refresh(org, token).ok
    assert org.families_revoked == before
    assert refused(refresh(org, token))
    assert refused(refresh(org, token))
    assert org.families_revoked == before + 1
