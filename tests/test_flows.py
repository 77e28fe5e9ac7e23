"""The flows of a record: what each takes in the form, key pairs, two secrets."""

import re
import threading
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

import vault
from database import db
from models import AuditEvent, ExternalApplication, Flow, Role, Secret
from salesforce import check_pair, describe_certificate
from tests.conftest import (
    ADMIN,
    OWN_CALLBACK,
    SECRET,
    StrictClient,
    add_application,
    browser_of,
    load,
)
from tests.test_key_pairs import HOUR, NO_KEYS, SCRAPS, certificate, pem, rsa_key
from tests.test_nonsense import WORDS, safe

KEY = pem(rsa_key())
CERTIFICATE = certificate(rsa_key(), end=timedelta(days=400))
OTHER_KEY = pem(rsa_key(2_048, 1))
UAT = "acme--uat.sandbox.my.salesforce.com"
FORM = {
    "application_name": "Acme",
    "salesforce_domain": "acme.my.salesforce.com",
    "client_id": "3MVG9Acme",
    "consumer_secret": SECRET,
    "callback_url": OWN_CALLBACK,
    "requested_scopes": "",
    "prompt_login": "y",
    "session_timeout": "120",
}
WEB = FORM | {"flow": "web_server"}
CREDENTIALS = FORM | {"flow": "client_credentials"}
JWT = FORM | {
    "flow": "jwt_bearer",
    "username": "ada@acme.com",
    "private_key": KEY,
    "certificate": CERTIFICATE,
}
SIGNED = {
    "flow": Flow.JWT_BEARER,
    "username": "ada@acme.com",
    "private_key": KEY,
    "certificate": CERTIFICATE,
}
"""What a record that is stored already has of it."""


def create(client: StrictClient, form: dict[str, Any], **more: Any) -> Any:
    return client.submit("/applications/new", **form | more)


def edit(client: StrictClient, form: dict[str, Any], **more: Any) -> Any:
    return client.submit("/applications/1/edit", **form | more)


def error(page: Any, field: str) -> str:
    """Return what is said beside a field of a form that was refused."""
    assert page.status_code == 422
    said = page.text.partition(f'id="{field}-error">')[2].partition("</p>")[0]
    return str(said)


def reveal(app: Flask, column: str) -> str | None:
    with app.app_context():
        return db.session.get_one(ExternalApplication, 1).reveal(column)


def last_event(app: Flask) -> AuditEvent:
    with app.app_context():
        found = db.session.scalars(select(AuditEvent).order_by(AuditEvent.id.desc()))
        event = found.first()
        assert event
        return event


def test_a_record_of_each_flow_is_stored(app: Flask, client: StrictClient) -> None:
    for number, form in enumerate((WEB, CREDENTIALS, JWT), 1):
        answer = create(client, form, application_name=f"Acme {number}")
        assert answer.status_code == 303
        assert load(app, number).flow == form["flow"]


def test_what_a_form_says_of_jwt_bearer_is_stored(
    app: Flask, client: StrictClient
) -> None:
    create(client, JWT, audience="https://login.salesforce.com", session_timeout="15")
    record = load(app, 1)
    assert record.username == "ada@acme.com"
    assert record.audience == "https://login.salesforce.com"
    assert record.certificate == CERTIFICATE
    assert record.session_timeout == 15
    assert reveal(app, "private_key") == KEY


def test_a_form_without_flow_and_timeout_has_the_usual(
    app: Flask, client: StrictClient
) -> None:
    form = {name: value for name, value in FORM.items() if name != "session_timeout"}
    assert create(client, form).status_code == 303
    assert (load(app, 1).flow, load(app, 1).session_timeout) == (Flow.WEB_SERVER, 120)


def test_an_edit_with_empty_secrets_keeps_the_stored_ones(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, next_consumer_secret="next-secret", **SIGNED)
    form = JWT | {"consumer_secret": "", "next_consumer_secret": ""}
    answer = edit(client, form, private_key="", certificate="")
    assert answer.status_code == 303
    assert reveal(app, "consumer_secret") == SECRET
    assert reveal(app, "next_consumer_secret") == "next-secret"
    assert reveal(app, "private_key") == KEY
    assert load(app, 1).certificate == CERTIFICATE


