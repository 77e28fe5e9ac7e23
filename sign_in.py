"""Sign-in: Flask-Security, set up for Orgdesk.

It brings passwords (argon2), authenticator codes, passkeys and recovery codes.
Ours is what it leaves to the app: browsers that are signed in are rows, so
that signing out ends a cookie for good; a code counts once; and every coming,
going and failing leaves an audit row.
"""

import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import qrcode
import qrcode.image.svg
from flask import Flask, current_app, g, request, session, url_for
from flask_login import user_logged_out
from flask_security import (
    LoginForm,
    MfRecoveryCodesUtil,
    PasswordUtil,
    RoleMixin,
    Security,
    SQLAlchemyUserDatastore,
    Totp,
    WebauthnUtil,
    password_changed,
    tf_disabled,
    tf_profile_changed,
    user_authenticated,
    user_failed_authn,
)
from flask_security.signals import wan_deleted, wan_registered
from flask_security.utils import check_and_update_authn_fresh, set_request_attr
from markupsafe import Markup
from passlib.totp import TotpMatch
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from werkzeug.wrappers import Response

import audit
from database import db, now
from models import Event, Passkey, SignIn, User
from responses import leave_for
from vault import Sealed, UnreadableSecret, seal

SIGN_IN = "sign_in"
"""Where the session cookie has the token of the sign-in."""
FRESH = timedelta(minutes=10)
"""How long after a sign-in, or its confirmation, secrets can be asked for."""
SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
JUDGED = 72
"""Characters that zxcvbn looks at; it refuses to judge more."""
RECOVERY_CODES = 8

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


