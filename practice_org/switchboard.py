"""The switchboard: a page where a person, or a test, turns faults on."""

from dataclasses import asdict

from flask import (
    Blueprint,
    Response,
    abort,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as AnyResponse

from practice_org.board import (
    ERRORS,
    WORDS,
    Introspection,
    Rest,
    Revocation,
    Signing,
    Switches,
    board,
    switches,
)
from practice_org.database import db
from practice_org.models import USERS, Approval, Certificate

blueprint = Blueprint("switchboard", __name__, url_prefix="/switchboard")

SHOWN = 100


@blueprint.get("")
def show() -> str:
    return render_template(
        "switchboard.html",
        on=switches(),
        held=board().held,
        certificate=Certificate.current(),
        users=USERS,
        introspections=list(Introspection),
        revocations=list(Revocation),
        rests=list(Rest),
        signings=list(Signing),
        log=board().log.newest(SHOWN),
        words=WORDS,
        errors=ERRORS,
    )


@blueprint.post("")
def change() -> AnyResponse:
    try:
        board().set(Switches.read(request.form))
    except ValueError:
        abort(400, "A choice, a number or a Retry-After is not one.")
    return redirect(url_for(".show"), 303)


@blueprint.post("/revocation")
def revoke_all() -> AnyResponse:
    """As an admin does under Connected Apps OAuth Usage: every approval ends."""
    db.session.execute(db.update(Approval).values(revoked=True))
    db.session.commit()
    return redirect(url_for(".show"), 303)


@blueprint.post("/release")
def release() -> AnyResponse:
    """Let the token requests go that are held."""
    board().release()
    return redirect(url_for(".show"), 303)


@blueprint.post("/certificate")
def upload() -> AnyResponse:
    """Take the certificate of the key that signs assertions; none removes it."""
    try:
        Certificate.upload(request.form.get("certificate", ""))
    except ValueError:
        abort(400, "That is no PEM certificate of an RSA key of 2,048 bits or more.")
    return redirect(url_for(".show"), 303)


@blueprint.post("/reset")
def reset() -> AnyResponse:
    """Forget the requests, and begin to count anew."""
    board().reset()
    return redirect(url_for(".show"), 303)


@blueprint.get("/state.json")
def state() -> Response:
    """Tell all there is to know; of the log, what is later than `after`."""
    try:
        after = int(request.args.get("after", 0))
    except ValueError:
        abort(400, "The number is not one.")
    the_board, certificate = board(), Certificate.current()
    return jsonify(
        **asdict(the_board.switches),
        waiting=the_board.waiting,
        held=the_board.held,
        families_revoked=the_board.families_revoked,
        live_approvals={
            user.username: len(Approval.all_of(user)) for user in USERS.values()
        },
        certificate=certificate.fingerprint if certificate else "",
        log=the_board.log.after(after),
    )
