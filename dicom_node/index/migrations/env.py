"""How Alembic reaches the database: always through the connection that `Database.migrate` hands over."""

from alembic import context

from dicom_node.index.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection, target_metadata=metadata, render_as_batch=True, transaction_per_migration=False
)
context.run_migrations()