def init_app(app: Flask, *, https: bool) -> None:
    """Give `app` its sign-in; after Flask-WTF's CSRF protection."""
    app.config.from_mapping(
        SECURITY_PASSWORD_HASH="argon2",  # noqa: S106  the name of the scheme
        SECURITY_PASSWORD_SCHEMES=["argon2"],
        SECURITY_PASSWORD_SINGLE_HASH=["argon2"],
        SECURITY_PASSWORD_LENGTH_MIN=SHORTEST_PASSWORD,
        SECURITY_PASSWORD_COMPLEXITY_CHECKER="zxcvbn",  # noqa: S106
        # Not against haveibeenpwned.com: nothing calls a host that no Remote
        # Site names. zxcvbn knows the most common leaked passwords.
        SECURITY_PASSWORD_CHECK_BREACHED=False,
        SECURITY_EMAIL_VALIDATOR_ARGS={
            "check_deliverability": False,
            "globally_deliverable": False,  # companies have hosts of their own
        },
        SECURITY_STATIC_FOLDER=None,
        SECURITY_RETURN_GENERIC_RESPONSES=True,
        SECURITY_CHANGEABLE=True,
        SECURITY_SEND_PASSWORD_CHANGE_EMAIL=False,
        SECURITY_TWO_FACTOR=True,
        SECURITY_TWO_FACTOR_ENABLED_METHODS=["authenticator"],
        SECURITY_TWO_FACTOR_AUTHENTICATOR_VALIDITY=30,  # seconds to either side
        SECURITY_TWO_FACTOR_RESCUE_EMAIL=False,
        SECURITY_TOTP_ISSUER="Orgdesk",
        # Wanted, and not used: `SealedTotp` encrypts with the vault's keys.
        SECURITY_TOTP_SECRETS={"1": secrets.token_hex()},
        SECURITY_MULTI_FACTOR_RECOVERY_CODES=True,
        SECURITY_MULTI_FACTOR_RECOVERY_CODES_N=RECOVERY_CODES,
        SECURITY_WEBAUTHN=True,
        SECURITY_WAN_RP_NAME="Orgdesk",
        SECURITY_WAN_ALLOW_USER_HINTS=False,  # or a stranger learns who has one
        SECURITY_FRESHNESS=FRESH,
        SECURITY_FRESHNESS_GRACE_PERIOD=timedelta(0),
        SECURITY_API_ENABLED_METHODS=["session"],
        SECURITY_LOGIN_URL="/sign-in",
        SECURITY_LOGOUT_URL="/sign-out",
        SECURITY_LOGOUT_CSRF=True,
        SECURITY_VERIFY_URL="/sign-in/confirm",
        SECURITY_TWO_FACTOR_TOKEN_VALIDATION_URL="/sign-in/code",  # noqa: S106
        SECURITY_TWO_FACTOR_RESCUE_URL="/sign-in/no-code",
        SECURITY_TWO_FACTOR_SELECT_URL="/sign-in/second-factor",
        SECURITY_MULTI_FACTOR_RECOVERY_URL="/sign-in/recovery-code",
        SECURITY_WAN_SIGNIN_URL="/sign-in/passkey",
        SECURITY_WAN_VERIFY_URL="/sign-in/confirm/passkey",
        SECURITY_CHANGE_URL="/account/password",
        SECURITY_TWO_FACTOR_SETUP_URL="/account/authenticator",
        SECURITY_MULTI_FACTOR_RECOVERY_CODES_URL="/account/recovery-codes",
        SECURITY_WAN_REGISTER_URL="/account/passkeys",
        SECURITY_WAN_DELETE_URL="/account/passkeys/delete",
        SECURITY_POST_LOGOUT_VIEW="/sign-in",
        SECURITY_POST_CHANGE_VIEW="/account",
        SECURITY_TWO_FACTOR_POST_SETUP_VIEW="/account",
        SECURITY_WAN_POST_REGISTER_VIEW="/account",
        SECURITY_TWO_FACTOR_VALIDITY_COOKIE={"secure": https, "httponly": True},
        SECURITY_CLI_USERS_NAME=None,
        SECURITY_CLI_ROLES_NAME=None,
        SECURITY_DATETIME_FACTORY=now,
        **MESSAGES,
    )
    security = Security(
        app,
        Users(db, User, RoleMixin, webauthn_model=Passkey),
        login_form=SignInForm,
        totp_cls=SealedTotp,
        password_util_cls=Passwords,
        webauthn_util_cls=Passkeys,
        mf_recovery_codes_util_cls=RecoveryCodes,
    )
    security.want_json(lambda _: False)
    security.unauthn_handler(lambda *_, **__: to_sign_in())
    security.reauthn_handler(lambda *_: to_confirmation())
    app.login_manager.user_loader(_load_user)  # type: ignore[attr-defined]
    app.login_manager.request_loader(lambda _: None)  # type: ignore[attr-defined]
    for signal, receiver in RECEIVERS:
        signal.connect(receiver, app)


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


def confirm() -> None:
    """Take it that who is signed in has just shown it."""
    session["fs_paa"] = time.time()


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
    return (request.referrer or "").removeprefix(request.host_url.rstrip("/")) or "/"


def _load_user(uniquifier: str) -> User | None:
    sign_in = current_sign_in()
    if sign_in is None or sign_in.user.fs_uniquifier != uniquifier:
        return None
    sign_in.note()
    set_request_attr("fs_authn_via", "session")
    set_request_attr("fs_paa", session.get("fs_paa", 0))
    return sign_in.user


def _signed_in(_: Flask, user: User, authn_via: list[str] | None, **__: Any) -> None:
    browser = request.user_agent.string
    session[SIGN_IN] = SignIn.begin(user, request.remote_addr or "", browser)
    audit.record(
        Event.SIGN_IN, user, actor=user, how=", ".join(authn_via or ["second factor"])
    )
    db.session.commit()


def _signed_out(_: Flask, user: User, **__: Any) -> None:
    if sign_in := current_sign_in():
        sign_in.end()
        audit.record(Event.SIGN_OUT, user, actor=user)
        db.session.commit()
    session.pop(SIGN_IN, None)


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
    (user_logged_out, _signed_out),
    (user_failed_authn, _failed),
    (password_changed, _password_changed),
    (tf_profile_changed, _second_factor("authenticator app set up")),
    (tf_disabled, _second_factor("authenticator app removed")),
    (wan_registered, _second_factor("passkey added:")),
    (wan_deleted, _second_factor("passkey removed:")),
]


