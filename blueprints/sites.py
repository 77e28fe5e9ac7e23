"""Remote Sites: list, create, edit, switch on and off, delete."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from werkzeug.wrappers import Response

import audit
from database import db
from forms import SiteForm
from models import LARGEST_ID, Event, ExternalApplication, RemoteSite
from responses import SEE_OTHER, UNPROCESSABLE
from salesforce import origin_of

blueprint = Blueprint("sites", __name__)

NOT_THERE = "There is no such Remote Site. It may have been deleted."
View = str | Response | tuple[str, int]


@blueprint.get("/sites")
def index() -> View:
    sites = db.session.scalars(
        select(RemoteSite).order_by(RemoteSite.host, RemoteSite.port, RemoteSite.scheme)
    )
    return render_template("sites/index.html", sites=sites.all())


@blueprint.route("/sites/new", methods=["GET", "POST"])
def new() -> View:
    url, application = request.args.get("url", ""), _asked_from()
    form = SiteForm(data={"address": url, "local_network": _is_local(url)})
    site = RemoteSite()
    if form.validate_on_submit() and _save(form, site):
        flash(f"Orgdesk may call {site.origin} now.")
        return redirect(_page_of(application), SEE_OTHER)
    page = render_template(
        "sites/new.html",
        form=form,
        action=url_for(".new", application=application and application.id),
        cancel=_page_of(application),
    )
    return page, _status(form)


@blueprint.route("/sites/<id:site_id>/edit", methods=["GET", "POST"])
def edit(site_id: int) -> View:
    site = _load(site_id)
    form = SiteForm(
        data={"address": str(site.origin), "local_network": site.local_network}
    )
    if form.validate_on_submit() and _save(form, site):
        flash(f"{site.origin} was saved.")
        return redirect(url_for(".index"), SEE_OTHER)
    return render_template("sites/edit.html", form=form, site=site), _status(form)


@blueprint.post("/sites/<id:site_id>/activation")
def activate(site_id: int) -> View:
    """Switch it to what the button said, also where somebody else was faster."""
    site = _load(site_id)
    site.switch(active=request.form.get("active") == "yes")
    audit.record(Event.SITE_EDITED, site, active=site.active)
    db.session.commit()
    flash(f"{site.origin} is switched {'on' if site.active else 'off'}.")
    return redirect(url_for(".index"), SEE_OTHER)


@blueprint.get("/sites/<id:site_id>/delete")
def confirm_delete(site_id: int) -> View:
    return render_template("sites/delete.html", site=_load(site_id))


@blueprint.post("/sites/<id:site_id>/delete")
def delete(site_id: int) -> View:
    site = _load(site_id)
    flash(f"{site.origin} was deleted.")
    db.session.delete(site)
    audit.record(Event.SITE_DELETED, site)
    db.session.commit()
    return redirect(url_for(".index"), SEE_OTHER)


def _load(site_id: int) -> RemoteSite:
    return db.get_or_404(RemoteSite, site_id, description=NOT_THERE)


def _asked_from() -> ExternalApplication | None:
    """Return the record from whose page the site is added, if it is from one."""
    application_id = request.args.get("application", type=int)
    if application_id is None or not 0 < application_id <= LARGEST_ID:
        return None
    return db.session.get(ExternalApplication, application_id)


def _page_of(application: ExternalApplication | None) -> str:
    if application is None:
        return url_for(".index")
    return url_for("applications.show", application_id=application.id)


def _is_local(url: str) -> bool:
    """Tell whether the site has to be in the local network to work at all."""
    origin = origin_of(url)
    return origin is not None and origin.is_loopback


def _save(form: SiteForm, site: RemoteSite) -> bool:
    """Store the form; False where the database knows the address already."""
    event = Event.SITE_EDITED if site.id else Event.SITE_CREATED
    form.apply_to(site)
    db.session.add(site)
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()
        form.refuse_address()
        return False
    audit.record(event, site, local_network=site.local_network)
    db.session.commit()
    return True


def _status(form: SiteForm) -> int:
    return UNPROCESSABLE if form.is_submitted() else 200
