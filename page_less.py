"""Can a record go page-less? What JWT bearer and client credentials take of it.

Of the org nothing is known but what it answered before. What cannot be known from
here is said to be looked up there; a token that came that way, with the record as
it is now, proves it all.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from models import USERNAME, Attempt, ExternalApplication, Flow, Lane, Outcome
from vault import Sealed


class Answer(StrEnum):
    """Whether what it takes is there."""

    DONE = "done"
    MISSING = "missing"
    IN_ORG = "look in the org"
    """Only the org can tell."""


class Item(NamedTuple):
    """One thing that a flow takes; `advice` says what to do where it is not done."""

    name: str
    answer: Answer
    advice: str


@dataclass(frozen=True)
class Checklist:
    """What one flow takes of one record."""

    flow: Flow
    items: tuple[Item, ...]

    @property
    def missing(self) -> int:
        return self._count(Answer.MISSING)

    @property
    def in_org(self) -> int:
        return self._count(Answer.IN_ORG)

    def _count(self, answer: Answer) -> int:
        return sum(item.answer is answer for item in self.items)


def checklists(
    application: ExternalApplication, attempts: Iterable[Attempt]
) -> list[Checklist]:
    """Return those of both flows, or that of the page-less one which it uses.

    `attempts` are the latest; one of them may prove what the org is set to.
    """
    proven = application.flow is not Flow.WEB_SERVER and any(
        _proves(attempt, application) for attempt in attempts
    )
    return [
        Checklist(flow, tuple(_settled(look(application), proven=proven)))
        for flow, look in (
            (Flow.JWT_BEARER, jwt_bearer),
            (Flow.CLIENT_CREDENTIALS, client_credentials),
        )
        if application.flow in (flow, Flow.WEB_SERVER)
    ]


def jwt_bearer(application: ExternalApplication) -> tuple[Item, ...]:
    """Say what JWT bearer takes of the record, and of its app in the org."""
    return (
        _item(
            "Username",
            bool(USERNAME.fullmatch(application.username)),
            "Type the user's name in the org, such as ada@acme.com.",
        ),
        _secret("Private Key", application.private_key, "Generate or paste one."),
        _certificate(application),
        _item(
            "Audience",
            application.assertion_audience in application.domain.audiences,
            f"This org's is {application.domain.issuer}, as a rule.",
        ),
        _scopes(application, "refresh_token", "api"),
        Item(
            "Flow and certificate",
            Answer.IN_ORG,
            "Tick Enable JWT Bearer Flow, and upload this record's certificate.",
        ),
        Item(
            "Approval",
            Answer.DONE if _was_approved(application) else Answer.IN_ORG,
            "Pre-authorize a profile or permission set of the user, or log in once as"
            " them.",
        ),
    )


def client_credentials(application: ExternalApplication) -> tuple[Item, ...]:
    """Say what client credentials take of the record, and of its app in the org."""
    return (
        _item(
            "My Domain",
            application.domain.serves_client_credentials,
            "Use the org's My Domain host as Salesforce Domain.",
        ),
        _secret("Consumer Secret", application.consumer_secret, "Type it."),
        _scopes(application, "api"),
        Item(
            "Flow and Run As",
            Answer.IN_ORG,
            "Tick Enable Client Credentials Flow, and under Policies set Run As to a"
            " username.",
        ),
    )


def _proves(attempt: Attempt, application: ExternalApplication) -> bool:
    return (
        attempt.outcome is Outcome.STORED
        and attempt.lane is Lane.PAGE_LESS
        and attempt.started_at >= application.changed_at
    )


def _settled(items: Iterable[Item], *, proven: bool) -> Iterable[Item]:
    for item in items:
        by_org = proven and item.answer is Answer.IN_ORG
        yield item._replace(answer=Answer.DONE) if by_org else item


def _item(name: str, done: bool, advice: str) -> Item:
    return Item(name, Answer.DONE if done else Answer.MISSING, advice)


def _secret(name: str, secret: Sealed | None, advice: str) -> Item:
    if secret is not None and secret.fingerprint is None:
        advice = f"No key of this server opens it. {advice}"
    return _item(name, secret is not None and secret.fingerprint is not None, advice)


def _certificate(application: ExternalApplication) -> Item:
    if application.certificate_facts is None:
        advice = "Nothing readable is stored. Generate a key pair, or paste the key's."
    elif application.certificate_ends == "past":
        advice = "It has ended: the org takes nothing that is signed with its key."
    else:
        advice = "It ends soon. Put another in its place, here and at the app."
    good = application.certificate_facts and application.certificate_ends is None
    return _item("Certificate", bool(good), advice)


def _scopes(application: ExternalApplication, *needed: str) -> Item:
    """Look at what was granted last; `full` opens what `api` does."""
    name = f"Scopes {' and '.join(needed)}"
    granted = set((application.granted_scopes or "").split())
    if granted & {"full"}:
        granted.add("api")
    if granted & {"offline_access"}:
        granted.add("refresh_token")
    if not granted:
        return Item(name, Answer.IN_ORG, "Choose them under OAuth Scopes of the app.")
    lacking = [scope for scope in needed if scope not in granted]
    advice = f"The last token came without {' and '.join(lacking)}: add it to the app."
    return _item(name, not lacking, advice)


def _was_approved(application: ExternalApplication) -> bool:
    """Whether the user's own login brought a refresh token that lives."""
    who = application.org_username or ""
    return (
        application.refresh_token is not None
        and application.refresh_token_is_from_here
        and application.refresh_token_problem is None
        and who.lower() == application.username.lower() != ""
    )
