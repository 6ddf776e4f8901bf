-- Every answer a server gave while drafts are made of a file: kept until the drafts are whole, so that none is asked twice.
--
-- The key is the SHA-256 of everything that could change the answer: the model as the server names itself, the way it
-- is asked, the messages, the decoding parameters. text is what the model wrote, and under the terms of its data.

CREATE TABLE IF NOT EXISTS answer (
    key TEXT PRIMARY KEY,
    text TEXT,
    finish_reason TEXT,
    refused INTEGER NOT NULL
) STRICT;
