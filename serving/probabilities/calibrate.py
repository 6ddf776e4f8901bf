"""Calibrate checkpoints on the validation split of the cohort they were trained on; the test split stays unread.

The training split is read for the regression that a checkpoint's scores are blended with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from etl import artefacts
from etl.cohort import read_cohort, read_samples, to_admission
from etl.domain import Admission, Split
from etl.errors import ConfigError, ContractError
from serving.baselines.design import read_visits
from serving.baselines.pooled import Pooled
from serving.baselines.service import KEPT
from serving.probabilities.blend import FILE, mix
from serving.probabilities.calibration import Blended, Calibration, Fitted, Votes
from serving.probabilities.cut import Floats, Rule
from serving.probabilities.fitting import Fit, Outcomes, fit
from serving.recommenders.labels import LabelRecommender
from serving.recommenders.lists import Recommender, load_engine, on_engine
from training.manifest import Manifest, find_checkpoints, read_manifest

FOLDS = 5
PRIOR_WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Of which the one with the best log-loss is kept, see `Votes`."""
WEIGHTS = tuple(round(1 - 0.1 * i, 1) for i in range(11))
"""Of the model, of which the one with the best log-loss is kept; of equals the highest."""
_PART = 64
"""Admissions asked between two steps of the progress bar."""

Told = Callable[[str, int, int], None]
_Done = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a calibration is asked to be.

    Attributes:
        votes: lists drawn for an admission, from models that write lists.
        temperature: they are drawn at.
        false_positives: how many drugs of a list may be expected to be wrong; None: the rule of the highest F1.
        blend: try whether logistic regression beside the model makes its probabilities better.
    """

    votes: int = 10
    temperature: float = 0.7
    false_positives: float | None = None
    blend: bool = True

    def is_met(self, manifest: Manifest) -> bool:
        """Tell whether the checkpoint was calibrated so already."""
        try:
            stands = Calibration.from_json(manifest.calibration)
        except ContractError:  # none, or another version's
            return False
        asked = stands.votes and (stands.votes.samples, stands.votes.temperature)
        wanted = (self.votes, self.temperature) if manifest.objective == "list" else None
        bound = stands.cut.at if stands.cut.rule is Rule.FALSE_POSITIVES else None
        tried = stands.fitted and stands.fitted.alone is not None
        return stands.fitted is not None and (asked, bound, tried) == (wanted, self.false_positives, self.blend)


@dataclass(frozen=True, slots=True)
class Validation:
    """The validation split: its admissions, what was ordered in each, and whose it is, in Fitted's words."""

    admissions: list[Admission]
    outcomes: Outcomes
    patients: int
    cohort_sha256: str


def calibrate(
    runs: Path,
    cohort: Path,
    wanted: Wanted,
    *,
    base: str | None = None,
    told: Told = lambda name, done, total: None,
) -> Iterator[tuple[Path, Calibration, bool]]:
    """Calibrate every checkpoint at or below a folder and write each one's calibration into its manifest.

    Args:
        runs: a checkpoint, or a folder of some, of one base.
        cohort: that they were trained on.
        wanted: see there.
        base: where the base lies now; None: where the manifests say.
        told: told (checkpoint, admissions asked so far, all).

    Yields:
        Each checkpoint, its calibration, and whether that stood there already.

    Raises:
        ContractError: no checkpoint, or one was trained on another cohort or base.
        ConfigError: validation has fewer than two patients.
    """
    checkpoints = {path: read_manifest(path) for path in find_checkpoints(runs)}
    if not checkpoints:
        raise ContractError(f"{runs} holds no checkpoint; train one with `rxdraft train`")
    validation = read_validation(cohort, checkpoints)
    missing = {path: one for path, one in checkpoints.items() if not (wanted.is_met(one) and _is_whole(path, one))}
    engine = load_engine(list(missing), list(missing.values()), base) if missing else None
    regression = _regression(cohort) if missing and wanted.blend else None
    for path, manifest in checkpoints.items():
        if engine is None or path not in missing:
            yield path, Calibration.from_json(manifest.calibration), True
            continue
        recommender = on_engine(engine, path, replace(manifest, calibration=None))
        name = path.relative_to(runs).as_posix() if path != runs else path.name
        found = _calibrated(recommender, validation, wanted, partial(told, name))
        if regression is not None:
            found = _blended(found, regression, validation, wanted, path / FILE)
        with artefacts.whole_or_absent(path / "manifest.json") as new:
            artefacts.write_json(new, asdict(replace(manifest, calibration=found.calibration.to_json())))
        yield path, found.calibration, False


def _is_whole(checkpoint: Path, manifest: Manifest) -> bool:
    """Tell whether what a calibrated checkpoint is blended with lies in it."""
    blend = Calibration.from_json(manifest.calibration).blend
    return blend is None or (checkpoint / FILE).is_file()


