"""When an access token ends: no answer says it, so it is found out.

Introspection says it where the org allows that. Where not, the token before
tells: one that the org refuses by now, or still takes, narrows it down.
"""

import logging
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.exc import OperationalError

from database import db, now
from engine.lanes import left_of
from models import ExpirySource, ExternalApplication
from salesforce import Client, SalesforceError, introspect, is_alive

DEADLINE = 5.0
"""Seconds for the question: the token is stored, but somebody waits."""
ASK_AGAIN = timedelta(days=7)
"""After this an org is asked once more for what it refused, or said already."""
YOUNGEST, OLDEST = timedelta(minutes=15), timedelta(days=1)
"""Ages of a token that tell something: the bounds of Salesforce's timeouts."""

log = logging.getLogger(__name__)


class Former(NamedTuple):
    """The access token that was stored before, and when it was issued."""

    access_token: str | None
    issued_at: datetime | None

    @classmethod
    def of(cls, application: ExternalApplication) -> "Former":
        token = application.opened("access_token")
        if not application.access_token_is_from_here:  # it would be sent elsewhere
            token = None
        return cls(token, application.issued_at)

    @property
    def age(self) -> timedelta | None:
        """How old it is, where that tells something."""
        if self.access_token is None or self.issued_at is None:
            return None
        age = now() - self.issued_at
        return age if YOUNGEST <= age <= OLDEST else None


def find_expiry(
    application_id: int, client: Client, former: Former, until: float
) -> None:
    """Find out when the token that was just stored ends, and note it.

    Nothing depends on it, so whatever goes wrong is let go, and nothing is asked
    after `until`, on the monotonic clock.
    """
    try:
        application = db.session.get(ExternalApplication, application_id)
        token = application.opened("access_token") if application else None
        if not application or not token:
            return
        if application.expiry_source is ExpirySource.STATED:
            return
        may_ask = client.client_secret and not is_recent(
            application.introspection_refused_at
        )
        db.session.commit()
        if may_ask and _introspect(application_id, client, token, until):
            return
        if former.access_token != token:
            _learn(application_id, client, token, former, until)
    except OperationalError as error:
        db.session.rollback()
        log.warning("The expiry is not stored: %s", error.orig)


def _introspect(application_id: int, client: Client, token: str, until: float) -> bool:
    """Ask the org; False where it lets nobody ask, and not where it is too late."""
    seconds = left_of(until, DEADLINE)
    if not seconds:
        return True
    try:
        seen = introspect(client, token, "access_token", deadline=seconds)
    except SalesforceError as error:
        if not error.refused:
            return True
        if application := holder_of(application_id, token):
            application.introspection_refused_at = now()
        db.session.commit()
        return False
    application = holder_of(application_id, token)
    if application and seen.active and seen.remaining is not None:
        application.expire(now() + seen.remaining, ExpirySource.INTROSPECTED)
    db.session.commit()
    return True


def _learn(
    application_id: int, client: Client, token: str, former: Former, until: float
) -> None:
    age, seconds = former.age, left_of(until, DEADLINE)
    if age is None or former.access_token is None or not seconds:
        return
    alive = is_alive(client, former.access_token, deadline=seconds)
    if alive is None:
        return
    if application := holder_of(application_id, token):
        application.learn_lifetime(age, alive=alive)
        lifetime, source = application.assumed_lifetime
        application.expire(now() + lifetime, source)
    db.session.commit()


def holder_of(application_id: int, token: str) -> ExternalApplication | None:
    """Return the record, locked, where this is still its access token."""
    application = ExternalApplication.locked(application_id)
    if application is None or application.opened("access_token") != token:
        return None
    return application


def is_recent(moment: datetime | None) -> bool:
    """Whether it is too soon to ask again what was asked then."""
    return moment is not None and abs(now() - moment) < ASK_AGAIN
