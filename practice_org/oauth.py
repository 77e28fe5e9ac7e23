"""The authorization server: Authlib's, with Salesforce's fields and error texts."""

import base64
import hmac
import time
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant, RefreshTokenGrant
from authlib.oauth2.rfc6749.util import extract_basic_authorization
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc7662 import IntrospectionEndpoint
from flask import Flask, Response, current_app, jsonify, request

from practice_org.board import board, switches
from practice_org.models import (
    OTHER_ORGANIZATION_ID,
    USERS,
    Approval,
    Code,
    PracticeClient,
    Token,
    User,
    db,
    new_access_token,
    new_code,
    new_refresh_token,
)

AUTH_METHODS = ["client_secret_post", "client_secret_basic"]
EXPIRED_CODE = "expired authorization code"
DEAD_TOKEN = "expired access/refresh token"
BAD_VERIFIER = "invalid code verifier"


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


class WebServerFlow(AuthorizationCodeGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def generate_authorization_code(self) -> str:
        return new_code()

    def save_authorization_code(self, code: str, asked: OAuth2Request) -> None:
        data = asked.payload.data
        db.session.add(
            Code(
                code=code,
                redirect_uri=asked.payload.redirect_uri,
                scope=asked.scope,
                username=asked.user.username,
                code_challenge=data["code_challenge"],
                code_challenge_method=data["code_challenge_method"],
            )
        )
        db.session.commit()

    def query_authorization_code(self, code: str, _client: PracticeClient) -> Code:
        found = Code.take(code)
        db.session.commit()
        if found is None:
            raise InvalidGrantError(EXPIRED_CODE)
        if found.redirect_uri != self.request.payload.redirect_uri:
            raise InvalidGrantError("redirect_uri must match configuration")
        return found

    def delete_authorization_code(self, code: Code) -> None:
        """It was used up when it was looked up."""

    def authenticate_user(self, code: Code) -> User:
        return USERS[code.username]


class ProofKey(CodeChallenge):
    """PKCE, required and S256 only; the verifier is base64url, without a ~."""

    DEFAULT_CODE_CHALLENGE_METHOD = "S256"
    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]  # noqa: RUF012

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        data = grant.request.payload.data
        if not data.get("code_challenge"):
            raise InvalidRequestError("missing required code challenge")
        if data.get("code_challenge_method") != "S256":
            raise InvalidRequestError("invalid code challenge method")
        super().validate_code_challenge(grant, redirect_uri)

    def validate_code_verifier(self, grant: Any, result: Any) -> None:
        if "~" in grant.request.form.get("code_verifier", ""):
            raise InvalidGrantError(BAD_VERIFIER)
        try:
            super().validate_code_verifier(grant, result)
        except OAuth2Error:
            raise InvalidGrantError(BAD_VERIFIER) from None


class RefreshTokenFlow(RefreshTokenGrant):
    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    @property
    def INCLUDE_NEW_REFRESH_TOKEN(self) -> bool:  # noqa: N802
        return switches().rotation

    def authenticate_refresh_token(self, refresh_token: str) -> Token:
        token = Token.find(refresh_token, "refresh_token")
        if token is None or token.approval.revoked:
            raise InvalidGrantError(DEAD_TOKEN)
        if token.revoked or (switches().rotation and not token.retire()):
            # Somebody has a copy: the whole family is revoked.
            ended = token.approval.end()
            db.session.commit()
            board().count(families_revoked=ended)
            raise InvalidGrantError(DEAD_TOKEN)
        return token

    def authenticate_user(self, token: Token) -> User:
        return token.approval.user

    def revoke_old_credential(self, token: Token) -> None:
        """With rotation it was used up when it was looked up."""


class Introspection(IntrospectionEndpoint):
    CLIENT_AUTH_METHODS = AUTH_METHODS

    def query_token(self, token: str, _hint: str | None) -> Token | None:
        return Token.find(token)

    def check_permission(self, _token: Token, _client: Any, _request: Any) -> bool:
        return True

    def introspect_token(self, token: Token) -> dict[str, object]:
        user = token.approval.user
        times = {"iat": int(token.issued_at), "nbf": int(token.issued_at)}
        if lifetime := token.get_expires_in():
            times["exp"] = int(token.issued_at) + lifetime
        return {
            "active": True,
            "scope": token.get_scope(),
            "client_id": client().client_id,
            "username": user.username,
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
        server.register_endpoint(Introspection)


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
    issued_at = str(int(time.time() * 1000))
    message = (identity_url(user) + issued_at).encode()
    digest = hmac.digest(_sent_secret().encode(), message, "sha256")
    token = {
        "access_token": new_access_token(organization_id(user)),
        "signature": base64.b64encode(digest).decode(),
        "scope": scope,
        "instance_url": request.host_url.rstrip("/"),
        "id": identity_url(user),
        "token_type": "Bearer",
        "issued_at": issued_at,
    }
    first = grant_type == WebServerFlow.GRANT_TYPE and "refresh_token" in scope.split()
    rotated = grant_type == RefreshTokenFlow.GRANT_TYPE and include_refresh_token
    if first or rotated:
        token["refresh_token"] = new_refresh_token()
    return token


def save_token(token: dict[str, str], asked: OAuth2Request) -> None:
    if asked.refresh_token:
        approval = asked.refresh_token.approval
    else:
        approval = Approval(username=asked.user.username, scope=token["scope"])
        db.session.add(approval)
    for kind in ("access_token", "refresh_token"):
        if kind in token:
            db.session.add(Token(token=token[kind], kind=kind, approval=approval))
    db.session.commit()


def _sent_secret() -> str:
    """The consumer secret of this request: of two that are accepted, it signs."""
    _, secret = extract_basic_authorization(request.headers)
    return secret or request.form["client_secret"]


def organization_id(user: User) -> str:
    return OTHER_ORGANIZATION_ID if switches().wrong_org else user.organization_id


def identity_url(user: User) -> str:
    return f"{request.host_url}id/{organization_id(user)}/{user.user_id}"


def refusal(error: str, description: str, status: int = 400) -> Response:
    response = jsonify(error=error, error_description=description)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response
