"""The ways to ask one base's checkpoints for the drugs of admissions; what came back, and how long it took, is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from formulations_yes_no import YesNo

from etl import artefacts
from etl.cohort import read_samples
from etl.domain import Admission
from evaluation.drafts import draft_oracle
from serving.baselines.design import read_visits
from serving.baselines.fit import fit
from serving.decoding.decoder import Ask
from serving.probabilities.cut import Floats
from serving.recommendation import Recommendation
from serving.recommenders.engine import Engine
from serving.recommenders.labels import LabelRecommender
from serving.recommenders.lists import Recommender
from training.manifest import Manifest, find_checkpoints, read_manifest

MOST_VOTES, TEMPERATURE = 10, 0.7
FEWER_VOTES = 5
TIMED = 64
"""Admissions that the speed is measured on, one thread, in CPU seconds."""
_WARM, _TIMED_SECONDS = 8, 0.5

Arrays = dict[str, Any]
"""What an asking gives, by name. Scores are (admissions, formulary), in [0, 1]. Lists are `listed`, (admissions,
formulary), `length` and `formed`, (admissions,); an answer that is no list has length 0."""


Way = Callable[[Sequence[Admission]], Arrays]


@dataclass(frozen=True, slots=True)
class Split:
    """One split of a cohort, as it is asked and judged.

    Attributes:
        ordered: drugs of the formulary that were, (admissions, formulary).
        drugs: ordered, in the formulary or not, (admissions,).
    """

    samples: pl.DataFrame
    admissions: list[Admission]
    ordered: Floats
    drugs: Any


def read_split(cohort: Path, split: str) -> Split:
    """Read a split."""
    samples = read_samples(cohort, split)
    visits = read_visits(samples, read_formulary(cohort))
    return Split(samples, list(visits.admissions), visits.ordered.toarray(), visits.lengths)


def read_formulary(cohort: Path) -> list[str]:
    """Return the drugs that training has, commonest first."""
    drugs: list[str] = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    return drugs


class Ways:
    """One seed's checkpoints on one engine, loaded when they are asked for the first time."""

    def __init__(self, cohort: Path, runs: Path, base: str) -> None:
        """Take the places.

        Args:
            cohort: that all learned from.
            runs: holds the folders `list`, `labels` and `yes-no` of `rxdraft train`.
            base: folder.
        """
        self._cohort, self._runs, self._base = cohort, runs, base

    def write(self, admissions: Sequence[Admission]) -> Arrays:
        """Let the model write whatever it likes."""
        return self._as_lists(self._writer.recommend(admissions, raw=True))

    def write_held(self, admissions: Sequence[Admission]) -> Arrays:
        """Let it write its likeliest list of formulary drugs."""
        return self._as_lists(self._writer.recommend(admissions))

    def vote(self, admissions: Sequence[Admission], votes: int = MOST_VOTES) -> Arrays:
        """Count the drugs of several lists drawn from one reading of the prompt, and of the first few of them."""
        writer, size = self._writer, len(self._formulary)
        asks = [
            Ask(ids, writer.manifest.max_answer_tokens, samples=votes, temperature=TEMPERATURE)
            for ids in writer.encode(admissions)[0]
        ]
        found: Arrays = {f"first_{k}": np.zeros((len(asks), size)) for k in {min(FEWER_VOTES, votes), votes}}
        for place, drawn in enumerate(writer.engine.draw(asks, writer.adapter, writer.trie)):
            for name, counted in found.items():
                for one in drawn[: int(name.removeprefix("first_"))]:
                    counted[place, list(one.items)] += 1
        return found

    def vote_less(self, admissions: Sequence[Admission]) -> Arrays:
        """Draw the fewer lists alone: they are the first of the more, so this is asked for its speed."""
        return self.vote(admissions, FEWER_VOTES)

    def score_names(self, admissions: Sequence[Admission]) -> Arrays:
        """Read off how likely the list model is to begin with each name: the prompt once, then all names together."""
        writer = self._writer
        names = [writer.engine.tokenizer.encode(f"{name}\n", add_special_tokens=False) for name in self._formulary]
        encoded, _ = writer.encode(admissions)
        found = writer.engine.log_likelihoods(encoded, [names] * len(encoded), writer.adapter, batch_size=1)
        total = np.array([[one.total for one in row] for row in found])
        return {"whole": np.exp(total), "per_token": np.exp(total / np.array([len(ids) for ids in names]))}

    def ask_yes_no(self, admissions: Sequence[Admission]) -> Arrays:
        """Ask about every drug of the formulary by itself."""
        return {"scores": self._yes_no.scores(admissions)}

    def read_labels(self, admissions: Sequence[Admission]) -> Arrays:
        """Let the label head read every drug's probability off the prompt."""
        return {"scores": self._labels.scores(admissions)}

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._base, None)

    @cached_property
    def _writer(self) -> Recommender:
        return Recommender(self._engine, *self._uncalibrated("list"))

    @cached_property
    def _labels(self) -> LabelRecommender:
        return LabelRecommender(self._engine, *self._uncalibrated("labels"))

    @cached_property
    def _yes_no(self) -> YesNo:
        self._engine.add_adapter("yes-no", *self._uncalibrated("yes-no"))
        popularity = read_visits(read_samples(self._cohort, "train"), self._formulary).popularity
        return YesNo(self._engine, "yes-no", self._formulary, popularity)

    @cached_property
    def _formulary(self) -> list[str]:
        return read_formulary(self._cohort)

    def _uncalibrated(self, name: str) -> tuple[Path, Manifest]:
        [checkpoint] = find_checkpoints(self._runs / name)
        return checkpoint, replace(read_manifest(checkpoint), calibration=None)

    def _as_lists(self, drafts: Sequence[Recommendation]) -> Arrays:
        place = {drug: column for column, drug in enumerate(self._formulary)}
        listed = np.zeros((len(drafts), len(place)))
        for row, draft in zip(listed, drafts, strict=True):
            row[[place[drug] for drug in draft.answer.drugs if drug in place]] = 1
        length = np.array([len(draft.answer.drugs) for draft in drafts])
        return {"listed": listed, "length": length, "formed": [draft.answer.outcome.well_formed for draft in drafts]}


