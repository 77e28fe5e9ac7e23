"""The panic switch: what it ends, what it keeps, and who may turn it."""

import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select

import engine
from database import db, now, tick
from models import (
    WORK_LEASE,
    AuditEvent,
    Event,
    ExternalApplication,
    Panic,
    PanicRevocation,
    Progress,
    Role,
    Scope,
    block_on,
)
from practice_org import CLIENT_ID, CONSUMER_SECRET
from tests.conftest import StrictClient, add_application, browser_of, come_back, load
from tests.fleet import Fleet, fleet, until
from tests.servers import PracticeOrg, free_port, practice_org
from tests.test_applications import statements
from tests.test_audit import trail
from tests.wire import Request, answer, serving
from vault import Sealed, seal

NEW = "/panics/new"
WORD = "REVOKE"


@pytest.fixture
def living(app: Flask, client: StrictClient, org: PracticeOrg) -> list[int]:
    """Three records with a login at the practice org each."""
    ids = []
    for number in range(3):
        record = add_application(
            app,
            application_name=f"Living {number}",
            salesforce_domain=org.address,
            client_id=CLIENT_ID,
            consumer_secret=CONSUMER_SECRET,
            requested_scopes="api refresh_token id",
        )
        url = client.submit(f"/applications/{record}/authorization").location
        assert come_back(client, org.log_in(url)).status_code == 303
        ids.append(record)
    return ids


@pytest.fixture
def dead(app: Flask) -> list[int]:
    """Two records with tokens of orgs that are not there."""
    return [with_tokens(app, f"Dead {at}", free_port()) for at in range(2)]


def with_tokens(app: Flask, name: str, port: int) -> int:
    """Add a record of this machine, with a grant; return its id."""
    domain = f"http://127.0.0.1:{port}"
    record = add_application(app, application_name=name, salesforce_domain=domain)
    with app.app_context():
        application = db.session.get_one(ExternalApplication, record)
        application.refresh_token = seal(f"5Aep-of-{name}")
        application.access_token = seal(f"00D-of-{name}")
        db.session.commit()
    return record


def press(client: StrictClient, ids: list[int], reason: str = "") -> int:
    """Turn the switch for these records, or all; return the panic's id."""
    what = {"application": ids} if ids else {"scope": "all"}
    answered = client.submit("/panics", word=WORD, reason=reason, **what)
    assert answered.status_code == 303
    return int(answered.location.rpartition("/")[2])


def wait(app: Flask, panic_id: int) -> dict[str, PanicRevocation]:
    """Wait until nobody is at it any more; return its rows by the records' names."""
    until(lambda: _is_still(app, panic_id))
    return rows(app, panic_id)


def watch(
    client: StrictClient, app: Flask, panic_id: int
) -> dict[str, PanicRevocation]:
    """Look at its page as a browser does, until nobody is at it any more."""
    page = f"/panics/{panic_id}"
    until(lambda: client.get(page).text and _is_still(app, panic_id))
    return rows(app, panic_id)


def _is_still(app: Flask, panic_id: int) -> bool:
    with app.app_context():
        panic = db.session.get_one(Panic, panic_id)
        pending = select(func.count()).where(
            PanicRevocation.panic_id == panic_id,
            PanicRevocation.progress == Progress.PENDING,
        )
        return panic.lease_ends == 0 and not db.session.scalar(pending)


def rows(app: Flask, panic_id: int) -> dict[str, PanicRevocation]:
    with app.app_context():
        found = db.session.scalars(
            select(PanicRevocation).filter_by(panic_id=panic_id)
        ).all()
        db.session.expunge_all()
        return {row.application_name: row for row in found}


def outcomes(found: dict[str, PanicRevocation]) -> dict[str, str]:
    return {name: row.progress.value for name, row in found.items()}


def told(app: Flask, event: Event) -> list[AuditEvent]:
    return [row for row in trail(app) if row.event == event]


