"""Limits: how often one may try, by address and by account."""

from collections.abc import Callable
from typing import Any, NamedTuple

from flask import Flask, request, session
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address
from flask_login import current_user
from werkzeug.wrappers import Response

import users

EXTENSION = "orgdesk_limiter"
SENTENCE = "Too many tries. Wait a few minutes, then try again."


def _account() -> str:
    """Name the account that a try is for, whether or not there is one.

    What is typed counts at the sign-in alone: later it would be a way out.
    """
    if request.endpoint == "security.login":
        return f"account {_typed()}"
    return f"account {getattr(current_user, 'email', session.get('tf_user_id'))}"


def _typed() -> str:
    """Return the typed address as it is looked up: however spelt, it counts once."""
    typed = request.form.get("email", "").strip()
    try:
        return users.normalized(typed)
    except ValueError:
        return typed.lower()


def _failed(response: Response) -> bool:
    """Tell whether a page of Flask-Security shows itself again."""
    return response.status_code == 200


class Limit(NamedTuple):
    """So many requests of one `key`; with `counts`, only those that it counts."""

    scope: str
    amount: str
    key: Callable[[], str]
    counts: Callable[[Response], bool] | None = None


TRIES = (
    # Failures are counted when they are answered; this holds for many at once.
    Limit("all tries", "60 per minute", get_remote_address),
    Limit("all tries", "60 per minute", _account),
    Limit("tries", "10 per minute; 60 per hour", get_remote_address, _failed),
    Limit("tries", "10 per 5 minutes; 40 per day", _account, _failed),
)
"""Sign-ins, and failed ones: from one address, and to one account from anywhere."""
TOKENS = (
    Limit("tokens", "1200 per minute", get_remote_address),
    Limit("tokens", "1200 per minute", _account),
)
LIMITS = {
    "security.login": TRIES,
    "security.verify": TRIES,
    "security.change_password": TRIES,
    "security.two_factor_token_validation": TRIES,
    "security.mf_recovery": TRIES,
    "security.wan_signin_response": (
        Limit("passkeys", "30 per minute", get_remote_address),
    ),
    "invitations.accept": (Limit("links", "30 per minute", get_remote_address),),
    "authorizations.create": TOKENS,
    "authorizations.callback": TOKENS,
    "holds.reject": TOKENS,
    "holds.take": TOKENS,
    "panics.create": TOKENS,
    "panics.retry": TOKENS,
    "checks.create": TOKENS,
    "checks.go_on": TOKENS,
    "revocations.create": TOKENS,
    "applications.delete": TOKENS,
}
"""By endpoint; GET counts only where it does something."""
ACTING_GETS = ("authorizations.callback", "invitations.accept")


def init_app(app: Flask, storage_url: str) -> None:
    """Count for `app`; called when it has all its pages."""
    app.config.from_mapping(
        RATELIMIT_STORAGE_URI=storage_url,
        RATELIMIT_IN_MEMORY_FALLBACK_ENABLED=True,  # the store is down: count here
        RATELIMIT_HEADERS_ENABLED=True,  # Retry-After
    )
    limiter = Limiter(get_remote_address, app=app)
    app.extensions[EXTENSION] = limiter  # nobody else holds it when it is off
    for endpoint, limits in LIMITS.items():
        view: Callable[..., Any] = app.view_functions[endpoint]
        for limit in limits:
            view = limiter.shared_limit(
                limit.amount,
                scope=limit.scope,
                key_func=limit.key,
                methods=None if endpoint in ACTING_GETS else ["POST"],
                deduct_when=limit.counts,
                error_message=SENTENCE,
            )(view)
        app.view_functions[endpoint] = view
