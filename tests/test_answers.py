"""What a token endpoint may answer, and what becomes of it."""

import json
import time
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from salesforce.answers import LONGEST_TOKEN, TokenAnswer, read_token_answer
from salesforce.errors import SalesforceError, decode
from salesforce.states import State
from salesforce.trips import Trip
from vault import fingerprint

TOKEN: dict[str, Any] = {
    "access_token": "00D5e000001N20Q!ASAAQEDBeG8bOwPu8NWxJ.Zd3FgYfkZzQ_T0y8vLw",
    "refresh_token": "5Aep861KIwKdekr90I4iHdZDgYwfoH7O_5RGiaLLt.JxT8v2bQ1nP5Kx0",
    "signature": "c2lnbmF0dXJlLW9mLXRoZS1pZA==",
    "scope": "refresh_token api",
    "instance_url": "https://acme.my.salesforce.com",
    "id": "https://login.salesforce.com/id/00D5e000001N20QEAS/0055e000003E8ooAAC",
    "token_type": "Bearer",
    "issued_at": "1442275535000",
}
"""As Salesforce Help shows it."""
OPTIONAL = {*TOKEN, "expires_in"} - {"access_token"}

CODE = "aPrxY3.bXkZt0Q_7w=="
CONSUMER_SECRET = "1234567890123456789"
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXkabcdefg"
SECRETS = frozenset({CODE, CONSUMER_SECRET, VERIFIER})


def read(
    answer: object,
    status: int = 200,
    secrets: Collection[str] = SECRETS,
    **headers: str,
) -> TokenAnswer:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return read_token_answer(status, names, body, secrets)


def refused(answer: object, status: int = 200, **headers: str) -> SalesforceError:
    with pytest.raises(SalesforceError) as refusal:
        read(answer, status, **headers)
    return refusal.value


def changed(**fields: Any) -> dict[str, Any]:
    return TOKEN | fields


def test_the_answer_of_the_help_page_is_read_whole() -> None:
    answer = read(TOKEN)
    assert answer.access_token == TOKEN["access_token"]
    assert answer.refresh_token == TOKEN["refresh_token"]
    assert answer.instance_url == "https://acme.my.salesforce.com"
    assert answer.identity_url == TOKEN["id"]
    assert answer.issued_at == datetime(2015, 9, 15, 0, 5, 35, tzinfo=UTC)
    assert answer.scope == "refresh_token api"
    assert answer.expires_in is None
    assert answer.organization_and_user == ("00D5e000001N20QEAS", "0055e000003E8ooAAC")


def test_the_answer_is_kept_with_fingerprints_for_tokens() -> None:
    kept = json.loads(read(TOKEN).response)
    for name in ("access_token", "refresh_token"):
        assert kept.pop(name) == f"(fingerprint {fingerprint(TOKEN[name])})"
    assert kept == {name: TOKEN[name] for name in kept}


@pytest.mark.parametrize(
    "empty", [{}, dict.fromkeys(OPTIONAL), dict.fromkeys(OPTIONAL, "")]
)
def test_an_access_token_is_enough(empty: dict[str, Any]) -> None:
    answer = read({"access_token": "x", **empty})
    response = answer.response
    assert answer == TokenAnswer("x", None, None, None, None, None, None, response)
    assert answer.organization_and_user is None


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("token_type", "bearer", "access_token", TOKEN["access_token"]),
        ("token_type", "BEARER", "access_token", TOKEN["access_token"]),
        ("access_token", "eyJ" + "a" * 4000, "access_token", "eyJ" + "a" * 4000),
        ("access_token", "a" * LONGEST_TOKEN, "access_token", "a" * LONGEST_TOKEN),
        ("instance_url", "https://a.example/", "instance_url", "https://a.example"),
        ("instance_url", "https://a.example:8443", "instance_url",
         "https://a.example:8443"),
        ("instance_url", "http://127.0.0.1:8001", "instance_url",
         "http://127.0.0.1:8001"),
        ("issued_at", 1442275535000, "issued_at",
         datetime(2015, 9, 15, 0, 5, 35, tzinfo=UTC)),
        ("issued_at", "1442275535", "issued_at",
         datetime(2015, 9, 15, 0, 5, 35, tzinfo=UTC)),
        ("issued_at", "1442275535001", "issued_at",
         datetime(2015, 9, 15, 0, 5, 35, 1000, tzinfo=UTC)),
        ("expires_in", 7200, "expires_in", timedelta(hours=2)),
        ("expires_in", "7200", "expires_in", timedelta(hours=2)),
        ("expires_in", 0, "expires_in", timedelta(0)),
        ("scope", "api", "scope", "api"),
        ("scope", "api id full", "scope", "api id full"),
        ("sfdc_site_url", ["new", {"fields": 1}], "scope", "refresh_token api"),
    ],
)  # fmt: skip
def test_a_field_that_can_be_used(
    name: str, value: object, attribute: str, expected: object
) -> None:
    assert getattr(read(changed(**{name: value})), attribute) == expected


