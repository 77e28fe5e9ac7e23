"""The callback doctor: what differs, said and marked; the ping; the mending."""

import html
import re
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from callback_doctor import Part, compare, split
from database import now
from models import Flow, Role
from tests.conftest import (
    OWN_CALLBACK,
    StrictClient,
    add_application,
    begin,
    browser_of,
    load,
)
from tests.servers import PracticeOrg
from tests.test_audit import told
from tests.test_authorizations import change
from tests.test_panel import panel, said

OWN = "https://orgdesk.example.com:8443/callback"
THIS_MACHINE = "http://localhost:8000/callback"
MEND, PING = "/applications/1/callback-url", "/applications/1/callback-url/ping"
WRONG = "http://127.0.0.1/callback/"
NEAR = st.lists(st.sampled_from("htps:/@?#&%62.[]aA\u0430l1 \u200b"), max_size=30)
URLS = st.one_of(st.text(max_size=60), NEAR.map("".join), st.just(OWN))


# --- what differs ----------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "server", "part", "sentence"),
    [
        (OWN.replace("https", "http"), OWN, Part.SCHEME, "encrypted connection"),
        (OWN.replace("https", "HTTPS"), OWN, Part.SCHEME, "upper and lower case alone"),
        (OWN.replace("//", "//ada@"), OWN, Part.USER, "The record has a user name"),
        (OWN.replace("orgdesk", "desk"), OWN, Part.HOST, "They are two hosts."),
        (OWN.replace("orgd", "OrgD"), OWN, Part.HOST, "upper and lower case alone"),
        (OWN.replace("esk", "e\u0455k"), OWN, Part.HOST, "CYRILLIC SMALL LETTER DZE"),
        (OWN.replace("com", "corn"), OWN, Part.HOST, "They look alike and are not"),
        (THIS_MACHINE.replace("localhost", "[::1]"), THIS_MACHINE, Part.HOST, "machin"),
        (OWN.replace(":8443", ""), OWN, Part.PORT, "address has a port, and the rec"),
        (OWN.replace(":8443", ":443"), OWN, Part.PORT, "They are two ports."),
        (OWN.replace(":8443", ":"), OWN, Part.PORT, "They are two ports."),
        (
            "https://a.example:443/callback",
            "https://a.example/callback",
            Part.PORT,
            "goes without saying, and is written in the record alone.",
        ),
        (
            "http://a.example/callback",
            "http://a.example:80/callback",
            Part.PORT,
            "goes without saying, and is written here alone.",
        ),
        (
            "https://a.example:/callback",
            "https://a.example/callback",
            Part.PORT,
            "There is a colon without a port in the record.",
        ),
        (OWN + "/", OWN, Part.PATH, "The path ends in a slash in the record and not"),
        (OWN, OWN + "/", Part.PATH, "The path ends in a slash here and not in the rec"),
        (OWN + "//", OWN, Part.PATH, "The path ends in more slashes in the record"),
        (OWN.replace("call", "Call"), OWN, Part.PATH, "upper and lower case alone"),
        (OWN.replace("ck", "c%6B"), OWN, Part.PATH, "percent-encoded differently"),
        (OWN.replace("ll", "l1"), OWN, Part.PATH, "‘1’ (DIGIT ONE) in the record"),
        (OWN + "\u200b", OWN, Part.PATH, "nobody can see: ZERO WIDTH SPACE."),
        (OWN + "\n", OWN, Part.PATH, "nobody can see: control character 10."),
        (OWN.replace("callback", "oauth"), OWN, Part.PATH, "They are two paths."),
        (OWN + "?", OWN, Part.QUERY, "The record has a query"),
        (OWN, OWN + "?a=1", Part.QUERY, "This server's address has a query"),
        (OWN + "#top", OWN, Part.FRAGMENT, "The record has a fragment"),
    ],
)
def test_a_part_that_differs_is_named_and_said(
    record: str, server: str, part: Part, sentence: str
) -> None:
    (difference,) = compare(record, server).differences
    assert difference.part is part
    assert (difference.record, difference.server) == (
        split(record)[part],
        split(server)[part],
    )
    assert sentence in difference.sentence


def test_several_parts_are_named_in_the_order_of_the_address() -> None:
    parts = [one.part for one in compare(WRONG, OWN).differences]
    assert parts == [Part.SCHEME, Part.HOST, Part.PORT, Part.PATH]


@given(URLS, URLS)
@example("http://a//", "http://a/")
@example("http://a?", "http://a")
@example("", "#")
def test_they_are_equal_if_and_only_if_their_texts_are(one: str, other: str) -> None:
    found = compare(one, other)
    assert found.equal is (one == other)
    assert all(difference.sentence for difference in found.differences)


@given(URLS, URLS)
def test_nothing_is_lost_where_a_url_is_cut(one: str, other: str) -> None:
    found = compare(one, other)
    assert "".join(split(one).values()) == one
    assert "".join(piece.text for piece in found.record_segments) == one
    assert "".join(piece.text for piece in found.server_segments) == other
    marks = [*found.record_segments, *found.server_segments]
    assert any(piece.differs for piece in marks) is not found.equal


