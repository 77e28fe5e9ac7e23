"""Testing a connection: four steps, each with what it found and what to do about it.

A step is one request at most, and changes nothing of the record but this: that its
access token was used, and that it has ended where the org says so. No database
connection is held while the org is asked.
"""

import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from database import db, now
from engine.expiry import holder_of
from engine.lanes import PATIENCE, left_of
from engine.results import RecordGone
from models import ExpirySource, ExternalApplication, site_for
from salesforce import (
    Client,
    Probe,
    no_remote_site,
    probe_host,
    probe_limits,
    probe_token,
)

NEARLY_ALL = 0.8
"""Of the API requests that an org takes in 24 hours."""
MILLISECONDS = 1_000
TOO_LATE = "The org took too long before: no time was left for this."


class Step(StrEnum):
    """What is looked at, in this order."""

    SITE = "site"
    HOST = "host"
    TOKEN = "token"  # noqa: S105
    API = "api"


class Check(NamedTuple):
    """What a step found; `ok` is None where it cannot be told.

    `asked` is false where the step had to be left out. `action` says what to do,
    `code` is the org's or ours, `milliseconds` is how long the org took.
    """

    step: Step
    ok: bool | None
    sentence: str = ""
    action: str | None = None
    code: str | None = None
    milliseconds: int | None = None
    asked: bool = True
    version: str | None = None
    """The newest of the API, once the host has told it."""
    noted: bool = False
    """Whether the record now says that its token has ended."""

    @property
    def outcome(self) -> str:
        """In a word or two, for the trail."""
        if not self.asked:
            return "not asked"
        word = {True: "ok", False: "failed", None: "not known"}[self.ok]
        return f"{word} ({self.code})" if self.code else word


def go_on(
    application: ExternalApplication,
    done: Sequence[Check],
    seconds: float = PATIENCE,
) -> list[Check]:
    """Take the next step after those that are `done`, within some seconds.

    Where it shows that the rest would tell nothing, the rest comes with it, not
    asked; so does all that is left where there is no second left. Returns nothing
    when all are done. Raises `RecordGone`.
    """
    left = list(Step)[len(done) :]
    if not left:
        return []
    if not seconds:
        return [Check(one, ok=None, sentence=TOO_LATE, asked=False) for one in left]
    check = STEPS[left[0]](application, done, seconds)
    stops = check.ok is False
    rest = [_left_out(step, check) for step in left[1:]] if stops else []
    return [check, *rest]


def run(application: ExternalApplication) -> list[Check]:
    """Take all steps, one after the other, as far as the time for all goes."""
    done, until = list[Check](), time.monotonic() + PATIENCE
    while more := go_on(application, done, left_of(until, PATIENCE)):
        done += more
    return done


def _look_for_sites(
    application: ExternalApplication, _: Sequence[Check], __: float
) -> Check:
    addresses = [application.domain.origin]
    if application.instance_url:
        addresses.append(application.instance_url)
    for address in addresses:
        if site_for(address) is None:
            error = no_remote_site(address)
            return Check(
                Step.SITE,
                ok=False,
                sentence=str(error),
                action=error.action,
                code=error.code,
            )
    return Check(Step.SITE, ok=True, sentence="Remote Sites let Orgdesk call this org.")


def _ask_host(
    application: ExternalApplication, _: Sequence[Check], seconds: float
) -> Check:
    client, instance_url = _client(application), application.instance_url
    db.session.commit()
    probe = probe_host(client, instance_url, deadline=seconds)
    return _found(application, Step.HOST, probe)


def _try_token(
    application: ExternalApplication, _: Sequence[Check], seconds: float
) -> Check:
    token = _token(application)
    if token is None:
        return _no_token(application, Step.TOKEN)
    application_id, client = application.id, _client(application)
    db.session.commit()
    probe = probe_token(client, token, deadline=seconds)
    noted = _note(application_id, token, dead=probe.ok is False)
    return _found(application, Step.TOKEN, probe)._replace(noted=noted)


def _ask_limits(
    application: ExternalApplication, done: Sequence[Check], seconds: float
) -> Check:
    token, instance_url = _token(application), application.instance_url
    if token is None:
        return _no_token(application, Step.API)
    if instance_url is None:
        return Check(
            Step.API,
            ok=None,
            sentence="No Instance URL is stored: it is not known where the API is.",
            action="Get a new access token, which brings it.",
            asked=False,
        )
    client = _client(application)
    db.session.commit()
    version = next((one.version for one in done if one.version), None)
    probe = probe_limits(client, instance_url, token, version, deadline=seconds)
    check = _found(application, Step.API, probe)
    if probe.used and probe.maximum and probe.used / probe.maximum >= NEARLY_ALL:
        return check._replace(action="That is nearly all: look in the org for who.")
    return check


STEPS: dict[Step, Callable[[ExternalApplication, Sequence[Check], float], Check]] = {
    Step.SITE: _look_for_sites,
    Step.HOST: _ask_host,
    Step.TOKEN: _try_token,
    Step.API: _ask_limits,
}


BECAUSE = {
    Step.SITE: "Orgdesk may not call the org.",
    Step.HOST: "The host does not answer as an org does.",
    Step.TOKEN: "There is no access token that works.",
}
"""Why the steps after one that failed tell nothing."""


def _client(application: ExternalApplication) -> Client:
    """Return the app, as far as a test needs it: no secret is sent."""
    return Client(
        domain=application.domain,
        client_id=application.client_id,
        client_secret=None,
        redirect_uri=application.callback_url,
    )


def _token(application: ExternalApplication) -> str | None:
    """Return the access token, unless it would be sent to another host than its own."""
    is_from_here = application.access_token_is_from_here
    return application.opened("access_token") if is_from_here else None


def _no_token(application: ExternalApplication, step: Step) -> Check:
    sentence = "No key of this server opens the stored access token."
    if application.access_token is None:
        sentence = "No access token is stored."
    elif not application.access_token_is_from_here:
        sentence = "The stored access token is of another Salesforce Domain."
    return Check(
        step, ok=False, sentence=sentence, action="Press Refresh Access Token."
    )


def _found(application: ExternalApplication, step: Step, probe: Probe) -> Check:
    """Say what a probe found. An org knows secrets that it was not sent with it."""
    trip = probe.trip
    sentence, action, code = (
        said and application.without_secrets(said)
        for said in (probe.sentence, probe.action, probe.code)
    )
    return Check(
        step,
        probe.ok,
        sentence or "",
        action,
        code,
        round(trip.seconds * MILLISECONDS) if trip else None,
        version=probe.version,
    )


def _note(application_id: int, token: str, *, dead: bool) -> bool:
    """Note that the token was used, if it is stored still; true where it has ended."""
    application = holder_of(application_id, token)
    if application is not None:
        application.note_use()
        if dead and not application.has_run_out:
            application.expire(now(), ExpirySource.LEARNED)
        db.session.commit()
        return dead
    db.session.rollback()
    if db.session.get(ExternalApplication, application_id) is None:
        raise RecordGone
    return False


def _left_out(step: Step, after: Check) -> Check:
    return Check(step, ok=None, sentence=BECAUSE[after.step], asked=False)
