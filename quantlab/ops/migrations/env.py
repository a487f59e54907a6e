"""Carry out migrations on the connection that quantlab.ops.database opened, or write them as a script."""

from alembic import context

given = context.config.attributes
if context.is_offline_mode():
    context.configure(dialect_name="postgresql", version_table=given["version_table"])
else:
    context.configure(connection=given["connection"], version_table=given["version_table"])
with context.begin_transaction():
    context.run_migrations()
