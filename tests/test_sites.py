"""Remote Sites: what one covers, its pages, and what a record says without one."""

import threading
from datetime import timedelta
from urllib.parse import quote

import pytest
from flask import Flask
from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import delete, select

from database import db, now
from models import ExternalApplication, Lane, RemoteSite, gate, site_for
from salesforce import (
    Client,
    DomainError,
    State,
    TokenAnswer,
    parse_domain,
    parse_origin,
)
from tests.conftest import StrictClient, add_application, add_site, browser_of, load
from tests.test_applications import FORM

CUSTOM = "https://id.acme.example"
IDS = "00D000000000001EAA/005000000000001AAA"


def covered(app: Flask, url: str) -> str | None:
    """Return the site that covers the URL, as people write it."""
    with app.app_context():
        site, asked = site_for(url), gate(url)
        assert (site and site.id) == (asked and asked.id)
        return str(site.origin) if site else None


def sites(app: Flask) -> dict[str, RemoteSite]:
    with app.app_context():
        found = db.session.scalars(select(RemoteSite)).all()
        db.session.expunge_all()
        return {str(site.origin): site for site in found}


def id_of(app: Flask, address: str) -> int:
    return sites(app)[address].id


# What a site covers


@pytest.mark.parametrize(
    "host",
    ["login.salesforce.com", "test.salesforce.com", "na1.salesforce.com",
     "cs99.salesforce.com", "acme.my.salesforce.com", "acme.my.site.com",
     "acme--uat.sandbox.my.salesforce.com", "acme.develop.my.salesforce.com",
     "acme.my.salesforce.mil", "acme.my.sfcrmproducts.cn",
     "ACME.My.Salesforce.COM", "acme.my.salesforce.com."])  # fmt: skip
def test_salesforce_is_listed_from_the_start(app: Flask, host: str) -> None:
    assert covered(app, f"https://{host}/services/oauth2/token")
    assert covered(app, f"HTTPS://{host}:443")
    assert not covered(app, f"https://{host}:8443")
    assert not covered(app, f"http://{host}")
    assert not covered(app, f"http://{host}:443")


@pytest.mark.parametrize(
    "url",
    ["https://salesforce.com", "https://my.site.com", "https://site.com",
     "https://acme.site.com", "https://acme.com", "https://127.0.0.1",
     "http://localhost", "http://127.0.0.1:8001", "https://evilsalesforce.com",
     "https://acme.my.salesforce.com.evil.example", "https://a..salesforce.com",
     "https://acme.my.salesforce.com@evil.example", "https://.salesforce.com",
     "https://evil.example#.salesforce.com", "https://evil.example?.salesforce.com",
     "https://evil.example\\.salesforce.com", "https://a b.salesforce.com",
     "https://acme.my.salesforce.com..", "https://*.salesforce.com",
     "ftp://acme.my.salesforce.com", "https:acme.my.salesforce.com", "https://[::1",
     "https://acme.my.salesforce.com:x", "https://acme.my.salesforce.com:99999",
     "https://a_b.salesforce.com", "https://аcme.salesforce.com", "", "nonsense"],
)  # fmt: skip
def test_nothing_else_is_listed(app: Flask, url: str) -> None:
    assert covered(app, url) is None


LABELS = st.lists(st.sampled_from(["a", "b", "co"]), min_size=1, max_size=4)
HOSTS = LABELS.map(".".join)
SITES = st.lists(
    st.tuples(
        LABELS.filter(lambda labels: len(labels) > 1).map(".".join),
        st.booleans(),  # with a wildcard
        st.sampled_from([443, 8443]),
        st.booleans(),  # active
    ),
    max_size=4,
    unique_by=lambda site: site[:3],
)


@given(listed=SITES, host=HOSTS, port=st.sampled_from([443, 8443]))
@example(listed=[("a.b", True, 443, True)], host="a.b", port=443)
@example(listed=[("a.b", True, 443, True)], host="co.co.a.b", port=443)
@example(
    listed=[("a.b", True, 443, True), ("co.a.b", False, 443, True)],
    host="co.a.b",
    port=443,
)
@example(
    listed=[("a.b", True, 443, True), ("co.a.b", True, 443, True)],
    host="a.co.a.b",
    port=443,
)
@example(
    listed=[("a.b", True, 443, True), ("co.a.b", False, 443, False)],
    host="co.a.b",
    port=443,
)
def test_a_host_is_covered_if_and_only_if_an_active_site_says_so(
    app: Flask, listed: list[tuple[str, bool, int, bool]], host: str, port: int
) -> None:
    with app.app_context():
        db.session.execute(delete(RemoteSite))
        for name, wildcard, at, active in listed:
            site = RemoteSite()
            star = "*." if wildcard else ""
            origin = parse_origin(f"https://{star}{name}:{at}")
            site.describe(origin, local_network=False)
            site.switch(active=active)
            db.session.add(site)
        db.session.commit()
    fits = [
        (not wildcard, len(name), str(parse_origin(f"{'*.' * wildcard}{name}:{at}")))
        for name, wildcard, at, active in listed
        if active and at == port
        if (host.endswith(f".{name}") if wildcard else host == name)
    ]
    expected = max(fits)[2] if fits else None
    assert covered(app, f"https://{host.upper()}.:{port}/x?y") == expected


