"""The flows without a user: what leaves, and whom the failure is blamed on."""

import logging
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.utils import formatdate

import jwt
import pytest
from cryptography import x509
from flask import Flask

from salesforce import (
    Client,
    SalesforceError,
    State,
    TokenAnswer,
    generate,
    present_assertion,
    use_client_credentials,
)
from salesforce.transport import quiet_loggers
from tests.wire import (
    CLIENT_ID,
    CONSUMER_SECRET,
    TOKEN,
    Server,
    answer,
    calling,
    plain,
    serving,
)

PAIR = generate("Orgdesk")
USERNAME = "robot+orgdesk@acme.example"
AUDIENCE = "https://login.salesforce.com"
EXPIRED = {"error": "invalid_grant", "error_description": "expired authorization code"}
Ask = Callable[[Client], TokenAnswer]


@pytest.fixture
def org() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def caller(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    plain(monkeypatch)
    with calling() as app:
        yield app


def present(
    client: Client, private_key: str = PAIR.private_key, deadline: float = 20
) -> TokenAnswer:
    return present_assertion(
        client,
        username=USERNAME,
        audience=AUDIENCE,
        private_key=private_key,
        deadline=deadline,
    )


both = pytest.mark.parametrize("ask", [present, use_client_credentials])


def failure(ask: Ask, client: Client) -> SalesforceError:
    with pytest.raises(SalesforceError) as failed:
        ask(client)
    return failed.value


def test_an_assertion_is_all_that_is_presented(org: Server) -> None:
    before = int(time.time())
    assert present(org.client).access_token == TOKEN["access_token"]
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/token HTTP/1.1"
    assert "authorization" not in request.headers
    assert request.headers["accept"] == "application/json"
    assertion = request.form["assertion"]
    assert request.form == {
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "assertion": assertion,
    }
    certificate = x509.load_pem_x509_certificate(PAIR.certificate.encode())
    claims = jwt.decode(
        assertion,
        certificate.public_key(),  # type: ignore[arg-type]
        ["RS256"],
        audience=AUDIENCE,
    )
    issued = claims.pop("iat")
    assert before <= issued <= time.time()
    assert claims == {
        "iss": CLIENT_ID,
        "sub": USERNAME,
        "aud": AUDIENCE,
        "exp": issued + 180,
    }
    assert jwt.get_unverified_header(assertion)["alg"] == "RS256"


def test_client_credentials_are_presented_in_the_body(org: Server) -> None:
    assert use_client_credentials(org.client).access_token == TOKEN["access_token"]
    (request,) = org.requests
    assert request.line == "POST /services/oauth2/token HTTP/1.1"
    assert "authorization" not in request.headers
    assert request.form == {
        "grant_type": "client_credentials",
        "client_id": CLIENT_ID,
        "client_secret": CONSUMER_SECRET,
    }


@pytest.mark.parametrize("secret", [None, ""])
def test_without_a_secret_there_are_no_client_credentials(
    org: Server, secret: str | None
) -> None:
    client = replace(org.client, client_secret=secret)
    error = failure(use_client_credentials, client)
    assert (error.state, error.trip) == (State.MISCONFIGURED, None)
    assert error.code == "<no Consumer Secret>"
    assert org.connections == 0
    assert present(client), "an assertion takes no secret"


@pytest.mark.parametrize("key", ["", "nonsense", PAIR.certificate, "\ud800"])
def test_a_key_that_cannot_sign_sends_nothing(org: Server, key: str) -> None:
    error = failure(lambda client: present(client, key), org.client)
    assert (error.state, error.code) == (State.MISCONFIGURED, "<unusable key>")
    assert (error.trip, error.answer_lost) == (None, False)
    assert org.connections == 0


@both
def test_scopes_that_were_not_asked_for_do_no_harm(org: Server, ask: Ask) -> None:
    org.script = [answer(TOKEN | {"scope": "api id"})]
    assert ask(org.client).scope == "api id"


@both
def test_the_status_counts_and_the_library_does_not_decide(
    org: Server, ask: Ask
) -> None:
    org.script = [
        answer(TOKEN, "500 Oops"),
        answer([], "200 OK"),
        answer(TOKEN, "302 Elsewhere", b"Location: http://127.0.0.1:1/"),
    ]
    codes = [failure(ask, org.client).code for _ in range(3)]
    assert codes == ["<HTTP 500>", "<unusable answer>", "<HTTP 302>"]


@both
def test_nothing_secret_is_logged_or_shown(
    org: Server, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (None, "requests_oauthlib", "oauthlib", "urllib3", "requests"):
        caplog.set_level(logging.DEBUG, name)
    quiet_loggers()

    ask(org.client)
    (request,) = org.requests
    sent = request.form.get("assertion", CONSUMER_SECRET)
    body = {"error": f"x{sent}"[:80], "error_description": f"you sent {sent}"}
    org.script = [answer(body, "400 Bad Request")]
    error = failure(ask, org.client)
    lines = "".join(traceback.format_exception(error))
    for text in (caplog.text, lines, str(error), error.code, str(error.response)):
        assert sent not in text
        assert "PRIVATE KEY" not in text


@pytest.mark.parametrize("ask", [present_assertion, use_client_credentials])
def test_the_deadline_holds(org: Server, ask: Callable[..., TokenAnswer]) -> None:
    signing = {"private_key": PAIR.private_key, "username": USERNAME}
    more = {} if ask is use_client_credentials else signing | {"audience": AUDIENCE}
    with pytest.raises(SalesforceError) as failed:
        ask(org.client, deadline=-1, **more)
    assert not failed.value.answer_lost
    assert not org.requests


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(3_600, "60 minutes behind"), (-7_200, "120 minutes ahead of"),
     (95, "2 minutes behind"), (70, "1 minute behind"),
     (86_400 * 365, "525,600 minutes"),
     (30, None), (-30, None), (None, None)],
)  # fmt: skip
def test_clocks_that_differ_are_named(
    org: Server, seconds: int | None, said: str | None
) -> None:
    date = "nonsense"
    if seconds is not None:
        date = formatdate(time.time() + seconds + 0.5, usegmt=True)
    org.script = [answer(EXPIRED, "400 Bad Request", b"Date: " + date.encode())] * 2
    error = failure(present, org.client)
    assert ("This server's clock is" in str(error)) == (said is not None)
    assert f"This server's clock is {said or ''}" in str(error) or said is None
    assert error.code == "invalid_grant"
    assert error.trip
    assert error.response
    assert error.state is not State.LOGIN_REQUIRED or said is None
    other = failure(use_client_credentials, org.client)
    assert "clock" not in str(other)


def test_clocks_are_blamed_for_nothing_else(org: Server) -> None:
    date = formatdate(time.time() + 3_600, usegmt=True).encode()
    body = {"error": "invalid_grant", "error_description": "invalid assertion"}
    org.script = [answer(body, "400 Bad Request", b"Date: " + date)]
    assert "clock" not in str(failure(present, org.client))


@both
def test_no_grant_is_dead_where_none_was_presented(org: Server, ask: Ask) -> None:
    org.script = [answer({"error": "invalid_grant"}, "400 Bad Request")]
    error = failure(ask, org.client)
    assert error.state is State.BLOCKED
    assert "Login History" in error.action
