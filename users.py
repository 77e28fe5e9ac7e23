"""Users: inviting them by one-time links, changing what they may do; `flask users`.

Every change keeps one rule: there is always an admin who can sign in.
"""

from collections.abc import Callable
from typing import TypeVar

import click
from email_validator import EmailNotValidError, validate_email
from flask import current_app
from flask.cli import AppGroup
from flask_login import current_user
from flask_security import hash_password
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError

import audit
from database import db, now
from models import Event, Invitation, Role, User

Answer = TypeVar("Answer")
LAST_ADMIN = "There has to be an admin who can sign in, and this is the last one."

commands = AppGroup("users", help="Who may sign in, and what they may do.")


class LastAdmin(Exception):
    """The change would leave Orgdesk without an admin."""


def normalized(email: str) -> str:
    """Return an e-mail address as it is stored; raise `ValueError` with a sentence."""
    try:
        checked = validate_email(
            email, check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise ValueError(str(error)) from None
    return checked.normalized.lower()


def invite(email: str, role: Role) -> str:
    """Make a link with which somebody becomes a user; return its token."""
    token = Invitation.issue(email=email, role=role, issued_by=_who())
    audit.record(Event.USER_INVITED, email=email, role=role)
    db.session.commit()
    return token


def invite_first_admin() -> str | None:
    """Make the link that the first admin comes in by; None where there is a user."""
    if User.any():
        return None
    token = Invitation.issue(role=Role.ADMIN)
    audit.record(Event.USER_INVITED, first=True, role=Role.ADMIN)
    db.session.commit()
    return token


def renew(user: User) -> str:
    """Make a link with which a user who is locked out starts afresh."""
    token = Invitation.issue(
        email=user.email, role=user.role, user=user, issued_by=_who()
    )
    audit.record(Event.USER_INVITED, user, again=True)
    db.session.commit()
    return token


def withdraw(invitation: Invitation) -> None:
    """End a link that nobody has used."""
    invitation.used_at = now()
    audit.record(Event.INVITATION_WITHDRAWN, invitation, role=invitation.role)
    db.session.commit()


def accept(token: str, email: str, password: str) -> User | None:
    """Use a link up: make its user, or start theirs afresh.

    None where it cannot be used, or not any more. `email` counts for the first
    admin alone, who was not invited by an address.
    """
    invitation = Invitation.consume(token)
    if invitation is None or (invitation.email is None and User.any()):
        db.session.rollback()
        return None
    user = invitation.user or User(
        email=invitation.email or normalized(email), role=invitation.role
    )
    try:
        db.session.add(user)
        user.start_afresh(hash_password(password))
        audit.record(Event.INVITATION_ACCEPTED, user, actor=user, role=user.role)
        db.session.commit()
    except IntegrityError:  # the address became a user's by another link
        db.session.rollback()
        return None
    return user


def give_role(user: User, role: Role) -> None:
    """Raises `LastAdmin`."""
    before, user.role = user.role, role
    if not role.includes(Role.ADMIN):
        Invitation.end_all_of(user)
    audit.record(Event.USER_CHANGED, user, role_before=before, role=role)
    _commit_with_an_admin()


def deactivate(user: User) -> None:
    """Let a user in no more, and end every sign-in of theirs. Raises `LastAdmin`."""
    user.active = False
    user.sign_out_everywhere()
    Invitation.end_all_of(user)
    audit.record(Event.USER_DEACTIVATED, user)
    _commit_with_an_admin()


def reactivate(user: User) -> None:
    user.active = True
    audit.record(Event.USER_REACTIVATED, user)
    db.session.commit()


def _who() -> int | None:
    """Return the id of the admin who is at it; at a shell there is none."""
    return getattr(current_user, "id", None)


def _commit_with_an_admin() -> None:
    """Commit unless nobody is left to manage Orgdesk.

    The audit row before has taken the lock that every such change takes, so
    two admins cannot take the role from each other at once.
    """
    if not User.active_admins():
        db.session.rollback()
        raise LastAdmin(LAST_ADMIN)
    db.session.commit()


@commands.command("list")
def list_users() -> None:
    """List who may sign in."""
    for user in _ask(
        lambda: db.session.scalars(select(User).order_by(User.email)).all()
    ):
        state = "active" if user.active else "inactive"
        factors = ", ".join(user.second_factors) or "password alone"
        click.echo(f"{user.email}  {user.role}  {state}  {factors}")


@commands.command("invite")
@click.argument("email")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.VIEWER.value,
)
def invite_user(email: str, role: str) -> None:
    """Print a one-time link that makes a user."""
    try:
        email = normalized(email)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if _ask(lambda: User.find(email)):
        raise click.ClickException(f"{email} is a user already: see flask users link.")
    click.echo(link(_ask(lambda: invite(email, Role(role)))))


@commands.command("link")
@click.argument("email")
def renew_user(email: str) -> None:
    """Print a one-time link with which a user who is locked out starts afresh."""
    user = _find(email)
    click.echo(link(_ask(lambda: renew(user))))


@commands.command("role")
@click.argument("email")
@click.argument("role", type=click.Choice([role.value for role in Role]))
def change_role(email: str, role: str) -> None:
    """Give a user another role."""
    user = _find(email)
    _ask(lambda: give_role(user, Role(role)))


@commands.command("deactivate")
@click.argument("email")
def deactivate_user(email: str) -> None:
    """Let a user in no more, and end their sign-ins."""
    user = _find(email)
    _ask(lambda: deactivate(user))


@commands.command("reactivate")
@click.argument("email")
def reactivate_user(email: str) -> None:
    """Let a user in again."""
    user = _find(email)
    _ask(lambda: reactivate(user))


def link(token: str) -> str:
    """Return the address of a one-time link."""
    return f"{current_app.config['ADDRESS']}/welcome/{token}"


def _find(email: str) -> User:
    user = _ask(lambda: User.find(email))
    if user is None:
        raise click.ClickException(f"{email} is no user: see flask users list.")
    return user


def _ask(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except LastAdmin as error:
        raise click.ClickException(str(error)) from None
    except DBAPIError as error:
        raise click.ClickException(
            f"The database cannot be used ({error.orig}). Is it up, and migrated with"
            " flask --app app db upgrade?"
        ) from None
