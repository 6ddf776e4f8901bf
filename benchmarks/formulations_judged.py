"""What answers are worth: calibrated on validation, cut, and counted on the test split, admission by admission."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from formulations_asked import Arrays, Split

from evaluation.probabilities import scored_columns
from evaluation.statistics import calibration
from serving.probabilities.blend import mix
from serving.probabilities.calibrate import FOLDS, PRIOR_WEIGHTS, WEIGHTS
from serving.probabilities.calibration import Votes
from serving.probabilities.curves import Curve
from serving.probabilities.cut import Cut, Floats
from serving.probabilities.fitting import Fit, Outcomes, fit

SCORES = ("f1", "jaccard", "prauc", "brier", "log_loss", "output_rate")
"""Of each admission; the first two and the last are of lists, the others of probabilities."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a row is worth on the test split.

    Attributes:
        scores: (admissions, SCORES); NaN where the row has no probabilities.
        ece: expected calibration error over ten bins of equal mass; None without probabilities.
        how: what was chosen on validation, in words.
    """

    scores: Floats
    ece: float | None
    how: str


def judge_lists(answers: Arrays, test: Split) -> Judged:
    """Judge lists that stand as they were written; an answer that is no list counts 0."""
    hits = (answers["listed"] * test.ordered).sum(axis=1)
    nothing = np.full(len(hits), np.nan)
    columns = [*_f1_and_jaccard(hits, answers["length"], test.drugs), *[nothing] * 3, answers["formed"].astype(float)]
    return Judged(np.stack(columns, axis=1), None, "")


def judge_scores(validation: Floats, test: Floats, splits: dict[str, Split]) -> Judged:
    """Fit curve and cut to the validation split's scores, and judge what they make of the test split's."""
    found = fit(validation, outcomes(splits["validation"]))
    return judge_probabilities(test, splits["test"], found.curve, found.cut, _in_words(found))


def judge_probabilities(scores: Floats, test: Split, curve: Curve, cut: Cut, how: str = "") -> Judged:
    """Judge scores by a curve and a cut."""
    p = curve(scores)
    ranking = np.lexsort((-scores, -p))
    lengths = cut.lengths(p)
    hits = np.take_along_axis(test.ordered, ranking, axis=1).cumsum(axis=1)[np.arange(len(p)), lengths - 1]
    columns = scored_columns(p, test.ordered > 0, test.drugs, probable=True)
    log_loss = -np.where(test.ordered > 0, np.log(p), np.log1p(-p)).mean(axis=1)
    brier = (columns["brier_sum"] / columns["brier_n"]).to_numpy()
    prauc = columns["average_precision"].to_numpy()
    scores = np.stack([*_f1_and_jaccard(hits, lengths, test.drugs), prauc, brier, log_loss, np.ones(len(p))], axis=1)
    return Judged(scores, calibration.ece(calibration.equal_mass(calibration.levels(columns))), how)


def judge_votes(votes: dict[str, Arrays], name: str, popularity: Floats, splits: dict[str, Split]) -> Judged:
    """Judge votes, with as much popularity beside them as says most about patients who were held out."""
    samples = int(name.removeprefix("first_"))
    ways = [Votes(samples, 1.0, prior_weight) for prior_weight in PRIOR_WEIGHTS]
    shares = {way: {split: way.scores(votes[split][name], popularity) for split in splits} for way in ways}
    best = min(ways, key=lambda way: _log_loss(shares[way]["validation"], splits))
    judged = judge_scores(shares[best]["validation"], shares[best]["test"], splits)
    return Judged(judged.scores, judged.ece, f"m {best.prior_weight:g}, {judged.how}")


def judge_blend(model: dict[str, Arrays], regression: dict[str, Arrays], splits: dict[str, Split]) -> Judged:
    """Judge scores blended with a regression's as `rxdraft calibrate` blends them."""

    def blended(split: str, weight: float) -> Floats:
        return mix(model[split]["scores"], regression[split]["scores"], weight)

    best = min(WEIGHTS, key=lambda weight: _log_loss(blended("validation", weight), splits))
    judged = judge_scores(blended("validation", best), blended("test", best), splits)
    return Judged(judged.scores, judged.ece, f"weight {best:g}, {judged.how}")


def outcomes(split: Split) -> Outcomes:
    """Return what was ordered, in folds by patient as `rxdraft calibrate` makes them."""
    known, patient = np.unique(split.samples["subject_id"].to_numpy(), return_inverse=True)
    return Outcomes(split.ordered, split.drugs, patient % min(FOLDS, len(known)))


def _log_loss(scores: Floats, splits: dict[str, Split]) -> float:
    return fit(scores, outcomes(splits["validation"])).after.log_loss


def _in_words(found: Fit) -> str:
    return f"{found.curve.kind.value}, {found.cut}"


def _f1_and_jaccard(hits: Any, lengths: Any, drugs: Any) -> Sequence[Floats]:
    return 2 * hits / (lengths + drugs), hits / (lengths + drugs - hits)