def test_two_of_five_orgs_are_away_and_their_rows_say_so(
    app: Flask,
    client: StrictClient,
    org: PracticeOrg,
    living: list[int],
    dead: list[int],
) -> None:
    panic = press(client, [*living, *dead], "the vendor was broken into")
    found = wait(app, panic)
    assert outcomes(found) == {
        "Living 0": "revoked",
        "Living 1": "revoked",
        "Living 2": "revoked",
        "Dead 0": "failed",
        "Dead 1": "failed",
    }
    assert org.state()["live_approvals"]["admin@practice.example"] == 0
    assert [one["status"] for one in org.requests_of("/revoke")][-3:] == [200] * 3
    page = client.get(f"/panics/{panic}").text
    assert "5 of 5 done, 2 failed" in page
    assert "the vendor was broken into" in page
    assert page.index("Dead 0") < page.index("Living 0")
    assert "The host could not be reached." in str(found["Dead 1"].sentence)
    assert not load(app, living[0]).holds_tokens


def test_what_failed_is_kept_sealed_and_tried_again(app: Flask) -> None:
    with serving() as server:
        server.script = [answer({"error": "x"}, "503 Service Unavailable")] * 2
        record = with_tokens(app, "Acme", server.port)
        client = browser_of(app)
        panic = press(client, [record])
        assert outcomes(wait(app, panic)) == {"Acme": "failed"}
        with app.app_context():
            kept = db.session.get_one(ExternalApplication, record).refresh_token
            assert kept
            assert kept.ciphertext.startswith("gAAAA")
            assert kept.reveal() == "5Aep-of-Acme"
        assert "Try the failed again" in client.get(f"/panics/{panic}").text
        server.script = [answer()]
        assert client.submit(f"/panics/{panic}/retry").status_code == 303
        row = wait(app, panic)["Acme"]
    assert (row.progress, row.tries) == (Progress.REVOKED, 2)
    assert not load(app, record).holds_tokens
    assert told(app, Event.PANIC_RETRIED)[0].detail == '{"records":1}'


def test_the_switch_for_all_takes_what_has_tokens_and_blocks_the_rest(
    app: Flask, client: StrictClient, living: list[int]
) -> None:
    empty = add_application(app, application_name="Empty")
    panic = press(client, [])
    assert set(wait(app, panic)) == {"Living 0", "Living 1", "Living 2"}
    later = add_application(app, application_name="Later")
    with app.app_context():
        for record in (empty, later, *living):
            blocked = block_on(record)
            assert blocked
            assert blocked.id == panic


def test_a_record_without_tokens_is_blocked_where_it_was_selected(
    app: Flask, client: StrictClient
) -> None:
    empty, other = add_application(app), add_application(app, application_name="Other")
    panic = press(client, [empty])
    row = wait(app, panic)["Acme"]
    assert (row.progress, row.sentence) == (
        Progress.GONE,
        "There was no token to revoke.",
    )
    with app.app_context():
        assert block_on(empty)
        assert block_on(other) is None


def test_who_did_what_is_in_the_trail(
    app: Flask, client: StrictClient, living: list[int], dead: list[int]
) -> None:
    panic = press(client, [living[0], dead[0]], "stolen laptop")
    wait(app, panic)
    client.submit(f"/panics/{panic}/lifting")
    (started,) = told(app, Event.PANIC_STARTED)
    assert started.subject == f"Panic {panic}"
    assert started.actor == "admin@orgdesk.example"
    assert started.detail == '{"reason":"stolen laptop","records":2,"scope":"selected"}'
    revoked = told(app, Event.TOKEN_REVOKED)
    assert {row.actor for row in revoked} == {"admin@orgdesk.example"}
    assert all(f'"reason":"Panic {panic}"' in row.detail for row in revoked)
    (lifted,) = told(app, Event.PANIC_LIFTED)
    assert lifted.actor == "admin@orgdesk.example"
    assert lifted.detail == '{"failed":1,"not_tried":0}'


# --- rows that end otherwise -----------------------------------------------


