"""Held tokens: an operator may drop one, an admin decides what else becomes of it."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

import engine
from forms import SaveAsForm
from guard import needs
from models import HeldToken, Role
from responses import SEE_OTHER, UNPROCESSABLE, load_application, show_panel

blueprint = Blueprint(
    "holds", __name__, url_prefix="/applications/<id:application_id>/held-token"
)

View = str | Response | tuple[str, int]


@blueprint.post("/rejection")
@needs(Role.OPERATOR)
def reject(application_id: int) -> View:
    sentence = engine.reject_held(application_id, _mark())
    return show_panel(load_application(application_id), done=sentence)


@blueprint.post("/acceptance")
def take(application_id: int) -> View:
    sentence = engine.take_held(application_id, _mark())
    return show_panel(load_application(application_id), done=sentence)


@blueprint.route("/record", methods=["GET", "POST"])
def save(application_id: int) -> View:
    application = load_application(application_id)
    held = HeldToken.of(application_id)
    if held is None:
        raise engine.NotDecided(engine.NOTHING_HELD)
    name = held.suggested_name(application.application_name)
    form = SaveAsForm(data={"application_name": name})
    if form.validate_on_submit():
        try:
            another = engine.save_held_as(
                application_id, _mark(), str(form.application_name.data)
            )
        except engine.NameTaken:
            form.refuse_name()
        else:
            flash(f"The held token is that of {another.application_name} now.")
            return redirect(
                url_for("applications.show", application_id=another.id), SEE_OTHER
            )
    page = render_template(
        "holds/save.html", application=application, held=held, form=form
    )
    return page, UNPROCESSABLE if form.is_submitted() else 200


def _mark() -> str:
    """Return which token it was that was looked at."""
    return request.form.get("held", "")


@blueprint.errorhandler(engine.NotDecided)
def not_decided(error: engine.NotDecided) -> Response:
    application = load_application((request.view_args or {})["application_id"])
    return show_panel(application, sentence=str(error))
