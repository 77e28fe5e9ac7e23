"""The first tables: External Applications, logins under way, and the search.

The search's trigram index (SQLite's FTS5) keeps no text of its own. Triggers
feed it the folded name and the domain, with line feeds behind each: so the
last characters begin trigrams as well, and no match spans the two. On
PostgreSQL the trigram indexes are those of pg_trgm.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEARCHED = (
    "{row}.application_name_key || char(10, 10)"
    " || lower({row}.salesforce_domain) || char(10, 10)"
)
ADD = (
    "INSERT INTO application_search (rowid, searched)"
    f" VALUES (new.id, {SEARCHED.format(row='new')});"
)
REMOVE = (
    "INSERT INTO application_search (application_search, rowid, searched)"
    f" VALUES ('delete', old.id, {SEARCHED.format(row='old')});"
)
SEARCH_INDEX = (
    "CREATE VIRTUAL TABLE application_search USING fts5"
    " (searched, content='', tokenize='trigram case_sensitive 1')",
    "CREATE VIRTUAL TABLE application_search_trigram USING fts5vocab"
    " (application_search, instance)",
    "CREATE TRIGGER application_search_insert AFTER INSERT ON external_application"
    f" BEGIN {ADD} END",
    "CREATE TRIGGER application_search_delete AFTER DELETE ON external_application"
    f" BEGIN {REMOVE} END",
    "CREATE TRIGGER application_search_update AFTER UPDATE OF"
    " application_name_key, salesforce_domain ON external_application"
    f" BEGIN {REMOVE} {ADD} END",
)

TRIGRAM_INDEXES = (
    "CREATE INDEX application_search_name ON external_application"
    " USING gin (application_name_key gin_trgm_ops)",
    "CREATE INDEX application_search_domain ON external_application"
    " USING gin (lower(salesforce_domain) gin_trgm_ops)",
)


def upgrade() -> None:
    op.create_table(
        "external_application",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("application_name", sa.String(length=255), nullable=False),
        sa.Column("application_name_key", sa.Text(), nullable=False),
        sa.Column("salesforce_domain", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("consumer_secret", sa.Text(), nullable=True),
        sa.Column("callback_url", sa.String(length=255), nullable=False),
        sa.Column("requested_scopes", sa.String(length=255), nullable=False),
        sa.Column("prompt_login", sa.Boolean(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "never_authorized",
                "connected",
                "expired",
                "login_required",
                "blocked",
                "misconfigured",
                "unreachable",
                "outcome_unknown",
                name="state",
                native_enum=False,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("access_token", sa.Text(), nullable=True),
        sa.Column("refresh_token", sa.Text(), nullable=True),
        sa.Column("refresh_token_rotates", sa.Boolean(), nullable=False),
        sa.Column("refresh_token_domain", sa.String(length=255), nullable=True),
        sa.Column("refresh_token_client_id", sa.String(length=255), nullable=True),
        sa.Column("refresh_token_problem", sa.Text(), nullable=True),
        sa.Column("instance_url", sa.String(length=255), nullable=True),
        sa.Column("identity_url", sa.String(length=255), nullable=True),
        sa.Column("organization_id", sa.String(length=64), nullable=True),
        sa.Column("user_id", sa.String(length=64), nullable=True),
        sa.Column("issued_at", sa.DateTime(), nullable=True),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.Column("granted_scopes", sa.Text(), nullable=True),
        sa.Column("lane", sa.String(length=16), nullable=True),
        sa.Column("lane_reason", sa.Text(), nullable=True),
        sa.Column("oauth_code", sa.Text(), nullable=True),
        sa.Column("oauth_code_received_at", sa.DateTime(), nullable=True),
        sa.Column("oauth_code_used_at", sa.DateTime(), nullable=True),
        sa.Column(
            "authorization_server_response", sa.String(length=32768), nullable=True
        ),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_error_code", sa.String(length=255), nullable=True),
        sa.Column("last_error_at", sa.DateTime(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_external_application"),
        sa.UniqueConstraint(
            "application_name_key", name="uq_external_application_application_name_key"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_external_application_name",
        "external_application",
        ["application_name_key", "salesforce_domain"],
    )
    op.create_index(
        "ix_external_application_newest",
        "external_application",
        ["id", "application_name_key", "salesforce_domain"],
    )
    op.create_index(
        "ix_external_application_state_expires_at",
        "external_application",
        ["state", "expires_at"],
    )
    op.create_index(
        "ix_external_application_state_name",
        "external_application",
        ["state", "application_name_key", "salesforce_domain"],
    )
    op.create_index(
        "ix_external_application_state_newest",
        "external_application",
        ["state", "id", "application_name_key", "salesforce_domain"],
    )

    op.create_table(
        "pending_authorization",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("browser_hash", sa.String(length=64), nullable=False),
        sa.Column("application_id", sa.Integer(), nullable=False),
        sa.Column("salesforce_domain", sa.String(length=255), nullable=False),
        sa.Column("client_id", sa.String(length=255), nullable=False),
        sa.Column("redirect_uri", sa.String(length=255), nullable=False),
        sa.Column("code_verifier", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.Column("consumed_at", sa.DateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["external_application.id"],
            name="fk_pending_authorization_application_id_external_application",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pending_authorization"),
        sa.UniqueConstraint("state_hash", name="uq_pending_authorization_state_hash"),
    )
    op.create_index(
        "ix_pending_authorization_application_id",
        "pending_authorization",
        ["application_id"],
    )
    op.create_index(
        "ix_pending_authorization_expires_at", "pending_authorization", ["expires_at"]
    )
    for statement in _search_statements():
        op.execute(statement)


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE application_search_trigram")
        op.execute("DROP TABLE application_search")
    op.drop_table("pending_authorization")
    op.drop_table("external_application")


def _search_statements() -> tuple[str, ...]:
    if op.get_context().dialect.name == "sqlite":
        return SEARCH_INDEX
    # PostgreSQL's contrib package has it, and the database's owner may create
    # it; where either is not so, a search walks an index.
    try:
        with op.get_bind().begin_nested():
            op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    except sa.exc.DBAPIError:
        return ()
    return TRIGRAM_INDEXES
