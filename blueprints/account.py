"""One's own account: what it signs in with, and where it is signed in."""

from flask import Blueprint, flash, redirect, render_template, url_for
from flask_login import current_user, logout_user
from werkzeug.wrappers import Response

import audit
import sign_in
from database import db
from guard import needs
from models import Event, Role
from responses import SEE_OTHER

blueprint = Blueprint("account", __name__, url_prefix="/account")


@blueprint.get("")
@needs(Role.VIEWER)
def show() -> str:
    alive = [one for one in current_user.sign_ins if one.is_alive]
    here = sign_in.current_sign_in()
    return render_template("account/show.html", sign_ins=alive, here=here)


@blueprint.post("/sign-out-everywhere")
@needs(Role.VIEWER)
def sign_out_everywhere() -> Response:
    current_user.sign_out_everywhere()
    audit.record(Event.SIGN_OUT, current_user, where="everywhere")
    db.session.commit()
    logout_user()
    flash("You are signed out in every browser.")
    return redirect(url_for("security.login"), SEE_OTHER)