def test_what_is_stored_stays_where_the_flow_changes(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED)
    assert edit(client, WEB, consumer_secret="").status_code == 303
    assert load(app, 1).flow is Flow.WEB_SERVER
    assert load(app, 1).username == "ada@acme.com"
    assert reveal(app, "private_key") == KEY


def test_no_secret_is_in_a_form(app: Flask, client: StrictClient) -> None:
    add_application(app, next_consumer_secret="next-secret", **SIGNED)
    pages = [
        client.get("/applications/1/edit"),
        edit(client, JWT, application_name="", next_consumer_secret="typed-secret"),
        edit(client, JWT, certificate=CERTIFICATE + KEY, client_id=""),
        edit(client, JWT, certificate=KEY, private_key=""),
    ]
    for page in pages:
        assert not [line for line in KEY.split("\n")[1:-2] if line in page.text]
        assert "next-secret" not in page.text
        assert "typed-secret" not in page.text
    assert "Paste the Private Key again" in error(pages[1], "private_key")
    said = error(pages[1], "next_consumer_secret")
    assert "Type the Next Consumer Secret again" in said


def test_the_trail_names_what_was_changed_and_no_value(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    changes = {
        "next_consumer_secret": "next-secret",
        "audience": "https://login.salesforce.com",
        "session_timeout": "30",
    }
    assert edit(client, JWT, consumer_secret="", **changes).status_code == 303
    event = last_event(app)
    for label in ("Flow", "Next Consumer Secret", "Username", "Audience", "Private Key",
                  "Certificate", "Session Timeout (minutes)"):  # fmt: skip
        assert f'"{label}"' in event.detail
    assert '"Consumer Secret"' not in event.detail
    for value in ("ada@acme.com", "next-secret", "MII", "login.salesforce.com"):
        assert value not in event.detail


def test_a_pair_is_generated_where_it_is_saved(
    app: Flask, client: StrictClient
) -> None:
    form = JWT | {"private_key": "", "certificate": "", "generate_key_pair": "y"}
    refused = create(client, form, client_id="")
    assert refused.status_code == 422
    assert 'checked id="generate_key_pair"' in refused.text
    answer = create(client, form)
    assert "A key pair was made" in client.get(answer.location).text
    made, key = load(app, 1).certificate, reveal(app, "private_key")
    assert made
    assert key
    check_pair(key, made)
    assert describe_certificate(made).subject == "CN=Acme"


def test_a_generated_pair_takes_the_place_of_the_stored_one(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED)
    form = JWT | {"private_key": "", "certificate": "", "generate_key_pair": "y"}
    assert edit(client, form).status_code == 303
    assert reveal(app, "private_key") != KEY
    assert load(app, 1).certificate != CERTIFICATE


@pytest.mark.parametrize("name", ["é" * 255, "x" * 255, "\ufffd", "👩‍💻", "a,b=c\\+<"])
def test_a_pair_is_generated_for_a_record_of_any_name(
    app: Flask, client: StrictClient, name: str
) -> None:
    form = JWT | {"private_key": "", "certificate": "", "generate_key_pair": "y"}
    assert create(client, form, application_name=name).status_code == 303
    facts = load(app, 1).certificate_facts
    assert facts
    expected = "Orgdesk" if name == "\ufffd" else name[0]
    assert facts.subject.startswith(f"CN={expected}")


@pytest.mark.parametrize(("typed", "said"), NO_KEYS[1:], ids=range(len(NO_KEYS) - 1))
def test_an_unusable_key_is_refused_beside_its_field(
    client: StrictClient, typed: str, said: str
) -> None:
    typed = typed.encode("utf-8", "replace").decode()
    page = create(client, JWT, private_key=typed)
    assert said in error(page, "private_key").replace("&#39;", "'")
    assert not error(page, "certificate")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"private_key": "", "certificate": ""}, "private_key", "none is stored"),
        ({"private_key": "", "flow": "web_server"}, "certificate",
         "needs its private key beside it"),
        ({"private_key": OTHER_KEY}, "certificate", "of another key"),
        ({"certificate": certificate(rsa_key(), -2 * HOUR, -HOUR)}, "certificate",
         "expired on"),
        ({"certificate": "nonsense"}, "certificate", "not PEM"),
        ({"generate_key_pair": "y"}, "private_key", "not both"),
        ({"generate_key_pair": "y", "private_key": ""}, "certificate", "Leave this"),
        ({"username": ""}, "username", "Type who"),
        ({"username": "ada"}, "username", "Usernames look like"),
        ({"username": "mailto:ada@acme.com"}, "username", "Usernames look like"),
        ({"username": "Ada <ada@acme.com>"}, "username", "hasn't approved"),
        ({"username": "ada @acme.com"}, "username", "Usernames look like"),
        ({"username": "ada@acme"}, "username", "Usernames look like"),
        ({"username": "ada@acme.com,bob@acme.com"}, "username", "Usernames look"),
        ({"username": "a" * 80 + "@acme.com"}, "username", "longer than 80"),
        ({"audience": "login.salesforce.com"}, "audience", "not an address"),
        ({"audience": "http://login.salesforce.com"}, "audience", "Use https"),
        ({"audience": "javascript:alert(1)"}, "audience", "not an address"),
        ({"audience": "https://" + "x" * 255}, "audience", "longer than 255"),
        ({"next_consumer_secret": "two words"}, "next_consumer_secret", "space"),
        ({"session_timeout": "17"}, "session_timeout", "Not a valid choice"),
        ({"session_timeout": "9" * 5_000}, "session_timeout", "Not a valid choice"),
    ],
)  # fmt: skip
def test_what_jwt_bearer_cannot_do_with_is_refused_beside_its_field(
    app: Flask, client: StrictClient, changes: dict[str, str], field: str, said: str
) -> None:
    page = create(client, JWT, **changes)
    assert said in error(page, field).replace("&#39;", "'")
    for name, typed in (JWT | changes).items():
        if name in ("username", "audience") and name != field:
            assert f'value="{typed}"' in page.text


