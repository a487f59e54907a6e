"""Make the table of ops.jobs, where it is not there yet."""

from alembic import op

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    "Make the table, and the index by which workers look for what waits."
    op.execute(
        "CREATE TABLE IF NOT EXISTS serve_jobs (seq serial PRIMARY KEY, id varchar(32) NOT NULL UNIQUE, "
        "kind text NOT NULL, name text NOT NULL, overrides text NOT NULL, idempotency text NOT NULL, "
        "asked_by text NOT NULL, state text NOT NULL, attempts integer NOT NULL, lease_until text NOT NULL, "
        "worker text NOT NULL, heartbeat text NOT NULL, created text NOT NULL, started text NOT NULL, "
        "finished text NOT NULL, result text NOT NULL, error text NOT NULL, UNIQUE (asked_by, idempotency))"
    )
    op.execute("CREATE INDEX IF NOT EXISTS ix_serve_jobs_state ON serve_jobs (state)")


def downgrade() -> None:
    "Drop the table; ops.database refuses where it holds a row."
    op.execute("DROP TABLE serve_jobs")
