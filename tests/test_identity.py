"""Whose token it is, as the org tells it, and orgs that tell anything."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from practice_org import CLIENT_ID, CONSUMER_SECRET
from salesforce import (
    Client,
    Identity,
    SalesforceError,
    State,
    parse_domain,
    read_identity,
    transport,
)
from salesforce.identity import who_of
from salesforce.rest import read_json
from tests.servers import PracticeOrg, practice_org
from tests.test_practice_org import CALLBACK, granted
from tests.wire import CONSUMER_SECRET as SECRET
from tests.wire import (
    Request,
    Server,
    Step,
    answer,
    calling,
    drip,
    last,
    plain,
    reset,
    serving,
)

TOKEN = "opaque-t0ken/of+the=tests"
USERINFO = {
    "sub": "https://login.salesforce.com/id/00D000000000001EAA/005000000000001AAA",
    "user_id": "005000000000001",
    "organization_id": "00D000000000001",
    "preferred_username": "ada@acme.example",
    "name": "Ada Admin",
    "user_type": "STANDARD",
}
ADA = Identity(
    organization_id="00D000000000001EAA",
    user_id="005000000000001AAA",
    username="ada@acme.example",
    display_name="Ada Admin",
    user_type="STANDARD",
)
IDENTITY = {
    "user_id": "005000000000001AAA",
    "organization_id": "00D000000000001EAA",
    "username": "ada@acme.example",
    "display_name": "Ada Admin",
    "user_type": "STANDARD",
}
PAGE = b"<html><h1>Log in</h1></html>"


def named(name: object) -> dict[str, Any]:
    return {"totalSize": 1, "done": True, "records": [{"Name": name}]}


@pytest.fixture(scope="module")
def own_process() -> Iterator[PracticeOrg]:
    with practice_org() as org:
        yield org


@pytest.fixture
def practice(own_process: PracticeOrg) -> PracticeOrg:
    own_process.switch()
    own_process.revoke_all()
    return own_process


@pytest.fixture
def org() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    plain(monkeypatch)
    with calling() as app:
        yield app


def ask_practice(org: PracticeOrg, scope: str, token: str = "") -> Identity:
    got = granted(org, scope)
    org.reset()
    return read_identity(
        Client(parse_domain(org.address), CLIENT_ID, CONSUMER_SECRET, CALLBACK),
        token or got["access_token"],
        identity_url=got["id"],
        instance_url=got["instance_url"],
        scopes=got["scope"],
    )


def ask(
    org: Server, *script: Step, scopes: str | None = "id api", **changes: Any
) -> Identity:
    org.script = list(script)
    address = f"http://127.0.0.1:{org.port}"
    given = {"identity_url": f"{address}/id/00D/005", "instance_url": address}
    return read_identity(org.client, TOKEN, scopes=scopes, **given | changes)


def refused(org: Server, *script: Step, **changes: Any) -> SalesforceError:
    with pytest.raises(SalesforceError) as failure:
        ask(org, *script, **changes)
    return failure.value


def paths(org: Server) -> list[str]:
    return [urlsplit(request.line.split()[1]).path for request in org.requests]


# An org


@pytest.mark.parametrize("scope", ["full", "api id", "api openid"])
def test_an_org_tells_the_user_and_its_own_name(
    practice: PracticeOrg, scope: str
) -> None:
    assert ask_practice(practice, scope) == Identity(
        organization_id="00D000000000001EAA",
        user_id="005000000000001AAA",
        username="admin@practice.example",
        display_name="Ada Admin",
        user_type="STANDARD",
        organization_name="Practice Org",
    )


def test_a_scope_that_opens_nothing_is_not_tried(practice: PracticeOrg) -> None:
    assert ask_practice(practice, "id").organization_name is None
    assert [seen["path"] for seen in practice.state()["log"]] == [
        "/services/oauth2/userinfo"
    ]
    assert ask_practice(practice, "api") == Identity(organization_name="Practice Org")
    assert len(practice.state()["log"]) == 1
    with pytest.raises(SalesforceError, match="scopes do not let") as failure:
        ask_practice(practice, "web")
    assert (failure.value.code, practice.state()["log"]) == ("<no scope>", [])


@pytest.mark.parametrize("switch", ["wrong_org", "wrong_user"])
def test_who_answers_is_kept_whoever_was_expected(
    practice: PracticeOrg, switch: str
) -> None:
    practice.switch(**{switch: True})
    who = ask_practice(practice, "full")
    is_org = switch == "wrong_org"
    assert who.organization_name == (
        "Another Practice Org" if is_org else "Practice Org"
    )
    assert who.organization_id == f"00D00000000000{2 if is_org else 1}EAA"
    assert who.user_id == f"00500000000000{1 if is_org else 9}AAA"


@pytest.mark.parametrize(
    "switch", [{"rest": "outage"}, {"api_used": 15_000}, {"organization_name": " "}]
)
def test_an_org_without_a_name_has_users_all_the_same(
    practice: PracticeOrg, switch: dict[str, Any]
) -> None:
    practice.switch(**switch)
    who = ask_practice(practice, "full")
    assert (who.username, who.organization_name) == ("admin@practice.example", None)


def test_a_name_from_an_org_is_fit_to_be_shown(practice: PracticeOrg) -> None:
    for name, shown in (
        ("<b>Acme</b> & Co", "<b>Acme</b> & Co"),  # pages escape it
        ("a\x00b\x1b[31m\u202ec", "a\ufffdb\ufffd[31m\ufffdc"),
        (" Acme \r\n\t GmbH ", "Acme \ufffd GmbH"),
        ("x" * 10_000, "x" * 255),
    ):
        practice.switch(organization_name=name)
        assert ask_practice(practice, "full").organization_name == shown


def test_a_dead_token_is_nobodys(practice: PracticeOrg) -> None:
    with pytest.raises(SalesforceError) as failure:
        ask_practice(practice, "full", token="00D000000000001!dead")
    error = failure.value
    assert (error.state, error.code) == (State.EXPIRED, "Bad_OAuth_Token")
    assert "new access token" in error.action


# What leaves


def test_the_token_leaves_in_a_header_alone(org: Server) -> None:
    ask(org, answer(USERINFO), answer(named("Acme")))
    who, name = org.requests
    assert who.line == "GET /services/oauth2/userinfo HTTP/1.1"
    target = urlsplit(name.line.split()[1])
    assert target.path == "/services/data/v65.0/query"
    assert parse_qs(target.query) == {"q": ["SELECT Name FROM Organization LIMIT 1"]}
    for request in org.requests:
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["accept"] == "application/json"
        assert TOKEN not in request.line
        assert SECRET not in str(request)


@pytest.mark.parametrize("token", ["", "a b", "a\r\nX: y", "é", "\x00"])
def test_a_token_that_is_no_header_does_not_leave(org: Server, token: str) -> None:
    with pytest.raises(SalesforceError, match="cannot be sent"):
        read_identity(
            org.client, token, identity_url=None, instance_url=None, scopes=None
        )
    assert org.requests == []


@pytest.mark.parametrize(
    "address", ["", "acme.example", "http://acme.example", "https://a\r\nb", "file:///"]
)
def test_an_address_that_is_none_is_not_called(org: Server, address: str) -> None:
    assert ask(org, answer(USERINFO), instance_url=address) == ADA
    assert refused(org, answer(PAGE), identity_url=address, scopes="id")
    assert len(org.requests) == 2


def test_no_host_is_called_that_no_site_covers(org: Server, caller: Flask) -> None:
    transport.init_app(caller, lambda _: None)
    assert refused(org).code == "<no Remote Site>"
    assert org.requests == []


# What comes back


@pytest.mark.parametrize("scopes", [None, "id", "openid api", "full", "profile web"])
@pytest.mark.parametrize(
    "first",
    [answer(b"Missing", "404 Not Found"), answer(PAGE), answer({}), answer([]),
     answer({"error": "x", "user_id": "005000000000002"}),
     answer({"user_id": 7, "preferred_username": ["x"]}),
     answer(b"", "302 Found", b"Location: https://evil.example/"),
     answer({"error": "insufficient_scope"}, "403 Forbidden"),
     answer(b"", "503 Service Unavailable"), answer(b"[" * 30_000),
     answer(b'{"user_id":' * 3_000 + b"1" + b"}" * 3_000), answer(b" " * 40_000),
     last(answer(b"{}", length=99)), reset],
)  # fmt: skip
def test_where_userinfo_does_not_tell_the_identity_url_does(
    org: Server, first: Step, scopes: str | None
) -> None:
    who = ask(org, first, answer(IDENTITY), answer(named("Acme")), scopes=scopes)
    name = "Acme" if scopes in (None, "openid api", "full") else None
    assert (who.user_id, who.username, who.organization_name) == (
        "005000000000001AAA", "ada@acme.example", name
    )  # fmt: skip
    assert paths(org)[:2] == ["/services/oauth2/userinfo", "/id/00D/005"]


def test_of_two_failures_the_first_is_told(org: Server) -> None:
    error = refused(org, answer(b"", "503 x"), answer(b"", "404 x"))
    assert (error.code, len(org.requests)) == ("<HTTP 503>", 2)
    error = refused(org, answer(b"", "503 x"), identity_url=None)
    assert (error.code, len(org.requests)) == ("<HTTP 503>", 3)


@pytest.mark.parametrize(
    "second",
    [answer(PAGE), answer({}), answer([]), answer({"records": {}}), answer({"records":
     []}), answer({"records": ["x"]}), answer(named(None)), answer(named(["x"])),
     answer(named("")), answer(b"", "503 x"), answer(b"x", "401 x"), answer(b"[" * 999),
     answer([{"errorCode": "INVALID_SESSION_ID"}], "401 x"), reset],
)  # fmt: skip
def test_an_organization_without_a_name_is_no_failure(
    org: Server, second: Step
) -> None:
    assert ask(org, answer(USERINFO), second) == ADA


def test_where_the_name_is_all_there_is_its_failure_is_told(org: Server) -> None:
    assert refused(org, answer(b"", "429 x"), scopes="api").code == "<HTTP 429>"
    assert ask(org, answer(named("Acme")), scopes="api").organization_name == "Acme"


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("user_id", "<script>", "user_id", None),
        ("user_id", "x" * 65, "user_id", None),
        ("organization_id", {"a": 1}, "organization_id", None),
        ("organization_id", "00D\n", "organization_id", "00D"),
        ("preferred_username", "u" * 10_000, "username", "u" * 255),
        ("name", "\x00\x9b \u2028x", "display_name", "\ufffd\ufffd \ufffdx"),
        ("name", True, "display_name", None),
        ("name", "\ud800", "display_name", "\ufffd"),
        ("user_type", "T" * 100, "user_type", "T" * 64),
        ("user_type", 10**300, "user_type", None),
    ],
)  # fmt: skip
def test_each_field_is_bounded_and_of_its_kind(
    org: Server, field: str, value: object, attribute: str, expected: str | None
) -> None:
    who = ask(org, answer(USERINFO | {field: value}), scopes="id")
    assert getattr(who, attribute) == expected


@pytest.mark.parametrize("field", [*USERINFO, "name"])
@pytest.mark.parametrize("secret", [TOKEN, SECRET, "5Aep861" + "x" * 40])
def test_a_secret_that_comes_back_is_not_shown(
    org: Server, field: str, secret: str
) -> None:
    long = "a" * 250 + secret
    for value in (secret, long):
        who = ask(org, answer(USERINFO | {field: value}), answer(named(value)))
        assert secret[:5] not in str(who).replace("'Ada Admin'", "")
    for status in ("403 x", "404 x", "200 OK"):
        body = {"error": secret, "error_description": long}
        error = refused(org, answer(body, status), answer(b"", "404 x"))
        for text in (str(error), error.code, str(error.response)):
            assert secret[:12] not in text


def slowly(line: socket.socket, _: Request) -> None:
    time.sleep(0.5)
    line.sendall(answer(USERINFO))


@pytest.mark.parametrize("script", [(), (slowly,)])
def test_one_deadline_is_for_all_of_it(org: Server, script: tuple[Step, ...]) -> None:
    dripping = drip(answer(b"", length=10_000), b" ", threading.Event())
    began = time.monotonic()
    if script:
        assert ask(org, *script, dripping, deadline=0.8) == ADA
    else:
        assert refused(org, dripping, deadline=0.8).code == "<timeout>"
    assert time.monotonic() - began < 1.2
    assert len(org.requests) == len(script) + 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=300)
    | st.sampled_from([TOKEN, SECRET]),
    lambda inner: st.lists(inner)
    | st.dictionaries(st.sampled_from([*USERINFO]), inner),
    max_leaves=6,
)  # fmt: skip


@given(
    body=st.binary(max_size=40)
    | st.dictionaries(st.sampled_from([*USERINFO, *IDENTITY, "error"]), VALUES).map(
        lambda fields: json.dumps(fields).encode()
    ),
    status=st.sampled_from([200, 200, 200, 302, 400, 401, 403, 404, 503]),
)
def test_any_answer_tells_who_or_why_not(body: bytes, status: int) -> None:
    try:
        who = who_of(read_json(status, {}, body, {TOKEN, SECRET}, seconds=0))
    except SalesforceError as error:
        shown = [str(error), error.code, str(error.response)]
    else:
        shown = [text for text in vars(who).values() if text is not None]
        assert all(0 < len(text) <= 255 for text in shown)
    for text in shown:
        assert text.encode().decode() == text
        assert TOKEN not in text
        assert SECRET not in text
