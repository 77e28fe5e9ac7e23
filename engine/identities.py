"""Whose token it is: the org is asked, as far as the scopes allow."""

from sqlalchemy.exc import OperationalError

from database import db
from engine.expiry import holder_of, is_recent
from engine.lanes import Asked, left_of
from models import ExternalApplication
from salesforce import Client, Identity, SalesforceError, TokenAnswer, read_identity

DEADLINE = 5.0
"""Seconds for the questions: somebody waits."""
DIFFERS = "<identity differs>"
ANOTHERS = (
    "The org says that the stored token is of somebody else than its answer named."
)
LOOK = "Compare the Organization and the User below with the org, then log in again."


def who_is(asked: Asked, until: float) -> Identity | None:
    """Ask whose a new token is, before it is stored; None where that is not told.

    `until`, here and below, is when nothing is asked any more, on the monotonic clock.
    """
    answer = asked.result
    if not isinstance(answer, TokenAnswer) or asked.client is None:
        return None
    return _read(
        asked.client,
        answer.access_token,
        answer.identity_url,
        answer.instance_url,
        answer.scope,
        until,
    )


def fit_to_keep(asked: Asked, application: ExternalApplication) -> Asked:
    """Return it without secrets in the names: an org may call a user anything."""
    if asked.identity is None:
        return asked
    tokens = {asked.result.refresh_token or ""}
    if isinstance(asked.result, TokenAnswer):
        tokens.add(asked.result.access_token)
    identity = asked.identity.without(application.known_secrets | tokens)
    return asked._replace(identity=identity)


def find_identity(application_id: int, client: Client, until: float) -> None:
    """Find out whose the stored token is, where it is time to ask, and note it.

    Nothing depends on it, so whatever goes wrong is let go.
    """
    try:
        application = db.session.get(ExternalApplication, application_id)
        token = application.opened("access_token") if application else None
        if not application or not token or is_recent(application.identity_read_at):
            return
        asked_with = (
            application.identity_url,
            application.instance_url,
            application.granted_scopes,
        )
        if not left_of(until, DEADLINE):
            return
        db.session.commit()
        identity = _read(client, token, *asked_with, until)
        if found := holder_of(application_id, token):
            if identity is not None:
                identity = identity.without(found.known_secrets)
            if not found.learn_identity(identity):
                found.note_problem(ANOTHERS, DIFFERS, LOOK)
        db.session.commit()
    except OperationalError:
        db.session.rollback()


def _read(
    client: Client,
    access_token: str,
    identity_url: str | None,
    instance_url: str | None,
    scope: str | None,
    until: float,
) -> Identity | None:
    seconds = left_of(until, DEADLINE)
    if not seconds:
        return None
    try:
        return read_identity(
            client,
            access_token,
            identity_url=identity_url,
            instance_url=instance_url,
            scopes=scope,
            deadline=seconds,
        )
    except SalesforceError:
        return None
