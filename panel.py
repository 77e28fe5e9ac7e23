"""The panel: all that a record's page shows of it, gathered in few statements."""

from typing import NamedTuple

from flask import current_app, url_for
from sqlalchemy import select

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
    any_block,
    any_open,
    block_on,
    budgets,
    site_for,
    used_approvals,
)
from page_less import checklists
from salesforce import APPS, setup_url


def panel_context(application: ExternalApplication) -> dict[str, object]:
    """Return what the templates of the panel and the history need."""
    origin = application.domain.origin
    look = _look(application)
    if look.is_open:
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
        "held": application.held,
        "block": block_on(application.id) if look.is_blocked else None,
        "budget_limit": APPROVAL_LIMIT,
        "budgets": _budgets(application, look.used),
        "evictor": _evictor(look),
    }


class _Look(NamedTuple):
    """What mostly is not so, asked for in one statement."""

    is_open: bool
    """Whether an attempt is under way, or was left behind."""
    is_blocked: bool
    used: int
    """Approvals, of the user or of the app."""
    evictor_id: int | None
    """The approval that took the place of this record's."""


def _look(application: ExternalApplication) -> _Look:
    row = db.session.execute(
        select(
            any_open(application.id),
            any_block(application.id),
            used_approvals(*application.approvals_of),
            Approval.id_that_ended(application.id),
        )
    ).one()
    return _Look(*row)


def _budgets(application: ExternalApplication, used: int) -> list[Budget]:
    """Return the approvals that are nearly used up, where a login would take one."""
    if application.flow is not Flow.WEB_SERVER or used < APPROVAL_LIMIT - 1:
        return []
    return [one for one in budgets(*application.approvals_of) if one.is_tight]


def _evictor(look: _Look) -> Approval | None:
    """Return the login elsewhere that has ended this record's grant, if one has."""
    return db.session.get(Approval, look.evictor_id) if look.evictor_id else None


def _setup_url(application: ExternalApplication) -> str | None:
    """Return where in this very org's Setup the last error is mended."""
    page = application.last_error_page
    return None if page is None else setup_page(application, page)


def setup_page(application: ExternalApplication, page: str) -> str | None:
    """Return the address of a page of Setup in the record's org, where it is known."""
    host = application.domain.host
    return setup_url(host, page) or setup_url(application.instance_url or "", page)


def own_callback_url() -> str:
    """Return the address under which this server takes callbacks."""
    external_url = current_app.config["EXTERNAL_URL"]
    if external_url:
        return str(external_url) + url_for("authorizations.callback")
    return url_for("authorizations.callback", _external=True)
