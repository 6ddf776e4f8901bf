"""The recommender: an admission in, a draft list of drugs out. The service and the evaluation both ask it.

This one lets the model write its list; that of models which score every drug is in `serving.recommenders.labels`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np
import polars as pl

from etl import prompts
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from serving.decoding.decoder import Ask, Drawn
from serving.decoding.trie import FormularyTrie
from serving.probabilities.calibration import Votes
from serving.probabilities.cut import Floats
from serving.recommendation import Recommendation
from serving.recommenders.checkpoint import CheckpointRecommender
from serving.recommenders.engine import Engine
from serving.recommenders.labels import LabelRecommender
from training.manifest import Manifest, read_manifest


class Recommender(CheckpointRecommender):
    """A checkpoint that writes lists: the most likely one, or the drugs that many of its lists agree on.

    Attributes:
        votes: how its lists vote; None: the one most likely list is drafted, and nobody knows its probabilities.
    """

    def __init__(self, engine: Engine, checkpoint: Path, manifest: Manifest, k: int | None = None) -> None:
        """Load the checkpoint's adapter and vocabulary.

        Args:
            engine: of its base.
            checkpoint: folder made by `rxdraft train`.
            manifest: its own.
            k: lists drawn for an admission; 1: the most likely one; None: as many as it was calibrated for, or 1.

        Raises:
            ContractError: the checkpoint is damaged, or its prompts are of another version than this code's.
            ConfigError: the checkpoint was not calibrated for that many lists.
        """
        super().__init__(engine, checkpoint, manifest)
        calibrated = self.calibration.votes if self.calibration else None
        if k not in (None, 1, calibrated.samples if calibrated else 1):
            wanted = f"1 or {calibrated.samples}, which it was calibrated for" if calibrated else "1"
            raise ConfigError(f"{checkpoint}: k is {k}, wanted {wanted}; `rxdraft calibrate --votes {k}` for others")
        self.votes = None if k == 1 else calibrated
        if self.votes is None:
            self.calibration = None  # it is one of votes

    @cached_property
    def trie(self) -> FormularyTrie:
        """The formulary in the engine's tokens."""
        return FormularyTrie(self.engine.tokenizer, self.vocabulary.formulary, self.engine.end)

    @cached_property
    def popularity(self) -> Floats:
        """Share of the training admissions that had each drug, (formulary,)."""
        ordered = pl.read_parquet(self.checkpoint / "vocabulary" / "formulary.parquet")["admissions"]
        return np.minimum(ordered.to_numpy() / self.manifest.samples, 1.0)

    def recommend(self, admissions: Sequence[Admission], *, raw: bool = False) -> list[Recommendation]:
        """Draft a list of formulary drugs for each admission.

        Args:
            admissions: each with a diagnosis.
            raw: whatever the model writes instead; where that is a list of formulary drugs without a repeat, it is the
                same list as without votes.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        encoded, dropped = self.encode(admissions)
        if raw:
            found = self.engine.generate(encoded, self.adapter, self.manifest.max_answer_tokens)
            answers = [(prompts.parse_answer(one.text, truncated=one.truncated), one.text) for one in found]
            return [Recommendation(*answer, left_out) for answer, left_out in zip(answers, dropped, strict=True)]
        lists = self.engine.draw([self._ask(ids, self.votes) for ids in encoded], self.adapter, self.trie)
        return self._drafted(lists, admissions, dropped)

    async def draft(self, admission: Admission, seconds: float = inf) -> Recommendation:
        """Draft a list for one admission, step by step with those that are asked for meanwhile; see `Drafter.draft`."""
        ask, dropped, trie = await asyncio.to_thread(self._prepare, admission)
        waited = self.engine.scheduler.submit(ask, self.adapter, trie, seconds)
        drawn = await asyncio.wrap_future(waited)
        [drafted] = self._drafted([drawn], [admission], [dropped])
        return drafted

    def count_votes(self, admissions: Sequence[Admission], samples: int, temperature: float) -> Floats:
        """Return how many of `samples` lists name each drug, (admissions, formulary).

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        asking = Votes(samples, temperature, prior_weight=1.0)
        asks = [self._ask(ids, asking) for ids in self.encode(admissions)[0]]
        found = [self._counted(drawn) for drawn in self.engine.draw(asks, self.adapter, self.trie)]
        return np.array(found).reshape(-1, len(self.vocabulary.formulary))

    def _prepare(self, admission: Admission) -> tuple[Ask, int, FormularyTrie]:
        """Do what would hold up an event loop: tokenise and, for the first request, compile the formulary."""
        [ids], [dropped] = self.encode([admission])
        return self._ask(ids, self.votes), dropped, self.trie

    def _ask(self, ids: list[int], votes: Votes | None) -> Ask:
        if votes is None:
            return Ask(ids, self.manifest.max_answer_tokens)
        return Ask(ids, self.manifest.max_answer_tokens, samples=votes.samples, temperature=votes.temperature)

    def _drafted(
        self, lists: Sequence[Sequence[Drawn]], admissions: Sequence[Admission], dropped: Sequence[int]
    ) -> list[Recommendation]:
        if self.votes is None:
            return [self._as_written(only, left_out) for [only], left_out in zip(lists, dropped, strict=True)]
        votes = np.array([self._counted(drawn) for drawn in lists]).reshape(-1, len(self.vocabulary.formulary))
        return self._recommendations(self.votes.scores(votes, self.popularity), admissions, dropped)

    def _as_written(self, only: Drawn, dropped: int) -> Recommendation:
        drugs = tuple(self.trie.names[item] for item in only.items)
        return Recommendation(prompts.Answer(prompts.Outcome.OK, drugs), prompts.render_answer(drugs), dropped)

    def _counted(self, drawn: Sequence[Drawn]) -> Floats:
        items = [item for one in drawn for item in one.items]
        return np.bincount(np.array(items, dtype=np.int64), minlength=len(self.vocabulary.formulary)).astype(float)