NO_TEXT: list[Any] = [1, 1.5, True, False, [], {}, ["x"], {"x": "y"}, 0]
NO_TOKEN = ["a b", "a\r\nX: y", "a\n", " a", "a\t", "a\x00", "a\x7f", "é", "\u200b",
            "\ud83d", "a" * (LONGEST_TOKEN + 1)]  # fmt: skip
NO_ADDRESS = ["acme.my.salesforce.com", "http://acme.example", "javascript:alert(1)",
              "https://", "https://a b", "https://u:p@a.example", "https://a.example#x",
              "https://a.example\r\n", "https://a.example\\@b.example", "//a.example",
              "https://\u0430.example", "https://[::1", "https://a.example:0",
              "https://a.example/" + "a" * 255, "ftp://a.example"]  # fmt: skip
NO_SCOPE = ['a"b', "a\\b", "a\tb", "a\nb", "é", "a" * 4097]
NO_NUMBER = ["soon", "-5", "1.5", "1e3", "0x10", "١٢", " 7", "7 ", "7\n", "1" * 16,
             True, False, -5, 1.5, 7200.0, [], {}, 10**15, 10**400, "+7"]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("access_token", value) for value in [*NO_TEXT, *NO_TOKEN, None, ""]),
        *(("refresh_token", value) for value in [*NO_TEXT, *NO_TOKEN]),
        *(("token_type", value) for value in [*NO_TEXT, "mac", "DPoP", "Bearer ", "é"]),
        *(("instance_url", value) for value in [*NO_TEXT, *NO_ADDRESS]),
        *(("id", value) for value in [*NO_TEXT, *NO_ADDRESS]),
        *(("scope", value) for value in [*NO_TEXT, *NO_SCOPE]),
        *(("issued_at", value) for value in [*NO_NUMBER, 0, "1", "999999999999999"]),
        *(("expires_in", value) for value in [*NO_NUMBER, 999_999_999_999]),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named_and_nothing_is_stored(
    name: str, value: object
) -> None:
    error = refused(changed(**{name: value}))
    assert name in str(error)
    assert error.state is State.UNREACHABLE
    assert error.code == "<unusable answer>"
    kept = TOKEN["refresh_token"] if name != "refresh_token" else None
    assert error.refresh_token == kept


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b" ", "not JSON"),
        (b"null", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b'["access_token"]', "not a JSON object"),
        (b'"access_token"', "not a JSON object"),
        (b"12", "not a JSON object"),
        (b"true", "not a JSON object"),
        (b"{}", "no access_token"),
        (b'{"ACCESS_TOKEN": "x"}', "no access_token"),
        (b'{"token": {"access_token": "x"}}', "no access_token"),
        (b'\xef\xbb\xbf{"access_token": "x"}', "not JSON"),
        ('{"access_token": "x"}'.encode("utf-16"), "not JSON"),
        (b'{"access_token": "\xff"}', "not JSON"),
        (b'{"access_token": "x"', "not JSON"),
        (b'{"access_token": "x"} {}', "not JSON"),
        (b"{'access_token': 'x'}", "not JSON"),
        (b"access_token=x&token_type=Bearer", "not JSON"),
        (b"<html><h1>Maintenance</h1></html>", "not JSON"),
        (b'{"access_token": "x", "expires_in": NaN}', "not JSON"),
        (b'{"access_token": "x", "expires_in": -Infinity}', "not JSON"),
        (b'{"access_token": "x", "other": Infinity}', "not JSON"),
        (b'{"access_token": "x", "expires_in": 1e400}', "expires_in"),
        (b'{"access_token": "x", "expires_in": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 30_000, "not JSON"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "not JSON"),
        (b'{"access_token": "x", "error": "invalid_grant"}', "an error in it"),
        (b'{"access_token": "x", "error": {"no": "text"}}', "an error in it"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_token_is_refused(body: bytes, said: str) -> None:
    error = refused(body)
    assert said in str(error)
    assert (error.state, error.code) == (State.UNREACHABLE, "<unusable answer>")
    assert error.response is not None


def test_of_duplicate_fields_the_last_counts_and_none_is_shown() -> None:
    answer = read(b'{"access_token": "opaque-1", "access_token": "opaque-2"}')
    assert answer.access_token == "opaque-2"
    assert "opaque" not in answer.response


@pytest.mark.parametrize("depth", [100, 500, 900])
def test_nesting_does_not_show_the_token_that_is_stored(depth: int) -> None:
    body = b'{"access_token":"opaque-value-1","x":' + b"[" * depth + b"]" * depth + b"}"
    try:
        response = read(body).response
    except SalesforceError as error:
        response = str(error.response)
    assert "opaque-value-1" not in response


@pytest.mark.parametrize(
    ("path", "ids"),
    [("/id/00D5e000001N20QEAS/0055e000003E8ooAAC/", True), ("/00D/005", True),
     ("/id/00D5e000001N20QEAS", True), ("/", False), ("", False), ("/005", False),
     ("/id/00D%2F/005", False), ("/id//005", False), ("/a/" + "b" * 65, False)],
)  # fmt: skip
def test_the_ids_are_the_last_two_parts_of_the_identity_url(
    path: str, ids: bool
) -> None:
    answer = read(changed(id=f"https://login.salesforce.com{path}"))
    found = answer.organization_and_user
    assert found == (tuple(path.strip("/").split("/")[-2:]) if ids else None)


def test_the_ids_are_in_their_long_form() -> None:
    answer = read(changed(id="https://login.salesforce.com/id/00D5e000001N20Q/005"))
    assert answer.organization_and_user == ("00D5e000001N20QEAS", "005")


MEANINGS = [
    # error, description, state, words of the sentence
    ("invalid_grant", "expired access/refresh token", State.LOGIN_REQUIRED, "grant"),
    ("invalid_grant", "expired authorization code", State.LOGIN_REQUIRED, "Start the"),
    ("invalid_grant", "invalid code verifier", State.LOGIN_REQUIRED, "PKCE"),
    ("invalid_grant", "inactive user", State.BLOCKED, "inactive or frozen"),
    ("inactive_user", "user is inactive", State.BLOCKED, "inactive or frozen"),
    ("invalid_grant", "ip restricted", State.BLOCKED, "address"),
    ("invalid_grant", "user hasn't approved this consumer", State.BLOCKED, "approved"),
    ("invalid_grant", "user hasn\u2019t approved this", State.BLOCKED, "approved"),
    ("invalid_app_access", "user is not admin approved to access this app",
     State.BLOCKED, "approved"),
    ("invalid_grant", "Audience validation failed", State.MISCONFIGURED, "audience"),
    ("invalid_grant", "audience is invalid", State.MISCONFIGURED, "audience"),
    ("invalid_grant", "request not supported on this domain", State.MISCONFIGURED,
     "My Domain"),
    ("invalid_grant", "no client credentials user enabled", State.MISCONFIGURED,
     "Run As"),
    ("invalid_grant", "no valid scopes defined", State.MISCONFIGURED, "scope"),
    ("invalid_grant", "authentication failure", State.BLOCKED, "Login History"),
    ("invalid_grant", "activation secret invalid", State.BLOCKED, "identity check"),
    ("invalid_client_id", "client identifier invalid", State.MISCONFIGURED,
     "Client ID"),
    ("invalid_client", "invalid client credentials", State.MISCONFIGURED,
     "Consumer Secret"),
    ("invalid_client", "app must be installed into org", State.BLOCKED, "installed"),
    ("redirect_uri_mismatch", "redirect_uri must match configuration",
     State.MISCONFIGURED, "Callback URL"),
    ("unsupported_grant_type", "grant type not supported", State.MISCONFIGURED, "flow"),
    ("unauthorized_client", "", State.MISCONFIGURED, "flow"),
    ("unsupported_response_type", "", State.MISCONFIGURED, "flow"),
    ("invalid_scope", "", State.MISCONFIGURED, "scope"),
    ("invalid_request", "scope parameter not supported", State.MISCONFIGURED,
     "request"),
    ("inactive_org", "", State.BLOCKED, "Salesforce has to act"),
    ("rate_limit_exceeded", "", State.UNREACHABLE, "3,600"),
    ("LOGIN_RATE_EXCEEDED", "", State.UNREACHABLE, "3,600"),
    ("use_dpop_nonce", "", State.MISCONFIGURED, "DPoP"),
    ("invalid_dpop_proof", "", State.MISCONFIGURED, "DPoP"),
    ("OAUTH_APP_BLOCKED", "this app is blocked by admin", State.BLOCKED, "blocked"),
    ("OAUTH_APPROVAL_ERROR_GENERIC", "An unexpected error", State.BLOCKED, "approve"),
    ("immediate_unsuccessful", "", State.LOGIN_REQUIRED, "not logged in"),
    ("access_denied", "end-user denied authorization", None, "Deny"),
    ("access-denied", "", None, "Deny"),
    ("server_error", "", State.UNREACHABLE, "Try later"),
    ("temporarily_unavailable", "", State.UNREACHABLE, "Try later"),
    ("brand_new", "never seen", State.BLOCKED, "The org refused"),
]  # fmt: skip


@pytest.mark.parametrize(("error", "description", "state", "words"), MEANINGS)
def test_an_error_of_the_org_is_put_in_words_for_an_admin(
    error: str, description: str, state: State | None, words: str
) -> None:
    refusal = refused({"error": error, "error_description": description}, 400)
    assert refusal.state is state
    assert words in str(refusal).partition(" (The org said: ")[0]
    assert str(refusal).endswith(f"(The org said: {error}: {description})") or (
        not description and str(refusal).endswith(f"(The org said: {error})")
    )
    assert refusal.code == error
    assert not refusal.answer_lost


@pytest.mark.parametrize("described", [None, 1, ["x"], {}, ""])
def test_an_error_whose_description_is_no_text_counts_all_the_same(
    described: object,
) -> None:
    refusal = refused({"error": "invalid_grant", "error_description": described}, 400)
    assert refusal.state is State.LOGIN_REQUIRED
    assert str(refusal).endswith("(The org said: invalid_grant)")


def test_the_case_of_an_error_does_not_matter() -> None:
    error = decode("Invalid_Grant", "IP Restricted")
    assert error.state is State.BLOCKED
    assert error.response is None


def test_a_long_error_is_cut() -> None:
    error = refused({"error": "e" * 9_000, "error_description": "d" * 9_000}, 400)
    assert len(error.code) == 80
    assert len(str(error)) < 500


@pytest.mark.parametrize("odd", ["\x00", "\x1b", "\x85", "\ud83d", "\u2028"])
def test_an_error_is_fit_to_be_stored_and_shown(odd: str) -> None:
    error = refused({"error": f"a{odd}b", "error_description": f"c{odd}d"}, 400)
    for text in (str(error), error.code, str(error.response)):
        assert odd not in text


@pytest.mark.parametrize("odd", ["\x00", "\x1b", "\x85", "\ud83d", "\u2028"])
def test_an_error_at_the_callback_is_fit_to_be_stored_and_shown(odd: str) -> None:
    error = decode(f"a{odd}b", f"c{odd}d")
    assert odd not in str(error) + error.code


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>Not Found</html>", [], {}, {"error": ""}, {"error": None},
     {"error": {"code": "x"}}, {"error": ["invalid_grant"]}, {"error": 400},
     [{"errorCode": "INVALID_SESSION_ID", "message": "Session expired"}],
     b"\xff\xfe", b"[" * 30_000])  # fmt: skip
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 418, 499])
def test_a_refusal_without_an_error_of_oauth_is_no_orgs(
    answer: object, status: int
) -> None:
    error = refused(answer, status)
    assert error.state is State.MISCONFIGURED
    assert error.code == f"<HTTP {status}>"
    assert f"(HTTP {status})" in str(error)