def test_tokens_that_no_key_opens_are_said_to_live_on(app: Flask) -> None:
    record = with_tokens(app, "Locked", free_port())
    with app.app_context():
        application = db.session.get_one(ExternalApplication, record)
        application.refresh_token = Sealed("gAAAAABfromAnotherKey")
        application.access_token = None
        db.session.commit()
    row = wait(app, press(browser_of(app), [record]))["Locked"]
    assert row.progress is Progress.FAILED
    assert "No key of this server opened them" in str(row.sentence)


def test_a_record_that_was_deleted_meanwhile_says_so(
    app: Flask, dead: list[int]
) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead, "").id
        db.session.get_one(ExternalApplication, dead[0]).remove()
        db.session.commit()
        assert engine.run_panic(panic)
    found = rows(app, panic)
    assert outcomes(found) == {"Dead 0": "failed", "Dead 1": "failed"}
    assert "deleted, and its tokens are not known to be" in str(
        found["Dead 0"].sentence
    )
    assert "Dead 0" in browser_of(app).get(f"/panics/{panic}").text


def test_a_record_that_is_deleted_while_its_org_is_asked(app: Flask) -> None:
    with serving() as server:
        record = with_tokens(app, "Acme", server.port)

        def delete(line: object, _: object) -> None:
            with app.app_context():
                db.session.get_one(ExternalApplication, record).remove()
                db.session.commit()

        server.script = [delete]
        found = wait(app, press(browser_of(app), [record]))
    assert outcomes(found) == {"Acme": "failed"}


@pytest.mark.parametrize("failed", [False, True])
def test_tokens_that_another_way_ended_first_are_revoked(
    app: Flask, client: StrictClient, failed: bool
) -> None:
    busy = answer({"error": "x"}, "503 Service Unavailable")
    with serving() as server:
        record = with_tokens(app, "Acme", server.port)
        with app.app_context():
            panic = engine.start_panic(Scope.SELECTED, [record], "").id
            if failed:
                server.script = [busy, busy]
                assert engine.run_panic(panic)
        server.script = [answer()] * 4
        client.submit(f"/applications/{record}/delete", revoke="y")
        client.submit(f"/panics/{panic}/retry")
        assert outcomes(wait(app, panic)) == {"Acme": "revoked"}
    assert "Nothing of it lives on" in client.get(f"/panics/{panic}").text


@pytest.mark.parametrize("act", ["revocation", "delete"])
@pytest.mark.parametrize("failed", [False, True])
def test_tokens_that_another_way_let_go_of_may_live_on(
    app: Flask, client: StrictClient, dead: list[int], failed: bool, act: str
) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead[:1], "").id
        if failed:
            assert engine.run_panic(panic)
    client.submit(f"/applications/{dead[0]}/{act}")
    for _ in range(2):
        client.submit(f"/panics/{panic}/retry")
        row = watch(client, app, panic)["Dead 0"]
        assert row.progress is Progress.FAILED
        assert re.search("may (live on|still work)", str(row.sentence))
    page = client.get(f"/panics/{panic}").text
    assert "Nothing of it lives on" not in page
    assert "What failed may live on at the orgs" in page