def load_recommenders(
    checkpoints: Sequence[Path], base: str | None = None, k: int | None = None, *, alone: bool = False
) -> list[Recommender | LabelRecommender]:
    """Load checkpoints of one base onto one engine.

    Args:
        checkpoints: folders made by `rxdraft train`, at least one.
        base: where the base lies now; None: where the first manifest says it lay.
        k: lists drawn for an admission by models that write lists, see `Recommender`.
        alone: as training left them, neither calibrated nor blended.

    Raises:
        ContractError: the checkpoints were trained on different bases, or one is damaged.
        ConfigError: one was not calibrated for so many lists, or writes none.
    """
    manifests = [read_manifest(checkpoint) for checkpoint in checkpoints]
    if alone:
        manifests = [replace(manifest, calibration=None) for manifest in manifests]
    engine = load_engine(checkpoints, manifests, base)
    return [on_engine(engine, path, manifest, k) for path, manifest in zip(checkpoints, manifests, strict=True)]


def load_engine(checkpoints: Sequence[Path], manifests: Sequence[Manifest], base: str | None) -> Engine:
    """Load what checkpoints were trained on; arguments and errors as of `load_recommenders`."""
    bases = {manifest.base_sha256 for manifest in manifests}
    if len(bases) != 1:
        raise ContractError(f"the checkpoints were trained on {len(bases)} different bases, wanted one")
    if whole := [str(path) for path, m in zip(checkpoints, manifests, strict=True) if m.method == "full"]:
        raise ContractError(f"{', '.join(whole)}: a whole model; give it as --base and serve an adapter trained on it")
    return Engine(base or manifests[0].base, manifests[0].base_sha256)


def on_engine(
    engine: Engine, checkpoint: Path, manifest: Manifest, k: int | None = None
) -> Recommender | LabelRecommender:
    """Put a checkpoint onto the engine of its base; arguments and errors as of `load_recommenders`."""
    if manifest.objective == "list":
        return Recommender(engine, checkpoint, manifest, k)
    if k is not None:
        raise ConfigError(f"{checkpoint} scores every drug at once and draws no lists; leave --k out")
    return LabelRecommender(engine, checkpoint, manifest)
