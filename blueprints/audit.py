"""The audit trail: a page to read, and an export."""

from flask import Blueprint, render_template, request, stream_with_context
from werkzeug.wrappers import Response

from models import Event
from trail import Query, csv_lines, get_page

blueprint = Blueprint("audit", __name__)

CSV_HEADERS = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Disposition": "attachment; filename=audit-trail.csv",
    "Cache-Control": "no-store",
}


@blueprint.get("/audit")
def index() -> str:
    page = get_page(Query.from_arguments(request.args))
    return render_template("audit/index.html", page=page, events=list(Event))


@blueprint.get("/audit.csv")
def export() -> Response:
    lines = csv_lines(Query.from_arguments(request.args))
    return Response(stream_with_context(lines), headers=CSV_HEADERS)
