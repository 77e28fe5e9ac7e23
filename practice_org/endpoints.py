"""What programs ask of the org: tokens, and the resources that tokens open."""

import socket
import time

from flask import Blueprint, Response, abort, g, jsonify, request

from practice_org.board import (
    API_REQUESTS,
    Fault,
    Introspection,
    Rest,
    Revocation,
    board,
    switches,
)
from practice_org.database import db
from practice_org.log import line_of
from practice_org.models import Token, User
from practice_org.oauth import (
    identity_url,
    named,
    organization_id,
    organization_name,
    refusal,
    server,
)

blueprint = Blueprint("endpoints", __name__)

VERSIONS = ("65.0", "66.0", "67.0")
LABELS = ("Winter '26", "Spring '26", "Summer '26")
SOQL = "SELECT Name FROM Organization LIMIT 1"
"""The one query that the org knows."""
DEAD_SESSION = "INVALID_SESSION_ID"
OPENS_USERINFO = {"id", "openid", "full"}
OPENS_IDENTITY = {"id", "full"}
OPENS_API = {"api", "full"}
HTML = "<!doctype html><title>Sorry</title><h1>We are down for maintenance.</h1>"


@blueprint.before_request
def fail() -> Response | None:
    """Do to the REST API what the switchboard says."""
    if not request.path.startswith("/services/data"):
        return None
    if switches().rest is Rest.OUTAGE:
        return Response(HTML, 503, mimetype="text/html")
    if switches().rest is Rest.SLOW:
        time.sleep(switches().seconds)
    return None


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
    user = named(_owner(OPENS_USERINFO))
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
    """Tell who it is, also at the address that named nobody else yet."""
    owner = _owner(OPENS_IDENTITY)
    user = named(owner)
    organizations = (owner.organization_id, organization_id(owner))
    users = (owner.user_id, user.user_id)
    if organization not in organizations or user_id not in users:
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
            {"label": label, "url": f"/services/data/v{version}", "version": version}
            for label, version in zip(LABELS, VERSIONS, strict=True)
        ]
    )


@blueprint.get("/services/data/v<version>/limits")
def limits(version: str) -> Response:
    _api_user(version)
    left = API_REQUESTS - switches().api_used
    return jsonify(DailyApiRequests={"Max": API_REQUESTS, "Remaining": left})


@blueprint.get("/services/data/v<version>/query")
def query(version: str) -> Response:
    user = _api_user(version)
    if request.args.get("q") != SOQL:
        return _rest_refusal(400, "MALFORMED_QUERY", "unexpected token")
    url = f"/services/data/v{version}/sobjects/Organization/{organization_id(user)}"
    record = {
        "attributes": {"type": "Organization", "url": url},
        "Name": organization_name(),
    }
    return jsonify(totalSize=1, done=True, records=[record])


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


def _owner(scopes: set[str]) -> User:
    """Return whose token it is, if one of the scopes opens what says so."""
    found = _bearer()
    if found is None:
        abort(Response("Bad_OAuth_Token", 403))
    if not scopes & set(found.get_scope().split()):
        abort(refusal("insufficient_scope", "the token has no scope for this", 403))
    return found.approval.user


def _api_user(version: str) -> User:
    """Return who uses the REST API, if the token and the day's limit let them.

    A token without the scope is refused in the words that Salesforce Help quotes
    (article 005226515), under the code of a dead one.
    """
    found = _bearer()
    if found is None:
        abort(_rest_refusal(401, DEAD_SESSION, "Session expired or invalid"))
    if not OPENS_API & set(found.get_scope().split()):
        words = "This session is not valid for use with the REST API"
        abort(_rest_refusal(401, DEAD_SESSION, words))
    if switches().api_used >= API_REQUESTS:
        words = "TotalRequests Limit exceeded."
        abort(_rest_refusal(403, "REQUEST_LIMIT_EXCEEDED", words))
    if version not in VERSIONS:
        abort(_rest_refusal(404, "NOT_FOUND", "The requested resource does not exist"))
    return found.approval.user


def _bearer() -> Token | None:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    found = Token.find(value, "access_token")
    return found if scheme == "Bearer" and found and found.is_live else None


def _rest_refusal(status: int, code: str, message: str) -> Response:
    response = jsonify([{"errorCode": code, "message": message}])
    response.status_code = status
    return response
