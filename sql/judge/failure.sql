-- Requests that brought no answer: what failed, at which try. The unit stays open and is asked by the next run.

CREATE TABLE IF NOT EXISTS failure (
    model_requested TEXT NOT NULL,
    context_hmac TEXT NOT NULL,
    ingredient TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state TEXT NOT NULL,
    status INTEGER,
    created_at TEXT NOT NULL
) STRICT;
