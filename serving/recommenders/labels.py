"""The recommender of models that score every drug: one pass over the question, and the list is where it is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np

from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from serving.probabilities.curves import to_probabilities
from serving.probabilities.cut import Floats
from serving.recommendation import Recommendation
from serving.recommenders.checkpoint import CheckpointRecommender
from serving.recommenders.engine import Engine
from serving.recommenders.gathering import Gatherer
from training.manifest import Manifest

_PART = 256
"""Admissions encoded before they are read."""


_Read = tuple[Floats, Admission, int]
"""A question as it was read: every label's logit, whose it is, and how many diagnoses did not fit."""


class LabelRecommender(CheckpointRecommender):
    """A checkpoint with a label head: a probability for every drug of the formulary."""

    def __init__(self, engine: Engine, checkpoint: Path, manifest: Manifest) -> None:
        """Load the checkpoint's adapter, head and vocabulary.

        Raises:
            ContractError: the checkpoint is damaged, its prompts are of another version than this code's, or its head
                is of another formulary.
        """
        super().__init__(engine, checkpoint, manifest)
        if (labels := engine.count_labels(self.adapter)) != len(self.vocabulary.formulary):
            raise ContractError(
                f"{checkpoint} has a head for {labels} drugs and a formulary of {len(self.vocabulary.formulary)}; "
                "copy the whole checkpoint, or remove it and train again"
            )

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return what the model alone says of every drug before calibration, in [0, 1], (admissions, formulary).

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        return self._read(admissions)[0]

    def recommend(self, admissions: Sequence[Admission], *, raw: bool = False) -> list[Recommendation]:
        """Draft a list of formulary drugs for each admission.

        Args:
            admissions: each with a diagnosis.
            raw: refused, since the model writes nothing.

        Raises:
            ConfigError: an admission has no diagnosis to go by, or what the model writes was asked for.
        """
        if raw:
            raise ConfigError(f"{self.checkpoint} is a label model, which writes nothing; leave --raw out")
        parts = (admissions[start : start + _PART] for start in range(0, len(admissions), _PART))
        return [drafted for part in parts for drafted in self._recommend_part(part)]

    async def draft(self, admission: Admission, seconds: float = inf) -> Recommendation:
        """Draft a list for one admission, in a pass with those that are asked for meanwhile; see `Drafter.draft`."""
        [ids], [dropped] = await asyncio.to_thread(self.encode, [admission])  # would hold up the event loop
        logits = await asyncio.wrap_future(self.engine.gatherer.submit(ids, self.adapter, seconds))
        return await asyncio.wrap_future(self._finisher.submit((logits, admission, dropped), self.adapter, seconds))

    @cached_property
    def _finisher(self) -> Gatherer[_Read, Recommendation]:
        """Who blends and cuts for requests that meet: many cost little more than one."""
        return Gatherer(self._finish)

    def _finish(self, read: Sequence[_Read], adapter: str) -> list[Recommendation]:
        logits, admissions, dropped = zip(*read, strict=True)
        return self._recommendations(to_probabilities(np.stack(logits)), admissions, dropped)

    def _recommend_part(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        scores, dropped = self._read(admissions)
        return self._recommendations(scores, admissions, dropped)

    def _read(self, admissions: Sequence[Admission]) -> tuple[Floats, list[int]]:
        """Return what the model alone says of every drug, and how many diagnoses did not fit into each prompt."""
        encoded, dropped = self.encode(admissions)
        return to_probabilities(self.engine.label_logits(encoded, self.adapter)), dropped
