"""Authorizations: the click that gets a token, and the org's way back."""

from flask import (
    Blueprint,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.wrappers import Response

import engine
import pings
from guard import needs, open_when
from models import Role
from responses import (
    SEE_OTHER,
    leave_for,
    load_application,
    show_panel,
)
from sign_in import SIGN_IN

blueprint = Blueprint("authorizations", __name__)

BAD_REQUEST = 400


@blueprint.post("/applications/<id:application_id>/authorization")
@needs(Role.OPERATOR)
def create(application_id: int) -> Response:
    application = load_application(application_id)
    result = engine.get_token(
        application,
        session[SIGN_IN],
        log_in="log_in" in request.form,
        insist="insist" in request.form,
    )
    if result.login_url:
        return leave_for(result.login_url)
    return show_panel(application, result)


@blueprint.get("/callback")
@open_when(lambda: pings.is_ping(request.args))
@needs(Role.OPERATOR)
def callback() -> Response:
    if request.method == "HEAD":  # Flask routes it here; it must not use a login up
        raise MethodNotAllowed(["GET"])
    if pings.is_ping(request.args):
        return _answer_ping()
    application, result = engine.finish_login(request.args, session[SIGN_IN])
    if result.stored:
        flash("Logged in: a new access token is stored.")
    return redirect(
        url_for("applications.show", application_id=application.id), SEE_OTHER
    )


def _answer_ping() -> Response:
    """Send the browser back to where it came from: this address reaches us."""
    origin, record, word = pings.answer(request.args["ping"], request.base_url)
    path = url_for("applications.show", application_id=record, reached=word)
    return redirect(f"{origin}{path}#callback-doctor", SEE_OTHER)


@blueprint.errorhandler(pings.PingRefused)
def not_ours(error: pings.PingRefused) -> tuple[str, int]:
    return render_template("authorizations/ping.html", error=error), BAD_REQUEST


@blueprint.errorhandler(engine.LoginRefused)
def refused(error: engine.LoginRefused) -> tuple[str, int]:
    return render_template("authorizations/refused.html", error=error), BAD_REQUEST
