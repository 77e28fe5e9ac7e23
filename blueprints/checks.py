"""Checks: testing a connection, one step a request, so that each shows at once.

What the steps before have found travels with the browser, signed. Without
JavaScript one request takes all steps.
"""

from collections.abc import Sequence

from flask import Blueprint, make_response, render_template, request, session
from itsdangerous import BadData
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

import audit
from database import db
from engine import checks
from engine.checks import Check, Step
from guard import needs
from models import Event, ExternalApplication, Role
from responses import asked_by_htmx, load_application
from sign_in import SIGN_IN
from signed import mark_of, signer

blueprint = Blueprint(
    "checks", __name__, url_prefix="/applications/<id:application_id>/checks"
)

LIVES = 300
"""Seconds from one step to the next: more than any can take."""
OVER = "This test is over, or was not begun here. Press Test connection again."


@blueprint.get("")
@needs(Role.OPERATOR)
def show(application_id: int) -> str:
    application = load_application(application_id)
    return render_template("checks/show.html", application=application)


@blueprint.post("")
@needs(Role.OPERATOR)
def create(application_id: int) -> Response:
    """Take the first step for htmx, and all for a plain browser."""
    application = load_application(application_id)
    if asked_by_htmx():
        return _answer("checks/_steps.html", application, [])
    found = checks.run(application)
    _record(application, found)
    page = render_template("checks/show.html", application=application, checks=found)
    return make_response(page)


@blueprint.post("/next")
@needs(Role.OPERATOR)
def go_on(application_id: int) -> Response:
    application = load_application(application_id)
    return _answer("checks/_next.html", application, _done(application_id))


def _answer(
    template: str, application: ExternalApplication, done: list[Check]
) -> Response:
    """Take a step, and answer with it and with what asks for the next one."""
    more = checks.go_on(application, done)
    done = [*done, *more]
    pending = next(iter(list(Step)[len(done) :]), None)
    if pending is None:
        _record(application, done)
    context = {"checks": more, "pending": pending, "word": _word(application.id, done)}
    page = render_template(template, application=application, **context)
    return make_response(page)


def _record(application: ExternalApplication, found: Sequence[Check]) -> None:
    outcomes = [f"{check.step} {check.outcome}" for check in found]
    audit.record(Event.CONNECTION_TESTED, application, steps=outcomes)
    db.session.commit()


def _word(application_id: int, done: Sequence[Check]) -> str:
    """Sign what was found, without what is on the page already."""
    found = [check._replace(sentence="", action=None) for check in done]
    mark = mark_of(session[SIGN_IN])
    return str(signer("checks").dumps([application_id, mark, found]))


def _done(application_id: int) -> list[Check]:
    """Read what this browser's test of this record has found; the rest is refused."""
    try:
        word = signer("checks").loads(request.form.get("done", ""), max_age=LIVES)
    except BadData:
        raise BadRequest(OVER) from None
    known, mark, found = word
    if (known, mark) != (application_id, mark_of(session[SIGN_IN])):
        raise BadRequest(OVER)
    return [Check(Step(step), *rest) for step, *rest in found]
