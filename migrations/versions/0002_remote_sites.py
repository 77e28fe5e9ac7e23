"""Remote Sites, with Salesforce's own hosts as the first of them.

These are the hosts at which orgs answer OAuth requests, and Salesforce alone
gives out names below them:

- `*.salesforce.com`: login and test, My Domains of production, sandboxes and
  the other partitions, and the old instances (na1, eu5, cs21).
- `*.my.site.com`: Experience Cloud sites, which answer below this name alone.
- `*.salesforce.mil`: My Domains of the US government's cloud.
- `*.sfcrmproducts.cn`: My Domains of Salesforce on Alibaba Cloud.

Hosts that only show pages (lightning.force.com, salesforce-setup.com,
crmforce.mil, sfcrmapps.cn) answer no API, and a site's custom domain is its
owner's: those that are called are added by hand.
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SALESFORCE = (
    "*.salesforce.com",
    "*.my.site.com",
    "*.salesforce.mil",
    "*.sfcrmproducts.cn",
)


def upgrade() -> None:
    remote_site = op.create_table(
        "remote_site",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scheme", sa.String(length=8), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("local_network", sa.Boolean(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_remote_site"),
        sa.UniqueConstraint(
            "scheme", "host", "port", name="uq_remote_site_scheme_host_port"
        ),
        sqlite_autoincrement=True,
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    row = {"scheme": "https", "port": 443, "local_network": False, "active": True}
    row |= {"created_at": now, "changed_at": now}
    op.bulk_insert(remote_site, [row | {"host": host} for host in SALESFORCE])


def downgrade() -> None:
    op.drop_table("remote_site")
