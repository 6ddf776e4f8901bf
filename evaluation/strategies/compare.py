"""The same questions to a base and its checkpoint, side by side: raw answers, lists, hits against the truth.

What is made here holds patients' facts and is for looking at, not for scoring: `rxdraft evaluate` scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl

from etl import artefacts
from etl.cohort import read_cohort, read_samples, to_admission
from etl.domain import Split
from etl.errors import ConfigError, ContractError
from etl.prompts import Outcome, render_prompt
from evaluation.predict import LABELS, cell_name
from evaluation.strategies.drafts import draft, load_asked, row_name
from evaluation.strategies.examples import Examples
from evaluation.strategies.strategy import Side, Strategy
from training.manifest import read_manifest

SERVED = Strategy(name="zero-shot")
"""What is asked where no strategies are given."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One answer to one question.

    Attributes:
        drugs: as drafted, each with whether it was ordered; empty where the answer is no list.
        votes: share of the samples that name each of drugs; empty where one answer was asked for.
        missed: ordered, not drafted.
        texts: raw answers, one or all samples.
        examples: how many were shown, of how many; None: the strategy shows none.
    """

    outcome: str
    drugs: tuple[tuple[str, bool], ...]
    votes: tuple[float, ...]
    missed: tuple[str, ...]
    texts: tuple[str, ...]
    examples: tuple[int, int] | None = None

    @property
    def hits(self) -> int:
        """Drafted drugs that were ordered."""
        return sum(ordered for _, ordered in self.drugs)


@dataclass(frozen=True, slots=True)
class Compared:
    """One admission: what the models were told of it, what was ordered, and the answers by strategy and side."""

    told: str
    truth: tuple[str, ...]
    answers: dict[str, dict[Side, Shown]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that is shown."""

    checkpoint: str
    split: str
    strategies: tuple[Strategy, ...]
    admissions: tuple[Compared, ...]

    def total(self, strategy: str, side: Side) -> dict[str, int]:
        """Return counts over all admissions: answers, lists among them, drugs drafted and ordered, hits."""
        shown = [admission.answers[strategy][side] for admission in self.admissions]
        return {
            "answers": len(shown),
            "lists": sum(Outcome(answer.outcome).well_formed for answer in shown),
            "drafted": sum(len(answer.drugs) for answer in shown),
            "hits": sum(answer.hits for answer in shown),
            "ordered": sum(len(admission.truth) for admission in self.admissions),
        }


def compare(
    checkpoint: Path,
    cohort: Path,
    split: str,
    admissions: int,
    strategies: Sequence[Strategy] = (SERVED,),
    *,
    base: str | None = None,
    on_drafts: Callable[[str, int, int], None] = lambda row, done, total: None,
) -> Comparison:
    """Ask a checkpoint, with its adapter and without, about some admissions.

    Args:
        checkpoint: folder with manifest.json.
        cohort: folder of `rxdraft etl`, the one the checkpoint was trained on.
        split: train, validation or test.
        admissions: how many, spread evenly over the split; all where it has no more.
        strategies: how to ask.
        base: where the base lies now; None: where the manifest says.
        on_drafts: told (row, admissions drafted so far, all).

    Raises:
        ContractError: the checkpoint was trained on another cohort or cannot be served.
        ConfigError: the split has no admission, or the checkpoint writes nothing.
    """
    manifest = read_manifest(checkpoint)
    if manifest.objective == LABELS:
        raise ConfigError(f"{checkpoint} is a checkpoint of labels and writes nothing; give --model one of lists")
    read_cohort(cohort)
    if (found := artefacts.sha256_file(cohort / "cohort.json")) != manifest.cohort_sha256:
        raise ContractError(
            f"{cohort} is cohort {found[:12]}, the checkpoint was trained on {manifest.cohort_sha256[:12]}, so it may "
            "know these patients; give the cohort it was trained on with --data"
        )
    samples = _spread(read_samples(cohort, split), admissions)
    if samples.is_empty():
        raise ConfigError(f"split {split} of {cohort} has no admission")
    examples = Examples(read_samples(cohort, Split.TRAIN)) if any(s.shots for s in strategies) else None
    asked = load_asked(checkpoint, base)
    drafts = {
        strategy.name: {
            side: draft(asked[side], strategy, samples, examples, partial(on_drafts, row_name(strategy, side)))
            for side in strategy.on
        }
        for strategy in strategies
    }
    return Comparison(cell_name(manifest), split, tuple(strategies), tuple(_compared(samples, strategies, drafts)))


