"""stub"""

from enum import StrEnum


class Event(StrEnum):
    SIGN_IN = "sign_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_OUT = "sign_out"
    PASSWORD_CHANGED = "password_changed"
    SECOND_FACTOR_CHANGED = "second_factor_changed"
    USER_INVITED = "user_invited"
    USER_CHANGED = "user_changed"
    USER_DEACTIVATED = "user_deactivated"
    USER_REACTIVATED = "user_reactivated"
    RECOVERY_CODE_USED = "recovery_code_used"
    INVITATION_ACCEPTED = "invitation_accepted"
    SECRET_REVEALED = "secret_revealed"
    SECRET_COPIED = "secret_copied"
    RECORD_EXPORTED = "record_exported"
