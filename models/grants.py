"""What an org granted to a record: its tokens, its state, what went wrong last.

The token engine speaks in the verbs that stand here: `store_token`,
`keep_failure`, `leave_unknown`, `forget_tokens`.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from sqlalchemy import SmallInteger, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from database import Moment, db, now
from models.attention import OF_STATE, Attention
from models.clients import LONGEST_TEXT, Flow, Lane, OAuthClient, words
from models.holds import HeldToken
from models.identities import Identified, Named
from models.life_lines import LifeLine
from models.sites import site_for
from salesforce import (
    NO_SITE,
    Client,
    Identity,
    SalesforceError,
    State,
    TokenAnswer,
    origin_of,
    redact,
)
from vault import Encrypted, Sealed, opened, seal

LONGEST_RESPONSE = 32_768
"""Characters of the Authorization Server Response that a record keeps."""
FIRST_BACK_OFF = timedelta(seconds=30)
LONGEST_BACK_OFF = timedelta(hours=1)
"""Between two tries that nobody asked for, after failures that may pass."""
MOST_DOUBLINGS = 10
SESSION_TIMEOUTS = tuple(
    timedelta(minutes=minutes) for minutes in (15, 30, 60, 120, 240, 480, 720, 1_440)
)
"""What the Session Settings of an org offer (Salesforce Help, "Session Settings")."""

ANOTHERS = "The stored refresh token is not known to be of the user who logged in."
MOVED = (
    "The Salesforce Domain or the Client ID was changed: the stored token belongs to"
    " the ones before."
)
IN_DOUBT = "The refresh token was sent, no answer came, and it may be used up."
HEIR_HELD = (
    "The org replaced the stored refresh token in an answer that was held, and takes"
    " the stored one no more."
)
RECORD_CHANGED = "<record changed>"
OVER_BROAD = frozenset({"full", "web"})
"""Scopes that open all that the user may do, or a session in the browser."""


class ExpirySource(StrEnum):
    """How it is known when an access token ends; the best first."""

    STATED = "stated"
    """The answer said so, which Salesforce's do not."""
    INTROSPECTED = "introspected"
    LEARNED = "learned"
    """From when the org was seen to refuse a token, or still to take one."""
    ASSUMED = "assumed"
    """The session timeout that the record is set to."""


