"""Secrets of a record: revealed, copied or exported, once, to an admin who asks.

The audit row is there before the secret leaves, or the secret does not leave.
"""

from flask import Blueprint, make_response, render_template, request
from werkzeug.exceptions import BadRequest, Conflict
from werkzeug.wrappers import Response

import audit
from database import db
from guard import fresh
from models import Event
from responses import asked_by_htmx, load_application, panel_context
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
    audit.record(ACTS[act], application, secret=application.SECRETS[field])
    db.session.commit()
    region = "applications/_panel.html" if asked_by_htmx() else "applications/show.html"
    revealed = {"field": field, "value": value, "to_copy": act == "copy"}
    return render_template(region, revealed=revealed, **panel_context(application))


@blueprint.post("/export")
@fresh
def export(application_id: int) -> Response:
    application = load_application(application_id)
    exported = application.export()
    audit.record(Event.RECORD_EXPORTED, application)
    db.session.commit()
    response = make_response(exported)
    response.headers["Content-Disposition"] = (
        f'attachment; filename="external-application-{application_id}.json"'
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.errorhandler(UnreadableSecret)
def unreadable(_: UnreadableSecret) -> tuple[str, int]:
    problem = Conflict("No key of this server opens this secret.")
    return render_template("error.html", error=problem), Conflict.code