def test_an_audience_on_this_machine_may_be_http(client: StrictClient) -> None:
    form = JWT | {"salesforce_domain": "http://127.0.0.1:8001"}
    answer = create(client, form, audience="http://127.0.0.1:8001")
    assert answer.status_code == 303


def test_a_flow_that_is_none_is_refused(client: StrictClient) -> None:
    page = create(client, FORM, flow="password")
    assert page.status_code == 422
    assert "Not a valid choice" in page.text


@pytest.mark.parametrize("flow", ["web_server", "client_credentials"])
def test_another_flow_needs_neither_key_nor_user(
    client: StrictClient, flow: str
) -> None:
    form = JWT | {"flow": flow, "private_key": "", "certificate": "", "username": ""}
    assert create(client, form).status_code == 303


def test_a_certificate_may_follow_its_stored_key(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED | {"certificate": ""})
    wrong = edit(
        client, JWT, private_key="", certificate=certificate(rsa_key(number=1))
    )
    assert "of another key" in error(wrong, "certificate")
    assert edit(client, JWT, private_key="").status_code == 303
    assert load(app, 1).certificate == CERTIFICATE


@pytest.mark.parametrize(("key", "kept"), [(KEY, CERTIFICATE), (OTHER_KEY, None)])
def test_a_new_key_does_away_with_the_certificate_of_another(
    app: Flask, client: StrictClient, key: str, kept: str | None
) -> None:
    add_application(app, **SIGNED)
    assert edit(client, JWT, private_key=key, certificate="").status_code == 303
    assert load(app, 1).certificate == kept


def test_a_stored_key_that_no_key_opens_is_compared_with_nothing(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED)
    vault.init_app(app, [Fernet.generate_key().decode()])
    page = edit(client, JWT, private_key="")
    assert "Paste it again" in error(page, "certificate")
    assert edit(client, JWT).status_code == 303