def read_validation(cohort: Path, checkpoints: dict[Path, Manifest]) -> Validation:
    """Read what was ordered in the validation split, and nothing of the others.

    Raises:
        ContractError: a checkpoint was trained on another cohort.
        ConfigError: there are fewer than two patients.
    """
    read_cohort(cohort)
    digest = artefacts.sha256_file(cohort / "cohort.json")
    if other := [str(path) for path, manifest in checkpoints.items() if manifest.cohort_sha256 != digest]:
        raise ContractError(
            f"{', '.join(other)} was not trained on {cohort}, whose validation patients it may know; "
            "give the cohort it was trained on with --data"
        )
    samples = read_samples(cohort, Split.VALIDATION)
    known, patient = np.unique(samples["subject_id"].to_numpy(), return_inverse=True)
    if len(known) < 2:
        raise ConfigError(f"{cohort} has {len(known)} validation patients, wanted at least 2 to fit and check on")
    drugs = [set(drugs) for drugs in samples["drugs"]]
    formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    ordered = np.array([[drug in there for drug in formulary] for there in drugs], dtype=float)
    return Validation(
        [to_admission(sample) for sample in samples.iter_rows(named=True)],
        Outcomes(ordered, np.array(list(map(len, drugs))), patient % min(FOLDS, len(known))),
        len(known),
        digest,
    )


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """A calibration, and the scores of the validation split that it was fitted to, (admissions, formulary)."""

    calibration: Calibration
    scores: Floats


def _calibrated(
    recommender: Recommender | LabelRecommender, validation: Validation, wanted: Wanted, told: _Done
) -> _Calibrated:
    """Calibrate a checkpoint by itself."""
    admissions, outcomes = validation.admissions, validation.outcomes
    votes: Votes | None = None
    if isinstance(recommender, Recommender):
        counted = _asked(partial(_votes, recommender, wanted), admissions, told)
        votes, found = _fit_votes(counted, recommender.popularity, outcomes, wanted)
        scores = votes.scores(counted, recommender.popularity)
    else:
        scores = _asked(recommender.scores, admissions, told)
        found = fit(scores, outcomes, wanted.false_positives)
    fitted = Fitted(
        cohort_sha256=validation.cohort_sha256,
        split=Split.VALIDATION.value,
        admissions=len(admissions),
        patients=validation.patients,
        before=found.before,
        after=found.after,
    )
    return _Calibrated(Calibration(found.curve, found.cut, votes, None, fitted), scores)


def _regression(cohort: Path) -> Pooled:
    """Fit what scores are blended with on the training split, or read what was kept of an earlier fit."""
    formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
    return Pooled(read_visits(read_samples(cohort, Split.TRAIN), formulary), cohort / KEPT)


def _blended(alone: _Calibrated, regression: Pooled, validation: Validation, wanted: Wanted, path: Path) -> _Calibrated:
    """Blend with the weight that says most about patients who were held out, and keep the regression at `path`."""
    assert alone.calibration.fitted is not None  # noqa: S101
    other = _asked(regression.scores, validation.admissions, lambda done, total: None)
    tried = []
    for weight in WEIGHTS:
        scores = mix(alone.scores, other, weight)
        tried.append((weight, scores, fit(scores, validation.outcomes, wanted.false_positives)))
    weight, scores, found = min(tried, key=lambda one: one[2].after.log_loss)
    artefacts.remove(path.parent)
    fitted = replace(alone.calibration.fitted, after=found.after, alone=alone.calibration.fitted.after)
    if weight == 1:
        return replace(alone, calibration=replace(alone.calibration, fitted=fitted))
    with artefacts.whole_or_absent(path.parent) as folder:
        folder.mkdir()
        regression.save(folder / path.name)
    blend = Blended(weight, artefacts.sha256_file(path))
    return _Calibrated(replace(alone.calibration, curve=found.curve, cut=found.cut, blend=blend, fitted=fitted), scores)


def _fit_votes(counted: Floats, popularity: Floats, outcomes: Outcomes, wanted: Wanted) -> tuple[Votes, Fit]:
    """Fit with the prior weight that says most about patients who were held out."""
    tried = []
    for prior_weight in PRIOR_WEIGHTS:
        votes = Votes(wanted.votes, wanted.temperature, prior_weight)
        tried.append((votes, fit(votes.scores(counted, popularity), outcomes, wanted.false_positives)))
    return min(tried, key=lambda one: one[1].after.log_loss)


def _votes(recommender: Recommender, wanted: Wanted, admissions: list[Admission]) -> Floats:
    return recommender.count_votes(admissions, wanted.votes, wanted.temperature)


def _asked(ask: Callable[[list[Admission]], Floats], admissions: list[Admission], told: _Done) -> Floats:
    """Ask part by part, (admissions, formulary)."""
    found = []
    for start in range(0, len(admissions), _PART):
        found.append(ask(admissions[start : start + _PART]))
        told(min(start + _PART, len(admissions)), len(admissions))
    return np.concatenate(found)