@pytest.mark.parametrize("status", [100, 199, 201, 202, 204, 206, 226, 299])
def test_a_token_with_another_status_of_success_is_not_believed(status: int) -> None:
    error = refused(TOKEN, status)
    assert (error.state, error.code) == (State.MISCONFIGURED, f"<HTTP {status}>")
    assert TOKEN["access_token"] not in str(error.response)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
@pytest.mark.parametrize("answer", [b"", TOKEN, {"error": "invalid_grant"}])
def test_a_redirect_is_a_wrong_domain(status: int, answer: object) -> None:
    error = refused(answer, status, Location="https://evil.example")
    assert (error.state, error.code) == (State.MISCONFIGURED, f"<HTTP {status}>")
    assert "Correct the Salesforce Domain" in str(error)
    assert "evil.example" not in str(error)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 599, 600, 999])
@pytest.mark.parametrize(
    "answer", [b"", b"<html>Maintenance</html>", TOKEN, {"error": "invalid_grant"}]
)
def test_an_org_that_is_not_well_says_nothing_about_the_grant(
    status: int, answer: object
) -> None:
    error = refused(answer, status)
    assert (error.state, error.code) == (State.UNREACHABLE, f"<HTTP {status}>")
    assert str(error).endswith("Try again later.")
    assert error.response is not None


