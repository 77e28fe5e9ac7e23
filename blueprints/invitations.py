"""One-time links: the way in for whoever was invited, and for the first admin."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_security.utils import login_user
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.wrappers import Response

import users
from forms import WelcomeForm
from guard import open_to_all
from models import Invitation
from responses import SEE_OTHER, UNPROCESSABLE

blueprint = Blueprint("invitations", __name__)

GONE = 410
View = str | Response | tuple[str, int]


@blueprint.route("/welcome/<token>", methods=["GET", "POST"])
@open_to_all
def accept(token: str) -> View:
    """Show the form without using the link up: what previews links may look."""
    if request.method == "HEAD":
        raise MethodNotAllowed(["GET", "POST"])
    invitation = Invitation.find(token)
    if invitation is None:
        return render_template("invitations/over.html"), GONE
    form = WelcomeForm(invitation.email)
    if form.validate_on_submit():
        return _welcome(token, form)
    page = render_template(
        "invitations/accept.html", form=form, invitation=invitation, token=token
    )
    return page, UNPROCESSABLE if form.is_submitted() else 200


def _welcome(token: str, form: WelcomeForm) -> View:
    user = users.accept(token, form.email.data or "", form.password.data or "")
    if user is None:
        return render_template("invitations/over.html"), GONE
    login_user(user, authn_via=["one-time link"])
    flash(f"Welcome. You are signed in as {user.email}.")
    return redirect(url_for("applications.index"), SEE_OTHER)
