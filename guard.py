"""The guard: who may do what, for every page, in one place.

It is closed by default: a view that nobody marked is for admins. `needs` marks
what a lower role may do as well, `open_to_all` the exceptions that come before
a sign-in, `open_when` those among the requests of one view, and `fresh` what asks
for a sign-in of the last minutes.
"""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import Flask, abort, current_app, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response

import sign_in
from models import Role
from responses import leave_for

log = logging.getLogger(__name__)

View = TypeVar("View", bound=Callable[..., Any])


def needs(role: Role) -> Callable[[View], View]:
    """Mark a view: it takes this role, or a higher one."""

    def mark(view: View) -> View:
        view.needs = role  # type: ignore[attr-defined]
        return view

    return mark


def open_to_all(view: View) -> View:
    """Mark a view: it takes no sign-in."""
    view.needs = None  # type: ignore[attr-defined]
    return view


def open_when(is_open: Callable[[], bool]) -> Callable[[View], View]:
    """Mark a view: a request of which `is_open` is true takes no sign-in."""

    def mark(view: View) -> View:
        view.open_when = is_open  # type: ignore[attr-defined]
        return view

    return mark


def fresh(view: View) -> View:
    """Mark a view: to act, it takes a sign-in, or its confirmation, of late."""
    view.fresh = True  # type: ignore[attr-defined]
    return view


def init_app(app: Flask) -> None:
    """Stand before every view. Called first, so that nothing comes before it."""
    app.before_request(_let_in)


def mark_pages_of_others(app: Flask) -> None:
    """Mark the pages that Flask and Flask-Security bring; call it after them."""
    for endpoint, view in app.view_functions.items():
        blueprint, _, name = endpoint.rpartition(".")
        if endpoint == "static" or (blueprint == "security" and name in sign_in.OPEN):
            own = open_to_all(_own(view))
            own.a_step = name in sign_in.STEPS  # type: ignore[attr-defined]
            app.view_functions[endpoint] = own
        elif blueprint == "security" and name in sign_in.OWN:
            own = needs(Role.VIEWER)(_own(view))
            app.view_functions[endpoint] = (
                fresh(own) if name in sign_in.FRESH_ONLY else own
            )


def _own(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a library's view, whose marks would be every app's of this process."""

    @wraps(view)
    def wrapped(**arguments: Any) -> Any:
        return view(**arguments)

    return wrapped


def _let_in() -> Response | None:
    if request.is_json:
        abort(415, "Orgdesk takes forms.")  # Flask-Security would read it as one
    view = current_app.view_functions.get(request.endpoint or "")
    if view is None:  # there is no such page, as the error page will say
        return None
    needed = getattr(view, "needs", Role.ADMIN)
    if getattr(view, "a_step", False):
        return _step()
    is_open: Callable[[], bool] | None = getattr(view, "open_when", None)
    if needed is None or (is_open and is_open()):
        return None
    if not current_user.is_authenticated:
        return sign_in.to_sign_in()
    if not current_user.may(needed):
        log.warning("Refused to %s: %s", current_user.email, request.endpoint)
        abort(
            403,
            f"This takes the role {needed}; yours is {current_user.role}."
            " An admin can change it under Users.",
        )
    if getattr(view, "fresh", False) and request.method == "POST":
        return None if sign_in.is_fresh() else sign_in.to_confirmation()
    return None


def _step() -> Response | None:
    """Let in who is half-way signed in, and lead away who is signed in.

    Flask-Security would take a look at the code's page for an attack and sign
    them out, which a link on any site could bring about.
    """
    if current_user.is_authenticated:
        return leave_for(url_for("applications.index"))
    return sign_in.start_again_if_stale()
