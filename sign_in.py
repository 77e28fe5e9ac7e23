"""Sign-in: Flask-Security, set up for Orgdesk.

Ours is what it leaves to the app: browsers that are signed in are rows, so
that signing out ends a cookie for good, and every coming, going and failing
leaves an audit row.
"""

import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from functools import wraps
from typing import Any

from flask import (
    Flask,
    abort,
    current_app,
    flash,
    g,
    make_response,
    request,
    session,
    url_for,
)
from flask_security import (
    RoleMixin,
    Security,
    password_changed,
    tf_disabled,
    tf_profile_changed,
    user_authenticated,
    user_failed_authn,
)
from flask_security.signals import wan_registered
from flask_security.tf_plugin import tf_clean_session
from flask_security.utils import check_and_update_authn_fresh, set_request_attr
from werkzeug.wrappers import Response

import audit
import factors
from database import db, now
from models import Event, Passkey, SignIn, User
from responses import leave_for

SIGN_IN = "sign_in"
"""Where the session cookie has the token of the sign-in."""
FRESH = timedelta(minutes=10)
"""How long after a sign-in, or its confirmation, secrets can be asked for."""
FIRST_STEP = "first_step_at"
"""Where a browser that has yet to show a second factor has the time of the first."""
OF_A_LOGIN = ("_user_id", "_fresh", "_id", "fs_cc", "fs_paa", "_flashes")
"""What the libraries have just put into the session of who signs in."""
SECOND_STEPS = {
    "security.two_factor_token_validation": "password, authenticator app",
    "security.mf_recovery": "password, recovery code",
}

STEPS = (
    "two_factor_token_validation",
    "tf_select",
    "mf_recovery",
    "wan_signin",
    "wan_signin_response",
)
OPEN = ("login", *STEPS)
"""Pages of Flask-Security that come before or within signing in."""
OWN = (
    "logout",
    "verify",
    "change_password",
    "two_factor_setup",
    "two_factor_setup_validate",
    "mf_recovery_codes",
    "wan_register",
    "wan_register_response",
    "wan_delete",
    "wan_verify",
    "wan_verify_response",
)
"""Those for everybody who is signed in. The library's others lead nowhere here."""
FRESH_ONLY = ("two_factor_setup_validate", "wan_register_response")
"""Ends of what took a fresh sign-in to begin; the library asks there alone."""


def init_app(app: Flask) -> None:
    """Give `app` its sign-in; after Flask-WTF's CSRF protection."""
    app.config.from_mapping(SETTINGS, **MESSAGES)
    security = Security(
        app,
        factors.Users(db, User, RoleMixin, webauthn_model=Passkey),
        **factors.PARTS,
    )
    security.want_json(lambda _: False)
    security.unauthn_handler(lambda *_, **__: to_sign_in())
    security.reauthn_handler(lambda *_: to_confirmation())
    app.view_functions["security.logout"] = _sign_out(
        app.view_functions["security.logout"]
    )
    app.after_request(_date_the_first_step)
    app.login_manager.user_loader(_load_user)  # type: ignore[attr-defined]
    app.login_manager.request_loader(lambda _: None)  # type: ignore[attr-defined]
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, app)


