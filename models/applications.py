"""External Applications: a name, an OAuth client, and what it was granted.

Views and the token engine speak in verbs and never set two columns in a row.
"""

import logging
import re
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    Index,
    String,
    Text,
    case,
    delete,
    event,
    exists,
    or_,
    text,
    update,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Mapped, mapped_column, validates
from sqlalchemy.orm.exc import StaleDataError
from sqlalchemy.sql.expression import ColumnElement

from database import Model, Moment, db, now
from models.attempts import Attempt
from models.attention import LAPSES_SOON, Attention
from models.clients import DEFAULT_SESSION_TIMEOUT, LONGEST_TEXT, Flow
from models.details import Details
from models.grants import Grant
from models.life_lines import DEFAULT_IDLE_LIMIT
from models.names import name_key
from models.panics import DELETED, PanicRevocation, Progress
from salesforce import SalesforceDomain, State
from vault import Sealed, seal

LARGEST_ID = 2**31 - 1
"""What PostgreSQL's integer columns hold; a larger one is an error there."""
SFDX_PART = re.compile(r"[A-Za-z0-9._-]*={0,2}")
"""What sfdx-core takes as a part of an auth URL (`authInfo.ts`)."""

log = logging.getLogger(__name__)


class ExternalApplication(Details, Grant, Model):
    """A connection to a Salesforce org: its app, its token, its state."""

    __tablename__ = "external_application"
    audit_kind: ClassVar[str] = "External Application"

    id: Mapped[int] = mapped_column(primary_key=True)
    application_name: Mapped[str] = mapped_column(String(LONGEST_TEXT))
    application_name_key: Mapped[str] = mapped_column(Text, unique=True)
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
        Index(
            "ix_external_application_attention",
            "attention_rank",
            "id",
            "application_name_key",
            "salesforce_domain",
        ),
        # What the overview asks for: few among many, or in the order of a time.
        Index(
            "ix_external_application_attention_lapses_at",
            "attention_rank",
            "lapses_at",
        ),
        Index("ix_external_application_lapses_at", "lapses_at"),
        Index(
            "ix_external_application_last_used_at",
            "last_used_at",
            sqlite_where=text("access_token IS NOT NULL"),
            postgresql_where=text("access_token IS NOT NULL"),
        ),
        Index(
            "ix_external_application_over_broad",
            "id",
            sqlite_where=text("over_broad"),
            postgresql_where=text("over_broad"),
        ),
        Index(
            "ix_external_application_without_owner",
            "id",
            sqlite_where=text("owner = ''"),
            postgresql_where=text("owner = ''"),
        ),
        {"sqlite_autoincrement": True},
    )

    @validates("application_name")
    def _fold_name(self, _: str, name: str) -> str:
        self.application_name_key = name_key(name)
        return name

    @classmethod
    def locked(cls, application_id: int) -> "ExternalApplication | None":
        """Read the record as it is, and keep others from writing it until the commit.

        By a write that changes nothing: SQLite knows no other lock.
        """
        db.session.execute(
            update(cls)
            .where(cls.id == application_id)
            .values(failures=cls.failures)
            .execution_options(synchronize_session=False)
        )
        return db.session.get(cls, application_id, populate_existing=True)

    @property
    def audit_name(self) -> str:
        return self.application_name

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
            "certificate": self.certificate,
        }
        if parts[2] and all(SFDX_PART.fullmatch(part or "") for part in parts):
            host = self.domain.authority + self.domain.path
            exported["sfdxAuthUrl"] = "force://{}:{}:{}@{}".format(
                *(part or "" for part in parts), host
            )
        return exported

    def description(self) -> dict[str, object]:
        """Return what the form shows: everything but the secrets."""
        return {
            "application_name": self.application_name,
            "salesforce_domain": self.salesforce_domain,
            "client_id": self.client_id,
            "flow": self.flow,
            "callback_url": self.callback_url,
            "requested_scopes": self.requested_scopes,
            "prompt_login": self.prompt_login,
            "username": self.username,
            "audience": self.audience,
            "session_timeout": self.session_timeout,
            "idle_limit": self.idle_limit,
            "owner": self.owner,
            "used_by": self.used_by,
            "tags": self.tags,
            "notes": self.notes,
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
        flow: Flow = Flow.WEB_SERVER,
        next_consumer_secret: str = "",
        username: str = "",
        audience: str = "",
        private_key: str = "",
        certificate: str = "",
        session_timeout: int = DEFAULT_SESSION_TIMEOUT,
        idle_limit: int | None = DEFAULT_IDLE_LIMIT,
        owner: str = "",
        used_by: str = "",
        tags: str = "",
        notes: str = "",
    ) -> None:
        """Take over what the form says; an empty secret keeps the stored one.

        A grant belongs to one app at one host: where either changes, the
        refresh token is not sent there, and the next token takes a login. Where
        the flow changes, all that is stored stays. A new private key does away
        with the certificate of the one before.
        """
        before = self.app
        self.application_name = application_name
        self.salesforce_domain = str(salesforce_domain)
        self.client_id = client_id
        self.flow = flow
        self.callback_url = callback_url
        self.requested_scopes = requested_scopes
        self.prompt_login = prompt_login
        self.username, self.audience = username, audience
        self.session_timeout, self.idle_limit = session_timeout, idle_limit
        self.owner, self.used_by = owner, used_by
        self.tags, self.notes = tags, notes
        if consumer_secret:
            self.consumer_secret, self.secret_used = seal(consumer_secret), None
        if next_consumer_secret:
            self.next_consumer_secret = seal(next_consumer_secret)
            self.secret_used = None
        if private_key:
            self.private_key, self.certificate = seal(private_key), None
        if certificate:
            self.certificate = certificate
        self.changed_at = now()
        self.try_at_once()
        if self.app != before:
            self.note_the_move()

    def twin(self, name: str) -> "ExternalApplication":
        """Return a new record of the same app, without any token of this one.

        Raises `UnreadableSecret`.
        """
        twin = ExternalApplication()
        secrets = ("consumer_secret", "next_consumer_secret", "private_key")
        described: dict[str, Any] = self.description() | {
            column: self.reveal(column) or "" for column in secrets
        }
        del described["changed_at"]
        described["salesforce_domain"] = self.domain
        described["certificate"] = self.certificate or ""
        twin.describe(**described | {"application_name": name})
        return twin

    def come_back_to(self, callback_url: str) -> None:
        """Have the org send browsers back to another address; the rest stays."""
        self.callback_url = callback_url
        self.changed_at = now()
        self.try_at_once()

    def remove(self) -> None:
        """Delete the record. Who comes second learns that it is gone already.

        Its attempts go first: whoever finishes one locks that before the record. Panics
        are told: with it goes what its tokens could be revoked with.
        """
        db.session.execute(
            delete(Attempt)
            .where(Attempt.application_id == self.id)
            .execution_options(synchronize_session=False)
        )
        ExternalApplication.locked(self.id)
        PanicRevocation.settle(self.id, Progress.FAILED, DELETED)
        removed = db.session.execute(
            delete(ExternalApplication)
            .where(ExternalApplication.id == self.id)
            .returning(ExternalApplication.id)
            .execution_options(synchronize_session=False)
        )
        if removed.first() is None:
            raise StaleDataError("The record was deleted in the meantime.")


