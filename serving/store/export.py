"""Drafts and reviews for analysis: a row for each drug that was drafted, with what became of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from etl.artefacts import whole_or_absent
from etl.errors import ConfigError
from serving.store import draft_rows
from serving.store.audit import Audit
from serving.store.engine import Store
from serving.store.records import StoredDraft
from serving.store.schema import drafts, screening_hits

_BLOCK = 500

COLUMNS = (
    *("draft_id", "state", "source", "owner", "created_at", "version", "model", "adapter_sha256", "rules"),
    *("item_id", "rank", "drug", "probability", "rule_ids"),
    *("decision", "edited_drug", "reason_code", "reason_text", "reviewer", "reviewed_at"),
)
"""What a row tells, in this order; reason_text only where it is asked for, adapter_sha256 null for a baseline."""

_NOT_TEXT = {"version": "Int64", "rank": "Int64", "probability": "Float64", "rule_ids": "List"}
"""Columns of another Parquet type than a string, by polars' names."""


def export(
    store: Store, out: Path, *, since: datetime | None = None, free_text: bool = False, actor: str = "command"
) -> int:
    """Write one row for each drug of every draft whose content is still kept; return how many.

    Args:
        out: a .jsonl or .parquet file; an existing one is replaced.
        since: only drafts made then or later.
        free_text: with the reasons as reviewers wrote them, which may name a patient.

    Raises:
        ConfigError: `out` ends otherwise.
    """
    if out.suffix not in (".jsonl", ".parquet"):
        raise ConfigError(f"{out} is neither .jsonl nor .parquet; name the file so")
    with whole_or_absent(out) as new, store.reading() as con:
        lines = new.with_suffix(".lines") if out.suffix == ".parquet" else new
        try:
            count = _write(lines, rows(con, since, free_text))
            if lines != new:
                _to_parquet(lines, new, free_text)
        finally:
            if lines != new:
                lines.unlink(missing_ok=True)
    with store.transaction() as con:
        Audit(store).append(con, "store.exported", actor, "store", count=count, format=out.suffix[1:])
    return count


def rows(con: Connection, since: datetime | None = None, free_text: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the rows, the oldest draft first and its drugs by rank; the decision is the one that counts, or None."""
    numbers = select(drafts.c.number).where(drafts.c.content.is_not(None)).order_by(drafts.c.number).limit(_BLOCK)
    if since is not None:
        numbers = numbers.where(drafts.c.created_at >= since)
    block = con.execute(numbers).scalars().all()
    while block:
        query = draft_rows.columns().where(drafts.c.number.in_(block)).order_by(drafts.c.number)
        read = draft_rows.read(con, query)
        fired = _rules(con, [draft.draft_id for draft in read])
        for draft in read:
            yield from _of(draft, fired[draft.draft_id], free_text)
        block = con.execute(numbers.where(drafts.c.number > block[-1])).scalars().all()


def _of(draft: StoredDraft, fired: dict[str, list[str]], free_text: bool) -> Iterator[dict[str, Any]]:
    content = draft.content or {}
    versions, decided = content.get("versions") or {}, draft.decisions()
    for item in content.get("drugs") or []:
        review = decided.get(item["item_id"])
        row = {
            "draft_id": draft.draft_id,
            "state": draft.state,
            "source": draft.source,
            "owner": draft.owner,
            "created_at": draft.created_at.isoformat(),
            "version": draft.version,
            "model": versions.get("model"),
            "adapter_sha256": versions.get("adapter_sha256"),
            "rules": versions.get("rules"),
            "item_id": item["item_id"],
            "rank": item.get("rank"),
            "drug": item.get("drug"),
            "probability": item.get("probability"),
            "rule_ids": fired[item["item_id"]],
            "decision": review and review.decision,
            "edited_drug": review and review.edited_drug,
            "reason_code": review and review.reason_code,
            "reason_text": review and review.reason_text,
            "reviewer": review and review.reviewer,
            "reviewed_at": review and review.created_at.isoformat(),
        }
        yield {name: row[name] for name in COLUMNS if free_text or name != "reason_text"}


def _rules(con: Connection, draft_ids: list[str]) -> defaultdict[str, defaultdict[str, list[str]]]:
    """Return the rules that fired on each drug of each draft at any version."""
    fired: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    columns = (screening_hits.c.draft_id, screening_hits.c.item_ids, screening_hits.c.rule_id)
    query = select(*columns).where(screening_hits.c.draft_id.in_(draft_ids)).order_by(*columns)
    for draft_id, item_ids, rule_id in con.execute(query):
        for item_id in filter(None, item_ids.split(",")):
            fired[draft_id][item_id].append(rule_id)
    return fired


def _write(path: Path, lines: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(lines, start=1):  # noqa: B007
            file.write(json.dumps(row) + "\n")
    return count


def _to_parquet(lines: Path, out: Path, free_text: bool) -> None:
    import polars as pl

    types: dict[str, pl.DataType] = {"Int64": pl.Int64(), "Float64": pl.Float64(), "List": pl.List(pl.String)}
    names = COLUMNS if free_text else [name for name in COLUMNS if name != "reason_text"]
    schema = {name: types.get(_NOT_TEXT.get(name, ""), pl.String()) for name in names}
    pl.scan_ndjson(lines, schema=schema).sink_parquet(out)
