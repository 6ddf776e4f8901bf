"""Ask the base alone and a checkpoint by every strategy; the drafts are kept beside the table's other predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import polars as pl

from etl import kept, prompts
from evaluation import predict
from evaluation.strategies.examples import Examples
from evaluation.strategies.strategy import Question, Sample, Side, Strategy, encode_question, read_list, vote
from serving.recommenders.engine import Engine, Generated
from serving.recommenders.lists import load_recommenders
from training.manifest import Manifest, read_manifest

SCHEMA: dict[str, Any] = {
    **predict.SCHEMA,
    "shots": pl.Int64,
    "votes": pl.List(pl.Float64),
    "candidates": pl.List(pl.String),
    "candidate_votes": pl.List(pl.Float64),
    "texts": pl.List(pl.String),
}
"""Columns of a strategy's drafts: those of every prediction, and what only a strategy has.

shots: examples shown. text: the raw answer; texts: all of them, where several were asked for, and text is then the
first. votes: share of the answers that name each of drugs; candidates and candidate_votes: every drug that any answer
names, most votes first, of which drugs are the head. The last four are null where one answer was asked for.
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked: an adapter on an engine, or None for the base alone, within the checkpoint's lengths."""

    engine: Engine
    adapter: str | None
    manifest: Manifest


def load_asked(checkpoint: Path, base: str | None = None) -> dict[Side, Asked]:
    """Load a checkpoint, to be asked with its adapter and without.

    Raises:
        ContractError: the checkpoint cannot be served.
    """
    [recommender] = load_recommenders([checkpoint], base)
    engine, manifest = recommender.engine, recommender.manifest
    return {"base": Asked(engine, None, manifest), "tuned": Asked(engine, recommender.adapter, manifest)}


def row_name(strategy: Strategy, side: Side) -> str:
    """Return the name of a strategy's row and file."""
    return f"{strategy.name}-{side}"


def predict_strategies(
    strategies: Sequence[Strategy],
    checkpoint: Path,
    samples: pl.DataFrame,
    training: pl.DataFrame,
    origin: dict[str, str],
    folder: Path,
    base: str | None,
    on_drafts: Callable[[str, int, int], None],
) -> dict[str, pl.DataFrame]:
    """Return the drafts of each strategy, of the base and of the checkpoint, by row name; see SCHEMA.

    The served prompt asked of the checkpoint is left out: that is the checkpoint's own row. So is all that is asked of
    a checkpoint of labels, which writes nothing.

    Args:
        strategies: as `read_strategies` gives them.
        checkpoint: whose adapter is "tuned".
        samples: rows of samples.parquet to draft for.
        training: rows of its training split, for examples.
        origin: what else decides a draft (cohort digest, split); kept in the file and compared.
        folder: gets one Parquet file per row, whole or absent, reused while it fits.
        base: where the base lies now; None: where the manifest says.
        on_drafts: told (row, admissions drafted so far, all).
    """
    manifest = read_manifest(checkpoint)
    found: dict[str, pl.DataFrame | None] = {}
    missing: list[tuple[Strategy, Side]] = []
    for strategy in strategies:
        for side in strategy.on:
            if side == "tuned" and (strategy.is_served or manifest.objective == predict.LABELS):
                continue
            row = row_name(strategy, side)
            found[row] = table = kept.read(folder / f"{row}.parquet", _origin(strategy, side, manifest, origin))
            if table is None:
                missing.append((strategy, side))
            else:
                on_drafts(row, table.height, table.height)
    if missing:
        asked = load_asked(checkpoint, base)
        if manifest.objective == predict.LABELS:
            asked["base"] = _with_room(asked["base"], training)
        examples = Examples(training) if any(strategy.shots for strategy, _ in missing) else None
        for strategy, side in missing:
            row = row_name(strategy, side)
            drafts = draft(asked[side], strategy, samples, examples, partial(on_drafts, row))
            kept.write(folder / f"{row}.parquet", drafts, _origin(strategy, side, manifest, origin))
            found[row] = drafts
    return {row: table for row, table in found.items() if table is not None}