def baseline_way(cohort: Path, name: str, keep: Path) -> Way:
    """Return what asks a baseline that learned from a cohort's training split; fitted when it is asked first."""
    fitted: list[Any] = []

    def ask(admissions: Sequence[Admission]) -> Arrays:
        if not fitted:
            fitted.append(fit(name, read_visits(read_samples(cohort, "train"), read_formulary(cohort)), keep=keep))
        return {"scores": fitted[0].scores(admissions)}

    return ask


def asked_oracle(path: Path, test: Split, formulary: Sequence[str]) -> dict[str, Arrays]:
    """Return what one who knows every chance gives: its lists, and the chances as scores."""
    oracle = draft_oracle(path, test.samples, formulary)
    lists = [set(drugs) for drugs in oracle.drafts["drugs"]]
    listed = np.array([[drug in drugs for drug in formulary] for drugs in lists], dtype=float)
    length = np.array(list(map(len, lists)))
    return {"test": {"scores": oracle.scores, "listed": listed, "length": length, "formed": np.ones(len(lists))}}


def kept(path: Path, ask: Way, splits: dict[str, Split], timed: Split, origin: dict[str, str]) -> dict[str, Arrays]:
    """Return what an asking gives for each split, asked once.

    Args:
        path: of the .npz file that keeps it.
        ask: one of `Ways`, or a baseline's.
        splits: by name.
        timed: the split that the speed is measured on.
        origin: what decides the answers; a file of another origin is not read.

    Returns:
        By split its arrays; under `speed` the `drafts` that one CPU second makes.
    """
    if path.is_file():
        with np.load(path) as file:
            stands = {name: file[name] for name in file.files}
        if str(stands.pop("origin")) == repr(origin):
            return _by_split(stands)
    answers = {f"{split}.{name}": array for split, one in splits.items() for name, array in _ask_all(ask, one).items()}
    answers["speed.drafts"] = _speed(ask, timed.admissions)
    with artefacts.whole_or_absent(path) as new, new.open("wb") as file:
        np.savez_compressed(file, origin=repr(origin), **answers)
    return _by_split(answers)


def _ask_all(ask: Way, split: Split, part: int = 128) -> Arrays:
    parts = [ask(split.admissions[start : start + part]) for start in range(0, len(split.admissions), part)]
    return {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def _speed(ask: Way, admissions: Sequence[Admission]) -> Any:
    ask(admissions[:_WARM])
    began, times = time.process_time(), 0
    while (seconds := time.process_time() - began) < _TIMED_SECONDS:
        ask(admissions[:TIMED])
        times += 1
    return np.array(times * min(TIMED, len(admissions)) / seconds)


def _by_split(answers: Arrays) -> dict[str, Arrays]:
    found: dict[str, Arrays] = {}
    for name, array in answers.items():
        split, _, what = name.partition(".")
        found.setdefault(split, {})[what] = array
    return found