@event.listens_for(ExternalApplication, "before_insert")
@event.listens_for(ExternalApplication, "before_update")
def _work_out(_: Any, __: Any, application: ExternalApplication) -> None:
    """Whatever verb changed the record: what follows from it is never forgotten."""
    application.fold_details(*application.names)
    application.work_out()


def mark_time() -> None:
    """Write down what time alone has changed: tokens ran out, or lapse soon.

    Whoever asks for a page does not fail because somebody else is writing.
    """
    rank = ExternalApplication.attention_rank
    now_expired = case((rank == Attention.FINE, Attention.EXPIRED), else_=rank)
    try:
        for condition, changes in (
            (_ran_out(), {"state": State.EXPIRED, "attention_rank": now_expired}),
            (_lapse_soon(), {"attention_rank": Attention.LAPSES_SOON}),
        ):
            marked = update(ExternalApplication).where(*condition).values(changes)
            db.session.execute(marked.execution_options(synchronize_session=False))
        db.session.commit()
    except OperationalError:
        db.session.rollback()


def any_to_mark() -> ColumnElement[bool]:
    """Ask whether `mark_time` has anything to do: reading waits for nobody."""
    return or_(exists().where(*_ran_out()), exists().where(*_lapse_soon()))


def _lapse_soon() -> tuple[ColumnElement[bool], ...]:
    return (
        ExternalApplication.attention_rank.in_((Attention.FINE, Attention.EXPIRED)),
        ExternalApplication.lapses_at <= now() + LAPSES_SOON,
    )


def _ran_out() -> tuple[ColumnElement[bool], ...]:
    return (
        ExternalApplication.state == State.CONNECTED,
        ExternalApplication.expires_at <= now(),
    )