@pytest.mark.parametrize(
    ("address", "url"),
    [("https://10.1.2.3", "https://10.1.2.3/x"),
     ("https://[FD00::0:1]:8443", "https://[fd00:0:0::1]:8443"),
     ("http://localhost:8001", "http://LOCALHOST:8001"),
     ("http://[0::1]", "http://[::1]:80")])  # fmt: skip
def test_addresses_are_compared_in_one_form(app: Flask, address: str, url: str) -> None:
    add_site(app, address)
    assert covered(app, url)


@pytest.mark.parametrize(
    ("typed", "origin"),
    [("acme.example.com", "https://acme.example.com"),
     (" HTTPS://Acme.Example.com./setup/x?y=z#q ", "https://acme.example.com"),
     ("https://acme.example.com:443", "https://acme.example.com"),
     ("acme.example.com:8443/x", "https://acme.example.com:8443"),
     ("*.example.com", "https://*.example.com"),
     ("https://*.Example.co.uk:8443/", "https://*.example.co.uk:8443"),
     ("localhost:8001", "http://localhost:8001"),
     ("http://*.acme.localhost:80", "http://*.acme.localhost"),
     ("127.0.0.1:8001", "http://127.0.0.1:8001"),
     ("https://127.0.0.1", "https://127.0.0.1"),
     ("https://[::1]:8001", "https://[::1]:8001"),
     ("https://10.0.0.1", "https://10.0.0.1")])  # fmt: skip
def test_an_address_is_read_as_people_paste_it(typed: str, origin: str) -> None:
    assert str(parse_origin(typed)) == origin
    assert parse_origin(origin) == parse_origin(typed)


JUNK = [
    ("*.com", "too wide"), ("*.localhost", "too wide"), ("*", "at the start alone"),
    ("*.*.example.com", "at the start alone"), ("a.*.example.com", "at the start"),
    ("*acme.example.com", "at the start alone"), ("*.10.0.0.1", "neither a host"),
    ("*.[::1]", "square brackets"), ("http://acme.example.com", "Use https"),
    ("http://10.0.0.1", "Use https"), ("http://*.example.com", "Use https"),
    ("ftp://acme.example.com", "use https://"), ("javascript:alert(1)", "use https"),
    ("me:pw@acme.example.com", "user name and password"), ("acme", "not a whole"),
    ("acme example.com", "space"), ("аcme.example.com", "CYRILLIC"),
    ("acme.example.com:0", "not a port"), ("acme.example.com:70000", "not a port"),
    ("https://acme.example.com:x", "not a port"), ("https://", "not a"),
    ("a..example.com", "not a host name"), ("-a.example.com", "not a host name"),
    ("a_b.example.com", "not a host name"), ("127.1", "neither"), ("0x7f.1", "neither"),
    ("1.2.3.4.5", "neither"), ("[::1", "square brackets"), ("", "Type the"),
    ("a." * 130 + "com", "not a host name"), ("acme\\.example.com", "backslash"),
    ("acme\x00.example.com", "control character"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "why"), JUNK)
def test_junk_is_refused_with_a_sentence(
    app: Flask, client: StrictClient, typed: str, why: str
) -> None:
    answer = client.submit("/sites/new", address=typed)
    assert answer.status_code == 422
    assert why in answer.text
    assert len(sites(app)) == 4


@given(typed=st.text(max_size=60))
def test_whatever_is_typed_is_refused_or_covers_itself(typed: str) -> None:
    try:
        origin = parse_origin(typed)
    except DomainError:
        return
    assert parse_origin(str(origin)) == origin
    assert origin.scheme == "https" or origin.is_loopback


# The pages


def test_a_site_is_added_and_shown(app: Flask, client: StrictClient) -> None:
    answer = client.submit("/sites/new", address="acme.example.com:8443/x")
    assert (answer.status_code, answer.location) == (303, "/sites")
    page = client.get("/sites").text
    assert "acme.example.com" in page
    assert "8443" in page
    site = sites(app)["https://acme.example.com:8443"]
    assert (site.local_network, site.active) == (False, True)


def test_every_page_leads_to_the_list(client: StrictClient) -> None:
    assert 'href="/sites"' in client.get("/").text