@pytest.mark.parametrize(
    ("wait", "said"),
    [("120", "in 120 seconds."), ("0", "in 0 seconds."), ("", "later."),
     ("Wed, 21 Oct 2015 07:28:00 GMT", "later."), ("-1", "later."), ("1.5", "later."),
     ("soon", "later."), ("٣", "later."), ("9" * 400, "later.")])  # fmt: skip
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_is_said_where_it_is_in_seconds(
    status: int, wait: str, said: str
) -> None:
    assert str(refused(b"", status, Retry_After=wait)).endswith(f"Try again {said}")


NOON = "Fri, 17 Apr 2026 12:00:00 GMT"
CLOCK = datetime(2026, 4, 17, 12, tzinfo=UTC).timestamp()


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """This server's clock says that it is noon."""
    monkeypatch.setattr(time, "time", lambda: CLOCK)


@pytest.mark.usefixtures("noon")
@pytest.mark.parametrize(
    ("wait", "date", "seconds"),
    [("0", "", 0), ("120", "", 120), ("86400", "", 86400), ("86401", "", 86400),
     ("9999999999", "", 86400), ("Fri, 17 Apr 2026 12:02:00 GMT", "", 120),
     (NOON, "", 0), ("Sat, 18 Apr 2026 13:00:00 GMT", "", 86400),
     # by the org's clock, which is an hour behind
     ("Fri, 17 Apr 2026 11:02:00 GMT", "Fri, 17 Apr 2026 11:00:00 GMT", 120),
     ("Fri, 17 Apr 2026 11:02:00 GMT", "nonsense", None),
     ("Fri, 17 Apr 2026 11:59:59 GMT", "", None), ("-1", "", None), ("", "", None),
     ("1.5", "", None), ("soon", "", None), ("12345678901", "", None), ("1" * 5000, "",
     None), (" 7", "", None), ("7\n", "", None), ("٣", "", None),
     ("Fri, 31 Feb 2026 12:00:00 GMT", "", None), ("17 Apr 2026", "", None),
     ("Fri, 17 Apr 0000 12:00:00 GMT", "", None), (NOON + "x" * 60_000, "", None)],
)  # fmt: skip
def test_how_long_the_org_asks_to_be_left_alone(
    wait: str, date: str, seconds: int | None
) -> None:
    error = refused(b"", 503, Retry_After=wait, Date=date)
    assert error.trip is not None
    assert error.trip.retry_after == seconds


