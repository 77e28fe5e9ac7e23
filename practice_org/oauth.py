"""The authorization server: Authlib's, with Salesforce's fields and error texts."""

import base64
import hmac
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from flask import Flask, Response, current_app, jsonify, request

from practice_org.board import Introspection, Signing, now, switches
from practice_org.database import db
from practice_org.grants import (
    AUTH_METHODS,
    ClientCredentialsFlow,
    JwtBearerFlow,
    ProofKey,
    RefreshTokenFlow,
    WebServerFlow,
)
from practice_org.models import (
    LOGIN,
    OTHER_ORGANIZATION,
    OTHER_ORGANIZATION_ID,
    OTHER_USER,
    Approval,
    PracticeClient,
    Token,
    User,
    new_access_token,
    new_refresh_token,
)

WITHOUT_LOGIN = (ClientCredentialsFlow.GRANT_TYPE, JwtBearerFlow.GRANT_TYPE)


class SalesforceServer(AuthorizationServer):
    """Says no in Salesforce's words."""

    def handle_error_response(self, _request: OAuth2Request, error: OAuth2Error) -> Any:
        if error.redirect_uri:
            return self.handle_response(*error())
        code, description = str(error.error), str(error.description or "")
        if code == "invalid_client":
            known = request.values.get("client_id") in (None, client().client_id)
            code = "invalid_client" if known else "invalid_client_id"
            description = (
                "invalid client credentials" if known else "client identifier invalid"
            )
        elif code == "unsupported_grant_type":
            description = "grant type not supported"
        return refusal(code, description)


server = SalesforceServer()


class TokenIntrospection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token: str, _hint: str | None) -> Token | None:
        return Token.find(token)

    def check_permission(self, _token: Token, _client: Any, _request: Any) -> bool:
        return True

    def introspect_token(self, token: Token) -> dict[str, object]:
        user = token.approval.user
        times = {"iat": int(token.issued_at), "nbf": int(token.issued_at)}
        lifetime = token.get_expires_in()
        if lifetime and switches().introspection is not Introspection.WITHOUT_EXP:
            times["exp"] = int(token.issued_at) + lifetime
        return {
            "active": True,
            "scope": token.get_scope(),
            "client_id": client().client_id,
            "username": named(user).username,
            "sub": identity_url(user),
            "token_type": token.kind,
            **times,
        }


def init_app(app: Flask) -> None:
    server.init_app(app, known_client, save_token)
    server.register_token_generator("default", make_token)
    if not server._token_grants:
        server.register_grant(WebServerFlow, [ProofKey(required=True)])
        server.register_grant(RefreshTokenFlow)
        server.register_grant(ClientCredentialsFlow)
        server.register_grant(JwtBearerFlow)
        server.register_endpoint(TokenIntrospection)


def client() -> PracticeClient:
    the_client: PracticeClient = current_app.extensions["practice_client"]
    return the_client


def known_client(client_id: str) -> PracticeClient | None:
    return client() if client_id == client().client_id else None


def make_token(
    grant_type: str,
    user: User,
    scope: str,
    include_refresh_token: bool,
    **_: Any,
) -> dict[str, str]:
    """Make the fields of an answer. There is no expires_in: Salesforce sends none."""
    shared = Token.shared(user, grant_type) if grant_type in WITHOUT_LOGIN else None
    token = {
        "access_token": shared.token
        if shared
        else new_access_token(organization_id(user)),
        "scope": scope,
        "instance_url": request.host_url.rstrip("/"),
        "id": identity_url(user),
        "token_type": "Bearer",
    }
    if grant_type != JwtBearerFlow.GRANT_TYPE:  # there is no secret to sign with
        token |= _signature(token["id"])
    first = grant_type == WebServerFlow.GRANT_TYPE and "refresh_token" in scope.split()
    rotated = grant_type == RefreshTokenFlow.GRANT_TYPE and include_refresh_token
    if first or rotated:
        token["refresh_token"] = new_refresh_token()
    return token


def save_token(token: dict[str, str], asked: OAuth2Request) -> None:
    flow = asked.payload.grant_type
    if flow in WITHOUT_LOGIN and Token.find(token["access_token"]):
        return
    if asked.refresh_token:
        approval = asked.refresh_token.approval
    else:
        approval = Approval(
            username=asked.user.username, scope=token["scope"], flow=flow
        )
        db.session.add(approval)
    for kind in ("access_token", "refresh_token"):
        if kind in token:
            db.session.add(Token(token=token[kind], kind=kind, approval=approval))
    if flow == LOGIN:
        for oldest in Approval.all_of(asked.user)[: -switches().approval_limit]:
            oldest.end()
    db.session.commit()


def _signature(identity: str) -> dict[str, str]:
    """Sign the identity and the milliseconds since 1970 of just now."""
    issued_at = str(int(now() * 1000))
    if switches().signature is Signing.ABSENT:
        return {"issued_at": issued_at}
    key = "wrong" if switches().signature is Signing.WRONG else _sent_secret()
    message = (identity + issued_at).encode()
    digest = hmac.digest(key.encode(), message, "sha256")
    return {"issued_at": issued_at, "signature": base64.b64encode(digest).decode()}


def _sent_secret() -> str:
    """The consumer secret of this request: of two that are accepted, it signs."""
    _, secret = extract_basic_authorization(request.headers)
    return secret or request.form["client_secret"]


def organization_id(user: User) -> str:
    return OTHER_ORGANIZATION_ID if switches().wrong_org else user.organization_id


def organization_name() -> str:
    on = switches()
    return OTHER_ORGANIZATION if on.wrong_org else on.organization_name


def named(user: User) -> User:
    """Return whom answers name when they are about this user."""
    return OTHER_USER if switches().wrong_user else user


def identity_url(user: User) -> str:
    host = switches().id_host or request.host_url.rstrip("/")
    return f"{host}/id/{organization_id(user)}/{named(user).user_id}"


def refusal(error: str, description: str, status: int = 400) -> Response:
    response = jsonify(error=error, error_description=description)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response
