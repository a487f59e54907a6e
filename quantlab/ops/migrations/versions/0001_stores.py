"""Make the tables of execution.store and the manifest of data.postgres, where they are not there yet."""

from alembic import op

revision, down_revision = "0001", None

# As they were at this revision: a migration never reads what the code says today.
TABLES = {
    "decisions": "strategy text, decided text, body text NOT NULL, written text NOT NULL, "
    "PRIMARY KEY (strategy, decided)",
    "orders": "id text PRIMARY KEY, strategy text NOT NULL, decided text NOT NULL, symbol text NOT NULL, "
    "quantity text NOT NULL, price text NOT NULL, deadline text NOT NULL, state text NOT NULL, since text NOT NULL, "
    "venue_id text NOT NULL, why text NOT NULL",
    "outbox": "id text, action text, written text NOT NULL, PRIMARY KEY (id, action)",
    "moves": "number integer PRIMARY KEY, id text NOT NULL, was text NOT NULL, now text NOT NULL, "
    "mover text NOT NULL, at text NOT NULL, why text NOT NULL",
    "fills": "execution text PRIMARY KEY, id text NOT NULL, symbol text NOT NULL, quantity text NOT NULL, "
    "price text NOT NULL, fee text NOT NULL, at text NOT NULL",
    "flows": "id text PRIMARY KEY, kind text NOT NULL, symbol text NOT NULL, shares text NOT NULL, "
    "cash text NOT NULL, at text NOT NULL",
    "facts": "name text PRIMARY KEY, value text NOT NULL",
    "manifest": "dataset text PRIMARY KEY, content text NOT NULL",
}


def upgrade() -> None:
    "Make what is missing; ops.database compares what was there, and takes all of it back where something differs."
    for name, columns in TABLES.items():
        op.execute(f"CREATE TABLE IF NOT EXISTS {name} ({columns})")


def downgrade() -> None:
    "Drop the tables; ops.database refuses where one holds a row."
    for name in reversed(TABLES):
        op.execute(f"DROP TABLE {name}")
