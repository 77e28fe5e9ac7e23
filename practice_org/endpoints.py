"""What programs ask of the org: tokens, and the resources that tokens open."""

import socket
import time

from flask import Blueprint, Response, abort, g, jsonify, request

from practice_org.board import Fault, Introspection, Revocation, board, switches
from practice_org.database import db
from practice_org.log import line_of
from practice_org.models import Token, User
from practice_org.oauth import identity_url, organization_id, refusal, server

blueprint = Blueprint("endpoints", __name__)

VERSIONS = ("65.0", "66.0", "67.0")
HTML = "<!doctype html><title>Sorry</title><h1>We are down for maintenance.</h1>"


@blueprint.after_request
def note(response: Response) -> Response:
    """Log the answer, before anybody can have seen it; a lost one nobody sees."""
    board().log.add(line_of(response))
    board().count(waiting=-g.pop("waiting", 0))
    if not g.answered:
        line: socket.socket = request.environ["werkzeug.socket"]
        line.shutdown(socket.SHUT_RDWR)
    return response


@blueprint.post("/services/oauth2/token")
def token() -> Response:
    begun, g.waiting = board().begin(), 1
    return _answer(begun)


@blueprint.post("/services/oauth2/revoke")
def revoke() -> Response:
    if switches().revocation is Revocation.OUTAGE:
        return Response(HTML, 503, mimetype="text/html")
    g.answered = switches().revocation is not Revocation.LOST
    found = Token.find(request.form.get("token", ""))
    if found is None or not found.is_live:
        return refusal("invalid_token", "invalid token")
    is_family = found.kind == "refresh_token"
    ended = found.approval.end() if is_family else found.retire()
    db.session.commit()
    return Response(status=200) if ended else refusal("invalid_token", "invalid token")


@blueprint.post("/services/oauth2/introspect")
def introspect() -> Response:
    if switches().introspection is Introspection.REFUSED:
        return refusal("insufficient_access", "introspection not allowed", 403)
    response: Response = server.create_endpoint_response("introspection")
    return response


@blueprint.get("/services/oauth2/userinfo")
def userinfo() -> Response:
    user = _bearer(403, "Bad_OAuth_Token")
    return jsonify(
        sub=identity_url(user),
        user_id=user.user_id,
        organization_id=organization_id(user),
        preferred_username=user.username,
        nickname=user.username.partition("@")[0],
        name=user.display_name,
        email=user.username,
        email_verified=True,
        zoneinfo="Europe/Berlin",
        user_type="STANDARD",
        language="en_US",
        locale="en_US",
        active=True,
    )


@blueprint.get("/id/<organization>/<user_id>")
def identity(organization: str, user_id: str) -> Response:
    user = _bearer(403, "Bad_OAuth_Token")
    if (organization, user_id) != (organization_id(user), user.user_id):
        abort(404)
    return jsonify(
        id=identity_url(user),
        asserted_user=True,
        user_id=user.user_id,
        organization_id=organization_id(user),
        username=user.username,
        nick_name=user.username.partition("@")[0],
        display_name=user.display_name,
        email=user.username,
        active=True,
        user_type="STANDARD",
        language="en_US",
        locale="en_US",
    )


@blueprint.get("/services/data")
def versions() -> Response:
    return jsonify(
        [
            {"label": version, "url": f"/services/data/v{version}", "version": version}
            for version in VERSIONS
        ]
    )


@blueprint.get("/services/data/v<version>/limits")
def limits(version: str) -> Response:
    _bearer(401, "INVALID_SESSION_ID")
    if version not in VERSIONS:
        abort(404)
    return jsonify(DailyApiRequests={"Max": 15_000, "Remaining": 14_998})


def _answer(begun: int) -> Response:
    """Answer a token request, with the fault that is on."""
    fault = board().take_fault()
    if instead := _instead(fault):
        return instead
    if fault is Fault.SLOW:
        time.sleep(switches().seconds)
    elif fault is Fault.HOLD_BEFORE:
        board().hold(begun)
    response = _work()
    if fault is Fault.HOLD:
        db.session.remove()  # there are fewer connections than may be held
        board().hold(begun)
    g.answered = fault is not Fault.LOST_ANSWER
    if response.status_code == 200:
        fields = response.get_json()
        if fault is Fault.MISSING_FIELDS:
            kept = ("access_token", "token_type")
            return jsonify({name: fields[name] for name in kept})
        if fault is Fault.SPOILT:
            del fields["access_token"]
            return jsonify(fields)
    return response


def _instead(fault: Fault) -> Response | None:
    """Return what is answered while no work is done."""
    if fault is Fault.TOO_MANY_REQUESTS:
        headers = {"Retry-After": switches().retry_after}
        return Response("Too many requests", 429, headers)
    if fault is Fault.OUTAGE:
        return Response(HTML, 503, mimetype="text/html")
    if fault is Fault.NONSENSE:
        return Response(HTML, 200, mimetype="text/html")
    if fault is Fault.ERROR:
        error, _, description = switches().error.partition(": ")
        return refusal(error, description)
    return None


def _work() -> Response:
    if "scope" in request.form:
        return refusal("invalid_request", "scope parameter not supported")
    response: Response = server.create_token_response()
    return response


def _bearer(status: int, error: str) -> User:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    found = Token.find(value, "access_token")
    if scheme != "Bearer" or found is None or not found.is_live:
        message = {"errorCode": error, "message": "Session expired or invalid"}
        response = jsonify([message]) if status == 401 else Response(error)
        response.status_code = status
        abort(response)
    return found.approval.user
