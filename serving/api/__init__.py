"""The native routes: drafts, screening, search, models and probes. Thin: `app.state.service` does the work."""
