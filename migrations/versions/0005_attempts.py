"""The token engine: flows, two consumer secrets, attempts that are leases.

`refresh_token_rotates` could not tell "no" from "not seen yet", so `rotation`
takes its place; only what was seen is kept.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

RECORD = "external_application"
FLOWS = ("web_server", "jwt_bearer", "client_credentials")
LANES = ("silent", "page_less", "browser")
SECRETS = ("current", "next")
SOURCES = ("stated", "introspected", "learned", "assumed")
OUTCOMES = ("stored", "failed", "lost", "superseded")
STATES = (
    "never_authorized",
    "connected",
    "expired",
    "login_required",
    "blocked",
    "misconfigured",
    "unreachable",
    "outcome_unknown",
)
OPEN = sa.text("finished_at IS NULL AND lane != 'browser'")


def words(name: str, values: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*values, name=name, native_enum=False, length=32)


def upgrade() -> None:
    for column in (
        sa.Column(
            "flow", words("flow", FLOWS), nullable=False, server_default="web_server"
        ),
        sa.Column("next_consumer_secret", sa.Text(), nullable=True),
        sa.Column("secret_used", words("secret", SECRETS), nullable=True),
        sa.Column("username", sa.String(length=255), nullable=False, server_default=""),
        sa.Column("audience", sa.String(length=255), nullable=False, server_default=""),
        sa.Column("private_key", sa.Text(), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column(
            "session_timeout", sa.Integer(), nullable=False, server_default="120"
        ),
        sa.Column("rotation", sa.Boolean(), nullable=True),
        sa.Column("doubt_settles_at", sa.DateTime(), nullable=True),
        sa.Column("expiry_source", words("expirysource", SOURCES), nullable=True),
        sa.Column("learned_lifetime", sa.Integer(), nullable=True),
        sa.Column("introspection_refused_at", sa.DateTime(), nullable=True),
        sa.Column("last_error_action", sa.Text(), nullable=True),
        sa.Column("last_error_page", sa.String(length=255), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("retry_at", sa.DateTime(), nullable=True),
    ):
        op.add_column(RECORD, column)
    op.execute(f"UPDATE {RECORD} SET rotation = true WHERE refresh_token_rotates")
    op.drop_column(RECORD, "refresh_token_rotates")

    op.create_table(
        "attempt",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("application_id", sa.Integer(), nullable=False),
        sa.Column("lane", words("lane", LANES), nullable=False),
        sa.Column("actor", sa.String(length=255), nullable=False),
        sa.Column("request_id", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("lease_ends", sa.Float(53), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.Column("finished_tick", sa.Float(53), nullable=True),
        sa.Column("outcome", words("outcome", OUTCOMES), nullable=True),
        sa.Column("state", words("state", STATES), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_code", sa.String(length=255), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("retry_after", sa.Integer(), nullable=True),
        sa.Column("duration", sa.Integer(), nullable=True),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("secret_used", words("secret", SECRETS), nullable=True),
        sa.Column("rotated", sa.Boolean(), nullable=True),
        sa.Column("access_token_before", sa.String(length=8), nullable=True),
        sa.Column("access_token_after", sa.String(length=8), nullable=True),
        sa.Column("refresh_token_before", sa.String(length=8), nullable=True),
        sa.Column("refresh_token_after", sa.String(length=8), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["external_application.id"],
            name="fk_attempt_application_id_external_application",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_attempt"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_attempt_application_id", "attempt", ["application_id", "id"])
    op.create_index("ix_attempt_started_at", "attempt", ["started_at"])
    op.create_index(
        "ix_attempt_open",
        "attempt",
        ["application_id"],
        sqlite_where=sa.text("finished_at IS NULL"),
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index(
        "uq_attempt_open",
        "attempt",
        ["application_id"],
        unique=True,
        sqlite_where=OPEN,
        postgresql_where=OPEN,
    )


def downgrade() -> None:
    op.drop_table("attempt")
    op.add_column(
        RECORD,
        sa.Column(
            "refresh_token_rotates",
            sa.Boolean(),
            nullable=False,
            server_default=sa.false(),
        ),
    )
    op.execute(f"UPDATE {RECORD} SET refresh_token_rotates = true WHERE rotation")
    for name in (
        *("flow", "next_consumer_secret", "secret_used", "username", "audience"),
        *("private_key", "certificate", "session_timeout", "rotation"),
        *("doubt_settles_at", "expiry_source", "learned_lifetime"),
        *("introspection_refused_at", "last_error_action", "last_error_page"),
        *("failures", "retry_at"),
    ):
        op.drop_column(RECORD, name)
