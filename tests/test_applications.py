"""The pages of External Applications: list, new, show, edit, delete."""

import gzip
import logging
import re
import threading
from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from app import create_app
from database import db, now
from models import ExternalApplication
from salesforce import State
from tests.conftest import (
    OWN_CALLBACK,
    SECRET,
    StrictClient,
    add_application,
    browser_of,
    load,
    sql_taken,
)
from tests.servers import ROOT

FORM = {
    "application_name": "Acme",
    "salesforce_domain": "acme.my.salesforce.com",
    "client_id": "3MVG9Acme",
    "consumer_secret": SECRET,
    "callback_url": OWN_CALLBACK,
    "requested_scopes": "api refresh_token",
    "prompt_login": "y",
}


def count(app: Flask) -> int:
    with app.app_context():
        return db.session.scalar(select(func.count(ExternalApplication.id))) or 0


def statements(client: StrictClient, path: str) -> list[str]:
    """Return the SQL statements that one page takes."""
    with sql_taken() as taken:
        assert client.get(path).status_code == 200
    return [sql for sql, _ in taken]


def test_an_empty_list_says_what_to_do_first(client: StrictClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "Connect the first org" in page.text


def test_a_new_record_is_stored_and_shown(app: Flask, client: StrictClient) -> None:
    response = client.submit("/applications/new", **FORM)
    assert response.status_code == 303
    assert "Acme" in client.get(response.location).text
    application = load(app, 1)
    assert application.salesforce_domain == "acme.my.salesforce.com"
    with app.app_context():
        assert application.consumer_secret
        assert application.consumer_secret.reveal() == SECRET


def test_the_form_offers_this_servers_callback(client: StrictClient) -> None:
    assert f'value="{OWN_CALLBACK}"' in client.get("/applications/new").text


def test_a_rewritten_domain_is_shown_as_what_it_became(client: StrictClient) -> None:
    form = FORM | {
        "salesforce_domain": "https://acme.lightning.force.com/lightning/page"
    }
    response = client.submit("/applications/new", **form)
    assert "read as acme.my.salesforce.com" in client.get(response.location).text


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("application_name", " ", "Give it a name."),
        ("application_name", "x" * 256, "longer than 255"),
        ("application_name", "a\x00b", "control character"),
        ("application_name", "\u2060\u200b", "nobody can see"),
        ("application_name", "acme\u202efdp", "nobody can see"),
        ("application_name", "\u200d", "Give it a name."),
        ("application_name", "\u3164", "nobody can see"),
        ("application_name", "\ufdfa" * 255, "too long once"),
        ("salesforce_domain", "", "Type the host name"),
        ("salesforce_domain", "http://acme.my.salesforce.com", "Use https"),
        ("salesforce_domain", "me:pw@acme.my.salesforce.com", "user name and password"),
        ("salesforce_domain", "аcme.my.salesforce.com", "CYRILLIC"),
        ("salesforce_domain", "acme my", "space"),
        ("client_id", "", "Consumer Key"),
        ("client_id", "two words", "space"),
        ("client_id", "x" * 256, "longer than 255"),
        ("consumer_secret", "x" * 256, "longer than 255"),
        ("callback_url", "", "cannot send the browser back"),
        ("callback_url", "http://orgdesk.example.com/callback", "Use https"),
        ("callback_url", "javascript:alert(1)", "not an address"),
        ("callback_url", "https://orgdesk.example.com/#x", "from # on"),
        ("requested_scopes", 'api "quoted"', "Scopes are words"),
        ("requested_scopes", "x" * 256, "longer than 255"),
    ],
)
def test_bad_input_gets_a_sentence_beside_its_field_and_keeps_the_rest(
    app: Flask, client: StrictClient, field: str, value: str, sentence: str
) -> None:
    page = client.submit("/applications/new", **FORM | {field: value})
    assert page.status_code == 422
    error = page.text.partition(f'id="{field}-error">')[2].partition("</p>")[0]
    assert sentence in error
    for other, typed in FORM.items():
        if other not in (field, "consumer_secret", "prompt_login"):
            assert f'value="{typed}"' in page.text
    assert "Type the Consumer Secret again" in page.text
    assert count(app) == 0


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Acme", "ACME"),
        ("Ünïcorn", "ÜNÏCORN"),
        ("Straße", "STRASSE"),
        ("Ünïcorn", "U\u0308ni\u0308corn"),
        ("Acme", "\uff21\uff43\uff4d\uff45"),
    ],
)
def test_a_name_is_unique_without_regard_to_case(
    app: Flask, client: StrictClient, first: str, second: str
) -> None:
    add_application(app, application_name=first)
    page = client.submit("/applications/new", **FORM | {"application_name": second})
    assert page.status_code == 422
    assert "Another record has this name" in page.text
    assert count(app) == 1


