"""What the pages of several resources share: the panel, the callback's address,
and answers that suit htmx and a plain browser alike."""

from typing import Any

from flask import (
    current_app,
    flash,
    make_response,
    redirect,
    render_template,
    request,
    url_for,
)
from sqlalchemy import select
from werkzeug.wrappers import Response

import engine
from callback_doctor import compare
from database import db
from history import get_page
from models import (
    APPROVAL_LIMIT,
    Approval,
    Budget,
    ExternalApplication,
    Flow,
    HeldToken,
    any_block,
    any_open,
    block_on,
    budgets,
    site_for,
    used_approvals,
)
from page_less import checklists
from salesforce import APPS, State, setup_url

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
        if done:
            flash(done)
        if result and result.busy:
            flash(result.reason, "error")
        return redirect(
            url_for("applications.show", application_id=application.id), SEE_OTHER
        )
    said = {"result": result, "sentence": sentence, "done": done}
    context = panel_context(application) | said
    return make_response(render_template("applications/_regions.html", **context))


def panel_context(application: ExternalApplication) -> dict[str, object]:
    """Return what the templates of the panel and the history need."""
    origin = application.domain.origin
    is_open, is_blocked, used = _look(application)
    if is_open:
        engine.settle(application.id)
    comes_back = application.flow is Flow.WEB_SERVER
    own, history = own_callback_url(), get_page(application.id)
    return {
        "application": application,
        "next_step": engine.choose(application),
        "setup_url": _setup_url(application),
        "callback": compare(application.callback_url, own) if comes_back else None,
        "apps_url": setup_page(application, APPS),
        "missing_site": None if site_for(origin) else origin,
        "page_less": checklists(
            application, (entry.attempt for entry in history.entries)
        ),
        "history": history,
        "held": HeldToken.of(application.id) if application.held_at else None,
        "block": block_on(application.id) if is_blocked else None,
        "budget_limit": APPROVAL_LIMIT,
        "budgets": _budgets(application, used),
        "evictor": _evictor(application),
    }


def _look(application: ExternalApplication) -> tuple[bool, bool, int]:
    """Ask in one statement what mostly is not so: whether an attempt is open and
    refreshes are blocked, and how many approvals are used up."""
    is_open, is_blocked, used = db.session.execute(
        select(
            any_open(application.id),
            any_block(application.id),
            used_approvals(*application.approvals_of),
        )
    ).one()
    return is_open, is_blocked, used


def _budgets(application: ExternalApplication, used: int) -> list[Budget]:
    """Return the approvals that are nearly used up, where a login would take one."""
    if application.flow is not Flow.WEB_SERVER or used < APPROVAL_LIMIT - 1:
        return []
    return [one for one in budgets(*application.approvals_of) if one.is_tight]


def _evictor(application: ExternalApplication) -> Approval | None:
    """Return the login elsewhere that has ended this record's grant, if one has."""
    if application.state is not State.LOGIN_REQUIRED:
        return None
    return Approval.that_ended(application.id)


def _setup_url(application: ExternalApplication) -> str | None:
    """Return where in this very org's Setup the last error is mended."""
    page = application.last_error_page
    return None if page is None else setup_page(application, page)


def setup_page(application: ExternalApplication, page: str) -> str | None:
    """Return the address of a page of Setup in the record's org, where it is known."""
    host = application.domain.host
    return setup_url(host, page) or setup_url(application.instance_url or "", page)


def download(application: ExternalApplication, content: Any, ending: str) -> Response:
    """Answer with something of the record as a file, of which no cache has a copy."""
    response = make_response(content)
    name = f"external-application-{application.id}.{ending}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def own_callback_url() -> str:
    """Return the address under which this server takes callbacks."""
    external_url = current_app.config["EXTERNAL_URL"]
    if external_url:
        return str(external_url) + url_for("authorizations.callback")
    return url_for("authorizations.callback", _external=True)
