"""Drafts from the request to the frozen list: made or queued, screened, recorded, reviewed, exported."""
