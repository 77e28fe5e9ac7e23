"""The application factory: wiring only."""

import hashlib
import logging
from collections.abc import Mapping
from typing import Any

from flask import Flask, render_template, request
from flask.sessions import SecureCookieSessionInterface
from flask_migrate import Migrate
from flask_wtf import CSRFProtect
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    NotFound,
    SecurityError,
    ServiceUnavailable,
    TooManyRequests,
)
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import IntegerConverter

import audit
import guard
import headers
import keys
import logs
import panics
import salesforce
import sign_in
import throttle
import tokens
import users
import vault
import wording
from blueprints import (
    account,
    applications,
    attempts,
    authorizations,
    callbacks,
    checks,
    holds,
    invitations,
    overview,
    revocations,
    secrets,
    sites,
)
from blueprints import audit as audit_trail
from blueprints import panics as panic_pages
from blueprints import users as user_pages
from config import read_settings
from database import db
from engine import RecordGone
from models import LARGEST_ID, gate
from responses import asked_by_htmx

LARGEST_REQUEST = 64 * 1024
"""Bytes; the longest form is a tenth of it."""

log = logging.getLogger(__name__)


class SessionCookie(SecureCookieSessionInterface):
    """Signed with HMAC-SHA-256; Flask's own is SHA-1."""

    digest_method = staticmethod(hashlib.sha256)


class IdConverter(IntegerConverter):
    """An id that the database can hold; anything larger is no record's."""

    def __init__(self, url_map: Any) -> None:
        super().__init__(url_map, max=LARGEST_ID)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make Orgdesk. `config` overrides the settings that the environment gives."""
    settings = read_settings()
    app = Flask(__name__, instance_path=str(settings.instance))
    https = settings.is_https
    app.config.from_mapping(
        SECRET_KEY=settings.secret_key,
        SECRET_KEY_FALLBACKS=settings.secret_key_fallbacks,
        VAULT_KEYS=settings.vault_keys,
        SQLALCHEMY_DATABASE_URI=settings.database_url,
        EXTERNAL_URL=settings.external_url,
        ADDRESS=settings.address,
        SQLALCHEMY_ENGINE_OPTIONS={"hide_parameters": True},
        MAX_CONTENT_LENGTH=LARGEST_REQUEST,
        TRUSTED_HOSTS=settings.hosts,
        SESSION_COOKIE_NAME="__Host-orgdesk" if https else "orgdesk",
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=https,
        WTF_CSRF_TIME_LIMIT=None,
    )
    app.config.from_mapping(config or {})
    app.session_interface = SessionCookie()
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.url_map.converters["id"] = IdConverter
    app.wsgi_app = ProxyFix(  # type: ignore[method-assign]
        app.wsgi_app,
        x_for=settings.proxies,
        x_proto=settings.proxies,
        x_host=settings.proxies,
    )
    logs.init_app(app, level=settings.log_level, proxies=settings.proxies)
    salesforce.quiet_loggers()
    db.init_app(app)
    Migrate(app, db)
    guard.init_app(app)
    CSRFProtect(app)
    sign_in.init_app(app)
    own_keys = app.config["VAULT_KEYS"] == settings.vault_keys
    vault.init_app(
        app, app.config["VAULT_KEYS"], settings.vault_key_file if own_keys else None
    )
    salesforce.init_app(app, gate)
    keys.init_app(app)
    panics.init_app(app)
    app.cli.add_command(audit.commands)
    app.cli.add_command(tokens.commands)
    app.cli.add_command(users.commands)
    for resource in (
        *(account, applications, attempts, audit_trail, authorizations, callbacks),
        *(checks, holds, invitations, overview, panic_pages, revocations, secrets),
        *(sites, user_pages),
    ):
        app.register_blueprint(resource.blueprint)
    guard.mark_pages_of_others(app)
    throttle.init_app(app, settings.limits_url)
    app.register_error_handler(HTTPException, _error_page)
    app.register_error_handler(SecurityError, _wrong_host)
    app.register_error_handler(CSRFError, _csrf_failed)
    app.register_error_handler(TooManyRequests, _too_many)
    for gone in (RecordGone, ObjectDeletedError, StaleDataError):
        app.register_error_handler(gone, _gone)
    app.register_error_handler(SQLAlchemyError, _database_failed)
    headers.init_app(app)
    wording.init_app(app)
    return app


def _error_page(error: HTTPException) -> tuple[str, int, dict[str, str]]:
    more = dict(error.get_headers())  # Allow, Retry-After
    if asked_by_htmx():
        more |= {"HX-Retarget": "body", "HX-Reswap": "innerHTML"}
    return render_template("error.html", error=error), error.code or 500, more


def _wrong_host(error: SecurityError) -> tuple[str, int, dict[str, str]]:
    """Answer in plain text: without a host of its own the app has no addresses."""
    sentence = (
        "This is not a host name of Orgdesk. Whoever runs it sets"
        " ORGDESK_EXTERNAL_URL to the address that browsers use."
    )
    return sentence, 400, {"Content-Type": "text/plain; charset=utf-8"}


def _too_many(error: TooManyRequests) -> tuple[str, int, dict[str, str]]:
    log.warning("Too many tries from %s: %s", request.remote_addr, request.endpoint)
    return _error_page(error)


def _csrf_failed(error: CSRFError) -> tuple[str, int, dict[str, str]]:
    log.warning("A form without its token came from %s", request.remote_addr)
    return _error_page(
        BadRequest(
            "This form is not from a page of this browser's own, or its cookie is"
            " gone. Go back, reload the page and send it again."
        )
    )


def _gone(error: Exception) -> tuple[str, int, dict[str, str]]:
    db.session.rollback()
    return _error_page(NotFound("The record was deleted in the meantime."))


def _database_failed(error: SQLAlchemyError) -> tuple[str, int, dict[str, str]]:
    log.error("The database failed: %s", getattr(error, "orig", error))
    db.session.rollback()
    sign_in.ask_nobody()
    return _error_page(
        ServiceUnavailable("The database does not answer. Try again in a moment.")
    )