class Grant(Identified, LifeLine, OAuthClient):
    """The columns and verbs of what the org granted."""

    if TYPE_CHECKING:
        id: Mapped[int]

    SECRETS: ClassVar = {
        "access_token": "Access Token",
        "refresh_token": "Refresh Token",
        "consumer_secret": "Consumer Secret",
        "next_consumer_secret": "Next Consumer Secret",
        "private_key": "Private Key",
    }
    """The columns that hold what an admin may ask to see, and their labels."""

    state: Mapped[State] = mapped_column(words(State), default=State.NEVER_AUTHORIZED)
    attention_rank: Mapped[int] = mapped_column(SmallInteger, default=Attention.NEW)
    """An `Attention`, as a number to sort by."""
    access_token: Mapped[Sealed | None] = mapped_column(Encrypted)
    access_token_domain: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    """The host that gave it: it is sent to no other."""
    refresh_token: Mapped[Sealed | None] = mapped_column(Encrypted)
    rotation: Mapped[bool | None]
    """Whether the org replaces the refresh token at each use; None: not seen yet."""
    refresh_token_domain: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    refresh_token_client_id: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    refresh_token_problem: Mapped[str | None] = mapped_column(Text)
    """Why it must not be sent: the org ended the grant, or it is another user's."""
    doubt_settles_at: Mapped[datetime | None] = mapped_column(Moment)
    """The refresh token was sent and no answer came: it may be used up. By then the
    org has done what it was asked, or never will."""
    instance_url: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    issued_at: Mapped[datetime | None] = mapped_column(Moment)
    expires_at: Mapped[datetime | None] = mapped_column(Moment)
    expiry_source: Mapped[ExpirySource | None] = mapped_column(words(ExpirySource))
    learned_lifetime: Mapped[int | None]
    """Seconds that this org's access tokens were seen to live."""
    introspection_refused_at: Mapped[datetime | None] = mapped_column(Moment)
    granted_scopes: Mapped[str | None] = mapped_column(Text)
    over_broad: Mapped[bool] = mapped_column(default=False)
    """Whether they hold one that opens more than an API."""
    held_at: Mapped[datetime | None] = mapped_column(Moment)
    """A token waits for somebody to decide about it, since then."""
    lane: Mapped[Lane | None] = mapped_column(words(Lane, 16))
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
    last_error_action: Mapped[str | None] = mapped_column(Text)
    """The one thing to do about it."""
    last_error_page: Mapped[str | None] = mapped_column(String(LONGEST_TEXT))
    """The page of the org's Setup where that is done."""
    failures: Mapped[int] = mapped_column(default=0)
    """How often in a row it failed in a way that may pass."""
    retry_at: Mapped[datetime | None] = mapped_column(Moment)
    """Before this nobody tries who is not a person."""

    @property
    def shown_state(self) -> State:
        """The state now: a token whose time has passed is not connected."""
        if self.state is State.CONNECTED and self.has_run_out:
            return State.EXPIRED
        return self.state

    @property
    def attention(self) -> Attention:
        """How urgently it wants a person."""
        return Attention(self.attention_rank)

    @property
    def approvals_of(self) -> tuple[str, str | None, str | None]:
        """Whose approvals of which app a login of this record takes up."""
        return self.client_id, self.organization_id, self.user_id

    @property
    def has_run_out(self) -> bool:
        """Whether the access token's time has passed, for all that is known."""
        return self.expires_at is not None and self.expires_at <= now()

    @property
    def time_left(self) -> timedelta | None:
        """How long the access token lives still; below zero since it ran out."""
        return None if self.expires_at is None else self.expires_at - now()

    @property
    def holds_tokens(self) -> bool:
        """Whether there is anything that could be revoked."""
        there = (self.access_token, self.refresh_token, self.held_at)
        return any(one is not None for one in there)

    @property
    def holds_anothers(self) -> bool:
        """Whether the refresh token may be of another grant than the access token."""
        return self.refresh_token_problem == ANOTHERS

    @property
    def is_settling(self) -> bool:
        """Whether the org may still be at a refresh that was never answered."""
        return self.doubt_settles_at is not None and self.doubt_settles_at > now()

    @property
    def refresh_token_is_from_here(self) -> bool:
        """Whether the refresh token came from this very app at this very host."""
        return self.app == (self.refresh_token_domain, self.refresh_token_client_id)

    @property
    def access_token_is_from_here(self) -> bool:
        """Whether the access token came from this very host."""
        return self.access_token_domain in (None, self.salesforce_domain)

    @property
    def fingerprints(self) -> tuple[str | None, str | None]:
        """Of access and refresh token: what tells one grant from the next."""
        access, refresh = self.access_token, self.refresh_token
        return (
            access.fingerprint if access else None,
            refresh.fingerprint if refresh else None,
        )

    def without_secrets(self, said: str) -> str:
        """Return what an org said without what this record holds.

        An org may send back what it was sent long ago, and what it gave.
        """
        return redact(said, self.known_secrets)

    @property
    def known_secrets(self) -> set[str]:
        """What this record holds, and the tokens that are held beside it."""
        columns = (*self.SECRETS, "oauth_code")
        sealed = [getattr(self, column) for column in columns]
        with db.session.no_autoflush:  # this may ask, amid what is not whole yet
            held = self.held
        sealed += [held.access_token, held.refresh_token] if held else []
        return {value for one in sealed if (value := opened(one))}

    @property
    def held(self) -> HeldToken | None:
        """The token that is held for this record, asked for where there is one."""
        return HeldToken.of(self.id) if self.held_at else None

    def opened(self, column: str) -> str | None:
        """Return a secret's value, None where there is none or no key opens it."""
        return opened(getattr(self, column))

    @property
    def assumed_lifetime(self) -> tuple[timedelta, ExpirySource]:
        """How long a new access token lives, for all that is known here."""
        if self.learned_lifetime is not None:
            return timedelta(seconds=self.learned_lifetime), ExpirySource.LEARNED
        return timedelta(minutes=self.session_timeout), ExpirySource.ASSUMED

    @property
    def backs_off(self) -> bool:
        """Whether it is too early to try again without being asked.

        A clock that was set back must not make that long.
        """
        wait = self.retry_at - now() if self.retry_at else timedelta()
        return timedelta() < wait <= LONGEST_BACK_OFF

    def try_at_once(self) -> None:
        """Forget about backing off: the record was changed, or somebody logged in."""
        self.failures, self.retry_at = 0, None

    def receive_code(self, code: str) -> None:
        """Keep an authorization code that is about to be exchanged."""
        self.oauth_code, self.oauth_code_received_at = seal(code), now()
        self.oauth_code_used_at = None

    def store_token(
        self,
        answer: TokenAnswer,
        client: Client,
        lane: Lane,
        reason: str,
        identity: Identity | None = None,
    ) -> bool:
        """Take over a token; what the answer does not bring stays as it was.

        `client` is the app that asked. If the record was moved to another one
        meanwhile, only the refresh token is kept, as the other's, and the
        return is False. Addresses that no Remote Site covers are not kept, nor
        are those of the token before: they may be another org's. `identity` is
        what the org said of whose the token is, where it was asked.
        """
        if lane is Lane.BROWSER:
            self.oauth_code_used_at = now()
        if answer.refresh_token:
            self._keep_refresh_token(answer.refresh_token, client, lane)
        elif lane is Lane.BROWSER and not self._is_of_this_user(answer):
            self.refresh_token_problem = ANOTHERS
        elif lane is Lane.SILENT:
            # An answer without one says that the one that was sent lives on. Where
            # they are replaced, and the app may ask, that is asked before it is used.
            self.rotation = self.rotation or False
            asks = client.client_secret and self.introspection_refused_at is None
            self.doubt_settles_at = now() if self.rotation and asks else None
            self.use_refresh_token()
        if client.app != self.app:
            self._note_error(MOVED, RECORD_CHANGED)
            return False
        is_another = self.opened("access_token") != answer.access_token
        self.access_token = seal(answer.access_token)
        self.access_token_domain, _ = client.app
        self._keep_names(answer, identity)
        unlisted = self._keep_addresses(answer)
        self.note_use()
        self.granted_scopes = answer.scope or self.granted_scopes
        if is_another or answer.issued_at:
            self.issued_at = answer.issued_at or now()
        self._expect_expiry(answer.expires_in, is_another=is_another)
        self._keep_response(answer.response)
        self.state, self.lane, self.lane_reason = State.CONNECTED, lane, reason
        self.try_at_once()
        self._note_error(unlisted, NO_SITE)
        return True

    def note_use_of(self, column: str) -> None:
        """Note that somebody asked to see a secret, where it is a token."""
        if column in ("access_token", "refresh_token"):
            self.note_use()

    def hold(self, held: HeldToken) -> None:
        """Note that a token waits for somebody to decide about it.

        One that came in place of the stored refresh token has used that up.
        """
        self.held_at = held.held_at
        if held.lane is Lane.BROWSER:
            self.oauth_code_used_at = now()
        heir = opened(held.refresh_token)
        if held.lane is Lane.SILENT and heir not in (
            None,
            self.opened("refresh_token"),
        ):
            self.state, self.refresh_token_problem = State.LOGIN_REQUIRED, HEIR_HELD
            self.rotation, self.doubt_settles_at = True, None

    def hold_no_more(self) -> None:
        """Note that somebody decided, or that it is too late to."""
        self.held_at = None

    def keep_to_revoke(self, token: TokenAnswer | str, client: Client) -> None:
        """Keep what came while refreshes were blocked, until it is revoked.

        It is an answer's, or the refresh token that came with one of no use.
        """
        heir = token.refresh_token if isinstance(token, TokenAnswer) else token
        if heir is not None:
            self._keep_refresh_token(heir, client, Lane.SILENT)
        elif isinstance(token, TokenAnswer):
            self.access_token = seal(token.access_token)
            self.access_token_domain, _ = client.app

    def forget_refresh_token(self) -> None:
        """Keep only the access token: what brings the next one is another's."""
        self.refresh_token = self.refresh_token_problem = self.doubt_settles_at = None

    def expire(self, at: datetime, source: ExpirySource) -> None:
        """Note when the access token ends."""
        self.expires_at, self.expiry_source = at, source

    def learn_lifetime(self, age: timedelta, *, alive: bool) -> None:
        """Learn from a token of this `age` that the org still took, or refused.

        Salesforce offers a few session timeouts; the next one that fits is it.
        """
        known, _ = self.assumed_lifetime
        shorter = [choice for choice in SESSION_TIMEOUTS if choice <= age]
        longer = [choice for choice in SESSION_TIMEOUTS if choice >= age]
        if alive and age > known and longer:
            self.learned_lifetime = round(longer[0].total_seconds())
        elif not alive and shorter:
            learned = min(known, shorter[-1])
            self.learned_lifetime = round(learned.total_seconds())

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
            if error.state is State.LOGIN_REQUIRED:
                self.refresh_token_problem = self.without_secrets(str(error))
                self.doubt_settles_at = None
        if lane is not Lane.BROWSER:
            self._back_off(error)
        self._note_error(str(error), error.code, error.action, error.setup_page)
        if error.response is not None:
            self._keep_response(error.response)

    def doubt(self, settles_in: timedelta) -> None:
        """Note that the refresh token was sent, and that no answer came."""
        self.doubt_settles_at = now() + settles_in

    def leave_unknown(self, sentence: str, action: str, code: str) -> None:
        """Say that nobody knows what became of the refresh token that was sent."""
        self.state = State.OUTCOME_UNKNOWN
        self._note_error(sentence, code, action)

    def forget_tokens(self) -> None:
        """Keep nothing of what the org granted; the app is as it was."""
        self.access_token = self.refresh_token = self.oauth_code = None
        self.access_token_domain = None
        self.refresh_token_problem = self.doubt_settles_at = None
        self.issued_at = self.expires_at = self.expiry_source = None
        self.granted_scopes = self.lane = self.lane_reason = None
        self.refresh_token_used_at = None
        self.try_at_once()
        self.state = State.NEVER_AUTHORIZED
        self._note_error(None)

    def note_problem(self, sentence: str, code: str, action: str) -> None:
        """Say what is left to be done by a person; the state is as it is."""
        self._note_error(sentence, code, action)

    def note_the_move(self) -> None:
        """Say what it means that the record now names another app or host."""
        if self.access_token is None:
            return
        why = self.refresh_token_problem if self.refresh_token_is_from_here else MOVED
        if not why and self.doubt_settles_at and self.rotation:
            self.state, why = State.OUTCOME_UNKNOWN, IN_DOUBT
        else:
            self.state = State.LOGIN_REQUIRED if why else State.CONNECTED
        self.introspection_refused_at = None
        self._note_error(why, RECORD_CHANGED)

    def work_out(self) -> None:
        """Bring the columns that follow from others in step with them."""
        lives = self.refresh_token is not None and self.refresh_token_problem is None
        self.draw_life_line(lives=lives and self.flow is Flow.WEB_SERVER)
        self.over_broad = not OVER_BROAD.isdisjoint((self.granted_scopes or "").split())
        rank = OF_STATE[self.shown_state or State.NEVER_AUTHORIZED]
        if self.lapses_soon:
            rank = max(rank, Attention.LAPSES_SOON)
        self.attention_rank = Attention.ACT if self.held_at else rank

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
        return _not_kept(unlisted) if unlisted else None

    def _keep_names(self, answer: TokenAnswer, identity: Identity | None) -> None:
        """Keep whose the token is; what was known of somebody else goes."""
        self.signature = answer.signature
        found = Named.by(answer, identity)
        same = all(map(self.is_organization, found.organizations)) and all(
            map(self.is_user, found.users)
        )
        if identity is not None:
            self.name_identity(identity)
        elif not same:
            self.name_identity(None)
            self.identity_read_at = None
        self.organization_id = found.organization or self.organization_id
        self.user_id = found.user or self.user_id

    def _expect_expiry(self, expires_in: timedelta | None, *, is_another: bool) -> None:
        lifetime, source = self.assumed_lifetime
        if expires_in is not None:
            self.expire(now() + expires_in, ExpirySource.STATED)
        elif is_another or not self.expires_at or self.expires_at <= now():
            self.expire(now() + lifetime, source)

    def _back_off(self, error: SalesforceError) -> None:
        """Say when it may be tried again by itself.

        What may pass is tried ever more rarely; what somebody has to mend first,
        as rarely as can be.
        """
        wait = LONGEST_BACK_OFF
        if error.is_transient:
            asked = error.trip.retry_after if error.trip else None
            wait = FIRST_BACK_OFF * 2 ** min(self.failures, MOST_DOUBLINGS)
            wait = max(wait, timedelta(seconds=asked or 0))
        self.failures = self.failures + 1 if error.is_transient else 0
        self.retry_at = now() + min(wait, LONGEST_BACK_OFF)

    def _keep_response(self, response: str) -> None:
        shown = self.without_secrets(response)
        self.authorization_server_response = shown[:LONGEST_RESPONSE]

    def _note_error(
        self,
        sentence: str | None,
        code: str | None = None,
        action: str | None = None,
        page: str | None = None,
    ) -> None:
        there = sentence is not None
        self.last_error = self.without_secrets(sentence) if sentence else None
        code = self.without_secrets(code) if code and there else None
        self.last_error_code = code[:LONGEST_TEXT] if code else None
        self.last_error_at = now() if there else None
        self.last_error_action, self.last_error_page = action, page

    def _keep_refresh_token(
        self, refresh_token: str, client: Client, lane: Lane
    ) -> None:
        former = self.opened("refresh_token")
        if lane is Lane.SILENT and former is not None:
            self.rotation = self.rotation or former != refresh_token
        self.refresh_token = seal(refresh_token)
        self.refresh_token_domain, self.refresh_token_client_id = client.app
        self.refresh_token_problem = self.doubt_settles_at = None
        self.use_refresh_token()

    def _is_of_this_user(self, answer: TokenAnswer) -> bool:
        found = answer.organization_and_user
        if found is None or _listed(answer.identity_url or "") is None:
            return False
        return bool(self.is_organization(found[0]) and self.is_user(found[1]))


def _listed(url: str) -> str | None:
    return url if site_for(url) else None


def _not_kept(unlisted: dict[str, str]) -> str:
    origins = dict.fromkeys(str(origin_of(url) or url) for url in unlisted.values())
    return (
        f"The token is stored, but not its {' and '.join(unlisted)}: no Remote Site"
        f" covers {' or '.join(origins)}. An admin can add one under Remote Sites; the"
        " next token then brings what is missing."
    )
