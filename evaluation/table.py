"""The rank x step table in words: Markdown for reading, JSON for everything else, one admission worked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.cohort import to_admission
from etl.prompts import Outcome, render_prompt
from evaluation.evaluate import Cell, Table
from evaluation.metrics import Scores

_COLUMNS = ("rank", "step", "output rate", "accuracy", "appropriateness", "recall", "F1", "Jaccard", "drugs")


def to_markdown(table: Table, judged: dict[str, float | None] | None = None) -> str:
    """Print the table: a row per checkpoint, the baselines under it, and what each column means.

    Args:
        table: as `evaluate` returns it.
        judged: appropriateness by cell; None: nobody was asked.
    """
    body = [
        (
            str(cell.manifest.rank),
            str(cell.manifest.step),
            _percent(cell.scores.output_rate),
            _percent(cell.scores.accuracy),
            "not judged" if judged is None else _percent(judged.get(cell.name)),
            *_common(cell.scores),
        )
        for cell in table.cells
    ]
    body += [
        (name, "", "", _percent(scores.accuracy), "", *_common(scores)) for name, scores in table.baselines.items()
    ]
    widths = [max(len(row[i]) for row in (_COLUMNS, *body)) for i in range(len(_COLUMNS))]

    def line(row: Sequence[str]) -> str:
        return "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(_COLUMNS), rule, *map(line, body), "", *_notes(table, judged is not None)]) + "\n"


def _common(scores: Scores) -> tuple[str, ...]:
    drugs = "undefined" if scores.drugs is None else f"{scores.drugs:.1f}"
    return _percent(scores.recall), _number(scores.f1), _number(scores.jaccard), drugs


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _notes(table: Table, judged: bool) -> list[str]:
    admissions, patients = table.samples.height, table.samples["subject_id"].n_unique()
    notes = [
        f"{admissions} admissions of {patients} patients, split {table.split}. Truth: the drugs ordered in the stay.",
        "Output rate: answers that are a list, an empty one included. Accuracy: mean share of the drafted drugs",
        "that were ordered, over well-formed lists (the reference's convention). Recall, F1, Jaccard: means over",
        "all admissions; an answer that is no list counts 0.",
        f"popularity and previous admission have the list lengths of {table.matched_to}, the checkpoint with the",
        "lowest validation loss; where it gave no list, its mean length, or the median of training if it gave none.",
    ]
    if judged:
        notes.append("Appropriateness: the judge's own counts, without decoys; how much it lets pass is not known.")
    if "oracle" in table.baselines:
        notes.append("oracle: the list of highest expected Jaccard by one who knows the chance of every drug.")
    failures = {
        cell.name: {name: n for name, n in cell.scores.outcomes.items() if not Outcome(name).well_formed}
        for cell in table.cells
    }
    notes += [
        f"{name} gave no list for: {', '.join(f'{outcome} {n}' for outcome, n in found.items())}."
        for name, found in failures.items()
        if found
    ]
    return notes


def to_json(table: Table, judged: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the table's figures unrounded, with what each row came from."""
    return {
        "split": table.split,
        "admissions": table.samples.height,
        "patients": table.samples["subject_id"].n_unique(),
        "cells": [
            {
                "name": cell.name,
                "rank": cell.manifest.rank,
                "step": cell.manifest.step,
                "scaling": cell.manifest.scaling,
                "losses": cell.manifest.losses,
                "weights_sha256": cell.manifest.weights_sha256,
                "appropriateness": None if judged is None else judged.get(cell.name),
                **asdict(cell.scores),
            }
            for cell in table.cells
        ],
        "baselines": {name: asdict(scores) for name, scores in table.baselines.items()},
        "baselines_matched_to": table.matched_to,
        "empty": {"accuracy": "paper", "others": "one_if_both_empty, no list counts 0"},
    }


def write(table: Table, out: Path, judged: dict[str, Any] | None = None) -> str:
    """Write table.md and table.json, and return the former's text."""
    shares = None if judged is None else {cell: verdict["appropriateness"] for cell, verdict in judged.items()}
    text = to_markdown(table, shares)
    with artefacts.whole_or_absent(out / "table.md") as new:
        new.write_text(text, "utf-8")
    with artefacts.whole_or_absent(out / "table.json") as new:
        new.write_text(json.dumps(to_json(table, judged), indent=2, sort_keys=True) + "\n", "utf-8")
    return text


def worked_example(table: Table, cell: Cell, place: int = 0) -> str:
    """Return one admission in words: what the model was told, the draft with hits marked, and what it missed."""
    sample = table.samples.row(place, named=True)
    drafted = cell.predictions.row(place, named=True)
    truth = set(sample["drugs"])
    told = render_prompt(to_admission(sample))[1]["content"].splitlines()
    lines = [
        f"One admission of split {table.split}, drafted by {cell.name}. What the model was told:",
        *(f"  {line}" for line in told),
        f"Draft ({drafted['outcome']}); + was ordered in the stay, - was not:",
        *(f"  {'+' if drug in truth else '-'} {drug}" for drug in drafted["drugs"]),
        f"Ordered and not drafted: {', '.join(d for d in sample['drugs'] if d not in drafted['drugs']) or 'nothing'}",
    ]
    return "\n".join(lines)
