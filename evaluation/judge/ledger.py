"""The ledger: every verdict under the digest of what was asked, in SQLite, for ever.

An answer is committed before the next question is put, and flushed to disk: a run that is killed loses none and
asks none twice. One process writes at a time. Beside it lies the secret that makes names of charts; it stays
where the charts may be.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from etl.artefacts import sha256
from etl.errors import ContractError
from etl.outside import ledger
from etl.outside.endpoint import Reply
from evaluation.judge.protocol import Reading, Verdict

TABLES = ("judge/verdict.sql", "judge/failure.sql")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a row of the ledger says of its question; no text of the chart."""

    protocol: str
    model_requested: str
    prompt_sha: str
    context_hmac: str
    ingredient: str
    item_kind: str
    repeat: int
    provenance: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored answer, as far as figures need it."""

    key: str
    verdict: Verdict | None
    state: str
    criteria: str | None
    evidence_ok: bool | None
    model_returned: str
    shutdown_date: str | None
    tokens_in: int
    tokens_out: int
    created_at: str


_COLUMNS = (
    "key, verdict, state, criteria_json, evidence_ok, model_returned, shutdown_date, tokens_in, tokens_out, created_at"
)


class Ledger:
    """An open ledger."""

    def __init__(self, con: sqlite3.Connection, secret: bytes) -> None:
        self._con = con
        self._secret = secret

    def find(self, key: str) -> Kept | None:
        """Return the answer to exactly this question."""
        row = self._con.execute(f"SELECT {_COLUMNS} FROM verdict WHERE key = ?", [key]).fetchone()
        if row is None:
            return None
        key, verdict, state, criteria, evidence_ok, *rest = row
        known = None if evidence_ok is None else bool(evidence_ok)
        return Kept(key, None if verdict is None else Verdict(verdict), state, criteria, known, *rest)

    def store(self, key: str, asked: Asked, reply: Reply, reading: Reading, shutdown_date: str | None) -> None:
        """Keep an answer; on disk when this returns. One that is there already stays as it is."""
        row = (
            *(key, asked.protocol, asked.model_requested, reply.model, asked.prompt_sha, asked.context_hmac),
            *(asked.ingredient, asked.item_kind, asked.repeat, asked.provenance, reading.verdict, reading.state.value),
            *(reading.criteria, reading.evidence, reading.evidence_ok, reply.finish_reason),
            *(reply.tokens_in, reply.tokens_out, reply.latency_ms, shutdown_date, ledger.now(), reply.raw),
        )
        marks = ", ".join("?" * len(row))
        self._con.execute(f"INSERT INTO verdict VALUES ({marks}) ON CONFLICT DO NOTHING", row)

    def fail(self, asked: Asked, attempt: int, state: str, status: int | None) -> None:
        """Keep that a request brought no answer."""
        row = (
            asked.model_requested,
            asked.context_hmac,
            asked.ingredient,
            asked.repeat,
            attempt,
            state,
            status,
            ledger.now(),
        )
        self._con.execute("INSERT INTO failure VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def resolve(self, requested: str, returned: str, shutdown_date: str | None) -> None:
        """Keep which model stands behind a name now."""
        ledger.note_snapshot(self._con, requested, returned, shutdown_date)

    def last_snapshot(self, requested: str) -> tuple[str, str | None] | None:
        """Return which model stood behind a name when it was last asked, and its shutdown date."""
        return ledger.last_snapshot(self._con, requested)

    def failures(self, requested: str) -> dict[str, int]:
        """Return how many requests to a model ever failed, by state."""
        query = "SELECT state, count(*) FROM failure WHERE model_requested = ? GROUP BY state ORDER BY state"
        return dict(self._con.execute(query, [requested]).fetchall())

    def name_context(self, chart: str) -> str:
        """Return a chart's name: the same for the same chart, and no way back without the secret."""
        return hmac.new(self._secret, chart.encode(), "sha256").hexdigest()

    def rows_without_text(self) -> tuple[list[str], list[tuple[object, ...]]]:
        """Return the columns and rows that may be shared; keys become names too, since a prompt can be guessed."""
        columns = [row[1] for row in self._con.execute("PRAGMA table_info(verdict)")]
        shared = [column for column in columns if column not in ("evidence", "raw_json")]
        rows = self._con.execute(f"SELECT {', '.join(shared)} FROM verdict ORDER BY key").fetchall()
        return shared, sorted((self.name_context(key), *rest) for key, *rest in rows)


@contextmanager
def open_ledger(path: Path) -> Iterator[Ledger]:
    """Open a ledger, or begin one; one writer at a time.

    Raises:
        ConfigError: another process has it open.
        ContractError: the file is no ledger, or its secret is gone.
    """
    with ledger.open_tables(path, TABLES, "rxdraft judge") as con:
        begun = con.execute("SELECT count(*) FROM (SELECT 1 FROM verdict LIMIT 1)").fetchone()[0]
        yield Ledger(con, _read_secret(path.with_suffix(".secret"), begun=bool(begun)))


def _read_secret(path: Path, *, begun: bool) -> bytes:
    if path.is_file():
        return bytes.fromhex(path.read_text("ascii"))
    if begun:
        raise ContractError(f"{path} is gone, without which stored charts have no name; bring it back")
    path.touch(mode=0o600)
    path.write_text(secrets.token_hex(32), "ascii")
    return bytes.fromhex(path.read_text("ascii"))


def digest(kept: Iterable[Kept]) -> str:
    """Return one digest over answers, in the order of their keys: what a certificate rests on."""
    lines = sorted(f"{answer.key} {answer.verdict} {answer.criteria}\n" for answer in kept)
    return sha256("".join(lines).encode())