def _with_room(asked: Asked, training: pl.DataFrame) -> Asked:
    """Leave the base room to write where its checkpoint needs none: a third more than training's longest answer."""
    longest = max(map(prompts.render_answer, training["drugs"]), key=len)
    tokens = ceil(len(asked.engine.tokenizer(longest, add_special_tokens=False)["input_ids"]) * 4 / 3)
    manifest = asked.manifest
    return replace(asked, manifest=replace(manifest, max_answer_tokens=tokens, max_length=manifest.max_length + tokens))


def draft(
    asked: Asked,
    strategy: Strategy,
    samples: pl.DataFrame,
    examples: Examples | None,
    on_drafts: Callable[[int, int], None] = lambda done, total: None,
) -> pl.DataFrame:
    """Draft for every admission as one strategy has it; see SCHEMA.

    Args:
        asked: who.
        strategy: how.
        samples: rows of samples.parquet.
        examples: the training admissions; None: the strategy shows none.
        on_drafts: told (admissions drafted so far, all).
    """
    room = asked.manifest.max_length - asked.manifest.max_answer_tokens
    rows: list[dict[str, Any]] = []
    for chunk in samples.iter_slices(predict.CHUNK):
        facts = list(chunk.iter_rows(named=True))
        questions = [
            encode_question(strategy, asked.engine.tokenizer, sample, _shown(strategy, sample, examples), room)
            for sample in facts
        ]
        answers = _answers(asked, strategy, [question.ids for question in questions])
        rows += map(partial(_row, strategy), facts, questions, answers)
        on_drafts(len(rows), samples.height)
    return pl.DataFrame(rows, schema=SCHEMA)


def _shown(strategy: Strategy, sample: Sample, examples: Examples | None) -> list[Sample]:
    return examples.nearest(sample, strategy.shots) if examples and strategy.shots else []


def _answers(asked: Asked, strategy: Strategy, ids: list[list[int]]) -> list[list[Generated]]:
    tokens = asked.manifest.max_answer_tokens + strategy.reasoning_tokens
    if not strategy.temperature:
        return [[answer] for answer in asked.engine.generate(ids, asked.adapter, tokens)]
    return asked.engine.sample(
        *(ids, asked.adapter, tokens),
        samples=strategy.samples,
        temperature=strategy.temperature,
        seed=strategy.seed,
    )


def _row(strategy: Strategy, sample: Sample, question: Question, texts: list[Generated]) -> dict[str, Any]:
    answers = [read_list(strategy, text.text, truncated=text.truncated) for text in texts]
    voted = vote(answers) if len(answers) > 1 else None
    answer = voted.answer if voted else answers[0]
    several = voted and {
        "votes": voted.shares[: len(answer.drugs)],
        "candidates": voted.candidates,
        "candidate_votes": voted.shares,
        "texts": [text.text for text in texts],
    }
    return {
        "subject_id": sample["subject_id"],
        "hadm_id": sample["hadm_id"],
        "outcome": answer.outcome.value,
        "drugs": list(answer.drugs),
        "repeats": answer.repeats,
        "dropped_diagnoses": question.dropped_diagnoses,
        "text": texts[0].text,
        "shots": question.shots,
        **(several or {}),
    }


def _origin(strategy: Strategy, side: Side, manifest: Manifest, origin: dict[str, str]) -> dict[str, Any]:
    return {
        **origin,
        "max_length": manifest.max_length,
        "max_answer_tokens": manifest.max_answer_tokens,
        "strategy": strategy.model_dump(exclude={"name", "on"}),
        "weights_sha256": manifest.weights_sha256 if side == "tuned" else None,
        "base_sha256": manifest.base_sha256,
        "prompt_version": prompts.VERSION,
    }