def test_a_race_for_a_name_ends_in_one_record_and_one_form_error(app: Flask) -> None:
    start = threading.Barrier(2)
    answers: list[TestResponse] = []

    def create() -> None:
        client = browser_of(app)
        form = FORM | {"csrf_token": client.csrf()}
        start.wait()
        answers.append(client.post("/applications/new", data=form))

    threads = [threading.Thread(target=create) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answer.status_code for answer in answers) == [303, 422]
    assert count(app) == 1


def test_an_edit_with_an_empty_secret_keeps_the_stored_one(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    form = FORM | {"application_name": "Acme 2", "consumer_secret": ""}
    assert client.submit("/applications/1/edit", **form).status_code == 303
    application = load(app, 1)
    assert application.application_name == "Acme 2"
    with app.app_context():
        assert application.consumer_secret
        assert application.consumer_secret.reveal() == SECRET


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        ("acme.my.salesforce.com", "acme--uat.sandbox.my.salesforce.com", True),
        ("login.salesforce.com", "acme.my.site.com/partners", True),
        ("http://127.0.0.1:8001", "http://localhost:9000", True),
        ("sso.example.com", "sso.example.com/other", True),
        ("acme.my.salesforce.com", "acme.my.salesforce.com.evil.example", False),
        ("acme.my.salesforce.com", "http://127.0.0.1:8001", False),
        ("sso.example.com", "evil.example.com", False),
    ],
)
def test_a_stored_secret_goes_to_no_host_of_somebody_else(
    app: Flask, client: StrictClient, before: str, after: str, *, kept: bool
) -> None:
    add_application(app, salesforce_domain=before)
    form = FORM | {"salesforce_domain": after, "consumer_secret": ""}
    page = client.submit("/applications/1/edit", **form)
    assert page.status_code == (303 if kept else 422)
    if not kept:
        assert "Type the secret again" in page.text.replace("\n", " ")
        form |= {"consumer_secret": "typed-again"}
        assert client.submit("/applications/1/edit", **form).status_code == 303


@pytest.mark.parametrize("path", ["/applications/1/delete", "/callback?state=x&code=y"])
def test_a_look_at_the_headers_changes_nothing(
    app: Flask, client: StrictClient, path: str
) -> None:
    add_application(app)
    assert client.head(path).status_code in (200, 405)
    assert count(app) == 1