@pytest.mark.parametrize(
    ("domain", "username", "said"),
    [
        (UAT, "ada@acme.com", "usernames end in .uat"),
        (UAT, "ada@acme.com.uat2", "usernames end in .uat"),
        ("acme.my.salesforce.com", ADMIN, "e-mail address of a user of Orgdesk"),
        ("acme.my.salesforce.com", ADMIN.upper(), "e-mail address of a user"),
    ],
)
def test_a_doubtful_username_is_kept_when_it_is_saved_again(
    app: Flask, client: StrictClient, domain: str, username: str, said: str
) -> None:
    form = JWT | {"salesforce_domain": domain, "username": username}
    page = create(client, form)
    assert said in error(page, "username")
    assert "hasn&#39;t approved this consumer" in error(page, "username")
    sure = {"confirmed_username": confirmed(page)}
    other = create(client, form, **sure, username="bob" + username)
    assert (other.status_code == 422) == (domain == UAT)
    assert create(client, form, application_name="2", **sure).status_code == 303
    assert load(app, 1 if domain == UAT else 2).username == username


def test_a_username_that_was_kept_once_is_not_doubted_at_each_edit(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, salesforce_domain=UAT, **SIGNED)
    form = JWT | {"salesforce_domain": UAT}
    assert edit(client, form).status_code == 303
    assert edit(client, form, username="bob@acme.com").status_code == 422
    test = form | {"salesforce_domain": "acme--test.sandbox.my.salesforce.com"}
    assert "end in .test" in error(edit(client, test), "username")


def test_a_username_of_the_sandbox_is_not_doubted(client: StrictClient) -> None:
    form = JWT | {"salesforce_domain": UAT, "username": "ada@acme.com.UAT"}
    assert create(client, form).status_code == 303


def confirmed(page: Any) -> str:
    found = re.search(r'name="confirmed_username"[^>]* value="([^"]+)"', page.text)
    assert found
    return found[1]


@pytest.mark.parametrize(
    "domain",
    ["login.salesforce.com", "test.salesforce.com", "na1.salesforce.com",
     "cs5.salesforce.com", "acme.my.site.com/partners"],
)  # fmt: skip
def test_client_credentials_of_no_my_domain_are_refused(
    client: StrictClient, domain: str
) -> None:
    page = create(client, CREDENTIALS, salesforce_domain=domain)
    said = error(page, "salesforce_domain")
    assert "invalid_grant: request not supported on this domain" in said
    assert "My Domain" in said
    assert create(client, WEB, salesforce_domain=domain).status_code == 303


def test_client_credentials_take_a_secret(app: Flask, client: StrictClient) -> None:
    page = create(client, CREDENTIALS, consumer_secret="")
    assert "no secret is stored" in error(page, "consumer_secret")
    add_application(app)
    assert edit(client, CREDENTIALS, consumer_secret="").status_code == 303


def test_a_stored_next_secret_goes_to_no_host_of_somebody_else(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, next_consumer_secret="next-secret")
    form = WEB | {"salesforce_domain": "evil.example.com"}
    page = edit(client, form)
    assert "Type the secret again" in error(page, "next_consumer_secret")
    assert edit(client, form, next_consumer_secret="again").status_code == 303


def test_a_private_key_stays_here_and_is_not_asked_for_again(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED)
    form = JWT | {"salesforce_domain": "sso.example.com"}
    assert edit(client, form, private_key="", certificate="").status_code == 303


