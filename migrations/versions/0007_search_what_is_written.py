"""The search finds what is written down about a record, too.

The trigram index of 0001 is made anew with a third part, and line feeds behind
it as behind the others: so no match spans two.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

BEFORE = (
    "{row}.application_name_key || char(10, 10)"
    " || lower({row}.salesforce_domain) || char(10, 10)"
)
SEARCHED = BEFORE + " || {row}.search_words || char(10, 10)"
COLUMNS_BEFORE = "application_name_key, salesforce_domain"
COLUMNS = COLUMNS_BEFORE + ", search_words"
TRIGRAM_INDEX = (
    "CREATE INDEX application_search_words ON external_application"
    " USING gin (search_words gin_trgm_ops)"
)
HAS_TRIGRAMS = sa.text("SELECT true FROM pg_extension WHERE extname = 'pg_trgm'")


def upgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        _index(SEARCHED, COLUMNS)
    elif op.get_bind().scalar(HAS_TRIGRAMS):
        op.execute(TRIGRAM_INDEX)


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        _index(BEFORE, COLUMNS_BEFORE)
    else:
        op.execute("DROP INDEX IF EXISTS application_search_words")


def _index(searched: str, columns: str) -> None:
    """Make the index of these parts, of which these columns are made."""
    of_new, of_old = searched.format(row="new"), searched.format(row="old")
    of_all = searched.format(row="external_application")
    add = f"INSERT INTO application_search (rowid, searched) VALUES (new.id, {of_new});"
    remove = (
        "INSERT INTO application_search (application_search, rowid, searched)"
        f" VALUES ('delete', old.id, {of_old});"
    )
    for statement in (
        "DROP TRIGGER application_search_insert",
        "DROP TRIGGER application_search_delete",
        "DROP TRIGGER application_search_update",
        "DROP TABLE application_search_trigram",
        "DROP TABLE application_search",
        "CREATE VIRTUAL TABLE application_search USING fts5"
        " (searched, content='', tokenize='trigram case_sensitive 1')",
        "CREATE VIRTUAL TABLE application_search_trigram USING fts5vocab"
        " (application_search, instance)",
        "INSERT INTO application_search (rowid, searched)"
        f" SELECT id, {of_all} FROM external_application",
        "CREATE TRIGGER application_search_insert AFTER INSERT ON external_application"
        f" BEGIN {add} END",
        "CREATE TRIGGER application_search_delete AFTER DELETE ON external_application"
        f" BEGIN {remove} END",
        f"CREATE TRIGGER application_search_update AFTER UPDATE OF {columns}"
        f" ON external_application BEGIN {remove} {add} END",
    ):
        op.execute(statement)
