"""What `create_app` calls to guard its routes."""

from __future__ import annotations

from fastapi import FastAPI

from serving.access import routes, sign_in
from serving.access.state import Access
from serving.settings import Settings
from serving.store.engine import Store


def setup_access(app: FastAPI, settings: Settings, store: Store) -> None:
    """Put `Access` on app.state.access, and the routes /session on the app."""
    app.state.access = Access(settings, store)
    app.include_router(routes.router)
    app.include_router(sign_in.router)