def test_of_two_edits_at_once_the_second_is_told_of_the_first(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    opened = re.search(r'name="changed_at"[^>]* value="([^"]+)"',
                       client.get("/applications/1/edit").text)  # fmt: skip
    assert opened
    form = FORM | {"changed_at": opened[1]}
    first = client.submit(
        "/applications/1/edit", **form | {"application_name": "First"}
    )
    assert first.status_code == 303
    second = client.submit(
        "/applications/1/edit", **form | {"application_name": "Second"}
    )
    assert second.status_code == 422
    assert "saved by somebody else" in second.text
    assert load(app, 1).application_name == "First"


def test_an_edit_may_not_take_anothers_name(app: Flask, client: StrictClient) -> None:
    add_application(app)
    add_application(app, application_name="Other")
    page = client.submit("/applications/2/edit", **FORM | {"application_name": "acme"})
    assert page.status_code == 422
    assert 'value="acme"' in page.text
    assert load(app, 2).application_name == "Other"


def test_an_edit_may_change_the_case_of_its_own_name(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    form = FORM | {"application_name": "ACME"}
    assert client.submit("/applications/1/edit", **form).status_code == 303
    assert load(app, 1).application_name == "ACME"


def test_delete_asks_by_name_and_then_does_it(app: Flask, client: StrictClient) -> None:
    add_application(app, application_name="Acme & Sons")
    assert "Delete Acme &amp; Sons?" in client.get("/applications/1/delete").text
    assert count(app) == 1
    client.submit("/applications/1/delete")
    assert count(app) == 0
    assert "Acme &amp; Sons was deleted." in client.get("/").text


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(
    "path",
    ["/applications/1", "/applications/1/edit", "/applications/1/delete",
     "/applications/1/authorization", "/applications/9223372036854775808",
     "/applications/x", "/nowhere"],
)  # fmt: skip
def test_what_is_not_there_is_a_plain_404(
    client: StrictClient, method: str, path: str
) -> None:
    answer = client.submit(path) if method == "post" else client.get(path)
    assert answer.status_code in (404, 405)
    assert "To the list" in answer.text


@pytest.mark.parametrize(
    "path",
    ["/applications/new", "/applications/1/edit", "/applications/1/delete",
     "/applications/1/authorization"],
)  # fmt: skip
def test_no_post_without_its_csrf_token(
    app: Flask, client: StrictClient, path: str
) -> None:
    add_application(app)
    page = client.post(path, data=FORM)
    assert page.status_code == 400
    assert "reload the page" in page.text
    assert load(app, 1).application_name == "Acme"


def test_a_form_that_is_too_large_is_refused(client: StrictClient) -> None:
    form = FORM | {"application_name": "x" * 70_000}
    assert client.post("/applications/new", data=form).status_code == 413


def test_the_list_takes_two_statements_and_a_record_four_after_the_sign_ins_one(
    app: Flask, client: StrictClient
) -> None:
    for number in range(30):
        add_application(app, application_name=f"Acme {number}")
    assert len(statements(client, "/")) <= 1 + 2
    assert len(statements(client, "/?q=acme&state=never_authorized&sort=name")) <= 1 + 2
    assert len(statements(client, "/applications/1")) <= 1 + 4


def test_pages_are_small(app: Flask, client: StrictClient) -> None:
    for number in range(30):
        add_application(app, application_name=f"Acme {number} {'x' * 30}")
    for path in ("/", "/applications/1"):
        assert len(gzip.compress(client.get(path).data)) < 8_000
    files = [*ROOT.glob("static/*.js"), *ROOT.glob("static/*.css")]
    assert sum(len(gzip.compress(file.read_bytes())) for file in files) < 30_000


def test_a_secret_that_no_key_opens_shows_as_unreadable(
    app: Flask, client: StrictClient, caplog: pytest.LogCaptureFixture
) -> None:
    add_application(app)
    other = create_app(
        {
            "SECRET_KEY": "tests",
            "VAULT_KEYS": (Fernet.generate_key().decode(),),
            "SQLALCHEMY_DATABASE_URI": app.config["SQLALCHEMY_DATABASE_URI"],
        }
    )
    other.test_client_class = StrictClient
    with caplog.at_level(logging.WARNING):
        page = browser_of(other).get("/applications/1")
    assert page.status_code == 200
    assert "No key of this server opens: Consumer Secret" in page.text
    assert "no key opens its Consumer Secret" in caplog.text
    assert browser_of(other).get("/").status_code == 200
    with other.app_context():
        db.engine.dispose()


def test_the_list_is_shown_while_somebody_else_writes(
    app: Flask, client: StrictClient
) -> None:
    add_application(app)
    with app.app_context():
        record = db.session.get_one(ExternalApplication, 1)
        record.state, record.expires_at = State.CONNECTED, now() - timedelta(hours=1)
        db.session.commit()
        other = db.engine.connect()
    other.exec_driver_sql("BEGIN IMMEDIATE")
    page = client.get("/?state=connected")
    other.close()
    assert page.status_code == 200
    assert client.get("/?state=expired").text.count("Acme") == 1


def test_a_database_that_does_not_answer_gets_a_page_not_a_crash(
    app: Flask, client: StrictClient
) -> None:
    with app.app_context():
        db.session.execute(db.text("DROP TABLE external_application"))
        db.session.commit()
    page = client.get("/")
    assert page.status_code == 503
    assert "The database does not answer" in page.text


def test_names_are_text_not_markup(app: Flask, client: StrictClient) -> None:
    name = "<script>alert(1)</script>"
    add_application(app, application_name=name)
    for path in ("/", "/applications/1", "/applications/1/edit"):
        assert name not in client.get(path).text
