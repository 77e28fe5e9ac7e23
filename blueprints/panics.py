"""The panic switch: started, watched, tried again and lifted."""

from typing import NamedTuple

from flask import Blueprint, flash, redirect, render_template, request, url_for
from sqlalchemy import select
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response

import engine
import sign_in
from database import db
from forms import PanicForm
from guard import fresh
from history import place
from models import LARGEST_ID, ExternalApplication, Panic, Scope
from panics import Place, get_history, get_page
from responses import SEE_OTHER, UNPROCESSABLE, asked_by_htmx
from tally import counts

blueprint = Blueprint("panics", __name__, url_prefix="/panics")

MOST_NAMED = 25
MOST_SELECTED = 500
"""An address and a form take no more; there is a switch for all."""
NOT_THERE = "There is no such panic."
View = str | Response | tuple[str, int]


class Covered(NamedTuple):
    """What a panic is to be about; `names` are the first few."""

    scope: Scope
    ids: list[int]
    names: list[str]
    total: int

    @property
    def is_nothing(self) -> bool:
        return self.scope is Scope.SELECTED and not self.ids


@blueprint.get("")
def index() -> str:
    page = get_history(place(request.args))
    return render_template("panics/index.html", page=page)


@blueprint.get("/new")
def new() -> View:
    """Ask who it is first, where that was long ago: what is typed would be lost."""
    if not sign_in.is_fresh():
        return sign_in.to_confirmation()
    return _ask(_covered(), PanicForm(formdata=None))


@blueprint.post("")
@fresh
def create() -> View:
    covered, form = _covered(), PanicForm()
    if covered.is_nothing or not form.validate_on_submit():
        return _ask(covered, form), UNPROCESSABLE
    panic = engine.start_panic(covered.scope, covered.ids, form.reason.data or "")
    return _see_to(panic)


@blueprint.get("/<id:panic_id>")
def show(panic_id: int) -> View:
    page = get_page(_load(panic_id), Place.read(request.args))
    region = "panics/_progress.html" if asked_by_htmx() else "panics/show.html"
    return render_template(region, page=page, panic=page.panic)


@blueprint.post("/<id:panic_id>/retry")
@fresh
def retry(panic_id: int) -> View:
    panic = _load(panic_id)
    engine.retry_panic(panic)
    return _see_to(panic)


@blueprint.get("/<id:panic_id>/lifting")
def confirm_lift(panic_id: int) -> View:
    page = get_page(_load(panic_id), None)
    return render_template("panics/lift.html", page=page, panic=page.panic)


@blueprint.post("/<id:panic_id>/lifting")
@fresh
def lift(panic_id: int) -> View:
    panic = _load(panic_id)
    if engine.lift_panic(panic):
        flash(f"The block of panic {panic_id} is lifted.")
    return redirect(url_for(".show", panic_id=panic_id), SEE_OTHER)


def _load(panic_id: int) -> Panic:
    return db.get_or_404(Panic, panic_id, description=NOT_THERE)


def _see_to(panic: Panic) -> Response:
    """Have somebody work at it, and lead to where one can watch."""
    if panic.is_open:
        engine.see_to_panic(panic.id, panic.lease_ends)
    return redirect(url_for(".show", panic_id=panic.id), SEE_OTHER)


def _ask(covered: Covered, form: PanicForm) -> str:
    return render_template("panics/new.html", covered=covered, form=form)


def _covered() -> Covered:
    """Read what was chosen; what is no record, or none any more, is left out."""
    record = ExternalApplication
    found = select(record.id, record.application_name)
    if request.values.get("scope") == Scope.ALL:
        first = found.order_by(record.application_name_key).limit(MOST_NAMED)
        names = [row.application_name for row in db.session.execute(first)]
        return Covered(Scope.ALL, [], names, counts().total)
    chosen = set(filter(None, map(_id, request.values.getlist("application"))))
    if len(chosen) > MOST_SELECTED:
        raise BadRequest(
            f"At most {MOST_SELECTED} records can be selected. There is a switch for"
            " all of them."
        )
    found = found.where(record.id.in_(chosen))
    rows = db.session.execute(found.order_by(record.application_name_key)).all()
    names = [row.application_name for row in rows[:MOST_NAMED]]
    return Covered(Scope.SELECTED, [row.id for row in rows], names, len(rows))


def _id(text: str) -> int | None:
    good = text.isascii() and text.isdigit() and len(text) < 11
    return int(text) if good and int(text) <= LARGEST_ID else None
