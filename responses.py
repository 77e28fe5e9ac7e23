"""What the pages of several resources share: answers that suit htmx and a plain
browser alike."""

from typing import Any

from flask import (
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response

import engine
from database import db
from models import ExternalApplication
from panel import panel_context

NO_CONTENT = 204
SEE_OTHER = 303
UNPROCESSABLE = 422
NOT_THERE = "There is no such record. It may have been deleted."


def load_application(application_id: int) -> ExternalApplication:
    return db.get_or_404(ExternalApplication, application_id, description=NOT_THERE)


def asked_by_htmx() -> bool:
    return request.headers.get("HX-Request") == "true"


def leave_for(url: str) -> Response:
    """Send the browser to another site.

    htmx would follow a redirect inside its own request, where the other site
    is out of reach, so it is told to move the whole window.
    """
    if not asked_by_htmx():
        return redirect(url, SEE_OTHER)
    response = make_response("", NO_CONTENT)
    response.headers["HX-Redirect"] = url
    return response


def show_panel(
    application: ExternalApplication,
    result: engine.Result | None = None,
    *,
    sentence: str = "",
    done: str = "",
) -> Response:
    """Answer with what a click changes: its regions to htmx, the page to a browser.

    The `sentence` says why what was asked for was not done, `done` what was, where
    the panel does not say it by itself.
    """
    if not asked_by_htmx():
        if done:
            flash(done)
        if sentence:
            flash(sentence, "error")
        if result and result.busy:
            flash(result.reason, "error")
        return redirect(
            url_for("applications.show", application_id=application.id), SEE_OTHER
        )
    said = {"result": result, "sentence": sentence, "done": done}
    context = panel_context(application) | said
    return make_response(render_template("applications/_regions.html", **context))


def download(application: ExternalApplication, content: Any, ending: str) -> Response:
    """Answer with something of the record as a file, of which no cache has a copy."""
    response = make_response(content)
    name = f"external-application-{application.id}.{ending}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response
