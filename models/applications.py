"""External Applications, and what one can do: store a token, keep a failure, expire.

Views and the token engine speak in these verbs and never set two columns in a
row.
"""

import logging
import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from sqlalchemy import Enum, Index, String, Text, delete, exists, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column, validates
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.expression import ColumnElement, Exists

from database import Model, Moment, db, now
from models.sites import site_for
from salesforce import (
    NO_SITE,
    Client,
    SalesforceDomain,
    SalesforceError,
    State,
    TokenAnswer,
    origin_of,
    parse_domain,
)
from vault import Encrypted, Sealed, UnreadableSecret, seal

LONGEST_TEXT = 255
LONGEST_RESPONSE = 32_768
"""Characters of the Authorization Server Response that a record keeps."""
LARGEST_ID = 2**31 - 1
"""What PostgreSQL's integer columns hold; a larger one is an error there."""
ANOTHERS = "The stored refresh token is not known to be of the user who logged in."
MOVED = (
    "The Salesforce Domain or the Client ID was changed: the stored token belongs to"
    " the ones before."
)

RECORD_CHANGED = "<record changed>"
SFDX_PART = re.compile(r"[A-Za-z0-9._-]*={0,2}")
"""What sfdx-core takes as a part of an auth URL (`authInfo.ts`)."""

log = logging.getLogger(__name__)


class Lane(StrEnum):
    """The ways to a token."""

    SILENT = "silent"
    """With the stored refresh token, without a page."""
    BROWSER = "browser"
    """Through the org's login page."""


def name_key(name: str) -> str:
    """Fold a name for comparing, searching and sorting: case and width go.

    Unicode's compatibility caseless match (The Unicode Standard, D146).
    """
    folded = unicodedata.normalize("NFKC", name).casefold()
    return unicodedata.normalize("NFKC", folded)


