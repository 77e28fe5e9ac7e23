"""A practice org: a small OAuth 2.0 server that behaves as Salesforce does.

It is a process of its own for trying things on a laptop and in tests, bound to
the loopback interface, and never imported by Orgdesk. The authorization
server is Authlib's, an implementation independent of the client's.
"""

import os
import secrets
import tempfile
from pathlib import Path

from flask import Flask, abort, request

from practice_org import board, endpoints, log, oauth, pages, switchboard
from practice_org.board import CONSUMER_SECRET
from practice_org.database import db, make_tables
from practice_org.models import PracticeClient

__all__ = ["CLIENT_ID", "CONSUMER_SECRET", "create_practice_org"]

CLIENT_ID = "3MVG9PracticeOrgConsumerKey"


def create_practice_org(database: Path | None, callback_urls: list[str]) -> Flask:
    """Make the org. Without a `database` file it forgets everything at its end."""
    # Authlib refuses plain http elsewhere than on "localhost".
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"
    folder = tempfile.TemporaryDirectory(prefix="practice-org-")
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY=secrets.token_bytes(32),
        SESSION_COOKIE_NAME="practice_org",
        SESSION_COOKIE_SAMESITE="Lax",
        SQLALCHEMY_DATABASE_URI=f"sqlite:///{database or folder.name + '/org.db'}",
    )
    app.extensions["folder"] = folder
    app.extensions["practice_client"] = PracticeClient(CLIENT_ID, tuple(callback_urls))
    app.extensions["switchboard"] = board.Switchboard()
    db.init_app(app)
    oauth.init_app(app)
    app.register_blueprint(pages.blueprint)
    app.register_blueprint(endpoints.blueprint)
    app.register_blueprint(switchboard.blueprint)
    app.before_request(log.arrive)
    app.before_request(only_from_here)
    with app.app_context():
        make_tables()
    return app


def only_from_here() -> None:
    """Another site's page must press no buttons in a visitor's practice org."""
    origin = request.headers.get("Origin")
    if request.method == "POST" and origin not in (None, request.host_url.rstrip("/")):
        abort(403)
