"""Remote Sites: the hosts that Orgdesk may call. It calls no other."""

from datetime import datetime
from typing import ClassVar

from sqlalchemy import String, UniqueConstraint, bindparam, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from database import Model, Moment, db, now
from salesforce import Origin, origin_of

LONGEST_HOST = 255
"""Characters: 253 of a host name, and two of a wildcard."""


class RemoteSite(Model):
    """A host that may be called, or with a wildcard all hosts below one.

    A site in the local network may resolve to an address of it; any other is
    refused where it does.
    """

    __tablename__ = "remote_site"
    audit_kind: ClassVar = "Remote Site"

    id: Mapped[int] = mapped_column(primary_key=True)
    scheme: Mapped[str] = mapped_column(String(8))
    host: Mapped[str] = mapped_column(String(LONGEST_HOST))
    port: Mapped[int]
    local_network: Mapped[bool] = mapped_column(default=False)
    active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(Moment, default=now)
    changed_at: Mapped[datetime] = mapped_column(Moment, default=now)

    # No id is used again: an old tab must not switch or delete another site.
    __table_args__ = (
        UniqueConstraint("scheme", "host", "port"),
        {"sqlite_autoincrement": True},
    )

    @property
    def audit_name(self) -> str:
        return str(self.origin)

    @property
    def origin(self) -> Origin:
        return Origin(self.scheme, self.host, self.port)

    def describe(self, origin: Origin, *, local_network: bool) -> None:
        """Take over what the form says."""
        self.scheme, self.host, self.port = origin.scheme, origin.host, origin.port
        self.local_network = local_network
        self.changed_at = now()

    def switch(self, *, active: bool) -> None:
        """Switch it on or off; what is off allows nothing."""
        self.active = active
        self.changed_at = now()


def site_for(url: str) -> RemoteSite | None:
    """Return the active site that covers `url`, the nearest where there are more."""
    return _site_for(url, db.session())


def gate(url: str) -> RemoteSite | None:
    """Answer `site_for` to a call that is about to leave.

    It has a connection of its own, so that none is held while the org is asked,
    and the caller's transaction is left as it is.
    """
    with Session(db.engine) as session:
        return _site_for(url, session)


def find_site(origin: Origin) -> RemoteSite | None:
    """Return the site of just this origin, active or not."""
    return db.session.scalar(
        select(RemoteSite).filter_by(
            scheme=origin.scheme, host=origin.host, port=origin.port
        )
    )


_COVERING = select(RemoteSite).where(
    RemoteSite.active,
    RemoteSite.scheme == bindparam("scheme"),
    RemoteSite.port == bindparam("port"),
    RemoteSite.host.in_(bindparam("hosts", expanding=True)),
)
"""Built once: a click asks it six times."""


def _site_for(url: str, session: Session) -> RemoteSite | None:
    origin = origin_of(url)
    if origin is None:
        return None
    hosts = origin.covering_hosts
    asked = {"scheme": origin.scheme, "port": origin.port, "hosts": hosts}
    sites = session.scalars(_COVERING, asked)
    return min(sites, key=lambda site: hosts.index(site.host), default=None)
