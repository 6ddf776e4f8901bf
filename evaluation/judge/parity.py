"""The reference's protocol: the judge sees a whole list and counts; the share is averaged over admissions.

Without decoys nobody knows what such a judge lets pass: its figures carry a badge wherever they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import polars as pl

from evaluation.judge.appropriateness import Appropriateness, parity_row
from evaluation.judge.items import Charts
from evaluation.judge.ledger import Kept, Ledger
from evaluation.judge.protocol import LIST, Counts, State, read_counts, read_protocol
from evaluation.judge.questions import Question

Listed = tuple[int, tuple[str, ...]]
"""A stay and the drugs drafted for it."""


def lists_of(drafts: pl.DataFrame) -> pl.DataFrame:
    """Return row, hadm_id and drugs of every draft; empty where it named none."""
    return drafts.group_by("row", "hadm_id", maintain_order=True).agg(pl.col("drug").drop_nulls().alias("drugs"))


def distinct(lists: pl.DataFrame) -> list[Listed]:
    """Return each stay and list once: two rows that drafted the same get the same verdict."""
    pairs = ((hadm_id, tuple(drugs)) for hadm_id, drugs in lists.select("hadm_id", "drugs").iter_rows())
    return list(dict.fromkeys(pair for pair in pairs if pair[1]))


def list_question(listed: Listed, charts: Charts, ledger: Ledger, provenance: str) -> Question:
    """Return the question about one list."""
    hadm_id, drugs = listed
    protocol, chart = read_protocol(LIST), charts.render(hadm_id)
    return Question(
        protocol,
        protocol.ask(chart, "\n".join(drugs)),
        partial(read_counts, listed=len(drugs)),
        ledger.name_context(chart),
        "; ".join(drugs),
        "list",
        0,
        provenance,
        len(drugs),
    )


def parity_rows(lists: pl.DataFrame, answers: Mapping[Listed, Kept | None]) -> dict[str, Appropriateness]:
    """Return the figure of every row."""
    return {row: _row(mine, answers) for (row,), mine in lists.group_by(["row"], maintain_order=True)}


def _row(lists: pl.DataFrame, answers: Mapping[Listed, Kept | None]) -> Appropriateness:
    shares: dict[int, float] = {}
    unscored = open_ = 0
    for hadm_id, drugs in lists.select("hadm_id", "drugs").iter_rows():
        if not drugs:
            continue
        answer = answers.get((hadm_id, tuple(drugs)))
        if answer is None:
            open_ += 1
        elif answer.state != State.ANSWERED:
            unscored += 1
        else:
            shares[hadm_id] = Counts.model_validate_json(answer.criteria or "").appropriate / len(drugs)
    return parity_row(shares, unscored, open_)
