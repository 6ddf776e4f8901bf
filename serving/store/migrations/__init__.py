"""What Alembic runs to bring a store up to date; see `serving.store.migrate`."""