SETTINGS: dict[str, Any] = {
    "SECURITY_PASSWORD_HASH": "argon2",
    "SECURITY_PASSWORD_SCHEMES": ["argon2"],
    "SECURITY_PASSWORD_SINGLE_HASH": ["argon2"],
    "SECURITY_PASSWORD_LENGTH_MIN": factors.SHORTEST_PASSWORD,
    "SECURITY_PASSWORD_COMPLEXITY_CHECKER": "zxcvbn",
    # Not against haveibeenpwned.com: nothing calls a host that no Remote
    # Site names. zxcvbn knows the most common leaked passwords.
    "SECURITY_PASSWORD_CHECK_BREACHED": False,
    "SECURITY_EMAIL_VALIDATOR_ARGS": {
        "check_deliverability": False,
        "globally_deliverable": False,  # companies have hosts of their own
    },
    "SECURITY_STATIC_FOLDER": None,
    "SECURITY_RETURN_GENERIC_RESPONSES": True,
    "SECURITY_CHANGEABLE": True,
    "SECURITY_SEND_PASSWORD_CHANGE_EMAIL": False,
    "SECURITY_TWO_FACTOR": True,
    "SECURITY_TWO_FACTOR_ENABLED_METHODS": ["authenticator"],
    "SECURITY_TWO_FACTOR_AUTHENTICATOR_VALIDITY": 30,  # seconds to either side
    "SECURITY_TWO_FACTOR_RESCUE_EMAIL": False,
    "SECURITY_TOTP_ISSUER": "Orgdesk",
    # Wanted, and not used: the vault's keys encrypt them.
    "SECURITY_TOTP_SECRETS": {"1": secrets.token_hex()},
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES": True,
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_N": factors.RECOVERY_CODES,
    "SECURITY_WEBAUTHN": True,
    "SECURITY_WAN_RP_NAME": "Orgdesk",
    "SECURITY_WAN_ALLOW_USER_HINTS": False,  # or a stranger learns who has one
    "SECURITY_FRESHNESS": FRESH,
    "SECURITY_FRESHNESS_GRACE_PERIOD": timedelta(0),
    "SECURITY_API_ENABLED_METHODS": ["session"],
    "SECURITY_LOGIN_URL": "/sign-in",
    "SECURITY_LOGOUT_URL": "/sign-out",
    "SECURITY_LOGOUT_CSRF": True,
    "SECURITY_VERIFY_URL": "/sign-in/confirm",
    "SECURITY_TWO_FACTOR_TOKEN_VALIDATION_URL": "/sign-in/code",
    "SECURITY_TWO_FACTOR_RESCUE_URL": "/sign-in/no-code",
    "SECURITY_TWO_FACTOR_SELECT_URL": "/sign-in/second-factor",
    "SECURITY_MULTI_FACTOR_RECOVERY_URL": "/sign-in/recovery-code",
    "SECURITY_WAN_SIGNIN_URL": "/sign-in/passkey",
    "SECURITY_WAN_VERIFY_URL": "/sign-in/confirm/passkey",
    "SECURITY_CHANGE_URL": "/account/password",
    "SECURITY_TWO_FACTOR_SETUP_URL": "/account/authenticator",
    "SECURITY_MULTI_FACTOR_RECOVERY_CODES_URL": "/account/recovery-codes",
    "SECURITY_WAN_REGISTER_URL": "/account/passkeys",
    "SECURITY_WAN_DELETE_URL": "/account/passkeys/delete",
    "SECURITY_POST_LOGOUT_VIEW": "/sign-in",
    "SECURITY_POST_CHANGE_VIEW": "/account",
    "SECURITY_TWO_FACTOR_POST_SETUP_VIEW": "/account",
    "SECURITY_WAN_POST_REGISTER_VIEW": "/account",
    "SECURITY_CLI_USERS_NAME": None,
    "SECURITY_CLI_ROLES_NAME": None,
    "SECURITY_DATETIME_FACTORY": now,
}

MESSAGES: dict[str, Any] = {
    "SECURITY_MSG_GENERIC_AUTHN_FAILED": (
        "E-mail address and password do not match an account.",
        "error",
    ),
    "SECURITY_MSG_REAUTHENTICATION_SUCCESSFUL": (
        "Thank you. Now press the button again.",
        "info",
    ),
    "SECURITY_MSG_PASSWORD_TOO_SIMPLE": (
        "This password is easily guessed. Try some words that do not belong together.",
        "error",
    ),
    "SECURITY_MSG_TWO_FACTOR_PERMISSION_DENIED": (
        "That sign-in is over. Start again.",
        "error",
    ),
}


def to_sign_in() -> Response:
    """Send a stranger to sign in, and back to the page he was on."""
    return leave_for(url_for("security.login", next=_way_back()))


def to_confirmation() -> Response:
    """Ask who it is once more, and send the browser back where the button was."""
    return leave_for(url_for("security.verify", next=_way_back()))


def is_fresh() -> bool:
    """Tell whether who is signed in has shown it within the last ten minutes."""
    return bool(check_and_update_authn_fresh(FRESH, timedelta(0), "session"))