class SignInForm(LoginForm):
    """The library's form; what it refuses without a signal leaves a trace as well."""

    remember = None  # type: ignore[assignment]

    def validate(self, **kwargs: Any) -> bool:
        valid = bool(super().validate(**kwargs))
        if valid or self.ifield is None:  # nobody was looked for
            return valid
        if self.user is None:
            audit.record(Event.SIGN_IN_FAILED, how="no such account")
        elif self.user_authenticated:
            user = cast("User", self.user)
            audit.record(Event.SIGN_IN_FAILED, user, how="deactivated account")
        db.session.commit()
        return valid


class Users(SQLAlchemyUserDatastore):
    """Knows that sign-ins are rows."""

    def set_uniquifier(self, user: Any, uniquifier: str | None = None) -> None:
        user.sign_out_everywhere()


class RecoveryCodes(MfRecoveryCodesUtil):
    """The library's codes; each is good once, and a wrong one leaves a trace."""

    def check_recovery_code(self, user: Any, code: str) -> bool:
        if not user.use_recovery_code(code):
            user.track_failed_authn("recovery code", tfa=True)
            return False
        left = len(user.mf_recovery_codes)
        audit.record(Event.RECOVERY_CODE_USED, user, actor=user, left=left)
        return True

    def delete_recovery_code(self, user: Any, code: str) -> bool:
        return True  # the check has taken it


class Passwords(PasswordUtil):
    """The library's checks; a long passphrase is judged by its beginning."""

    def validate(
        self, password: str, is_register: bool, **kwargs: Any
    ) -> tuple[list[str] | None, str]:
        whole = self.normalize(password)
        if len(whole) > LONGEST_PASSWORD:
            return [f"At most {LONGEST_PASSWORD} characters."], whole
        problems, _ = super().validate(whole[:JUDGED], is_register, **kwargs)
        return problems, whole


class Passkeys(WebauthnUtil):
    """A passkey that is to replace the password has to know its owner."""

    def authenticator_selection(
        self, user: Any, usage: str
    ) -> AuthenticatorSelectionCriteria:
        return AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=_verification([usage]),
        )

    def user_verification(
        self, user: Any, usage: list[str]
    ) -> UserVerificationRequirement:
        return _verification(usage)


def _verification(usage: list[str]) -> UserVerificationRequirement:
    if usage == ["secondary"]:
        return UserVerificationRequirement.DISCOURAGED
    return UserVerificationRequirement.REQUIRED


class SealedTotp(Totp):
    """Authenticator codes: the secret sealed by the vault, each code good once."""

    def generate_totp_secret(self) -> str:
        return seal(self._totp.new().to_json(encrypt=False)).ciphertext

    def verify_totp(
        self, token: str, totp_secret: str, user: Any, window: int = 0
    ) -> bool:
        try:
            opened = Sealed(totp_secret).reveal()
        except UnreadableSecret:
            return False
        return bool(super().verify_totp(token, opened, user, window))

    def set_last_counter(self, user: Any, tmatch: TotpMatch) -> None:
        user.use_totp(tmatch.counter)

    def fetch_setup_values(self, totp: str, user: Any) -> dict[str, str]:
        opened: dict[str, str] = super().fetch_setup_values(Sealed(totp).reveal(), user)
        return opened

    def generate_qrcode(self, username: str, totp: str) -> str:
        """Draw the code as part of the page, which loads no data: addresses."""
        image = qrcode.make(
            self.get_totp_uri(username, totp),
            image_factory=qrcode.image.svg.SvgPathImage,
        )
        return Markup(image.to_string(encoding="unicode"))  # noqa: S704  our own drawing
