"""External Applications: list, create, show, edit, delete; their certificates."""

from flask import (
    Blueprint,
    flash,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from sqlalchemy.exc import IntegrityError
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

import audit
import engine
import pings
from database import db
from forms import ApplicationForm
from guard import needs
from listing import Query, Sort, get_page
from models import Event, ExternalApplication, Role
from panel import own_callback_url, panel_context, setup_page
from responses import (
    SEE_OTHER,
    UNPROCESSABLE,
    download,
    load_application,
)
from salesforce import APPS, State
from sign_in import SIGN_IN

blueprint = Blueprint("applications", __name__)

View = str | Response | tuple[str, int]


@blueprint.get("/")
@needs(Role.VIEWER)
def index() -> View:
    page = get_page(Query.from_arguments(request.args))
    return render_template(
        "applications/index.html", page=page, states=list(State), sorts=list(Sort)
    )


@blueprint.route("/applications/new", methods=["GET", "POST"])
def new() -> View:
    form = ApplicationForm(
        data={"callback_url": own_callback_url(), "prompt_login": True}
    )
    application = ExternalApplication()
    if form.validate_on_submit() and _save(form, application):
        return redirect(_page_of(application), SEE_OTHER)
    page = render_template(
        "applications/new.html", form=form, own_callback_url=own_callback_url()
    )
    return page, _status(form)


@blueprint.get("/applications/<id:application_id>")
@needs(Role.VIEWER)
def show(application_id: int) -> View:
    application = load_application(application_id)
    context = panel_context(application)
    if word := request.args.get("reached"):
        url, browser = application.callback_url, session[SIGN_IN]
        context["proof"] = pings.proof_of(word, application_id, url, browser)
    return render_template("applications/show.html", **context)


@blueprint.route("/applications/<id:application_id>/edit", methods=["GET", "POST"])
def edit(application_id: int) -> View:
    application = load_application(application_id)
    form = ApplicationForm(data=application.description())
    form.stored = application
    if form.validate_on_submit() and _save(form, application):
        return redirect(_page_of(application), SEE_OTHER)
    page = render_template(
        "applications/edit.html",
        form=form,
        application=application,
        own_callback_url=own_callback_url(),
        apps_url=setup_page(application, APPS),
    )
    return page, _status(form)


@blueprint.get("/applications/<id:application_id>/certificate")
@needs(Role.OPERATOR)
def certificate(application_id: int) -> Response:
    application = load_application(application_id)
    if not application.certificate:
        raise NotFound("This record has no certificate.")
    response = download(application, application.certificate, "crt")
    response.mimetype = "application/x-pem-file"
    return response


@blueprint.get("/applications/<id:application_id>/delete")
def confirm_delete(application_id: int) -> View:
    application = load_application(application_id)
    return render_template("applications/delete.html", application=application)


@blueprint.post("/applications/<id:application_id>/delete")
def delete(application_id: int) -> View:
    application = load_application(application_id)
    sentence, category = f"{application.application_name} was deleted.", "message"
    if "revoke" in request.form and application.holds_tokens:
        revoked = engine.revoke(application)
        sentence += f" {revoked.sentence}"
        category = "message" if revoked.everywhere else "error"
    flash(sentence, category)
    application.remove()
    audit.record(Event.RECORD_DELETED, application)
    db.session.commit()
    return redirect(url_for(".index"), SEE_OTHER)


def _save(form: ApplicationForm, application: ExternalApplication) -> bool:
    """Store the form; False where the database knows the name already."""
    is_new = application.id is None
    fields = form.apply_to(application)
    db.session.add(application)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        form.refuse_name()
        return False
    if is_new:
        audit.record(Event.RECORD_CREATED, application)
    else:
        audit.record(Event.RECORD_EDITED, application, fields=fields)
    db.session.commit()
    if form.rewritten:
        flash(f"The Salesforce Domain was read as {form.rewritten}.")
    if form.generate_key_pair.data:
        flash("A key pair was made. The app in the org now needs its certificate.")
    return True


def _page_of(application: ExternalApplication) -> str:
    return url_for(".show", application_id=application.id)


def _status(form: ApplicationForm) -> int:
    return UNPROCESSABLE if form.is_submitted() else 200
