"""Grants as the orgs have them: what may have to be revoked, and its approval."""

from typing import NamedTuple

from database import db
from models import Approval, ExternalApplication, HeldToken
from vault import opened


class LooseGrant(NamedTuple):
    """A grant that no record stores any more: its token, where it is to be revoked.

    With it goes the approval that it had.
    """

    token: str
    domain: str
    client_id: str
    approval_id: int | None = None

    def is_of(self, application: ExternalApplication) -> bool:
        """Whether the record stores this very grant."""
        return (self.token, self.domain, self.client_id) == (
            application.opened("refresh_token"),
            application.refresh_token_domain,
            application.refresh_token_client_id,
        )


def stored_grant(application: ExternalApplication) -> LooseGrant | None:
    """Return the grant that a record stores, as what has to be revoked later."""
    token = application.opened("refresh_token")
    domain = application.refresh_token_domain
    client_id = application.refresh_token_client_id
    if not token or not domain or not client_id:
        return None
    approval = approval_of(application)
    return LooseGrant(token, domain, client_id, approval.id if approval else None)


def approval_of(application: ExternalApplication) -> Approval | None:
    """Return the approval behind the grant that the record stores."""
    held = application.held
    return Approval.of(application.id, held.approval_id if held else None)


def release(application: ExternalApplication, held: HeldToken) -> list[LooseGrant]:
    """Hold a token no more; return the grant that nobody stores by that.

    Where a refresh brought it, that is the heir of the stored refresh token.
    """
    heir, stored = opened(held.refresh_token), application.opened("refresh_token")
    application.hold_no_more()
    db.session.delete(held)
    db.session.flush()
    token = heir if heir != stored else None
    if held.is_grant_of_its_own:
        token = heir or opened(held.access_token)
    if token is None:
        return []
    return [LooseGrant(token, held.salesforce_domain, held.client_id, held.approval_id)]
