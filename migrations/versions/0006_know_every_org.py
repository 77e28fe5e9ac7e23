"""Knowing every org: whose a token is, what wants attention, what was held.

What follows from columns that are there is worked out for the records that are
there: how urgent they are, when their refresh tokens lapse, and the approval
that each login used up, as far as a record can tell.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

RECORD = "external_application"
SIGNATURES = ("verified", "failed", "not_sent")
REASONS = ("signature_failed", "another_organization", "another_user", "blocked")
LANES = ("silent", "page_less", "browser")
SECRETS = ("current", "next")
ENDINGS = ("revoked", "evicted", "dead")
SCOPES = ("selected", "all")
PROGRESSES = ("pending", "revoked", "failed", "gone")
TROUBLED = sa.text("outcome IN ('failed', 'lost', 'held')")
LIVE = sa.text("ended_at IS NULL")

FINE, NEW, EXPIRED, UNREACHABLE, ACT = 0, 1, 2, 4, 5
IDLE_DAYS = 30


def words(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, length=32)


def text(name: str, length: int = 255, *, nullable: bool = True) -> sa.Column:
    default = None if nullable else ""
    return sa.Column(
        name, sa.String(length=length), nullable=nullable, server_default=default
    )


def identity() -> tuple[sa.Column, ...]:
    return (
        text("organization_name"),
        text("org_username"),
        text("display_name"),
        text("user_type", 64),
        sa.Column("identity_read_at", sa.DateTime(), nullable=True),
        sa.Column("signature", words("signature", SIGNATURES), nullable=True),
    )


def columns() -> tuple[sa.Column, ...]:
    return (
        *identity(),
        text("owner", nullable=False),
        text("used_by", nullable=False),
        text("tags", nullable=False),
        sa.Column("notes", sa.Text(), nullable=False, server_default=""),
        sa.Column("search_words", sa.Text(), nullable=False, server_default=""),
        sa.Column(
            "attention_rank", sa.SmallInteger(), nullable=False, server_default=str(NEW)
        ),
        sa.Column(
            "idle_limit", sa.Integer(), nullable=True, server_default=str(IDLE_DAYS)
        ),
        sa.Column("refresh_token_used_at", sa.DateTime(), nullable=True),
        sa.Column("lapses_at", sa.DateTime(), nullable=True),
        sa.Column("last_used_at", sa.DateTime(), nullable=True),
        sa.Column(
            "over_broad", sa.Boolean(), nullable=False, server_default=sa.false()
        ),
        sa.Column("held_at", sa.DateTime(), nullable=True),
        text("access_token_domain"),
    )


INDEXES: tuple[tuple[str, list[str], str | None], ...] = (
    (
        "attention",
        ["attention_rank", "id", "application_name_key", "salesforce_domain"],
        None,
    ),
    ("attention_lapses_at", ["attention_rank", "lapses_at"], None),
    ("lapses_at", ["lapses_at"], None),
    ("last_used_at", ["last_used_at"], "access_token IS NOT NULL"),
    ("over_broad", ["id"], "over_broad"),
    ("without_owner", ["id"], "owner = ''"),
)


def upgrade() -> None:
    for column in columns():
        op.add_column(RECORD, column)
    _work_out()
    for name, indexed, where in INDEXES:
        condition = sa.text(where) if where else None
        op.create_index(
            f"ix_{RECORD}_{name}",
            RECORD,
            indexed,
            sqlite_where=condition,
            postgresql_where=condition,
        )
    op.create_index(
        "ix_attempt_troubled",
        "attempt",
        ["id"],
        sqlite_where=TROUBLED,
        postgresql_where=TROUBLED,
    )
    _create_approval()
    _create_held_token()
    _create_panic()


def downgrade() -> None:
    for table in ("panic_revocation", "panic", "held_token", "approval"):
        op.drop_table(table)
    op.drop_index("ix_attempt_troubled", "attempt")
    for name, _, _ in INDEXES:
        op.drop_index(f"ix_{RECORD}_{name}", RECORD)
    for column in columns():
        op.drop_column(RECORD, column.name)


def _work_out() -> None:
    later = (
        f"strftime('%Y-%m-%d %H:%M:%f', issued_at, '+{IDLE_DAYS} days')"
        if op.get_context().dialect.name == "sqlite"
        else f"issued_at + interval '{IDLE_DAYS} days'"
    )
    # Text of SQLite and timestamps of PostgreSQL alike.
    op.execute(
        f"UPDATE {RECORD} SET"
        " attention_rank = CASE state"
        f" WHEN 'connected' THEN {FINE}"
        f" WHEN 'never_authorized' THEN {NEW}"
        f" WHEN 'expired' THEN {EXPIRED}"
        f" WHEN 'unreachable' THEN {UNREACHABLE}"
        f" ELSE {ACT} END,"
        " last_used_at = issued_at,"
        " access_token_domain = CASE WHEN access_token IS NOT NULL THEN"
        " coalesce(refresh_token_domain, salesforce_domain) END,"
        " over_broad = ' ' || coalesce(granted_scopes, '') || ' ' LIKE '% full %'"
        " OR ' ' || coalesce(granted_scopes, '') || ' ' LIKE '% web %'"
    )
    op.execute(
        f"UPDATE {RECORD} SET refresh_token_used_at = issued_at, lapses_at = {later}"
        " WHERE refresh_token IS NOT NULL AND refresh_token_problem IS NULL"
        " AND flow = 'web_server'"
    )


def _create_approval() -> None:
    op.create_table(
        "approval",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("organization_id", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=64), nullable=False),
        text("username"),
        sa.Column("application_id", sa.Integer(), nullable=True),
        sa.Column("application_name", sa.String(length=255), nullable=False),
        sa.Column("granted_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("ending", words("ending", ENDINGS), nullable=True),
        sa.Column("evicted_by", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["external_application.id"],
            name="fk_approval_application_id_external_application",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_approval"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_approval_application_id", "approval", ["application_id"])
    op.create_index(
        "ix_approval_live",
        "approval",
        ["client_id", "organization_id", "user_id"],
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )
    op.execute(
        "INSERT INTO approval (client_id, organization_id, user_id, application_id,"
        " application_name, granted_at)"
        " SELECT refresh_token_client_id, organization_id, user_id, id,"
        " application_name, coalesce(oauth_code_used_at, issued_at, created_at)"
        f" FROM {RECORD} WHERE refresh_token IS NOT NULL"
        " AND refresh_token_problem IS NULL AND refresh_token_client_id IS NOT NULL"
        " AND organization_id IS NOT NULL AND user_id IS NOT NULL ORDER BY id"
    )


def _create_held_token() -> None:
    op.create_table(
        "held_token",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("application_id", sa.Integer(), nullable=False),
        sa.Column("reason", words("holdreason", REASONS), nullable=False),
        sa.Column("lane", words("lane", LANES), nullable=False),
        sa.Column("lane_reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("salesforce_domain", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("secret_used", words("secret", SECRETS), nullable=True),
        sa.Column("access_token", sa.Text(), nullable=False),
        sa.Column("refresh_token", sa.Text(), nullable=True),
        text("instance_url"),
        text("identity_url"),
        text("organization_id", 64),
        text("user_id", 64),
        *identity(),
        sa.Column("issued_at", sa.DateTime(), nullable=True),
        sa.Column("expires_in", sa.Integer(), nullable=True),
        sa.Column("scope", sa.Text(), nullable=True),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("approval_id", sa.Integer(), nullable=True),
        sa.Column("held_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["external_application.id"],
            name="fk_held_token_application_id_external_application",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_held_token"),
        sa.UniqueConstraint("application_id", name="uq_held_token_application_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_held_token_expires_at", "held_token", ["expires_at"])


def _create_panic() -> None:
    op.create_table(
        "panic",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("scope", words("scope", SCOPES), nullable=False),
        sa.Column("reason", sa.String(length=255), nullable=False),
        sa.Column("started_by", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        text("lifted_by"),
        sa.Column("lifted_at", sa.DateTime(), nullable=True),
        sa.Column("lease_ends", sa.Float(53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_panic"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_panic_lifted_at", "panic", ["lifted_at"])
    op.create_table(
        "panic_revocation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("panic_id", sa.Integer(), nullable=False),
        sa.Column("application_id", sa.Integer(), nullable=True),
        sa.Column("application_name", sa.String(length=255), nullable=False),
        sa.Column("salesforce_domain", sa.String(length=255), nullable=False),
        sa.Column("progress", words("progress", PROGRESSES), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=True),
        sa.Column("tried_at", sa.DateTime(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["panic_id"],
            ["panic.id"],
            name="fk_panic_revocation_panic_id_panic",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["external_application.id"],
            name="fk_panic_revocation_application_id_external_application",
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_panic_revocation"),
    )
    op.create_index(
        "ix_panic_revocation_application_id", "panic_revocation", ["application_id"]
    )
    op.create_index(
        "ix_panic_revocation_progress",
        "panic_revocation",
        ["panic_id", "progress", "id"],
    )
