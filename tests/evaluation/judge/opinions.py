"""What a judge of known quality says, and drafts for it to judge."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from etl.artefacts import sha256, sha256_file
from etl.cohort import read_samples
from tests.etl.outside.fake_server import Reply, completion

OPINION = {
    "indication": "Y",
    "effectiveness": "Y",
    "contraindication": "N",
    "duplication": "N",
    "evidence": "Sex: F",
    "verdict": "appropriate",
}
NO = {**OPINION, "indication": "N", "verdict": "inappropriate"}
UNSURE = {**OPINION, "indication": "U", "evidence": "", "verdict": "insufficient_information"}


def opinion(said: dict[str, str] = OPINION, **more: Any) -> Reply:
    return completion(json.dumps(said), **more)


def chart_and_drug(body: dict[str, Any]) -> tuple[str, str]:
    chart, _, drug = body["messages"][1]["content"].removeprefix("Chart:\n").rpartition("\n\nDrug: ")
    return chart, drug


def chance(*things: object) -> float:
    """A number in [0, 1) that is the same for the same things."""
    return int(sha256(repr(things).encode())[:8], 16) / 2**32


def write_drafts(folder: Path, cohort: Path, row: str, lists: Callable[[dict[str, Any]], list[str] | None]) -> None:
    """Write one row's drafts for the training split, which has patients enough; None: the answer is no list."""
    drafts = [(sample, lists(sample)) for sample in read_samples(cohort, "train").iter_rows(named=True)]
    table = pl.DataFrame(
        {
            "subject_id": [sample["subject_id"] for sample, _ in drafts],
            "hadm_id": [sample["hadm_id"] for sample, _ in drafts],
            "outcome": ["prose_only" if drugs is None else "ok" if drugs else "ok_empty_list" for _, drugs in drafts],
            "drugs": [drugs or [] for _, drugs in drafts],
        },
        schema_overrides={"drugs": pl.List(pl.String)},
    )
    origin = {"cohort_sha256": sha256_file(cohort / "cohort.json"), "split": "train"}
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    table.write_parquet(folder / "predictions" / f"{row}.parquet", metadata={"rxdraft": json.dumps(origin)})
