-- Which model stood behind a name, each time it was asked: a run without network reads the last one.

CREATE TABLE IF NOT EXISTS snapshot (
    model_requested TEXT NOT NULL,
    model_returned TEXT NOT NULL,
    shutdown_date TEXT,
    created_at TEXT NOT NULL
) STRICT;
