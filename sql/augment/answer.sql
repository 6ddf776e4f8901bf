-- Every answer a model ever gave when asked for new tasks, for ever: rows are added, never changed.
--
-- The key is the SHA-256 of everything that could change the answer: prompt digest, the model as the server names
-- itself, the messages, the decoding parameters, the request's number. An answer that is no list of tasks is kept too,
-- under its state, and so is that a request was given up: the requests after it were drawn knowing so. text and
-- raw_json may repeat the seeds, and are under their terms.

CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    model_requested TEXT NOT NULL,
    model_returned TEXT NOT NULL,
    prompt_sha TEXT NOT NULL,
    number INTEGER NOT NULL,
    provenance TEXT NOT NULL CHECK (provenance IN ('credentialed', 'demo', 'synthetic')),
    state TEXT NOT NULL,
    text TEXT,
    finish_reason TEXT,
    refused INTEGER NOT NULL,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    shutdown_date TEXT,
    created_at TEXT NOT NULL,
    raw_json TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS answer_is_kept BEFORE DELETE ON answer
BEGIN SELECT raise(ABORT, 'the ledger keeps every answer'); END;

CREATE TRIGGER IF NOT EXISTS answer_is_final BEFORE UPDATE ON answer
BEGIN SELECT raise(ABORT, 'the ledger changes no answer'); END;
