-- Requests for new tasks that brought no answer: what failed, at which try.

CREATE TABLE IF NOT EXISTS failure (
    model_requested TEXT NOT NULL,
    number INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    created_at TEXT NOT NULL
) STRICT;