@pytest.mark.parametrize(
    ("record", "marked"),
    [
        (OWN + "/", ["/"]),
        (OWN.replace("call", "Call"), ["C"]),
        (OWN.replace("orgdesk.example.com", "localhost"), ["localhost"]),
        (OWN, []),
    ],
)
def test_the_characters_that_differ_are_marked(record: str, marked: list[str]) -> None:
    pieces = compare(record, OWN).record_segments
    assert [piece.text for piece in pieces if piece.differs] == marked


# --- on the page -----------------------------------------------------------


def test_a_wrong_address_is_said_and_marked_and_can_be_mended(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, callback_url=WRONG)
    page, words = panel(client), said(client)
    assert '<details class="sheet" id="callback-doctor" open>' in page
    assert "✗ not this server's: host, path" in words
    assert "<mark>127.0.0.1</mark>/callback<mark>/</mark>" in page
    assert "The path ends in a slash in the record and not here." in words
    assert f'action="{MEND}"' in page
    assert 'href="https://acme.lightning.force.com/lightning/setup/Manage' in page


def test_the_right_address_is_closed_and_offers_nothing_to_mend(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    page = panel(client)
    assert '<details class="sheet" id="callback-doctor">' in page
    assert "✓ this server's own address" in page
    assert f'action="{PING}"' in page
    assert f'action="{MEND}"' not in page
    assert "<mark>" not in page


@pytest.mark.parametrize(
    ("role", "offered"),
    [(Role.VIEWER, []), (Role.OPERATOR, [PING]), (Role.ADMIN, [MEND, PING])],
)
def test_who_is_offered_what(app: Flask, role: Role, offered: list[str]) -> None:
    add_application(app, callback_url=WRONG)
    page = panel(browser_of(app, f"{role}@orgdesk.example", role))
    assert [path for path in (MEND, PING) if f'action="{path}"' in page] == offered


def test_it_opens_where_the_org_does_not_list_the_address(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    error = {"last_error": "No.", "last_error_at": now()}
    change(app, last_error_code="redirect_uri_mismatch", **error)
    assert 'id="callback-doctor" open' in panel(client)
    assert "The org says that its app does not list this URL." in said(client)


@pytest.mark.parametrize("flow", [Flow.JWT_BEARER, Flow.CLIENT_CREDENTIALS])
def test_a_flow_without_a_login_has_no_doctor(
    app: Flask, client: StrictClient, flow: Flow
) -> None:
    add_application(app, flow=flow, callback_url=WRONG)
    page = panel(client)
    assert "callback-doctor" not in page
    assert f"{WRONG} <small>not used by this flow</small>" in page


def test_what_is_shown_is_what_is_sent(
    client: StrictClient, practice_record: int
) -> None:
    sent = compare(OWN_CALLBACK, OWN_CALLBACK).form_encoded
    assert sent in panel(client)
    assert f"&{sent}&" in begin(client) + "&"


# --- mending ---------------------------------------------------------------


def mend(client: StrictClient, *, htmx: bool = True, **form: str) -> TestResponse:
    found = re.search(r'name="changed_at" value="([^"]+)"', panel(client))
    assert found
    form = {"changed_at": html.unescape(found[1])} | form
    return client.submit(MEND, htmx=htmx, **form)


def test_the_button_puts_this_servers_address_in_its_place(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, callback_url=WRONG)
    page = mend(client).text
    assert load(app, 1).callback_url == OWN_CALLBACK
    assert page.startswith('<section id="application-panel">')
    assert f"The Callback URL is now {OWN_CALLBACK}." in page
    assert 'id="callback-doctor" open' in page
    assert told(app)[-1] == ("record_edited", {"fields": ["Callback URL"]})


def test_without_javascript_the_page_says_what_was_done(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, callback_url=WRONG)
    answer = mend(client, htmx=False)
    assert (answer.status_code, answer.location) == (303, "/applications/1")
    assert (
        f"The Callback URL is now {OWN_CALLBACK}." in client.get("/applications/1").text
    )


def test_nothing_is_mended_that_was_changed_meanwhile(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, callback_url=WRONG)
    page = mend(client, changed_at="2020-01-01T00:00:00+00:00").text
    assert "somebody else saved this record" in page
    assert load(app, 1).callback_url == WRONG
    assert len(told(app)) == 0


def test_there_is_nothing_to_mend_in_a_record_that_is_gone(
    client: StrictClient,
) -> None:
    assert client.submit(MEND).status_code == 404


# --- does it reach this Orgdesk? -------------------------------------------


def ping(client: StrictClient) -> str:
    """Press the button; return the address that the browser is sent to."""
    answer = client.submit(PING)
    assert answer.status_code == 303
    return answer.location


def arrive(client: StrictClient, url: str) -> TestResponse:
    parts = urlsplit(url)
    base = f"{parts.scheme}://{parts.netloc}"
    return client.get(f"{parts.path}?{parts.query}", base_url=base)


def come_home(client: StrictClient, answer: TestResponse) -> str:
    """Follow the way back to the record; return what its page says."""
    assert answer.status_code == 303
    home = urlsplit(answer.location)
    assert (home.netloc, home.path) == ("localhost", "/applications/1")
    assert home.fragment == "callback-doctor"
    return client.get(f"{home.path}?{home.query}").text


def test_a_ping_comes_back_with_the_proof(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    add_application(app)
    url = ping(client)
    assert url.startswith(f"{OWN_CALLBACK}?ping=")
    page = come_home(client, arrive(stranger, url))
    assert "✓ It reaches this Orgdesk" in page
    assert 'id="callback-doctor" open' in page
    assert "It arrives as" not in page
    assert "But you are signed in at" not in page


def test_an_address_at_which_nobody_is_signed_in_says_so(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    add_application(app, callback_url="http://127.0.0.1/callback?from=org")
    url = ping(client)
    assert url.startswith("http://127.0.0.1/callback?from=org&ping=")
    page = come_home(client, arrive(stranger, url))
    assert "✓ It reaches this Orgdesk" in page
    assert "But you are signed in at http://localhost and not there" in page


def test_an_address_that_leads_on_says_where_it_arrives(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    add_application(app, callback_url="https://desk.example/callback")
    word = parse_qs(urlsplit(ping(client)).query)["ping"][0]
    page = come_home(client, stranger.get("/callback", query_string={"ping": word}))
    assert "It arrives as <code>http://localhost/callback</code>" in page


def test_a_proof_is_for_one_browser_one_record_and_its_address(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    add_application(app, application_name="Globex")
    home = urlsplit(arrive(client, ping(client)).location)
    other = browser_of(app, "ada@orgdesk.example", Role.ADMIN)
    assert "It reaches" not in other.get(f"{home.path}?{home.query}").text
    assert "It reaches" not in client.get(f"/applications/2?{home.query}").text
    change(app, callback_url=WRONG)
    assert "It reaches" not in client.get(f"{home.path}?{home.query}").text


@pytest.mark.parametrize("word", ["", "x", "a.b.c", "é", "W10.aaaaaa.bbbb", "\x00"])
def test_a_forged_word_is_not_answered(
    app: Flask, client: StrictClient, stranger: StrictClient, word: str
) -> None:
    add_application(app)
    answer = stranger.get("/callback", query_string={"ping": word})
    assert answer.status_code == 400
    assert "not the one that asked" in answer.text
    home = client.get("/applications/1", query_string={"reached": word})
    assert "It reaches" not in home.text


def test_another_installations_ping_is_not_answered(
    app: Flask, client: StrictClient, stranger: StrictClient
) -> None:
    add_application(app)
    url = ping(client)
    app.config["SECRET_KEY"] = "another"
    assert "not the one that asked" in arrive(stranger, url).text
    app.config["SECRET_KEY_FALLBACKS"] = ["tests"]
    assert arrive(stranger, url).status_code == 303


def test_a_ping_is_no_proof_and_a_proof_no_ping(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    there = parse_qs(urlsplit(ping(client)).query)["ping"][0]
    home = client.get("/callback", query_string={"ping": there}).location
    back = parse_qs(urlsplit(home).query)
    page = client.get("/applications/1", query_string={"reached": there}).text
    assert "It reaches" not in page
    answer = client.get("/callback", query_string={"ping": back["reached"][0]})
    assert answer.status_code == 400


def test_an_old_question_is_over(
    app: Flask,
    client: StrictClient,
    stranger: StrictClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_application(app)
    url = ping(client)
    home = urlsplit(arrive(stranger, url).location)
    monkeypatch.setattr("pings.LIVES", -1)
    answer = arrive(stranger, url)
    assert answer.status_code == 400
    assert "is over" in answer.text
    assert "It reaches" not in client.get(f"{home.path}?{home.query}").text


@pytest.mark.parametrize("other", ["state=x", "code=aPrx", "error=access_denied"])
def test_what_an_org_sends_is_never_taken_for_a_ping(
    app: Flask, client: StrictClient, stranger: StrictClient, other: str
) -> None:
    add_application(app)
    query = f"{urlsplit(ping(client)).query}&{other}"
    assert stranger.get(f"/callback?{query}").location == "/sign-in?next=/"
    assert "was not accepted" in client.get(f"/callback?{query}").text


def test_a_ping_touches_no_login_that_is_under_way(
    client: StrictClient, org: PracticeOrg, practice_record: int
) -> None:
    back = org.log_in(begin(client))
    assert arrive(client, ping(client)).status_code == 303
    assert client.head("/callback?ping=x").status_code == 405
    assert arrive(client, back).location == "/applications/1"
