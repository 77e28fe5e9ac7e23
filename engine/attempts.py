"""An attempt from its first commit to its last: asked, stored, tidied up after."""

import time

from database import db
from engine.doubts import Doubt
from engine.expiry import Former, find_expiry
from engine.flights import Flight
from engine.identities import find_identity, who_is
from engine.landings import land
from engine.lanes import PATIENCE, Asked, Request, ask
from engine.panics import see_to
from engine.results import Result
from engine.revocation import revoke_loose
from models import ExternalApplication, Lane
from salesforce import SalesforceError


def carry_out(
    application: ExternalApplication,
    flight: Flight,
    request: Request | SalesforceError,
    doubt: Doubt | None = None,
) -> Result:
    """Ask the org, store what came of it and tidy up; raise `RecordGone`.

    The attempt is committed before the request leaves, and closed together
    with what it brought. A `request` that cannot be made is a failure like
    another. What is good to know is asked only while there is time left; a grant
    that has to be revoked is, in any case.
    """
    former = Former.of(application)
    db.session.commit()
    until = time.monotonic() + PATIENCE
    asked = _ask(request, doubt, until)
    if flight.lane is Lane.BROWSER:
        asked = asked._replace(identity=who_is(asked, until))
    landed = land(flight, asked)
    if landed.panic_id is not None:
        see_to(landed.panic_id)
    for grant in landed.loose:
        revoke_loose(flight.application_id, grant)
    if landed.result.stored and asked.client:
        find_expiry(flight.application_id, asked.client, former, until)
        find_identity(flight.application_id, asked.client, until)
    return landed.result


def _ask(
    request: Request | SalesforceError, doubt: Doubt | None, until: float
) -> Asked:
    if isinstance(request, SalesforceError):
        return Asked(request, None)
    if doubt and (unsettled := doubt.remains(request)):
        return unsettled
    return ask(request, until)
