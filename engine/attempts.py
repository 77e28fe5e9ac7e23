"""An attempt from its first commit to its last: asked, stored, tidied up after."""

from database import db
from engine.doubts import Doubt
from engine.expiry import Former, find_expiry
from engine.flights import Flight, land
from engine.lanes import Asked, Request, ask
from engine.results import Result
from engine.revocation import revoke_replaced
from models import ExternalApplication
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
    another.
    """
    former = Former.of(application)
    db.session.commit()
    asked = _ask(request, doubt)
    landed = land(flight, asked)
    if landed.replaced:
        revoke_replaced(
            flight.application_id, landed.replaced.refresh_token, landed.replaced.domain
        )
    if landed.result.stored and asked.client:
        find_expiry(flight.application_id, asked.client, former)
    return landed.result


def _ask(request: Request | SalesforceError, doubt: Doubt | None) -> Asked:
    if isinstance(request, SalesforceError):
        return Asked(request, None)
    if doubt and (unsettled := doubt.remains(request)):
        return unsettled
    return ask(request)
