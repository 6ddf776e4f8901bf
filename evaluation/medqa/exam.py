"""Ask a base and its checkpoints multiple-choice questions: did fine-tuning damage what the base knew?

Every question is put in two ways, since damage is often to the form of an answer and not to knowledge. Without a
form: how likely the model holds each option. With one: an answer in words, once greedily (the first try) and then as
samples, up to so many tries. Answers are kept per file and model and reused while they fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from etl import kept, prompts
from etl.errors import ConfigError, ContractError
from evaluation.medqa.items import LETTERS, Item, ItemSet
from evaluation.medqa.questions import VERSION, read_choice, render_question
from evaluation.predict import cell_name
from serving.recommenders.engine import Engine
from training import base as bases
from training.manifest import Manifest, find_checkpoints, read_manifest

CHUNK = 256
"""Questions asked between two calls of the progress callback."""

BASE = "base"
"""Name of the base's rows."""

SCHEMA: dict[str, Any] = {
    "set": pl.String,
    "model": pl.String,
    "id": pl.String,
    "options": pl.Int64,
    "answer": pl.Int64,
    "likelihoods": pl.List(pl.Float64),
    "likeliest": pl.Int64,
    "tries": pl.List(pl.Int64),
    "texts": pl.List(pl.String),
}
"""Columns of per_item.parquet.

options: how many. answer, likeliest, tries: places of options, from 0; a try that names none is null. likelihoods: of
each option, in nats. texts: what each try said.
"""


