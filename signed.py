"""Words that this installation signs for itself, and gives to a browser to carry."""

import hashlib

from flask import current_app
from itsdangerous import URLSafeTimedSerializer


def signer(purpose: str) -> URLSafeTimedSerializer:
    """Sign with the key of cookies, and take what a former one signed.

    What was signed for one purpose is no good for another.
    """
    config = current_app.config
    return URLSafeTimedSerializer(
        [*config["SECRET_KEY_FALLBACKS"], config["SECRET_KEY"]],
        salt=f"orgdesk {purpose}",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )


def mark_of(browser: str) -> str:
    """Tell one browser from another without giving its sign-in's token away."""
    return hashlib.sha256(browser.encode()).hexdigest()[:16]
