"""Make the table of ops.jobs, where it is not there yet."""

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    "Make the table."
    op.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id text PRIMARY KEY, kind text, name text, overrides text, "
        "idempotency text UNIQUE, asked_by text, state text, attempts integer, lease_until text, worker text, "
        "heartbeat text, created text, started text, finished text, result text, error text)"
    )


def downgrade() -> None:
    "Drop the table; ops.database refuses where it holds a row."
    op.execute("DROP TABLE jobs")
