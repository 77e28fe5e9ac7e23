"""Secrets of a record: revealed, copied or exported, once, to an admin who asks.

The audit row is there before the secret leaves, or the secret does not leave.
And the two consumer secrets: the next one takes its place, or goes.
"""

from flask import Blueprint, render_template, request
from werkzeug.exceptions import BadRequest, Conflict, NotFound
from werkzeug.wrappers import Response

import audit
from database import db
from guard import fresh
from models import Event, ExternalApplication
from panel import panel_context
from responses import (
    NOT_THERE,
    asked_by_htmx,
    download,
    load_application,
    show_panel,
)
from vault import UnreadableSecret

blueprint = Blueprint(
    "secrets", __name__, url_prefix="/applications/<id:application_id>"
)

ACTS = {"reveal": Event.SECRET_REVEALED, "copy": Event.SECRET_COPIED}


@blueprint.post("/secret")
@fresh
def show(application_id: int) -> str:
    application = load_application(application_id)
    act, field = request.form.get("act", ""), request.form.get("field", "")
    if act not in ACTS or field not in application.SECRETS:
        raise BadRequest("There is no such secret.")
    value = application.reveal(field)
    application.note_use_of(field)
    audit.record(ACTS[act], application, secret=application.SECRETS[field])
    db.session.commit()
    region = "applications/_panel.html" if asked_by_htmx() else "applications/show.html"
    revealed = {"field": field, "value": value, "to_copy": act == "copy"}
    return render_template(region, revealed=revealed, **panel_context(application))


@blueprint.post("/consumer-secret")
def change(application_id: int) -> Response:
    """Promote or drop the next consumer secret, where nobody was faster."""
    change = CHANGES.get(request.form.get("act", ""))
    if change is None:
        raise BadRequest("A secret can be promoted or dropped.")
    application = ExternalApplication.locked(application_id)
    if application is None:
        raise NotFound(NOT_THERE)
    sentence = change(application)
    db.session.commit()
    return show_panel(application, sentence=sentence)


def _promote(application: ExternalApplication) -> str:
    if not application.can_promote:
        return (
            "There is no Next Consumer Secret any more that the org took in place of"
            " the current one."
        )
    application.promote_secret()
    audit.record(Event.SECRET_PROMOTED, application)
    return ""


def _drop(application: ExternalApplication) -> str:
    if not application.drop_next_secret():
        return "There is no Next Consumer Secret any more."
    label = application.SECRETS["next_consumer_secret"]
    audit.record(Event.RECORD_EDITED, application, fields=[label])
    return ""


CHANGES = {"promote": _promote, "drop": _drop}


@blueprint.post("/export")
@fresh
def export(application_id: int) -> Response:
    application = load_application(application_id)
    exported = application.export()
    application.note_use()
    audit.record(Event.RECORD_EXPORTED, application)
    db.session.commit()
    return download(application, exported, "json")


@blueprint.errorhandler(UnreadableSecret)
def unreadable(_: UnreadableSecret) -> tuple[str, int]:
    problem = Conflict("No key of this server opens this secret.")
    return render_template("error.html", error=problem), Conflict.code