@pytest.mark.parametrize(
    ("steps", "refused"),
    [
        (({"salesforce_domain": "evil.example.com"}, {}), True),
        (({"salesforce_domain": "evil.example.com", "audience": ""},
          {"salesforce_domain": "evil.example.com"}), True),
        (({"salesforce_domain": "login.salesforce.com"},), False),
    ],
)  # fmt: skip
def test_what_a_stored_key_signs_for_one_goes_to_no_host_of_another(
    app: Flask,
    client: StrictClient,
    steps: tuple[dict[str, str], ...],
    *,
    refused: bool,
) -> None:
    add_application(app, **SIGNED)
    form = JWT | {"audience": "https://login.salesforce.com"}
    kept = {"private_key": "", "certificate": ""}
    answers = [edit(client, form | kept | step) for step in steps]
    said = [answer for answer in answers if answer.status_code == 422]
    assert bool(said) == refused
    if refused:
        assert "to a host of somebody else" in error(said[0], "audience")
        last = form | steps[0] | {"audience": "https://login.salesforce.com"}
        assert edit(client, last).status_code == 303
        assert edit(client, last | kept).status_code == 303


@pytest.mark.parametrize(
    ("domain", "offered"),
    [("", ["login", "test"]), (UAT, [UAT.removesuffix(".salesforce.com"), "test"])],
)
def test_audiences_are_offered(
    client: StrictClient, domain: str, offered: list[str]
) -> None:
    page = create(client, JWT, salesforce_domain=domain, client_id="")
    found = re.findall(r'<option value="https://([^"]+)\.salesforce\.com">', page.text)
    assert found == offered


@settings(max_examples=60)
@given(
    field=st.sampled_from(sorted({*JWT, "audience", "next_consumer_secret", "flow"})),
    typed=WORDS | st.lists(SCRAPS, max_size=4).map("".join),
)
def test_one_field_of_nonsense_in_a_good_form(
    client: StrictClient, field: str, typed: str
) -> None:
    form = JWT | {"application_name": token_hex(8), field: typed}
    assert create(client, safe(form)).status_code in {303, 422}


def test_the_page_shows_the_connection(app: Flask, client: StrictClient) -> None:
    add_application(app, **SIGNED)
    page = client.get("/applications/1").text
    for label, shown in (("Flow", "JWT bearer"), ("Username", "ada@acme.com"),
                         ("Audience", "https://acme.my.salesforce.com")):  # fmt: skip
        assert f"<dt>{label}</dt><dd>{shown}</dd>" in page
    assert "Reveal Private Key" in page
    facts = describe_certificate(CERTIFICATE)
    assert "CN=a test" in page
    assert facts.fingerprint in page.replace("<wbr>", "")
    assert f'ends on <time datetime="{facts.not_after.date()}' in page
    assert "soon" not in page


@pytest.mark.parametrize(
    ("days", "said"), [(-1, "ended <time"), (29, ", soon"), (31, "ends on")]
)
def test_a_certificate_that_ends_is_warned_of(
    app: Flask, client: StrictClient, days: int, said: str
) -> None:
    start, end = timedelta(days=-9), timedelta(days=days)
    add_application(app, **SIGNED | {"certificate": certificate(rsa_key(), start, end)})
    page = client.get("/applications/1").text
    assert said in page
    assert (", soon" in page) == (days == 29)


def test_a_certificate_that_cannot_be_read_is_said_to_be_so(
    app: Flask, client: StrictClient
) -> None:
    add_application(app, **SIGNED | {"certificate": "nonsense"})
    assert "<strong>unreadable</strong>" in client.get("/applications/1").text


def test_a_certificate_can_be_downloaded_by_an_operator(app: Flask) -> None:
    add_application(app, **SIGNED)
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    path = "/applications/1/certificate"
    assert f'href="{path}"' in operator.get("/applications/1").text
    answer = operator.get(path)
    assert answer.text == CERTIFICATE
    assert answer.headers["Content-Type"] == "application/x-pem-file"
    assert answer.headers["Cache-Control"] == "no-store"
    disposition = answer.headers["Content-Disposition"]
    assert disposition == 'attachment; filename="external-application-1.crt"'
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert path not in viewer.get("/applications/1").text


