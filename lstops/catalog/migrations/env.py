"""Alembic's entry: migrations run on the connection that `lstops.catalog.database.upgrade` gives."""

from __future__ import annotations

from alembic import context

from lstops.catalog.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
