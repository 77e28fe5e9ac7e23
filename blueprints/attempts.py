"""Attempts: a record's history, a page at a time."""

from flask import Blueprint, render_template, request

import engine
from guard import needs
from history import get_page, place
from models import Role
from responses import asked_by_htmx, load_application

blueprint = Blueprint("attempts", __name__)


@blueprint.get("/applications/<id:application_id>/attempts")
@needs(Role.VIEWER)
def index(application_id: int) -> str:
    application = load_application(application_id)
    engine.settle(application_id)
    page = get_page(application_id, place(request.args))
    region = "attempts/_history.html" if asked_by_htmx() else "attempts/index.html"
    return render_template(region, application=application, history=page)
