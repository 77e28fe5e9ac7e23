"""Revocations: ending at the org what it granted, and forgetting it here."""

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

import engine
from responses import SEE_OTHER, load_application

blueprint = Blueprint("revocations", __name__)


@blueprint.get("/applications/<id:application_id>/revocation")
def confirm(application_id: int) -> str:
    application = load_application(application_id)
    return render_template("revocations/confirm.html", application=application)


@blueprint.post("/applications/<id:application_id>/revocation")
def create(application_id: int) -> Response:
    application = load_application(application_id)
    revoked = engine.revoke(application)
    flash(revoked.sentence, "message" if revoked.everywhere else "error")
    return redirect(
        url_for("applications.show", application_id=application_id), SEE_OTHER
    )
