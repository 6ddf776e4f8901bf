-- Every answer a judge ever gave, for ever: rows are added, never changed.
--
-- The key is the SHA-256 of everything that could change the answer: protocol digest, the model as the server names
-- itself, the rendered prompt, the decoding parameters, the repeat. An alias that points to a new snapshot, or one
-- changed character of a prompt, is another key. context_hmac names a chart without telling whose it is; the secret
-- lies beside the ledger. item_kind is never sent to the judge. For a count over a whole list, verdict is NULL and
-- criteria_json holds the counts. evidence and raw_json repeat the chart: an export leaves them out.

CREATE TABLE IF NOT EXISTS verdict (
    key TEXT PRIMARY KEY,
    protocol TEXT NOT NULL,
    model_requested TEXT NOT NULL,
    model_returned TEXT NOT NULL,
    prompt_sha TEXT NOT NULL,
    context_hmac TEXT NOT NULL,
    ingredient TEXT NOT NULL,
    item_kind TEXT NOT NULL,
    repeat INTEGER NOT NULL,
    provenance TEXT NOT NULL CHECK (provenance IN ('credentialed', 'demo', 'synthetic')),
    verdict TEXT CHECK (verdict IN ('appropriate', 'inappropriate', 'insufficient_information', 'error')),
    state TEXT NOT NULL,
    criteria_json TEXT,
    evidence TEXT,
    evidence_ok INTEGER,
    finish_reason TEXT,
    tokens_in INTEGER NOT NULL,
    tokens_out INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    shutdown_date TEXT,
    created_at TEXT NOT NULL,
    raw_json TEXT NOT NULL
) STRICT;

CREATE TRIGGER IF NOT EXISTS verdict_is_kept BEFORE DELETE ON verdict
BEGIN SELECT raise(ABORT, 'the ledger keeps every verdict'); END;

CREATE TRIGGER IF NOT EXISTS verdict_is_final BEFORE UPDATE ON verdict
BEGIN SELECT raise(ABORT, 'the ledger changes no verdict'); END;