class Continuation(StrEnum):
    """What the likelihood is taken of: the option's letter, or its words, per token."""

    LETTERS = "letters"
    OPTIONS = "options"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How questions are asked.

    Attributes:
        tries: answers in words to each question; the first is greedy, the others are samples.
        temperature, seed: of the samples.
        max_tokens: of an answer.
        continuation: what the likelihood is taken of.
    """

    tries: int = 10
    temperature: float = 0.7
    seed: int = 0
    max_tokens: int = 64
    continuation: Continuation = Continuation.LETTERS


@dataclass(frozen=True, slots=True)
class Model:
    """Who is asked: a checkpoint, or the base alone, which has no manifest."""

    name: str
    checkpoint: Path | None = None
    manifest: Manifest | None = None


@dataclass(frozen=True, slots=True)
class Examined:
    """A base and the checkpoints on it, the base first."""

    base: str
    base_sha256: str
    models: tuple[Model, ...]


def find_examined(runs: Path | None, base: str | None) -> Examined:
    """Return who is asked: every checkpoint at or below `runs`, and the base they stand on.

    Args:
        runs: folder of `rxdraft train`, or one checkpoint; None: the base alone.
        base: where the base lies; None: where the checkpoints say.

    Raises:
        ConfigError: neither is given.
        ContractError: no checkpoint, some of different bases or of the same rank and step, or a whole model.
    """
    if runs is None:
        if base is None:
            raise ConfigError("nobody to ask; give --runs, --model or --base")
        return Examined(base, bases.base_sha256(bases.base_folder(base)), (Model(BASE),))
    found = [(path, read_manifest(path)) for path in find_checkpoints(runs)]
    if not found:
        raise ContractError(f"{runs} holds no checkpoint; train one with `rxdraft train`")
    names = [cell_name(manifest) for _, manifest in found]
    problems = [f"{path} is a whole model; give it as --base" for path, m in found if m.method == "full"]
    problems += [f"several checkpoints are {name}" for name in sorted({n for n in names if names.count(n) > 1})]
    if (count := len({manifest.base_sha256 for _, manifest in found})) > 1:
        problems.append(f"they were trained on {count} different bases, wanted one")
    if problems:
        raise ContractError(f"{runs}: {'; '.join(problems)}")
    models = [Model(name, *checkpoint) for name, checkpoint in zip(names, found, strict=True)]
    _, first = found[0]
    return Examined(base or first.base, first.base_sha256, (Model(BASE), *models))


def examine(
    sets: Sequence[ItemSet],
    examined: Examined,
    folder: Path,
    protocol: Protocol,
    on_items: Callable[[str, int, int], None] = lambda name, done, total: None,
) -> pl.DataFrame:
    """Return everybody's answers to every question, in the order of sets and models; see SCHEMA.

    Args:
        sets: the questions.
        examined: who is asked.
        folder: gets SET/MODEL.parquet, whole or absent, reused while it fits.
        protocol: how.
        on_items: told (set and model, questions asked so far, all).

    Raises:
        ContractError: the base is another one than the checkpoints were trained on, or a checkpoint is damaged.
    """
    found: dict[tuple[str, str], pl.DataFrame] = {}
    missing: list[tuple[Model, ItemSet]] = []
    for model, items in product(examined.models, sets):
        table = kept.read(_path(folder, items, model), _origin(items, model, examined, protocol))
        if table is None:
            missing.append((model, items))
        else:
            found[items.name, model.name] = table
            on_items(f"{items.name} {model.name}", table.height, table.height)
    if missing:
        engine = _load(examined, {model.name for model, _ in missing})
        for model, items in missing:
            told = partial(on_items, f"{items.name} {model.name}")
            found[items.name, model.name] = answers = _ask(engine, model, items, protocol, told)
            kept.write(_path(folder, items, model), answers, _origin(items, model, examined, protocol))
    return pl.concat([found[items.name, model.name] for items, model in product(sets, examined.models)])


def _load(examined: Examined, names: set[str]) -> Engine:
    """Put the checkpoints of these names onto their base, all of them before the first question is asked."""
    engine = Engine(examined.base, examined.base_sha256)
    for model in examined.models:
        if model.name in names and model.checkpoint and model.manifest:
            engine.add_adapter(model.name, model.checkpoint, model.manifest)
    return engine


def _path(folder: Path, items: ItemSet, model: Model) -> Path:
    return folder / items.name / f"{model.name}.parquet"


def _origin(items: ItemSet, model: Model, examined: Examined, protocol: Protocol) -> dict[str, Any]:
    return {
        "items_sha256": items.sha256,
        "items": len(items.items),
        "base_sha256": examined.base_sha256,
        "weights_sha256": model.manifest and model.manifest.weights_sha256,
        "question_version": VERSION,
        **asdict(protocol),
    }


def _ask(
    engine: Engine, model: Model, items: ItemSet, protocol: Protocol, told: Callable[[int, int], None]
) -> pl.DataFrame:
    adapter = model.name if model.checkpoint else None
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items.items), CHUNK):
        chunk = items.items[start : start + CHUNK]
        ids = [prompts.encode(engine.tokenizer, render_question(item)) for item in chunk]
        likelihoods = _likelihoods(engine, adapter, ids, chunk, protocol.continuation)
        texts = _tries(engine, adapter, ids, protocol)
        rows += [
            {
                "set": items.name,
                "model": model.name,
                "id": item.id,
                "options": len(item.options),
                "answer": item.answer,
                "likelihoods": scores,
                "likeliest": scores.index(max(scores)),
                "tries": [read_choice(text, item) for text in said],
                "texts": said,
            }
            for item, scores, said in zip(chunk, likelihoods, texts, strict=True)
        ]
        told(len(rows), len(items.items))
    return pl.DataFrame(rows, schema=SCHEMA)


def _likelihoods(
    engine: Engine, adapter: str | None, ids: list[list[int]], chunk: Sequence[Item], continuation: Continuation
) -> list[list[float]]:
    letters = continuation is Continuation.LETTERS
    ends = [[*LETTERS[: len(item.options)]] if letters else list(item.options) for item in chunk]
    coded = [[engine.tokenizer.encode(text, add_special_tokens=False) for text in texts] for texts in ends]
    scored = engine.log_likelihoods(ids, coded, adapter)
    return [[score.total / score.tokens for score in scores] for scores in scored]


def _tries(engine: Engine, adapter: str | None, ids: list[list[int]], protocol: Protocol) -> list[list[str]]:
    """Return each question's answers in words: the greedy one, then the samples."""
    first = engine.generate(ids, adapter, protocol.max_tokens)
    more = engine.sample(
        *(ids, adapter, protocol.max_tokens),
        samples=protocol.tries - 1,
        temperature=protocol.temperature,
        seed=protocol.seed,
    )
    return [[answer.text for answer in (greedy, *drawn)] for greedy, drawn in zip(first, more, strict=True)]
