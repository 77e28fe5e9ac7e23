"""Authorizations: the click that gets a token, and the org's way back."""

import secrets

from flask import (
    Blueprint,
    abort,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response

import engine
from models import ExternalApplication, db
from responses import SEE_OTHER, leave_for, show_panel

blueprint = Blueprint("authorizations", __name__)

BAD_REQUEST = 400
BROWSER_BYTES = 32


@blueprint.post("/applications/<id:application_id>/authorization")
def create(application_id: int) -> Response:
    application = db.get_or_404(
        ExternalApplication, application_id, description=engine.GONE
    )
    browser = session.setdefault("browser", secrets.token_urlsafe(BROWSER_BYTES))
    outcome = engine.get_token(application, browser)
    if outcome.login_url:
        return leave_for(outcome.login_url)
    return show_panel(application)


@blueprint.get("/callback")
def callback() -> Response:
    if request.method == "HEAD":  # Flask routes it here; it must not use a login up
        abort(405)
    application = engine.finish_login(request.args, session.get("browser", ""))
    if application.last_error is None:
        flash("Logged in: a new access token is stored.")
    return redirect(
        url_for("applications.show", application_id=application.id), SEE_OTHER
    )


@blueprint.errorhandler(engine.LoginRefused)
def refused(error: engine.LoginRefused) -> tuple[str, int]:
    return render_template("authorizations/refused.html", error=error), BAD_REQUEST