def ask_nobody() -> None:
    """Let the rest of the request do without a user: the database is away."""
    g._login_user = current_app.login_manager.anonymous_user()  # type: ignore[attr-defined]


def current_sign_in() -> SignIn | None:
    return SignIn.find(session.get(SIGN_IN, ""))


def _way_back() -> str:
    """Return the path of this page, or of the one that a form was sent from."""
    if request.path == url_for("authorizations.callback"):
        return "/"  # a code and a state do not belong in another address
    if request.method == "GET":
        return request.full_path.rstrip("?")
    page = (request.referrer or "").removeprefix(request.host_url.rstrip("/"))
    return page if page.startswith("/") else "/"


def start_again_if_stale() -> Response | None:
    """Hold who has passed the first of two factors to it, for ten minutes.

    The state of setting up an app has no business here: it is of a sign-in.
    """
    age = time.time() - session.get(FIRST_STEP, 0)
    stale = "tf_user_id" in session and age > FRESH.total_seconds()
    if not stale and session.get("tf_state") != "validating_profile":
        return None
    tf_clean_session()  # type: ignore[no-untyped-call]
    flash("That sign-in is over. Start again.", "error")
    return leave_for(url_for("security.login"))


def _date_the_first_step(response: Response) -> Response:
    if request.endpoint == "security.login" and "tf_user_id" in session:
        session[FIRST_STEP] = time.time()
    return response


def _load_user(uniquifier: str) -> User | None:
    sign_in = current_sign_in()
    if sign_in is None or sign_in.user.fs_uniquifier != uniquifier:
        return None
    g.in_panic = sign_in.in_panic
    sign_in.note()
    set_request_attr("fs_authn_via", "session")
    set_request_attr("fs_paa", session.get("fs_paa", 0))
    return sign_in.user


def _signed_in(_: Flask, user: User, authn_via: list[str] | None, **__: Any) -> None:
    """Begin a sign-in: nothing of what the browser was at before goes into it."""
    if not user.active:
        session.clear()
        abort(403, "This account is deactivated.")
    if before := current_sign_in():
        before.end()
    login = {name: session[name] for name in OF_A_LOGIN if name in session}
    session.clear()
    g.pop("csrf_token", None)
    browser = request.user_agent.string
    token = SignIn.begin(user, request.remote_addr or "", browser)
    session.update(login | {SIGN_IN: token})
    via = ", ".join(authn_via or ["password, passkey"])
    how = SECOND_STEPS.get(request.endpoint or "", via)
    audit.record(Event.SIGN_IN, user, actor=user, how=how)
    db.session.commit()


def _sign_out(leave: Callable[..., Any]) -> Callable[..., Any]:
    """End the sign-in first: a cookie must not go while its copies stay good."""

    @wraps(leave)
    def sign_out() -> Any:
        if sign_in := current_sign_in():
            sign_in.end()
            audit.record(Event.SIGN_OUT, sign_in.user)
            db.session.commit()
        session.pop(SIGN_IN, None)
        response = make_response(leave())
        response.headers["Clear-Site-Data"] = '"cache", "storage"'
        return response

    return sign_out


def _failed(_: Flask, user: User, auth_type: str, **__: Any) -> None:
    audit.record(Event.SIGN_IN_FAILED, user, how=auth_type)
    db.session.commit()


def _password_changed(_: Flask, user: User, **__: Any) -> None:
    audit.record(Event.PASSWORD_CHANGED, user)
    db.session.commit()


def _second_factor(change: str) -> Callable[..., None]:
    def changed(_: Flask, user: User, name: str = "", **__: Any) -> None:
        what = f"{change} {name}".strip()
        audit.record(Event.SECOND_FACTOR_CHANGED, user, change=what)
        db.session.commit()

    return changed


RECEIVERS: list[tuple[Any, Callable[..., None]]] = [
    (user_authenticated, _signed_in),
    (user_failed_authn, _failed),
    (password_changed, _password_changed),
    (tf_profile_changed, _second_factor("authenticator app set up")),
    (tf_disabled, _second_factor("authenticator app removed")),
    (wan_registered, _second_factor("passkey added:")),
]
