"""Users: who may sign in, and what they may do."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy import select
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

import users
from database import db
from forms import InvitationForm
from guard import fresh
from models import Invitation, Role, User
from responses import SEE_OTHER, UNPROCESSABLE

blueprint = Blueprint("users", __name__, url_prefix="/users")

NOT_THERE = "There is no such user, or link."
CONFLICT = 409
View = str | Response | tuple[str, int]


@blueprint.get("")
def index() -> str:
    everyone = db.session.scalars(select(User).order_by(User.email)).all()
    return render_template(
        "users/index.html",
        users=everyone,
        roles=list(Role),
        invitations=Invitation.open(),
    )


@blueprint.route("/invite", methods=["GET", "POST"])
@fresh
def invite() -> View:
    form = InvitationForm()
    if form.validate_on_submit():
        token = users.invite(form.address, Role(form.role.data))
        return _show_link(form.address, token)
    page = render_template("users/invite.html", form=form)
    return page, UNPROCESSABLE if form.is_submitted() else 200


@blueprint.post("/invitations/<id:invitation_id>/withdrawal")
@fresh
def withdraw(invitation_id: int) -> Response:
    invitation = db.get_or_404(Invitation, invitation_id, description=NOT_THERE)
    users.withdraw(invitation)
    flash("The link is withdrawn.")
    return redirect(url_for(".index"), SEE_OTHER)


@blueprint.post("/<id:user_id>/link")
@fresh
def renew(user_id: int) -> View:
    user = _load(user_id)
    return _show_link(user.email, users.renew(user))


@blueprint.post("/<id:user_id>/role")
@fresh
def change_role(user_id: int) -> Response:
    user, role = _load(user_id), request.form.get("role", "")
    if role not in list(Role):
        raise BadRequest("There is no such role.")
    users.give_role(user, Role(role))
    flash(f"{user.email} has the role {role} now.")
    return redirect(url_for(".index"), SEE_OTHER)


@blueprint.post("/<id:user_id>/deactivation")
@fresh
def deactivate(user_id: int) -> Response:
    user = _load(user_id)
    users.deactivate(user)
    flash(f"{user.email} is signed out and cannot sign in any more.")
    return redirect(url_for(".index"), SEE_OTHER)


@blueprint.post("/<id:user_id>/reactivation")
@fresh
def reactivate(user_id: int) -> Response:
    user = _load(user_id)
    users.reactivate(user)
    flash(f"{user.email} can sign in again.")
    return redirect(url_for(".index"), SEE_OTHER)


@blueprint.errorhandler(users.LastAdmin)
def last_admin(error: users.LastAdmin) -> tuple[str, int]:
    return render_template("users/last_admin.html", error=error), CONFLICT


def _load(user_id: int) -> User:
    return db.get_or_404(User, user_id, description=NOT_THERE)


def _show_link(email: str, token: str) -> str:
    return render_template("users/link.html", email=email, link=users.link(token))