@pytest.mark.usefixtures("noon")
@pytest.mark.parametrize(
    ("date", "skew"),
    [(NOON, 0), ("Fri, 17 Apr 2026 12:05:00 GMT", 300),
     ("Thu, 01 Jan 1970 00:00:00 GMT", -CLOCK),
     ("Fri, 17 Apr 2026 11:59:58 GMT", -2), ("", None), ("12:00", None),
     ("Fri, 17 Apr 2026 12:00:00 +0200", None), ("Fri, 17 Apr 2026 25:00:00 GMT", None),
     ("\x00", None), ("\xff", None)],
)  # fmt: skip
def test_the_clock_of_the_org_is_compared_with_the_clock_here(
    date: str, skew: float | None
) -> None:
    assert read(TOKEN, Date=date).trip == Trip(200, 0.0, None, skew)


@pytest.mark.parametrize("secret", sorted(SECRETS))
@pytest.mark.parametrize("spell", [str, quote_plus, lambda text: quote(text, safe="")])
@pytest.mark.parametrize(
    ("status", "body"),
    [(400, '{"error": "invalid_grant", "error_description": "code {} is wrong"}'),
     (400, '{"error": "{}", "error_description": "{}"}'),
     (400, '{"error": "x{}", "{}": ["{}"]}'), (404, "<p>{}</p>"), (503, "grant={}"),
     (302, "{}"), (200, "{}"), (200, '{"access_token": 1, "x": "{}"}'),
     (200, '{"error": "{}"}')])  # fmt: skip