class ExternalApplication(Model):
    """A connection to a Salesforce org: its app, its token, its state."""

    __tablename__ = "external_application"
    audit_kind: ClassVar[str] = "External Application"
    SECRETS: ClassVar = {
        "access_token": "Access Token",
        "refresh_token": "Refresh Token",
        "consumer_secret": "Consumer Secret",
    }
    """The columns that hold them, and their labels."""

    id: Mapped[int] = mapped_column(primary_key=True)
    application_name: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    application_name_key: Mapped[str] = mapped_column(Text, unique=True)
    salesforce_domain: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    client_id: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    consumer_secret: Mapped[Sealed | None] = mapped_column(Encrypted)
    callback_url: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    requested_scopes: Mapped[str] = mapped_column(String(LONGEST_TEXT), default="")
    prompt_login: Mapped[bool] = mapped_column(default=True)

    state: Mapped[State] = mapped_column(
        Enum(
            State,
            native_enum=False,
            length=32,
            values_callable=lambda states: [state.value for state in states],
        ),
        default=State.NEVER_AUTHORIZED,
    )
    access_token: Mapped[Sealed | None] = mapped_column(Encrypted)
    refresh_token: Mapped[Sealed | None] = mapped_column(Encrypted)
    refresh_token_rotates: Mapped[bool] = mapped_column(default=False)
    refresh_token_domain: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    refresh_token_client_id: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    refresh_token_problem: Mapped[str | None] = mapped_column(Text)
    """Why it must not be sent: the org ended the grant, or may have replaced it."""
    instance_url: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    identity_url: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    organization_id: Mapped[str | None] = mapped_column(String(64))
    user_id: Mapped[str | None] = mapped_column(String(64))
    issued_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    granted_scopes: Mapped[str | None] = mapped_column(Text)
    lane: Mapped[str | None] = mapped_column(String(16))
    lane_reason: Mapped[str | None] = mapped_column(Text)
    oauth_code: Mapped[Sealed | None] = mapped_column(Encrypted)
    oauth_code_received_at: Mapped[datetime | None] = mapped_column(Moment)
    oauth_code_used_at: Mapped[datetime | None] = mapped_column(Moment)
    authorization_server_response: Mapped[str | None] = mapped_column(
        String(LONGEST_RESPONSE)
    )
    last_error: Mapped[str | None] = mapped_column(Text)
    last_error_code: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    last_error_at: Mapped[datetime | None] = mapped_column(Moment)

    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    changed_at: Mapped[datetime] = mapped_column(Moment, default=now)

    # What the list walks along: each order, with the searched columns in the
    # index, so that a row is fetched only when it is shown.
    __table_args__ = (
        Index(
            "ix_external_application_newest",
            "id",
            "application_name_key",
            "salesforce_domain",
        ),
        Index(
            "ix_external_application_name",
            "application_name_key",
            "salesforce_domain",
        ),
        Index(
            "ix_external_application_state_newest",
            "state",
            "id",
            "application_name_key",
            "salesforce_domain",
        ),
        Index(
            "ix_external_application_state_name",
            "state",
            "application_name_key",
            "salesforce_domain",
        ),
        Index("ix_external_application_state_expires_at", "state", "expires_at"),
        {"sqlite_autoincrement": True},
    )

    @validates("application_name")
    def _fold_name(self, _: str, name: str) -> str:
        self.application_name_key = name_key(name)
        return name

    @property
    def audit_name(self) -> str:
        return self.application_name

    @property
    def domain(self) -> SalesforceDomain:
        return parse_domain(self.salesforce_domain)

    @property
    def app(self) -> tuple[str, str]:
        """Which app it is, and where: what a grant belongs to."""
        return self.salesforce_domain, self.client_id

    @property
    def shown_state(self) -> State:
        """The state now: a token whose time has passed is not connected."""
        if (
            self.state is State.CONNECTED
            and self.expires_at
            and self.expires_at <= now()
        ):
            return State.EXPIRED
        return self.state

    @property
    def unreadable_fields(self) -> list[str]:
        """The labels of the secrets that no key opens; each is logged."""
        labels = [
            label
            for column, label in self.SECRETS.items()
            if (secret := getattr(self, column)) and secret.fingerprint is None
        ]
        for label in labels:
            log.warning("External Application %s: no key opens its %s", self.id, label)
        return labels

    def reveal(self, column: str) -> str | None:
        """Return a secret of `SECRETS`, or None where none is stored.

        Raises `UnreadableSecret`.
        """
        secret: Sealed | None = getattr(self, column)
        return None if secret is None else secret.reveal()

    def export(self) -> dict[str, object]:
        """Return the whole connection, secrets and all, for another tool.

        `sfdxAuthUrl` is what `sf org login sfdx-url` takes, where each of its
        parts is made of the characters that it takes. Raises `UnreadableSecret`.
        """
        secrets = {column: self.reveal(column) for column in self.SECRETS}
        described = self.description()
        described.pop("changed_at")
        parts = [self.client_id, secrets["consumer_secret"], secrets["refresh_token"]]
        exported: dict[str, object] = described | secrets
        exported |= {
            "instance_url": self.instance_url,
            "organization_id": self.organization_id,
            "user_id": self.user_id,
        }
        if parts[2] and all(SFDX_PART.fullmatch(part or "") for part in parts):
            host = self.domain.authority + self.domain.path
            exported["sfdxAuthUrl"] = "force://{}:{}:{}@{}".format(
                *(part or "" for part in parts), host
            )
        return exported

    def description(self) -> dict[str, object]:
        """Return what the form shows: everything but the secret."""
        return {
            "application_name": self.application_name,
            "salesforce_domain": self.salesforce_domain,
            "client_id": self.client_id,
            "callback_url": self.callback_url,
            "requested_scopes": self.requested_scopes,
            "prompt_login": self.prompt_login,
            "changed_at": self.changed_at.isoformat(),
        }

    def describe(
        self,
        *,
        application_name: str,
        salesforce_domain: SalesforceDomain,
        client_id: str,
        consumer_secret: str,
        callback_url: str,
        requested_scopes: str,
        prompt_login: bool,
    ) -> None:
        """Take over what the form says; an empty secret keeps the stored one.

        A grant belongs to one app at one host: where either changes, the
        refresh token is not sent there, and the next token takes a login.
        """
        before = self.app
        self.application_name = application_name
        self.salesforce_domain = str(salesforce_domain)
        self.client_id = client_id
        self.consumer_secret = (
            seal(consumer_secret) if consumer_secret else self.consumer_secret
        )
        self.callback_url = callback_url
        self.requested_scopes = requested_scopes
        self.prompt_login = prompt_login
        self.changed_at = now()
        if self.app != before and self.access_token is not None:
            self._note_the_move()

    def _note_the_move(self) -> None:
        why = self.refresh_token_problem if self.refresh_token_is_from_here else MOVED
        self.state = State.LOGIN_REQUIRED if why else State.CONNECTED
        self._note_error(why, RECORD_CHANGED)

    @property
    def refresh_token_is_from_here(self) -> bool:
        """Whether the refresh token came from this very app at this very host."""
        return self.app == (self.refresh_token_domain, self.refresh_token_client_id)

    def remove(self) -> None:
        """Delete the record. Who comes second learns that it is gone already."""
        mine = ExternalApplication.id == self.id
        removed = db.session.execute(
            delete(ExternalApplication)
            .where(mine)
            .returning(ExternalApplication.id)
            .execution_options(synchronize_session=False)
        )
        if removed.first() is None:
            raise StaleDataError("The record was deleted in the meantime.")

    def receive_code(self, code: str) -> None:
        """Keep an authorization code that is about to be exchanged."""
        self.oauth_code, self.oauth_code_received_at = seal(code), now()
        self.oauth_code_used_at = None

    def store_token(
        self, answer: TokenAnswer, client: Client, lane: Lane, reason: str
    ) -> bool:
        """Take over a token; what the answer does not bring stays as it was.

        `client` is the app that asked. If the record was moved to another one
        meanwhile, only the refresh token is kept, as the other's, and the
        return is False. Addresses that no Remote Site covers are not kept, nor
        are those of the token before: they may be another org's.
        """
        if lane is Lane.BROWSER:
            self.oauth_code_used_at = now()
        if answer.refresh_token:
            self._keep_refresh_token(answer.refresh_token, client, lane)
        elif lane is Lane.BROWSER and not self._is_of_this_user(answer):
            self.refresh_token_problem = ANOTHERS
        if client.app != self.app:
            self._note_error(MOVED, RECORD_CHANGED)
            return False
        self.access_token = seal(answer.access_token)
        unlisted = self._keep_addresses(answer)
        self.granted_scopes = answer.scope or self.granted_scopes
        self.issued_at = answer.issued_at or now()
        self.expires_at = (
            None if answer.expires_in is None else now() + answer.expires_in
        )
        self.authorization_server_response = answer.response[:LONGEST_RESPONSE]
        self.state, self.lane, self.lane_reason = State.CONNECTED, lane, reason
        self._note_error(unlisted, NO_SITE)
        return True

    def _keep_addresses(self, answer: TokenAnswer) -> str | None:
        """Keep the addresses that are listed; say which are not kept, and why."""
        unlisted = {}
        if answer.instance_url:
            self.instance_url = _listed(answer.instance_url)
            if not self.instance_url:
                unlisted["Instance URL"] = answer.instance_url
        if answer.identity_url:
            self.identity_url = _listed(answer.identity_url)
            if not self.identity_url:
                unlisted["Id"] = answer.identity_url
                self.organization_id = self.user_id = None
            elif answer.organization_and_user:
                self.organization_id, self.user_id = answer.organization_and_user
        return _not_kept(unlisted) if unlisted else None

    def keep_failure(
        self,
        error: SalesforceError,
        client: Client | None,
        lane: Lane,
        *,
        superseded: bool = False,
    ) -> None:
        """Note a failure. The token that was there stays there.

        It says nothing of the state that the record is in where it was
        `superseded` by a newer success, nor does a code that was refused: the
        grant that is stored is another.
        """
        of_the_code = lane is Lane.BROWSER and error.state is State.LOGIN_REQUIRED
        if error.refresh_token and client:
            self._keep_refresh_token(error.refresh_token, client, lane)
        if lane is Lane.BROWSER and error.was_sent:
            self.oauth_code_used_at = now()
        if error.state is not None and not superseded and not of_the_code:
            self.state = error.state
            if error.state in (State.LOGIN_REQUIRED, State.OUTCOME_UNKNOWN):
                self.refresh_token_problem = str(error)
        self._note_error(str(error), error.code[:LONGEST_TEXT])
        if error.response is not None:
            self.authorization_server_response = error.response[:LONGEST_RESPONSE]

    def _note_error(self, sentence: str | None, code: str | None = None) -> None:
        self.last_error = sentence
        self.last_error_code = code if sentence else None
        self.last_error_at = now() if sentence else None

    def _keep_refresh_token(
        self, refresh_token: str, client: Client, lane: Lane
    ) -> None:
        if lane is Lane.SILENT and self.refresh_token is not None:
            try:
                changed = self.refresh_token.reveal() != refresh_token
            except UnreadableSecret:
                changed = False
            self.refresh_token_rotates = self.refresh_token_rotates or changed
        self.refresh_token = seal(refresh_token)
        self.refresh_token_domain, self.refresh_token_client_id = client.app
        self.refresh_token_problem = None

    def _is_of_this_user(self, answer: TokenAnswer) -> bool:
        return (
            answer.organization_and_user == (self.organization_id, self.user_id)
            and _listed(answer.identity_url or "") is not None
        )


def _listed(url: str) -> str | None:
    return url if site_for(url) else None


def _not_kept(unlisted: dict[str, str]) -> str:
    origins = dict.fromkeys(str(origin_of(url) or url) for url in unlisted.values())
    return (
        f"The token is stored, but not its {' and '.join(unlisted)}: no Remote Site"
        f" covers {' or '.join(origins)}. An admin can add one under Remote Sites; the"
        " next token then brings what is missing."
    )


def mark_expired() -> None:
    """Give tokens whose time has passed the state that says so.

    Whoever asks for a page does not fail because somebody else is writing.
    """
    expired = update(ExternalApplication).where(*_ran_out())
    try:
        db.session.execute(expired.values(state=State.EXPIRED))
        db.session.commit()
    except OperationalError:
        db.session.rollback()


def any_to_mark() -> Exists:
    """Ask whether `mark_expired` has anything to do: reading waits for nobody."""
    return exists().where(*_ran_out())


def _ran_out() -> tuple[ColumnElement[bool], ...]:
    return (
        ExternalApplication.state == State.CONNECTED,
        ExternalApplication.expires_at <= now(),
    )
