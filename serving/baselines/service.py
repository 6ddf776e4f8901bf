"""A baseline with its cohort's vocabulary: what `rxdraft serve --model baseline:NAME` asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from etl import artefacts
from etl.cohort import read_cohort, read_samples
from etl.domain import Admission, Split
from etl.errors import ConfigError
from serving.baselines.baseline import Baseline
from serving.baselines.design import read_visits
from serving.baselines.fit import check_name, fit
from serving.recommendation import Recommendation
from serving.schemas import BaselineIdentity
from serving.vocabulary import TitleCodes, Vocabulary, vocabulary_of

PREFIX = "baseline:"
KEPT = "baselines"
"""Folder within the cohort that keeps what takes long to fit; made anew with the cohort."""


class BaselineRecommender:
    """A fitted baseline, asked like a checkpoint."""

    def __init__(self, baseline: Baseline, vocabulary: Vocabulary, identity: BaselineIdentity) -> None:
        self.baseline = baseline
        self.vocabulary = vocabulary
        self.identity = identity
        self._codes = TitleCodes(vocabulary)

    def recommend(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        """Draft a list for each admission, of the length the baseline's cut gives.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        if any(not admission.diagnoses and admission.earlier_diagnoses is None for admission in admissions):
            raise ConfigError("an admission without a diagnosis; wanted at least one")
        return self.baseline.recommend([self._codes.coded(admission) for admission in admissions], chances=True)

    async def draft(self, admission: Admission, seconds: float) -> Recommendation:
        """Draft a list for one admission; it takes milliseconds, so nobody is refused or late."""
        [recommendation] = await asyncio.to_thread(self.recommend, [admission])
        return recommendation


def baseline_name(model: Path | str) -> str | None:
    """Return NAME of `baseline:NAME`; None for what is a folder.

    Raises:
        ConfigError: there is no such baseline.
    """
    if not str(model).startswith(PREFIX):
        return None
    name = str(model).removeprefix(PREFIX)
    check_name(name)
    return name


def load_baseline(name: str, cohort: Path) -> BaselineRecommender:
    """Fit a baseline on a cohort's training split, its cut on the validation split.

    Raises:
        ContractError: the folder is no whole cohort of admissions.
        ConfigError: the name is unknown, or the training split is empty.
    """
    settings = read_cohort(cohort)["settings"]
    splits = [read_samples(cohort, split) for split in (Split.TRAIN, Split.VALIDATION)]
    vocabulary = vocabulary_of(cohort, settings)
    training, validation = (read_visits(samples, vocabulary.formulary) for samples in splits)
    identity = BaselineIdentity(
        name=f"{PREFIX}{name}",
        cohort_sha256=artefacts.sha256_file(cohort / "cohort.json"),
        formulary_sha256=artefacts.sha256_file(cohort / "formulary.parquet"),
    )
    baseline = fit(name, training, validation, cohort / KEPT)
    return BaselineRecommender(baseline, vocabulary, identity)