def test_an_empty_list_says_what_it_means(app: Flask, client: StrictClient) -> None:
    with app.app_context():
        db.session.execute(delete(RemoteSite))
        db.session.commit()
    assert "calls no host at all" in client.get("/sites").text


def test_a_site_is_edited(app: Flask, client: StrictClient) -> None:
    add_site(app, CUSTOM)
    path = f"/sites/{id_of(app, CUSTOM)}/edit"
    assert f'value="{CUSTOM}"' in client.get(path).text
    answer = client.submit(path, address="10.0.0.1", local_network="y")
    assert answer.status_code == 303
    assert CUSTOM not in sites(app)
    site = sites(app)["https://10.0.0.1"]
    assert site.local_network
    assert site.changed_at > site.created_at


def test_an_edit_that_cannot_be_taken_changes_nothing(
    app: Flask, client: StrictClient
) -> None:
    add_site(app, CUSTOM)
    path = f"/sites/{id_of(app, CUSTOM)}/edit"
    for address in ("*.com", "https://*.salesforce.com"):
        assert client.submit(path, address=address).status_code == 422
    assert CUSTOM in sites(app)


def test_a_site_is_switched_off_and_on(app: Flask, client: StrictClient) -> None:
    add_site(app, CUSTOM)
    path = f"/sites/{id_of(app, CUSTOM)}/activation"
    for active in ("no", "no", "yes", "yes"):
        assert client.submit(path, active=active).status_code == 303
        assert covered(app, CUSTOM) == (CUSTOM if active == "yes" else None)
    assert "switched on" in client.get("/sites").text


def test_a_site_is_deleted_after_a_question_that_names_it(
    app: Flask, client: StrictClient
) -> None:
    add_site(app, CUSTOM)
    path = f"/sites/{id_of(app, CUSTOM)}/delete"
    assert f"Delete {CUSTOM}?" in client.get(path).text
    assert CUSTOM in sites(app)
    assert client.submit(path).status_code == 303
    assert CUSTOM not in sites(app)


def test_the_id_of_a_deleted_site_is_not_used_again(app: Flask) -> None:
    add_site(app, CUSTOM)
    before = id_of(app, CUSTOM)
    with app.app_context():
        db.session.execute(delete(RemoteSite).where(RemoteSite.id == before))
        db.session.commit()
    add_site(app, CUSTOM)
    assert id_of(app, CUSTOM) > before


@pytest.mark.parametrize("path", ["edit", "activation", "delete"])
def test_a_site_that_is_gone_is_a_404(client: StrictClient, path: str) -> None:
    assert client.submit(f"/sites/99/{path}").status_code == 404


@pytest.mark.parametrize(
    "path", ["new", "1/edit", "1/activation", "1/delete"]
)  # fmt: skip
def test_a_form_from_elsewhere_is_refused(
    app: Flask, client: StrictClient, path: str
) -> None:
    before = sites(app).keys()
    answer = client.post(f"/sites/{path}", data={"address": CUSTOM, "active": "no"})
    assert answer.status_code == 400
    assert sites(app).keys() == before
    assert all(site.active for site in sites(app).values())