def test_a_row_that_failed_is_not_called_empty_later(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    panic = press(client, dead[:1])
    wait(app, panic)
    with app.app_context():
        application = db.session.get_one(ExternalApplication, dead[0])
        application.forget_tokens()
        db.session.commit()
    client.submit(f"/panics/{panic}/retry")
    row = wait(app, panic)["Dead 0"]
    assert (row.progress, row.tries) == (Progress.FAILED, 2)
    assert "Nothing is stored any more" in str(row.sentence)


def test_a_row_of_a_panic_that_was_lifted_stays_as_it_was(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    panic = press(client, dead[:1])
    before = wait(app, panic)["Dead 0"].sentence
    client.submit(f"/panics/{panic}/lifting")
    client.submit(f"/applications/{dead[0]}/delete")
    assert rows(app, panic)["Dead 0"].sentence == before


def test_what_an_org_sends_back_is_shown_without_the_tokens(app: Flask) -> None:
    said = {"error": "x", "error_description": "<i>5Aep-of-Acme 00D-of-Acme</i>"}
    with serving() as server:
        server.script = [answer(said, "400 Bad Request")] * 2
        record = with_tokens(app, "Acme", server.port)
        client = browser_of(app)
        panic = press(client, [record])
        row = wait(app, panic)["Acme"]
    assert row.progress is Progress.FAILED
    page = client.get(f"/panics/{panic}").text
    assert "<i>" not in page
    for text in (str(row.sentence), page):
        assert "5Aep-of" not in text
        assert "00D-of" not in text


def test_a_failure_of_ours_is_a_row_that_failed(
    app: Flask, dead: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    with app.app_context():
        application = db.session.get_one(ExternalApplication, dead[0])
        application.refresh_token_domain = "no domain at all"
        db.session.commit()
    row = wait(app, press(browser_of(app), dead[:1]))["Dead 0"]
    assert row.progress is Progress.FAILED
    assert row.sentence == "Orgdesk failed at it. Its log says why."
    assert "DomainError" in caplog.text


def test_a_token_that_came_just_then_is_found(app: Flask, dead: list[int]) -> None:
    with app.app_context():
        empty = add_application(app, application_name="Empty")
        panic = engine.start_panic(Scope.ALL, [], "").id
        assert "Empty" not in rows(app, panic)
        db.session.get_one(ExternalApplication, empty).access_token = seal("00D")
        db.session.commit()
        engine.run_panic(panic)
    assert "Empty" in rows(app, panic)


# --- the pages -------------------------------------------------------------


def test_the_question_names_what_is_chosen(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    page = client.get(f"{NEW}?application={dead[0]}&application={dead[1]}").text
    assert "<h1>Revoke 2 records?</h1>" in page
    assert "Dead 0" in page
    assert "Dead 1" in page
    assert client.get(f"{NEW}?application={dead[0]}").text.count("Dead 0") == 2
    for number in range(30):
        add_application(app, application_name=f"More {number:02}")
    page = client.get(f"{NEW}?scope=all").text
    assert "All 32 records, by name" in page
    assert "and 7 more" in page
    assert "More 22" in page
    assert "More 23" not in page


@pytest.mark.parametrize(
    "query", ["", "?application=4711", "?application=x&application=99999999999"]
)
def test_where_nothing_is_selected_the_page_says_so(
    client: StrictClient, query: str
) -> None:
    assert "No record is selected" in client.get(NEW + query).text


def test_more_than_an_address_takes_is_refused(client: StrictClient) -> None:
    many = "&".join(f"application={number}" for number in range(1, 502))
    page = client.get(f"{NEW}?{many}")
    assert page.status_code == 400
    assert "At most 500 records" in page.text


@pytest.mark.parametrize("word", ["", "revoke", "REVOKE ", "REVOKED"])
def test_without_the_word_nothing_is_done_and_all_is_kept(
    app: Flask, client: StrictClient, dead: list[int], word: str
) -> None:
    answered = client.submit(
        "/panics", application=dead, reason="<b>because</b>", word=word
    )
    assert answered.status_code == 422
    assert "Type REVOKE, in capitals, to go on." in answered.text
    assert "&lt;b&gt;because&lt;/b&gt;" in answered.text
    for record in dead:
        assert f'name="application" value="{record}"' in answered.text
    with app.app_context():
        assert db.session.scalar(select(func.count(Panic.id))) == 0


def test_a_reason_that_is_too_long_is_refused(
    client: StrictClient, dead: list[int]
) -> None:
    form = {"application": dead, "word": WORD, "reason": "x" * 256}
    answered = client.submit("/panics", **form)
    assert answered.status_code == 422
    assert "at most 255" in answered.text


POSTS = ("/panics", "/panics/1/retry", "/panics/1/lifting")


@pytest.mark.parametrize("path", POSTS)
def test_a_sign_in_of_long_ago_has_to_be_confirmed(
    app: Flask, client: StrictClient, dead: list[int], path: str
) -> None:
    panic = press(client, dead[:1])
    wait(app, panic)
    with client.session_transaction() as session:
        session["fs_paa"] = 0
    answered = client.submit(path, application=dead[1:], word=WORD)
    assert answered.location.startswith("/sign-in/confirm")
    asked = client.get(f"{NEW}?application={dead[1]}")
    assert asked.location == f"/sign-in/confirm?next={NEW}?application%3D{dead[1]}"
    with app.app_context():
        assert db.session.scalar(select(func.count(Panic.id))) == 1
        assert db.session.get_one(Panic, panic).is_open


def test_the_block_is_lifted_by_a_button_that_says_what_lives_on(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    panic = press(client, dead)
    wait(app, panic)
    page = client.get(f"/panics/{panic}/lifting").text
    assert "The tokens of 2 records may still live at the orgs." in page
    for _ in range(2):
        assert client.submit(f"/panics/{panic}/lifting").status_code == 303
    page = client.get(f"/panics/{panic}").text
    assert "The block was lifted" in page
    assert "Try the failed again" not in page
    assert len(told(app, Event.PANIC_LIFTED)) == 1
    with app.app_context():
        assert block_on(dead[0]) is None
        assert engine.retry_panic(db.session.get_one(Panic, panic)) == 0
    assert "was lifted already" in client.get(f"/panics/{panic}/lifting").text


def test_what_waits_is_left_alone_once_the_block_is_lifted(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead, "")
        assert engine.lift_panic(panic)
        assert not engine.run_panic(panic.id)
        number = panic.id
    page = client.get(f"/panics/{number}").text
    assert page.count("Not tried") == 2
    assert "hx-trigger" not in page


def test_a_panic_that_is_lifted_half_way_stops_there(app: Flask) -> None:
    gate = threading.Event()

    def held(line: socket.socket, _: Request) -> None:
        gate.wait(10)
        line.sendall(answer())

    with serving() as server:
        server.script = [held] * 20
        ids = [with_tokens(app, f"Acme {at:02}", server.port) for at in range(12)]
        client = browser_of(app)
        panic = press(client, ids)
        until(lambda: len(server.requests) == 8)
        client.submit(f"/panics/{panic}/lifting")
        gate.set()
        until(lambda: lease_of(app, panic) == 0)
        assert len(server.requests) == 8
    assert Counter(outcomes(rows(app, panic)).values()) == {"revoked": 8, "pending": 4}
    assert told(app, Event.PANIC_LIFTED)[0].detail == '{"failed":0,"not_tried":12}'


def lease_of(app: Flask, panic_id: int) -> float:
    with app.app_context():
        return db.session.get_one(Panic, panic_id).lease_ends


def test_the_region_asks_for_itself_while_rows_wait(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead, "")
        panic.lease_ends = tick() + WORK_LEASE  # another process is at it
        db.session.commit()
        number = panic.id
    page = client.get(f"/panics/{number}").text
    assert f'hx-get="/panics/{number}" hx-trigger="every 2s"' in page
    assert '<progress max="2" value="0"' in page
    assert ">Reload</a>" in page
    region = client.get(f"/panics/{number}", headers={"HX-Request": "true"}).text
    assert region.startswith('<section id="panic-progress"')
    assert region.strip() in page
    with app.app_context():
        db.session.get_one(Panic, number).lease_ends = 0.0
        db.session.commit()
    client.get(f"/panics/{number}", headers={"HX-Request": "true"})
    wait(app, number)  # whoever looks has it go on
    assert "hx-trigger" not in client.get(f"/panics/{number}").text


def test_rows_are_paged_with_what_failed_first(
    app: Flask, client: StrictClient
) -> None:
    with app.app_context():
        panic = Panic(scope=Scope.ALL, reason="", started_by="ada", lifted_at=now())
        db.session.add(panic)
        db.session.flush()
        for at in range(60):
            progress = list(Progress)[at % 4]
            db.session.add(
                PanicRevocation(
                    panic_id=panic.id,
                    application_name=f"Row {at:02}",
                    salesforce_domain="acme.my.salesforce.com",
                    progress=progress,
                )
            )
        db.session.commit()
        address = f"/panics/{panic.id}"
    seen, order = list[str](), list[str]()
    path = address
    while path:
        page = client.get(path).text
        seen += re.findall(r"Row \d\d", page)
        order += re.findall(r"</span> (Failed|Not tried|Revoked|Nothing)", page)
        step = re.search(r'href="([^"]+)">Next</a>', page)
        path = step[1] if step else ""
    assert len(seen) == len(set(seen)) == 60
    assert list(dict.fromkeys(order)) == ["Failed", "Not tried", "Revoked", "Nothing"]
    for nonsense in ("x", "failed-x", "failed-99999999999", "-1", "gone-2147483647"):
        assert client.get(f"{address}?after={nonsense}").status_code == 200


def test_all_panics_are_listed_the_open_ones_first(
    app: Flask, client: StrictClient
) -> None:
    assert "There was no panic yet." in client.get("/panics").text
    with app.app_context():
        for number in range(1, 41):
            lifted = None if number == 3 else now()
            db.session.add(
                Panic(
                    scope=Scope.SELECTED,
                    reason=f"reason {number}",
                    started_by="ada",
                    lifted_at=lifted,
                    lifted_by="bob",
                )
            )
        db.session.commit()
    page = client.get("/panics").text
    shown = [int(number) for number in re.findall(r">Panic (\d+)</a></th>", page)]
    assert shown == [3, *range(40, 15, -1)]
    older = client.get("/panics?before=16").text
    assert ">Panic 15</a>" in older
    assert client.get("/panics/4711").status_code == 404


# --- the banner ------------------------------------------------------------


def test_everybody_sees_what_is_blocked_and_admins_where(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    viewer = browser_of(app, "viewer@orgdesk.example", Role.VIEWER)
    assert "Refreshes are blocked" not in viewer.get("/").text
    first = press(client, dead)
    wait(app, first)
    for page in (viewer.get("/").text, viewer.get("/nowhere").text):
        assert "Refreshes are blocked for 2 records</strong>" in page
        assert "by admin@orgdesk.example" in page
        assert f"/panics/{first}" not in page
    assert f'href="/panics/{first}"' in client.get("/").text
    wait(app, press(client, []))
    assert "Refreshes are blocked for all records" in viewer.get("/").text
    assert "for 2 records" not in viewer.get("/").text


def test_the_banner_takes_no_statement_or_one(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    before = len(statements(client, "/"))
    wait(app, press(client, dead))
    assert len(statements(client, "/")) == before + 1


def test_any_page_has_the_work_go_on(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead, "").id
    browser_of(app, "viewer@orgdesk.example", Role.VIEWER).get("/")
    assert outcomes(wait(app, panic)) == {"Dead 0": "failed", "Dead 1": "failed"}
    assert {row.actor for row in told(app, Event.TOKEN_REVOKED)} != {
        "viewer@orgdesk.example"
    }


# --- two at once -----------------------------------------------------------


def test_who_presses_twice_begins_one(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    first = press(client, dead)
    assert press(client, dead) == press(client, dead[:1]) == first
    everything = press(client, [])
    assert press(client, []) == everything != first
    wait(app, first)
    wait(app, everything)
    client.submit(f"/panics/{first}/lifting")
    again = press(client, dead)
    assert again > everything
    wait(app, again)


def press_at_once(app: Flask) -> set[int]:
    """Have four admins turn the switch for all at once; return the panics' ids."""
    browsers = [browser_of(app, f"{at}@orgdesk.example") for at in range(4)]
    tokens = [browser.csrf() for browser in browsers]
    start, places = threading.Barrier(4), list[str]()

    def turn(at: int) -> None:
        form = {"csrf_token": tokens[at], "scope": "all", "word": WORD}
        start.wait()
        places.append(browsers[at].post("/panics", data=form).location)

    threads = [threading.Thread(target=turn, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {int(place.rpartition("/")[2]) for place in places}


def test_four_admins_at_once_begin_one(app: Flask, dead: list[int]) -> None:
    (panic,) = press_at_once(app)
    assert len(told(app, Event.PANIC_STARTED)) == 1
    assert [row.tries for row in wait(app, panic).values()] == [1, 1]


def test_one_process_at_a_time_works_at_it(app: Flask, dead: list[int]) -> None:
    with app.app_context():
        panic = engine.start_panic(Scope.SELECTED, dead, "")
        panic.lease_ends = tick() + WORK_LEASE
        db.session.commit()
        assert not engine.run_panic(panic.id)
        panic.lease_ends = tick() + 10 * WORK_LEASE  # of a clock that began anew
        db.session.commit()
        assert engine.run_panic(panic.id)
        assert panic.lease_ends == 0


# --- the shell -------------------------------------------------------------


def shell(app: Flask, *words: str) -> tuple[int, str]:
    result = app.test_cli_runner().invoke(args=["panic", *words])
    return result.exit_code, result.output


def test_the_shell_says_finishes_and_lifts(app: Flask) -> None:
    assert shell(app, "status") == (0, "No panic is open: nothing is blocked.\n")
    with serving() as server, app.app_context():
        record = with_tokens(app, "Acme", server.port)
        panic = engine.start_panic(Scope.SELECTED, [record], "").id
        server.script = [answer({"error": "x"}, "503 Service Unavailable")] * 2
        code, said = shell(app, "run")
        assert code == 1
        assert said.splitlines()[0].startswith("Acme  failed  The tokens are kept.")
        assert "1 failed, 0 waiting" in shell(app, "status")[1]
        server.script = [answer()]
        code, said = shell(app, "run", str(panic), "--failed")
        assert code == 0
        assert said.splitlines()[0].startswith("Acme  revoked  ")
        assert "5Aep" not in said
    code, said = shell(app, "lift", str(panic))
    assert (code, said.partition("  ")[2][:6]) == (0, "lifted")
    assert shell(app, "lift", str(panic))[0] == 1
    assert told(app, Event.PANIC_LIFTED)[0].actor.startswith("command line")


# --- killed half-way -------------------------------------------------------


@pytest.fixture
def ship(tmp_path: Path) -> Iterator[Fleet]:
    port = free_port()
    with (
        practice_org(f"http://127.0.0.1:{port}/callback") as org,
        fleet(tmp_path, org) as made,
    ):
        made.start(1, port)
        yield made


def test_a_process_that_is_killed_half_way_loses_nothing(ship: Fleet) -> None:
    browser = ship.browser()
    records = ship.add_records(3, browser)
    ship.relay.hold("/revoke")
    form = {"csrf_token": browser.token, "scope": "all", "word": WORD}
    answered = browser.session.post(f"{browser.address}/panics", data=form, timeout=9)
    panic = answered.url.rpartition("/")[2]
    until(lambda: ship.relay.asked.count("/services/oauth2/revoke") == 3)
    ship.kill_workers()
    ship.relay.release()
    assert "0 of 3 done" in browser.page(f"/panics/{panic}")
    assert all(ship.record(record).refresh_token for record in records)
    with ship.app.app_context():  # a lease is long: let it be over
        db.session.get_one(Panic, int(panic)).lease_ends = tick() - 1
        db.session.commit()
    until(lambda: "3 of 3 done, 0 failed" in browser.page(f"/panics/{panic}"))
    assert not any(ship.record(record).holds_tokens for record in records)


# --- the list --------------------------------------------------------------


def test_admins_select_records_in_the_list_and_others_do_not(
    app: Flask, client: StrictClient, dead: list[int]
) -> None:
    page = client.get("/").text
    for record in dead:
        assert f'name="application" value="{record}" form="selection"' in page
    assert f'aria-labelledby="record-{dead[1]}"' in page
    assert '<form class="selection" id="selection" method="get"' in page
    operator = browser_of(app, "operator@orgdesk.example", Role.OPERATOR)
    assert "selection" not in operator.get("/").text
