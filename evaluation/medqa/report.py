"""The multiple-choice results in words and as JSON: scores of each model, differences to the base, what they mean."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from evaluation.markdown import grid
from evaluation.medqa.exam import BASE, Continuation, Examined, Protocol
from evaluation.medqa.items import ItemSet
from evaluation.medqa.scores import DRAWS, MARGIN, Difference, Scores, differences, score

MEASURES = {"first": "acc@1", "likelihood": "log-likelihood"}
"""What checkpoints are compared by, and what it is called."""

BADGE = "NOT COMPARABLE"
"""Of a score that an ignorant model gets almost in full."""


@dataclass(frozen=True, slots=True)
class SetResult:
    """One file of questions: scores by model, the base first, and differences by measure and model."""

    items: ItemSet
    scores: dict[str, Scores]
    differences: dict[str, dict[str, Difference]]


@dataclass(frozen=True, slots=True)
class Result:
    """All that is reported."""

    examined: Examined
    protocol: Protocol
    margin: float
    sets: list[SetResult]


def report(
    answers: pl.DataFrame,
    sets: Sequence[ItemSet],
    examined: Examined,
    protocol: Protocol,
    margin: float = MARGIN,
) -> Result:
    """Score what `examine` returned; the arguments are those that were given to it."""
    results = []
    for items in sets:
        own = answers.filter(pl.col("set") == items.name)
        scores = {name: score(rows) for (name,), rows in own.group_by("model", maintain_order=True)}
        compared = {measure: differences(own, measure, margin, protocol.seed) for measure in MEASURES}
        results.append(SetResult(items, {str(name): found for name, found in scores.items()}, compared))
    return Result(examined, protocol, margin, results)


def write(result: Result, answers: pl.DataFrame, out: Path) -> str:
    """Write medqa.md, medqa.json and per_item.parquet, and return the first one's text."""
    text = to_markdown(result)
    with artefacts.whole_or_absent(out / "per_item.parquet") as new:
        answers.write_parquet(new)
    with artefacts.whole_or_absent(out / "medqa.json") as new:
        new.write_text(json.dumps(to_json(result), indent=2, sort_keys=True) + "\n", "utf-8")
    with artefacts.whole_or_absent(out / "medqa.md") as new:
        new.write_text(text, "utf-8")
    return text


def to_json(result: Result) -> dict[str, Any]:
    """Return the figures unrounded, with what they came from."""
    return {
        "base_sha256": result.examined.base_sha256,
        "protocol": asdict(result.protocol),
        "margin": result.margin,
        "draws": DRAWS,
        "models": {
            model.name: model.manifest
            and {key: getattr(model.manifest, key) for key in ("rank", "step", "weights_sha256", "cohort_sha256")}
            for model in result.examined.models
        },
        "sets": {
            found.items.name: {
                "sha256": found.items.sha256,
                "scores": {name: asdict(scores) for name, scores in found.scores.items()},
                "differences": {
                    measure: {name: asdict(difference) for name, difference in by_model.items()}
                    for measure, by_model in found.differences.items()
                },
            }
            for found in result.sets
        },
    }


def to_markdown(result: Result) -> str:
    """Print two tables for each file of questions, scores and differences, and what every column means."""
    parts = []
    for found in result.sets:
        chance = found.scores[BASE].chance
        parts.append(
            f"## {found.items.name}\n\n{len(found.items.items)} questions, sha256 {found.items.sha256[:12]}; "
            f"guessing is right in {_percent(chance)}."
        )
        parts.append(grid(_score_columns(result.protocol.tries), list(map(_score_row, *_pairs(found.scores)))))
        for measure, by_model in found.differences.items():
            if by_model:
                parts.append(f"Less the base, by {MEASURES[measure]}:")
                parts.append(grid(_DIFFERENCE_COLUMNS, list(map(_difference_row, *_pairs(by_model)))))
    return "\n\n".join([*parts, "\n".join(_notes(result))]) + "\n"


def _pairs(by_name: dict[str, Any]) -> tuple[list[str], list[Any]]:
    return list(by_name), list(by_name.values())


def _score_columns(tries: int) -> list[str]:
    return [
        "model",
        "acc@1",
        "95 %",
        "log-likelihood",
        "parsed at try 1",
        f"parsed by try {tries}",
        "first parsed right",
        f"maj@{tries}",
        f"right by try {tries} ‡",
        "by guessing ‡",
    ]


def _score_row(name: str, scores: Scores) -> list[str]:
    shares = (scores.likelihood, scores.parsed_first, scores.parsed, scores.first_parsed, scores.majority)
    tries = (scores.any_try, scores.any_try_chance)
    low, high = scores.interval
    return [name, _percent(scores.first), f"{100 * low:.1f} to {100 * high:.1f}", *map(_percent, (*shares, *tries))]


_DIFFERENCE_COLUMNS = ["model", "difference", "95 %", "lost", "gained", "McNemar p", "Holm p", "verdict"]


def _difference_row(name: str, found: Difference) -> list[str]:
    low, high = found.interval
    return [
        name,
        f"{100 * found.estimate:+.1f}",
        f"{100 * low:+.1f} to {100 * high:+.1f}",
        str(found.lost),
        str(found.gained),
        f"{found.p:.3f}",
        f"{found.p_holm:.3f}",
        found.verdict.value,
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _notes(result: Result) -> list[str]:
    protocol, margin = result.protocol, 100 * result.margin
    of = {
        Continuation.LETTERS: "letter is likeliest to follow the question",
        Continuation.OPTIONS: "words are likeliest to follow the question, per token",
    }[protocol.continuation]
    notes = [
        "acc@1, the primary score: the greedy answer names the right option; an answer that names none is wrong.",
        f"log-likelihood: the right option's {of}; no answer has to have a form.",
        f"Try 1 is greedy, the others are drawn at temperature {protocol.temperature:g}, seed {protocol.seed}.",
        "maj: the option that most tries name, of equals the earlier.",
        f"‡ {BADGE}: to try until the answer is right is what guessing does nearly as well; a figure of this kind",
        "says little of knowledge, and nothing beside another number of tries or options.",
        "Base models have likely seen these questions: scores say nothing of new ones, differences to the base do.",
    ]
    if len(result.examined.models) > 1:
        notes += [
            f"Differences are in points, on the same questions; intervals from {DRAWS:,} bootstrap draws of questions.",
            f"non-inferior: the lower end is above -{margin:g} points, the margin declared beforehand; inferior: the",
            "upper end is below 0; inconclusive: neither. Holm over the checkpoints of one table; verdicts are not",
            "corrected.",
        ]
    return notes
