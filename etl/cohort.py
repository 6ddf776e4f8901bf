"""A cohort's folder, as its readers meet it; `etl.build` makes it.

    RUN/samples.parquet        one row per admission (sql/samples.sql)
    RUN/formulary.parquet      drugs of the training split (sql/formulary.sql)
    RUN/icd_titles.parquet     code, version, title (sql/icd_titles.sql)
    RUN/evidence.parquet       how often each drug was ordered by principal diagnosis (sql/evidence.sql)
    RUN/cohort.html            the report for people
    RUN/cohort.json            settings, flow, counts, digests, versions; written last
    RUN/prompts/SPLIT.jsonl    only in an imported corpus: its conversations (etl/dialogues.py)

Conversations of admissions are not stored: they are rendered from samples.parquet when they are read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts, prompts
from etl.domain import Admission, Diagnosis, Split
from etl.errors import ContractError

log = logging.getLogger(__name__)

SPLITS = tuple(split.value for split in Split)
MEASUREMENTS = ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")
FORMAT = 2
"""Version of the folder's layout."""

_BATCH_ROWS = 4096


def read_cohort(run: Path) -> dict[str, Any]:
    """Return the content of a whole cohort's cohort.json.

    Raises:
        ContractError: the folder is unfinished, of another layout, or a file is missing.
    """
    cohort = artefacts.read_json(run / "cohort.json", "rxdraft etl")
    if cohort.get("format") != FORMAT:
        raise ContractError(
            f"{run} has layout {cohort.get('format')}, wanted {FORMAT}; make it again with `rxdraft etl`"
        )
    gone = [name for name in cohort["outputs"] if not (run / name).is_file()]
    if gone:
        raise ContractError(f"{run} lacks {', '.join(gone)}; make it again with `rxdraft etl --overwrite`")
    return cohort


def check_same(out: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the content of cohort.json if what stands at `out` came from `origin`.

    Raises:
        ContractError: it did not, or it is no whole cohort; what differs is named.
    """
    cohort = read_cohort(out)
    artefacts.check_same(out, cohort, origin, within="settings")
    log.info("%s is whole, nothing to do", out.name)
    return cohort


def read_samples(run: Path, split: str) -> pl.DataFrame:
    """Return one split of samples.parquet, in the order of subject_id and admission.

    Raises:
        ContractError: the folder holds an imported corpus, which has conversations but no admissions.
    """
    if not (run / "samples.parquet").is_file():
        raise ContractError(f"{run} holds no admissions but imported conversations; they can train, not be scored")
    return pl.scan_parquet(run / "samples.parquet").filter(pl.col("split") == split).collect()


def read_prompts(run: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield one split's conversations: hadm_id, subject_id and messages, answer included."""
    stored = run / "prompts" / f"{split}.jsonl"
    if stored.is_file():
        with stored.open(encoding="utf-8") as file:
            yield from map(json.loads, file)
        return
    for batch in read_samples(run, split).iter_slices(_BATCH_ROWS):
        for sample in batch.iter_rows(named=True):
            yield render_sample(sample)


def read_training_prompts(run: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield conversations a model may learn from or stop by.

    Raises:
        ContractError: the split is the test split, which only scoring may open.
    """
    if split == Split.TEST:
        raise ContractError("the test split is for scoring alone; train on train, choose by validation")
    return read_prompts(run, split)


def render_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """Return one row of samples.parquet as a conversation: hadm_id, subject_id and messages, answer included."""
    answer = {"role": "assistant", "content": prompts.render_answer(sample["drugs"])}
    return {
        "subject_id": sample["subject_id"],
        "hadm_id": sample["hadm_id"],
        "messages": [*prompts.render_prompt(to_admission(sample)), answer],
    }


def to_admission(sample: dict[str, Any]) -> Admission:
    """Return the facts of one row of samples.parquet; the drugs of the stay, its answer, are left out."""
    return Admission(
        diagnoses=_diagnoses(sample["diagnoses"]) or (),
        earlier_diagnoses=_diagnoses(sample["earlier_diagnoses"]),
        current_drugs=_tuple(sample["current_drugs"]),
        previous_drugs=_tuple(sample["previous_drugs"]),
        **{name: sample[name] for name in ("age", "sex", *MEASUREMENTS)},
    )


def _diagnoses(rows: list[dict[str, Any]] | None) -> tuple[Diagnosis, ...] | None:
    return None if rows is None else tuple(Diagnosis(d["icd_code"], d["icd_version"], d["title"]) for d in rows)


def _tuple(names: list[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)