def test_a_race_for_a_site_ends_in_one_and_form_errors(app: Flask) -> None:
    start, codes = threading.Barrier(4), list[int]()

    def create(client: StrictClient) -> None:
        form = {"csrf_token": client.csrf(), "address": CUSTOM}
        start.wait()
        codes.append(client.post("/sites/new", data=form).status_code)

    browsers = [browser_of(app) for _ in range(4)]
    threads = [threading.Thread(target=create, args=(one,)) for one in browsers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [303, 422, 422, 422]
    assert len(sites(app)) == 5


def test_a_duplicate_is_named(client: StrictClient) -> None:
    answer = client.submit("/sites/new", address="*.SALESFORCE.com:443")
    assert answer.status_code == 422
    assert "There is a site for https://*.salesforce.com already" in answer.text


# What a record says


def test_a_record_at_an_unlisted_host_is_saved_and_says_so(
    app: Flask, client: StrictClient
) -> None:
    form = FORM | {"salesforce_domain": "id.acme.example/portal"}
    page = client.get(client.submit("/applications/new", **form).location).text
    assert "Orgdesk may not call id.acme.example: no Remote Site covers it." in page
    assert "The next click" not in page, "it would be refused"
    add = f"/sites/new?url={quote(CUSTOM, safe=':/')}&amp;application=1"
    assert add in page.replace("%3A", ":").replace("%2F", "/")
    offered = client.get(add.replace("&amp;", "&")).text
    assert f'value="{CUSTOM}"' in offered
    assert 'checked id="local_network"' not in offered
    added = client.submit("/sites/new?application=1", address=CUSTOM)
    assert (added.status_code, added.location) == (303, "/applications/1")
    assert "no Remote Site" not in client.get(added.location).text


def test_a_listed_record_says_nothing_of_sites(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    assert "no Remote Site" not in client.get("/applications/1").text


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8001"])
def test_for_this_machine_the_box_comes_ticked(client: StrictClient, host: str) -> None:
    page = client.get("/sites/new", query_string={"url": f"http://{host}"}).text
    assert 'checked id="local_network"' in page


@pytest.mark.parametrize(
    "application",
    ["2", "0", "-1", "99999999999999999999", "x", "", "//evil.example", "1e0",
     "9" * 5000],
)  # fmt: skip
def test_only_a_record_is_gone_back_to(
    app: Flask, client: StrictClient, application: str
) -> None:
    add_application(app)
    path = f"/sites/new?application={quote(application)}"
    assert client.submit(path, address=CUSTOM).location == "/sites"


def test_a_click_at_an_unlisted_host_names_the_site(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, salesforce_domain="id.acme.example:8443")
    answer = client.submit("/applications/1/authorization")
    assert answer.location == "/applications/1", "the login would be in vain"
    record = load(app, 1)
    assert (record.state, record.last_error_code) == (
        State.MISCONFIGURED,
        "<no Remote Site>",
    )
    assert "no Remote Site covers https://id.acme.example:8443." in str(
        record.last_error
    )
    add_site(app, "*.acme.example:8443")
    answer = client.submit("/applications/1/authorization")
    assert answer.location.startswith("https://id.acme.example:8443/services/")


# What a token answer names


def store(app: Flask, **fields: str | None) -> None:
    """Store a token whose answer has these fields, through the login page."""
    answer = {
        "access_token": "an-access-token",
        "refresh_token": None,
        "instance_url": None,
        "identity_url": None,
        "scope": None,
    } | fields
    client = Client(parse_domain("acme.my.salesforce.com"), "key", None, "")
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        client = Client(record.domain, record.client_id, None, record.callback_url)
        token = TokenAnswer(
            **answer,  # type: ignore[arg-type]
            issued_at=now(),
            expires_in=timedelta(hours=2),
            response="{}",
        )
        assert record.store_token(token, client, Lane.BROWSER, "A test.")
        db.session.commit()


def test_listed_addresses_of_a_token_are_kept(app: Flask) -> None:
    add_application(app)
    instance, identity = "https://na1.salesforce.com", "https://login.salesforce.com/id"
    store(app, instance_url=instance, identity_url=f"{identity}/{IDS}")
    record = load(app, 1)
    assert record.instance_url == instance
    assert f"{record.organization_id}/{record.user_id}" == IDS
    assert record.last_error is None


def test_an_unlisted_instance_url_is_not_kept_and_the_page_names_its_site(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    store(app, instance_url="https://na1.salesforce.com")
    store(app, instance_url="https://evil.example:8443")
    record = load(app, 1)
    assert record.state is State.CONNECTED
    assert record.access_token
    assert record.instance_url is None, "the one before may be another org's"
    page = client.get("/applications/1").text
    assert "not its Instance URL: no Remote Site covers https://evil.example:8443" in (
        " ".join(page.split())
    )
    add_site(app, "https://evil.example:8443")
    store(app, instance_url="https://evil.example:8443")
    record = load(app, 1)
    assert (record.instance_url, record.last_error) == (
        "https://evil.example:8443",
        None,
    )


def test_an_unlisted_identity_is_not_believed(app: Flask) -> None:
    add_application(app)
    store(app, identity_url=f"https://login.salesforce.com/id/{IDS}", refresh_token="a")
    assert load(app, 1).refresh_token_problem is None
    store(app, identity_url=f"https://evil.example/id/{IDS}")
    record = load(app, 1)
    assert record.identity_url is None
    assert (record.organization_id, record.user_id) == tuple(IDS.split("/"))
    assert "its Id: no Remote Site covers https://evil.example." in str(
        record.last_error
    )
    assert record.refresh_token_problem, "who logged in is not known"


def test_a_site_that_is_off_keeps_no_address(app: Flask, client: StrictClient) -> None:
    add_application(app)
    path = f"/sites/{id_of(app, 'https://*.salesforce.com')}/activation"
    client.submit(path, active="no")
    store(app, instance_url="https://na1.salesforce.com")
    assert load(app, 1).instance_url is None


def test_an_answer_without_addresses_leaves_those_there_are(app: Flask) -> None:
    add_application(app)
    store(app, instance_url="https://na1.salesforce.com")
    store(app)
    assert load(app, 1).instance_url == "https://na1.salesforce.com"
