"""The switchboard: a page where a person, or a test, turns faults on."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from practice_org.models import Approval, db

blueprint = Blueprint("switchboard", __name__, url_prefix="/switchboard")

LONGEST_LOG = 100
ERRORS = (
    "invalid_grant: expired access/refresh token",
    "invalid_grant: inactive user",
    "invalid_grant: ip restricted",
    "invalid_grant: user hasn't approved this consumer",
    "invalid_client: invalid client credentials",
    "invalid_client_id: client identifier invalid",
    "invalid_app_access: user is not admin approved to access this app",
    "redirect_uri_mismatch: redirect_uri must match configuration",
    "unsupported_grant_type: grant type not supported",
    "inactive_org: organization is inactive",
    "rate_limit_exceeded: login rate exceeded",
)
"""What Salesforce's token endpoint has been seen to answer."""


class Fault(StrEnum):
    """What goes wrong at the token endpoint."""

    NONE = "none"
    SLOW = "slow"
    TOO_MANY_REQUESTS = "too_many_requests"
    OUTAGE = "outage"
    LOST_ANSWER = "lost_answer"
    NONSENSE = "nonsense"
    MISSING_FIELDS = "missing_fields"
    SPOILT = "spoilt"
    ERROR = "error"


WORDS = {
    Fault.NONE: "Nothing: all is well",
    Fault.SLOW: "Slow: waits before it answers",
    Fault.TOO_MANY_REQUESTS: "Too many requests: 429 with Retry-After",
    Fault.OUTAGE: "Outage: 503 with a page of HTML",
    Fault.LOST_ANSWER: "Lost answer: does the work, then cuts the line",
    Fault.NONSENSE: "Nonsense: 200 with a page of HTML",
    Fault.MISSING_FIELDS: "Missing fields: an access token and nothing else",
    Fault.SPOILT: "Spoilt: the answer without its access token",
    Fault.ERROR: "The error chosen below",
}


@dataclass
class Switchboard:
    """The faults that are on, and the requests that were seen.

    `seconds` is how long a slow answer takes. `times` is for how many more
    token requests the fault stays on, 0 until it is switched off. `waiting` is
    how many token requests have no answer yet.
    """

    fault: Fault = Fault.NONE
    times: int = 0
    seconds: float = 3.0
    retry_after: str = "30"
    error: str = ERRORS[0]
    rotation: bool = False
    wrong_org: bool = False
    waiting: int = 0
    log: list[dict[str, Any]] = field(default_factory=list)

    def take_fault(self) -> Fault:
        """Return the fault for the next token request."""
        fault = self.fault
        if self.times:
            self.times -= 1
            if not self.times:
                self.fault = Fault.NONE
        return fault

    def note(self, response: AnyResponse) -> None:
        """Keep what was asked and answered, without any secret."""
        answer = response.get_json(silent=True) if response.is_json else None
        self.log[:-LONGEST_LOG] = []
        self.log.append(
            {
                "path": request.path,
                "grant_type": request.form.get("grant_type", ""),
                "status": response.status_code,
                "error": answer.get("error", "") if isinstance(answer, dict) else "",
            }
        )


def board() -> Switchboard:
    the_board: Switchboard = current_app.extensions["switchboard"]
    return the_board


@blueprint.get("")
def show() -> str:
    return render_template(
        "switchboard.html", board=board(), words=WORDS, errors=ERRORS
    )


@blueprint.post("")
def change() -> AnyResponse:
    form, the_board = request.form, board()
    try:
        the_board.fault = Fault(form.get("fault", Fault.NONE))
        the_board.times = max(0, int(form.get("times", 0)))
        the_board.seconds = min(60.0, max(0.0, float(form.get("seconds", 3))))
        the_board.retry_after = form.get("retry_after", "30").encode("ascii").decode()
        if not the_board.retry_after.isprintable():
            raise ValueError
    except ValueError:
        the_board.retry_after = "30"
        abort(400, "A fault, a number or a Retry-After is not one.")
    the_board.error = form.get("error", ERRORS[0])
    the_board.rotation = "rotation" in form
    the_board.wrong_org = "wrong_org" in form
    return redirect(url_for(".show"), 303)


@blueprint.post("/revocation")
def revoke_all() -> AnyResponse:
    """As an admin does under Connected Apps OAuth Usage: every approval ends."""
    db.session.execute(db.update(Approval).values(revoked=True))
    db.session.commit()
    return redirect(url_for(".show"), 303)


@blueprint.get("/state.json")
def state() -> Response:
    return jsonify(asdict(board()))
