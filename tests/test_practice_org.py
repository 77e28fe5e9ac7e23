"""The practice org answers as Salesforce does (and the tests may believe it)."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests

from practice_org import CLIENT_ID, CONSUMER_SECRET
from practice_org.log import LONGEST_LOG, Log
from tests.servers import PracticeOrg, practice_org

CALLBACK = "http://localhost:8000/callback"
VERIFIER = secrets.token_urlsafe(64)
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
    return parse_qs(urlsplit(org.log_in(login_url(org))).query)["code"][0]


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


def refused(answer: requests.Response) -> str:
    assert answer.status_code == 400
    return "{error}: {error_description}".format_map(answer.json())


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
        while org.waiting < 20:
            time.sleep(0.02)
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


def test_families_that_reuse_ended_are_counted(org: PracticeOrg) -> None:
    token, before = exchange(org).json()["refresh_token"], org.families_revoked
    org.switch(rotation=True)
    assert refresh(org, token).ok
    assert org.families_revoked == before
    assert refused(refresh(org, token))
    assert refused(refresh(org, token))
    assert org.families_revoked == before + 1
