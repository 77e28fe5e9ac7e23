"""The overview: one page that says what wants a person next."""

from flask import Blueprint, render_template

from guard import needs
from models import Role
from overview import get_figures

blueprint = Blueprint("overview", __name__)


@blueprint.get("/overview")
@needs(Role.VIEWER)
def show() -> str:
    return render_template("overview/show.html", figures=get_figures())
