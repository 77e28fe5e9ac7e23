"""A refresh token that was sent and never answered: does it still live?

Presenting a used one ends the whole grant (Salesforce Help, "Refresh Token
Rotation"), so it is not presented to find out. Introspection tells, and ends
nothing.
"""

from datetime import datetime, timedelta
from typing import NamedTuple

from database import now
from engine.flights import CANNOT_TELL
from engine.lanes import Asked, Request, with_either_secret
from models import ExternalApplication, Lane
from salesforce import Introspection, SalesforceError, State, Trip, introspect

DEADLINE = 5.0
"""Seconds for the question."""
SETTLED = timedelta(seconds=60)
"""By then an org has done what it was asked, or never will."""

USED_UP = "<refresh token used up>"
NOT_YET = "<not settled yet>"


class Doubt(NamedTuple):
    """A stored refresh token that may be used up, and when that can be told."""

    refresh_token: str
    settles_at: datetime

    def remains(self, request: Request) -> Asked | None:
        """Ask the org; return what to tell, or None where the token may be sent."""
        tried = with_either_secret(
            request.clients,
            lambda client: introspect(
                client, self.refresh_token, "refresh_token", deadline=DEADLINE
            ),
        )
        seen = tried.result
        unsettled = (
            _cannot_tell(seen)
            if isinstance(seen, SalesforceError)
            else self._unsettled(seen)
        )
        if unsettled is None:
            return None
        seconds = unsettled.trip.seconds if unsettled.trip else 0.0
        return Asked(unsettled, tried.client, tried.secret, tried.requests, seconds)

    def _unsettled(self, seen: Introspection) -> SalesforceError | None:
        if not seen.active:
            return _used_up(seen.trip)
        left = self.settles_at - now()
        if timedelta() < left <= SETTLED:  # more is of a clock that was set back
            return _not_yet(left, seen.trip)
        return None


def doubt_about(application: ExternalApplication, lane: Lane) -> Doubt | None:
    """Return the doubt about the record's refresh token, where there is one."""
    settles_at = application.doubt_settles_at
    if lane is not Lane.SILENT or settles_at is None or application.rotation is False:
        return None
    token = application.opened("refresh_token")
    return None if token is None else Doubt(token, settles_at)


def _cannot_tell(error: SalesforceError) -> SalesforceError:
    return SalesforceError(
        "It is not known whether the stored refresh token was used up, and the org"
        f" does not tell: {error}",
        state=State.OUTCOME_UNKNOWN,
        code=CANNOT_TELL if error.refused else error.code,
        action="Log in again.",
        trip=error.trip,
    )


def _used_up(trip: Trip) -> SalesforceError:
    return SalesforceError(
        "The stored refresh token is used up: the answer that brought its successor"
        " was lost.",
        state=State.LOGIN_REQUIRED,
        code=USED_UP,
        action="Log in again.",
        trip=trip,
    )


def _not_yet(left: timedelta, trip: Trip) -> SalesforceError:
    return SalesforceError(
        "The stored refresh token still lives, but the org may be at the lost request"
        " yet.",
        state=State.OUTCOME_UNKNOWN,
        code=NOT_YET,
        action=f"Press Refresh Access Token again in {round(left.total_seconds())} s.",
        trip=trip,
    )
