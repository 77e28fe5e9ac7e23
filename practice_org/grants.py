"""The flows by which tokens are given out: Authlib's grants, as Salesforce has them."""

from threading import Lock
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import OAuth2Request
from authlib.oauth2.rfc6749.errors import InvalidGrantError, InvalidRequestError
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc7523 import JWTBearerGrant
from authlib.oauth2.rfc7636 import CodeChallenge
from flask import request
from joserfc.jwk import RSAKey

from practice_org.board import board, now, switches
from practice_org.database import db
from practice_org.models import (
    USERS,
    Approval,
    Certificate,
    Code,
    PracticeClient,
    Token,
    User,
    new_code,
)

AUTH_METHODS = ["client_secret_post", "client_secret_basic"]
LOGIN_HOSTS = ("https://login.salesforce.com", "https://test.salesforce.com")
LONGEST_ASSERTION = 5 * 60
"""Seconds that an assertion may have to live."""

EXPIRED_CODE = "expired authorization code"
DEAD_TOKEN = "expired access/refresh token"
BAD_VERIFIER = "invalid code verifier"
BAD_ASSERTION = "invalid assertion"
BAD_AUDIENCE = "audience is invalid"
NOT_APPROVED = "user hasn't approved this consumer"
NO_RUN_AS = "no client credentials user enabled"
WRONG_HOST = "request not supported on this domain"


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


class WithoutLogin:
    """What the flows without a login page have in common.

    They give no refresh token, and the same access token as long as it lives:
    whoever revokes it ends it for all.
    """

    request: Any
    _one_at_a_time = Lock()  # or two at once would not get the same

    def create_token_response(self: Any) -> tuple[int, dict[str, str], Any]:
        with self._one_at_a_time:
            token = self.generate_token(
                user=self.request.user,
                scope=self.client.get_allowed_scope(None),
                include_refresh_token=False,
            )
            self.save_token(token)
        return 200, token, self.TOKEN_RESPONSE_HEADER


class ClientCredentialsFlow(WithoutLogin, ClientCredentialsGrant):
    """The app's own access, as the user whom the admin chose to run it as."""

    TOKEN_ENDPOINT_AUTH_METHODS = AUTH_METHODS

    def validate_token_request(self) -> None:
        if switches().login_host:
            raise InvalidGrantError(WRONG_HOST)
        super().validate_token_request()
        self.request.user = USERS.get(switches().run_as)
        if self.request.user is None:
            raise InvalidGrantError(NO_RUN_AS)


class JwtBearerFlow(WithoutLogin, JWTBearerGrant):
    """An assertion instead of a login, signed with the certificate's key: RS256,
    the only algorithm for RSA keys that Authlib takes.
    """

    def validate_token_request(self) -> None:
        super().validate_token_request()
        if self.request.user is None:  # there was no `sub`
            raise InvalidGrantError(NOT_APPROVED)

    def process_assertion_claims(self, assertion: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = super().process_assertion_claims(assertion)
        except InvalidGrantError:
            raise InvalidGrantError(BAD_ASSERTION) from None
        named, expiry = claims.get("aud"), claims.get("exp")
        names = named if isinstance(named, list) else [named]
        if not any(name in self.get_audiences() for name in names):
            raise InvalidGrantError(BAD_AUDIENCE)
        left = expiry - now() if isinstance(expiry, int | float) else 0
        if not 0 < left <= LONGEST_ASSERTION:
            raise InvalidGrantError(EXPIRED_CODE)
        return claims

    def verify_claims(self, _claims: Any) -> None:
        """They are judged when the signature is known to be good."""

    def resolve_issuer_client(self, issuer: str) -> PracticeClient:
        found: PracticeClient | None = self.server.query_client(issuer)
        if found is None:
            raise OAuth2Error("client identifier invalid", error="invalid_client_id")
        return found

    def resolve_client_public_key(self, _client: PracticeClient) -> RSAKey:
        certificate = Certificate.current()
        if certificate is None:
            raise InvalidGrantError(BAD_ASSERTION)
        return RSAKey.import_key(certificate.pem)

    def get_audiences(self) -> list[str]:
        own = request.host_url.rstrip("/")
        return [own, f"{own}/services/oauth2/token", *LOGIN_HOSTS]

    def authenticate_user(self, subject: Any) -> User:
        user = USERS.get(str(subject))
        allowed = user and (switches().pre_authorized or Approval.of(user))
        if user is None or not allowed:
            raise InvalidGrantError(NOT_APPROVED)
        return user

    def has_granted_permission(self, _client: PracticeClient, _user: User) -> bool:
        return True