def test_without_a_certificate_there_is_none_to_download(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    page = client.get("/applications/1/certificate")
    assert page.status_code == 404
    assert "no certificate" in page.text
    assert "/certificate" not in client.get("/applications/1").text


def two_secrets(app: Flask, used: Secret | None) -> None:
    add_application(app, next_consumer_secret="next-secret")
    with app.app_context():
        db.session.get_one(ExternalApplication, 1).secret_used = used
        db.session.commit()


CHANGE = "/applications/1/consumer-secret"


@pytest.mark.parametrize("used", [None, *Secret])
def test_the_page_says_which_secret_worked_last(
    app: Flask, client: StrictClient, used: Secret | None
) -> None:
    two_secrets(app, used)
    current, _, coming = client.get("/applications/1").text.partition("<dt>Next Cons")
    assert ("worked last" in current) == (used is Secret.CURRENT)
    assert ("worked last" in coming) == (used is Secret.NEXT)
    assert ('value="promote"' in coming) == (used is Secret.NEXT)
    assert 'value="drop"' in coming
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    assert CHANGE not in operator.get("/applications/1").text


@pytest.mark.parametrize("htmx", [True, False])
def test_a_secret_is_promoted(app: Flask, client: StrictClient, *, htmx: bool) -> None:
    two_secrets(app, Secret.NEXT)
    answer = client.submit(CHANGE, htmx=htmx, act="promote")
    assert answer.status_code == (200 if htmx else 303)
    page = answer if htmx else client.get(answer.location)
    assert "worked last" in page.text
    assert "Next Consumer Secret" not in page.text
    assert reveal(app, "consumer_secret") == "next-secret"
    assert reveal(app, "next_consumer_secret") is None
    assert last_event(app).event == "secret_promoted"
    assert last_event(app).subject == "Acme"


@pytest.mark.parametrize("used", [None, *Secret])
def test_a_next_secret_is_dropped(
    app: Flask, client: StrictClient, used: Secret | None
) -> None:
    two_secrets(app, used)
    assert client.submit(CHANGE, act="drop").status_code == 303
    assert reveal(app, "consumer_secret") == SECRET
    assert reveal(app, "next_consumer_secret") is None
    assert load(app, 1).secret_used == (used if used is Secret.CURRENT else None)
    assert "Next Consumer Secret" in last_event(app).detail


@pytest.mark.parametrize("htmx", [True, False])
@pytest.mark.parametrize("act", ["promote", "drop"])
def test_who_comes_second_is_told_so(
    app: Flask, client: StrictClient, act: str, *, htmx: bool
) -> None:
    two_secrets(app, Secret.NEXT)
    client.submit(CHANGE, act="promote")
    event = last_event(app).id
    answer = client.submit(CHANGE, htmx=htmx, act=act)
    page = answer if htmx else client.get(answer.location)
    assert page.status_code == 200
    assert "There is no Next Consumer Secret any more" in page.text
    assert reveal(app, "consumer_secret") == "next-secret"
    assert last_event(app).id == event


def test_two_who_promote_at_once_promote_once(app: Flask) -> None:
    two_secrets(app, Secret.NEXT)
    start = threading.Barrier(2)
    pages: list[str] = []

    def promote() -> None:
        client = browser_of(app)
        form = {"csrf_token": client.csrf(), "act": "promote"}
        start.wait()
        answer = client.post(CHANGE, data=form, headers={"HX-Request": "true"})
        pages.append(answer.text)

    threads = [threading.Thread(target=promote) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted("any more" in page for page in pages) == [False, True]
    assert reveal(app, "consumer_secret") == "next-secret"
    with app.app_context():
        promoted = select(AuditEvent).where(AuditEvent.event == "secret_promoted")
        assert len(db.session.scalars(promoted).all()) == 1


def test_a_secret_that_may_work_still_is_not_promoted(
    app: Flask, client: StrictClient
) -> None:
    two_secrets(app, None)
    client.submit(CHANGE, act="promote")
    assert reveal(app, "consumer_secret") == SECRET


@pytest.mark.parametrize("act", ["", "reveal", "\x00"])
def test_nothing_else_is_done_to_a_secret(
    app: Flask, client: StrictClient, act: str
) -> None:
    assert client.submit(CHANGE, act="drop").status_code == 404
    add_application(app)
    assert client.submit(CHANGE, act=act).status_code == 400