def test_a_secret_that_the_org_sends_back_is_kept_nowhere(
    secret: str, spell: Any, status: int, body: str
) -> None:
    error = refused(body.replace("{}", spell(secret)).encode(), status)
    for text in (str(error), repr(error), error.code, str(error.response)):
        assert secret not in text
        assert spell(secret) not in text


def test_a_cut_does_not_leave_half_a_secret() -> None:
    long = "a" * 75 + CODE
    error = refused({"error": long, "error_description": "b" * 295 + CODE}, 400)
    assert CODE[:5] not in str(error) + error.code


def test_a_token_shows_nothing_in_a_repr() -> None:
    shown = repr(read(TOKEN))
    assert TOKEN["access_token"] not in shown
    assert TOKEN["refresh_token"] not in shown


NAMES = st.sampled_from([*TOKEN, "error", "error_description", "expires_in", CODE, "x"])
VALUES = st.one_of(
    st.sampled_from([*SECRETS, *TOKEN.values(), "invalid_grant", "", "Bearer", "-1"]),
    st.sampled_from([int(CONSUMER_SECRET), 7200, 10**400, 1.5, True, None, "\ud800"]),
    st.text(max_size=20),
)
JSON = st.recursive(
    VALUES, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=8
)
ANSWERS = st.one_of(
    st.binary(),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(NAMES, JSON).map(lambda more: json.dumps(TOKEN | more).encode()),
    st.lists(st.sampled_from([b'{"', *(s.encode() for s in SECRETS), b"%", b"&", b"<"]))
    .map(b"".join),
)  # fmt: skip
STATUSES = st.sampled_from([200, 200, 201, 302, 400, 400, 401, 429, 503]) | st.integers(
    100, 999
)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (400, State.LOGIN_REQUIRED),
        (401, State.UNREACHABLE),
        (403, State.UNREACHABLE),
        (404, State.UNREACHABLE),
    ],
)
def test_a_grant_is_dead_on_a_400_alone(status: int, state: State) -> None:
    assert refused({"error": "invalid_grant"}, status).state is state


@pytest.mark.parametrize("name", ["scope", "instance_url", "id"])
@pytest.mark.parametrize("secret", [CONSUMER_SECRET, TOKEN["access_token"]])
def test_a_secret_in_a_field_that_is_shown_is_not_shown(name: str, secret: str) -> None:
    value = f"api {secret}" if name == "scope" else f"https://org.example/{secret}"
    with pytest.raises(SalesforceError, match="a secret in a field") as refusal:
        read(json.dumps(TOKEN | {name: value}).encode(), 200)
    assert secret not in str(refusal.value.response)


@given(body=ANSWERS, status=STATUSES, wait=st.text(max_size=9))
@example(body=b'{"error": "a\\ud800"}', status=400, wait="")
@example(body=CONSUMER_SECRET.encode(), status=400, wait=CONSUMER_SECRET)
def test_any_answer_is_a_token_or_an_error_and_shows_no_secret(
    body: bytes, status: int, wait: str
) -> None:
    try:
        shown = [read(body, status, Retry_After=wait).response]
    except SalesforceError as error:
        shown = [str(error), error.code, str(error.response)]
    else:
        assert status == 200
    for text in shown:
        assert text.encode("utf-8").decode() == text
        assert "\x00" not in text
        assert not [secret for secret in SECRETS if secret in text]
