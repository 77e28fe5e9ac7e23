"""What one signs in with: Flask-Security's parts, and the rules that are ours.

A password is judged, a code of the authenticator app and a recovery code are
good once, a passkey belongs to the browser and the user it was asked of. What
is refused leaves an audit row.
"""

import logging
from typing import Any, cast

import qrcode
import qrcode.image.svg
from flask import session
from flask_login import current_user
from flask_security import (
    ChangePasswordForm,
    LoginForm,
    MfRecoveryCodesUtil,
    PasswordUtil,
    SQLAlchemyUserDatastore,
    Totp,
    TwoFactorVerifyCodeForm,
    VerifyForm,
    WebAuthnRegisterResponseForm,
    WebAuthnSigninResponseForm,
    WebauthnUtil,
)
from flask_security.utils import validate_redirect_url
from markupsafe import Markup
from passlib.totp import TotpMatch
from sqlalchemy.exc import SQLAlchemyError
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from wtforms import Field

import audit
from database import db
from models import Event, Passkey, User
from vault import Sealed, UnreadableSecret, seal

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 128
JUDGED = 72
"""Characters that zxcvbn looks at; it refuses to judge more."""
OWN_WORDS = ("orgdesk", "salesforce", "admin", "token", "refresh", "practice")
"""Words of this place, which make no password harder to guess."""
RECOVERY_CODES = 8
CHALLENGE = "passkey_challenge"
"""Where the session has what a passkey is to answer."""
AGAIN = "That passkey was asked for elsewhere, or before. Start again."

log = logging.getLogger(__name__)


class Users(SQLAlchemyUserDatastore):
    """Knows that sign-ins are rows, and what is to be recorded."""

    def set_uniquifier(self, user: Any, uniquifier: str | None = None) -> None:
        user.sign_out_everywhere()

    def mf_set_recovery_codes(self, user: Any, rcs: list[str] | None) -> None:
        super().mf_set_recovery_codes(user, rcs)
        audit.record(Event.SECOND_FACTOR_CHANGED, user, change="recovery codes made")
        db.session.commit()

    def delete_webauthn(self, webauthn: Any) -> None:
        passkey = cast("Passkey", webauthn)
        super().delete_webauthn(passkey)
        change = f"passkey removed: {passkey.name}"
        audit.record(Event.SECOND_FACTOR_CHANGED, current_user, change=change)
        db.session.commit()

    def commit(self) -> None:
        """Store when a passkey was used last: all else is committed by then.

        The library calls this behind the view, where no page can tell of a
        failure, so there is none.
        """
        try:
            db.session.commit()
        except SQLAlchemyError as error:
            log.warning(
                "Not stored after the answer: %s", getattr(error, "orig", error)
            )
            db.session.rollback()


class Passwords(PasswordUtil):
    """The library's checks; a long passphrase is judged by its beginning."""

    def normalize(self, password: str) -> str:
        """Cut what is too long to be anybody's: to argon2 it would be an error."""
        return super().normalize(password[: LONGEST_PASSWORD + 1])[
            : LONGEST_PASSWORD + 1
        ]

    def validate(
        self, password: str, is_register: bool, **kwargs: Any
    ) -> tuple[list[str] | None, str]:
        whole = self.normalize(password)
        if len(whole) > LONGEST_PASSWORD:
            return [f"At most {LONGEST_PASSWORD} characters."], whole
        email = kwargs["user"].email if "user" in kwargs else kwargs["email"]
        words = {"email": email} | {word: word for word in OWN_WORDS}
        problems, _ = super().validate(whole[:JUDGED], is_register=True, **words)
        return problems, whole


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


class Passkeys(WebauthnUtil):
    """A passkey that is to replace the password has to know its owner."""

    def generate_challenge(self, nbytes: int | None = None) -> str:
        """Draw a challenge, and remember which browser it was drawn for."""
        session[CHALLENGE] = challenge = super().generate_challenge(nbytes)
        return challenge

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


class _WithinTheSite:
    """A form that leads nowhere else, and home where it was told to."""

    def validate_next(self, field: Field) -> None:
        if not validate_redirect_url(field.data):
            field.data = ""


class SignInForm(_WithinTheSite, LoginForm):
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


class ConfirmForm(_WithinTheSite, VerifyForm):
    """The library's form."""


class NewPasswordForm(ChangePasswordForm):
    """The library's form; a wrong present password leaves a trace."""

    def validate(self, **kwargs: Any) -> bool:
        valid = bool(super().validate(**kwargs))
        if self.password.data and self.password.errors:
            audit.record(Event.SIGN_IN_FAILED, current_user, how="present password")
            db.session.commit()
        return valid


class CodeForm(TwoFactorVerifyCodeForm):
    """The library's form; an app is set up where its key was shown, and there alone."""

    def validate(self, **kwargs: Any) -> bool:
        if self.is_setup and self.tf_totp_secret != session.get("tf_totp_secret"):
            return False
        return bool(super().validate(**kwargs))


class NewPasskeyForm(WebAuthnRegisterResponseForm):
    """The library's form; a passkey is made where it was asked for, and once."""

    def validate(self, **kwargs: Any) -> bool:
        if session.pop(CHALLENGE, None) != self.challenge:
            self.credential.errors = [AGAIN]
            return False
        return bool(super().validate(**kwargs))


class PasskeyForm(WebAuthnSigninResponseForm):
    """The library's form; it holds a passkey to where, and of whom, it was asked.

    As a second factor it has to be the one of who gave the password. Instead of
    the password it has to know its owner. A deactivated account has none.
    """

    def validate(self, **kwargs: Any) -> bool:
        if session.pop(CHALLENGE, None) != self.challenge:
            self.credential.errors = [AGAIN]
            return False
        self.user_verification = self.user_verification or not self.is_secondary
        return bool(super().validate(**kwargs)) and self._is_of_its_user()

    def _is_of_its_user(self) -> bool:
        user = cast("User", self.user)
        of_the_password = session.get("tf_user_id")
        if user.active and (
            not self.is_secondary or user.fs_uniquifier == of_the_password
        ):
            return True
        audit.record(Event.SIGN_IN_FAILED, user, how="passkey")
        db.session.commit()
        self.credential.errors = ["This passkey does not open this account."]
        return False


PARTS: dict[str, Any] = {
    "login_form": SignInForm,
    "verify_form": ConfirmForm,
    "change_password_form": NewPasswordForm,
    "two_factor_verify_code_form": CodeForm,
    "wan_register_response_form": NewPasskeyForm,
    "wan_signin_response_form": PasskeyForm,
    "totp_cls": SealedTotp,
    "password_util_cls": Passwords,
    "webauthn_util_cls": Passkeys,
    "mf_recovery_codes_util_cls": RecoveryCodes,
}
"""What `Security` takes in place of its own."""
