"""What a person sees of the org: the login page and the question to allow."""

import hashlib
from urllib.parse import parse_qs

from authlib.oauth2 import OAuth2Error
from flask import (
    Blueprint,
    redirect,
    render_template,
    request,
    session,
    url_for,
)
from werkzeug.wrappers import Response

from practice_org.models import USERS, Approval, User
from practice_org.oauth import server

blueprint = Blueprint("pages", __name__)

AUTHORIZE = "/services/oauth2/authorize"
Page = str | Response | tuple[str, int]


@blueprint.get("/")
def index() -> Page:
    return redirect(url_for("switchboard.show"))


@blueprint.route(AUTHORIZE, methods=["GET", "POST"])
def authorize() -> Page:
    user = _signed_in()
    try:
        grant = server.get_consent_grant(end_user=user)
    except OAuth2Error as error:
        return _error_page(error)
    if user is None:
        return render_template("login.html", users=USERS.values(), wrong=False)
    if request.method == "POST":
        allowed = request.form.get("decision") == "allow"
        return _answer(grant, user if allowed else None)
    if Approval.of(user) and request.args.get("prompt") != "consent":
        return _answer(grant, user)
    scopes = grant.request.scope.split()
    return render_template("consent.html", user=user, scopes=scopes)


@blueprint.post("/login")
def login() -> Page:
    user = USERS.get(request.form.get("username", ""))
    if user is None or request.form.get("password") != user.password:
        return render_template("login.html", users=USERS.values(), wrong=True), 401
    session.update(username=user.username, login_for=_digest(request.query_string))
    return redirect(f"{AUTHORIZE}?{request.query_string.decode()}", 303)


def _signed_in() -> User | None:
    """The user of this browser; with prompt=login, if the login was for this."""
    prompt = parse_qs(request.query_string.decode()).get("prompt", [])
    if prompt == ["login"] and session.get("login_for") != _digest(
        request.query_string
    ):
        return None
    return USERS.get(session.get("username", ""))


def _answer(grant: object, user: User | None) -> Response:
    session.pop("login_for", None)
    response: Response = server.create_authorization_response(
        grant_user=user, grant=grant
    )
    return response


def _error_page(error: OAuth2Error) -> Page:
    """Some errors go back to the app; a wrong app or address stays here."""
    if error.redirect_uri:
        response: Response = server.handle_error_response(None, error)
        return response
    code, words = error.error, error.description or ""
    if code == "invalid_client":
        code, words = "invalid_client_id", "client identifier invalid"
    elif words.startswith("Redirect URI"):
        code, words = "redirect_uri_mismatch", "redirect_uri must match configuration"
    return render_template("error.html", code=code, words=words), 400


def _digest(query: bytes) -> str:
    return hashlib.sha256(query).hexdigest()