def _spread(samples: pl.DataFrame, count: int) -> pl.DataFrame:
    chosen = min(count, samples.height)
    return samples[[place * samples.height // chosen for place in range(chosen)]]


def _compared(
    samples: pl.DataFrame, strategies: Sequence[Strategy], drafts: dict[str, dict[Side, pl.DataFrame]]
) -> list[Compared]:
    found = []
    for place, sample in enumerate(samples.iter_rows(named=True)):
        answers = {
            strategy.name: {
                side: _shown(strategy, drafts[strategy.name][side].row(place, named=True), sample["drugs"])
                for side in strategy.on
            }
            for strategy in strategies
        }
        told = render_prompt(to_admission(sample))[1]["content"]
        found.append(Compared(told, tuple(sample["drugs"]), answers))
    return found


def _shown(strategy: Strategy, row: dict[str, Any], truth: list[str]) -> Shown:
    return Shown(
        outcome=row["outcome"],
        drugs=tuple((drug, drug in truth) for drug in row["drugs"]),
        votes=tuple(row["votes"] or ()),
        missed=tuple(drug for drug in truth if drug not in row["drugs"]),
        texts=tuple(row["texts"] or [row["text"]]),
        examples=(row["shots"], strategy.shots) if strategy.shots else None,
    )


# --- in words -------------------------------------------------------------------------------------------


def to_text(comparison: Comparison) -> str:
    """Return the comparison for a terminal: each question, then every answer with its hits marked."""
    lines = []
    for number, admission in enumerate(comparison.admissions, 1):
        lines += [f"--- admission {number} of {len(comparison.admissions)}, split {comparison.split}. Told:"]
        lines += [f"  {line}" for line in admission.told.splitlines()]
        for strategy, by_side in admission.answers.items():
            for side, shown in by_side.items():
                lines += _answer_lines(f"{strategy}, {side}", shown, len(admission.truth))
        lines.append("")
    lines += [f"{strategy.name}, {side}: {_sum(comparison.total(strategy.name, side))}"
              for strategy in comparison.strategies for side in strategy.on]  # fmt: skip
    return "\n".join(lines)


def _answer_lines(name: str, shown: Shown, ordered: int) -> list[str]:
    head = f"{name} ({shown.outcome}): {shown.hits} of {len(shown.drugs)} drafted were ordered, of {ordered} in all"
    if shown.examples:
        head += "; {} of {} examples fitted".format(*shown.examples)
    if not Outcome(shown.outcome).well_formed:
        return [head, *(f"  | {line}" for line in shown.texts[0].splitlines())]
    return [head, *(f"  {'+' if ordered else '-'} {drug}" for drug, ordered in shown.drugs)]


def _sum(total: dict[str, int]) -> str:
    return (
        f"{total['lists']} of {total['answers']} answers are lists; "
        f"{total['hits']} of {total['drafted']} drafted drugs were ordered, of {total['ordered']} in all"
    )


def to_html(comparison: Comparison) -> str:
    """Return the comparison as one page that needs no network and no script."""
    page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["total"] = _sum
    template = page.from_string((files("evaluation.strategies") / "compare.html.jinja").read_text("utf-8"))
    return template.render(comparison=comparison, well_formed=lambda outcome: Outcome(outcome).well_formed)
