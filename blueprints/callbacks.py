"""Callback URLs: whether a record's reaches this Orgdesk, and its mending."""

from flask import Blueprint, request, session
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

import audit
import pings
from database import db
from guard import needs
from models import Event, ExternalApplication, Role
from panel import own_callback_url
from responses import (
    NOT_THERE,
    leave_for,
    load_application,
    show_panel,
)
from sign_in import SIGN_IN

blueprint = Blueprint(
    "callbacks", __name__, url_prefix="/applications/<id:application_id>/callback-url"
)

CHANGED = (
    "The Callback URL is as it was: somebody else saved this record after this page"
    " was made. It stands here now as it is."
)


@blueprint.post("")
def update(application_id: int) -> Response:
    """Put this server's own address in its place, where nobody was faster."""
    application = ExternalApplication.locked(application_id)
    if application is None:
        raise NotFound(NOT_THERE)
    if request.form.get("changed_at") != application.changed_at.isoformat():
        db.session.rollback()
        return show_panel(load_application(application_id), sentence=CHANGED)
    application.come_back_to(own_callback_url())
    audit.record(Event.RECORD_EDITED, application, fields=["Callback URL"])
    db.session.commit()
    done = f"The Callback URL is now {application.callback_url}."
    return show_panel(application, done=done)


@blueprint.post("/ping")
@needs(Role.OPERATOR)
def ping(application_id: int) -> Response:
    """Open the Callback URL with a question that only this installation answers."""
    application = load_application(application_id)
    origin = request.host_url.rstrip("/")
    url, browser = application.callback_url, session[SIGN_IN]
    return leave_for(pings.begin(application_id, url, browser, origin))
