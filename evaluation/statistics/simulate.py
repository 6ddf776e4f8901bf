"""A world whose truth is known: do the intervals cover it, and do the tests and the judge's correction keep their word?

Patients have 1-20 visits, in the shares of the MIMIC-IV demo. Each visit, cell and drug meets a normal "ease" with
a part of the patient, of the patient with this cell, of the visit and of the visit with this cell; a drafted drug is
right with the probability Φ(ease). Means of Φ over normals are closed formulas, so the truth is exact.
No drug has a name here and nothing is learnt: it tests the evaluation, never a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from etl.prompts import Outcome
from evaluation.markdown import grid
from evaluation.statistics.bootstrap import Draws, Floats, Kind, draw
from evaluation.statistics.comparisons import against, all_pairs, best, combine, effects, paired, simultaneous

MOST_VISITS = 20
_VISITS = np.arange(1, MOST_VISITS + 1)
_DECAY = 0.845
"""Of the logarithmic series of visits per patient: 2.8 in the mean, as in the MIMIC-IV demo."""
VISIT_SHARES: Floats = _DECAY**_VISITS / _VISITS / (_DECAY**_VISITS / _VISITS).sum()
_FAILURES = [outcome.value for outcome in Outcome if not outcome.well_formed]


@dataclass(frozen=True, slots=True)
class World:
    """What an evaluator would see of one sample of patients.

    Attributes:
        subject_id: (visits,).
        outcome: values of `Outcome`, (visits, cells).
        formed: whether the answer is a list, (visits, cells).
        predicted, truth, true_positives: |P|, |T|, |P ∩ T|, (visits, cells); no list drafts nothing.
    """

    subject_id: NDArray[np.int64]
    outcome: NDArray[np.str_]
    formed: NDArray[np.bool_]
    predicted: NDArray[np.int64]
    truth: NDArray[np.int64]
    true_positives: NDArray[np.int64]

    @property
    def precision(self) -> Floats:
        """Return tp / p, (visits, cells); NaN where there is no list."""
        none = np.full(self.formed.shape, np.nan)
        return np.divide(self.true_positives, self.predicted, out=none, where=self.formed)


@dataclass(frozen=True, slots=True)
class Hospital:
    """Where worlds come from; variances are on the probit scale, where a drug's own noise has variance 1.

    Attributes:
        accuracy: chance that a drug is right at a patient's only visit, (cells,).
        output_rate: chance that an answer is a list, (cells,).
        patient, patient_cell, visit, visit_cell: variances of the parts of the ease. Patient and visit are shared
            by all cells, and make them correlated; the patient's parts make visits correlated.
        decline: ease lost per natural log of a patient's number of visits: the often admitted are harder, so
            the number of a patient's visits tells of the patient's score.
        drugs: mean length of a list.
    """

    accuracy: tuple[float, ...]
    output_rate: tuple[float, ...]
    patient: float = 0.3
    patient_cell: float = 0.12
    visit: float = 0.25
    visit_cell: float = 0.12
    decline: float = 0.1
    drugs: int = 12

    def true_scores(self) -> dict[str, Floats]:
        """Return what infinitely many patients would score, (cells,) by metric."""
        eased = ndtri(self.accuracy)[:, None] - self.decline * np.log(_VISITS) / np.sqrt(1 + self._variance)
        by_visits = ndtr(eased)  # (cells, visits per patient)
        accuracy = by_visits @ (VISIT_SHARES * _VISITS) / (VISIT_SHARES * _VISITS).sum()
        rate = np.array(self.output_rate)
        return {
            "output rate": rate,
            "accuracy": accuracy,
            "accuracy, all visits": rate * accuracy,
            "accuracy, all patients": rate * (by_visits @ VISIT_SHARES),
            "micro precision": accuracy,
        }

    def world(self, patients: int, rng: np.random.Generator) -> World:
        """Draw patients with their visits and every cell's answers."""
        visits = rng.choice(_VISITS, size=patients, p=VISIT_SHARES)
        subject = np.repeat(np.arange(patients), visits)
        scale = np.sqrt(1 + self._variance)
        ease = ndtri(self.accuracy) * scale + self._parts(subject, rng)
        ease -= self.decline * np.log(visits)[subject][:, None]
        formed = rng.random(ease.shape) < ndtr(ndtri(self.output_rate) * scale + self._parts(subject, rng))
        predicted = np.where(formed, 1 + rng.poisson(self.drugs - 1, ease.shape), 0)
        hits = rng.binomial(predicted, ndtr(ease))
        ordered = np.maximum(1 + rng.poisson(self.drugs - 1, (len(subject), 1)), hits.max(axis=1, keepdims=True))
        outcome = np.where(formed, Outcome.OK.value, rng.choice(_FAILURES, size=ease.shape))
        return World(subject, outcome, formed, predicted, np.broadcast_to(ordered, ease.shape), hits)

    @property
    def _variance(self) -> float:
        return self.patient + self.patient_cell + self.visit + self.visit_cell

    def _parts(self, subject: NDArray[np.int64], rng: np.random.Generator) -> Floats:
        """Draw the parts of the ease, summed, (visits, cells)."""
        patients, visits, cells = subject[-1] + 1, len(subject), len(self.accuracy)
        of_patient = np.sqrt(self.patient) * rng.standard_normal((patients, 1))
        of_patient = of_patient + np.sqrt(self.patient_cell) * rng.standard_normal((patients, cells))
        of_visit = np.sqrt(self.visit) * rng.standard_normal((visits, 1))
        return of_patient[subject] + of_visit + np.sqrt(self.visit_cell) * rng.standard_normal((visits, cells))


def columns(world: World) -> tuple[Floats, Floats]:
    """Return num and den, (visits, metrics x cells), in the order of `Hospital.true_scores`."""
    formed, scored = world.formed.astype(float), np.nan_to_num(world.precision)
    once = np.ones_like(formed)
    per_patient = once / np.bincount(world.subject_id)[world.subject_id][:, None]
    num = np.hstack([formed, scored, scored, scored * per_patient, world.true_positives])
    return num, np.hstack([once, formed, once, per_patient, world.predicted])


# --- a judge whose errors are known -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Judged:
    """Drugs a judge was asked about, with what is true of them.

    Attributes:
        subject_id: (items,).
        kind: "draft", "positive_control" (all appropriate) or "decoy" (none is), (items,).
        appropriate: the truth, (items,); of drafts only people know it.
        approved: the verdict, (items,).
    """

    subject_id: NDArray[np.int64]
    kind: NDArray[np.str_]
    appropriate: NDArray[np.bool_]
    approved: NDArray[np.bool_]

    def of(self, kind: str) -> Judged:
        """Return the items of one kind."""
        at = self.kind == kind
        return Judged(self.subject_id[at], self.kind[at], self.appropriate[at], self.approved[at])


def judge_items(
    rng: np.random.Generator,
    *,
    rate: float,
    sensitivity: float,
    false_accept: float,
    patients: int = 500,
    items: int = 10,
    positive_controls: int = 400,
    decoys: int = 400,
    patient: float = 0.3,
) -> Judged:
    """Draw drugs, of which a known share is appropriate, and a judge's verdicts on them.

    Args:
        rate: share of drafted drugs that are appropriate.
        sensitivity, false_accept: s and f: chance that an appropriate, an inappropriate drug is approved.
        items: drafted drugs per patient.
        positive_controls, decoys: how many, over all patients.
        patient: variance on the probit scale that makes a patient's drugs alike; 0: they are unrelated.
    """
    of_patient = np.sqrt(patient) * rng.standard_normal(patients)
    drafts = np.repeat(np.arange(patients), items)
    right = rng.random(len(drafts)) < ndtr(ndtri(rate) * np.sqrt(1 + patient) + of_patient[drafts])
    asked = np.concatenate([drafts, rng.integers(patients, size=positive_controls + decoys)])
    kind = np.repeat(["draft", "positive_control", "decoy"], [len(drafts), positive_controls, decoys])
    appropriate = np.concatenate([right, np.repeat([True, False], [positive_controls, decoys])])
    approved = rng.random(len(asked)) < np.where(appropriate, sensitivity, false_accept)
    return Judged(asked, kind, appropriate, approved)


# --- does it hold? ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of the evaluation, kept or not.

    Attributes:
        name: what was measured.
        value: over the worlds.
        error: standard error of the value, from the spread between worlds.
        wanted: the range that keeps the promise; None: shown for comparison only.
    """

    name: str
    value: float
    error: float
    wanted: tuple[float, float] | None = None

    @property
    def kept(self) -> bool | None:
        """Whether the value lies where it should, give or take two errors; None where nothing is promised."""
        if self.wanted is None:
            return None
        return self.wanted[0] - 2 * self.error <= self.value <= self.wanted[1] + 2 * self.error


EFFECTS = Hospital(
    accuracy=(0.20, 0.23, 0.25, 0.24, 0.22, 0.26, 0.29, 0.27), output_rate=(0.5, 0.6, 0.7, 0.8, 0.55, 0.65, 0.75, 0.85)
)
"""Two ranks at epochs 2-5, with effects of both on accuracy and output rate."""
EQUAL = Hospital(accuracy=(0.24,) * 8, output_rate=(0.7,) * 8)
"""The same without any effect: what differs here differs by chance."""
RANKS, EPOCHS = (16,) * 4 + (32,) * 4, (2, 3, 4, 5) * 2


_FALSE_ALARM = (0.0, 0.06)
WANTED = {
    "coverage": (0.93, 0.97),
    "true best is tied with the best": (0.95, 1.0),
    "false alarm: any of 7, max-T": _FALSE_ALARM,
    "false alarm: any of 7, max-T interval": _FALSE_ALARM,
    "false alarm: any of 7, Holm": _FALSE_ALARM,
    "false alarm: any of 28, max-T": _FALSE_ALARM,
    "false alarm: one pair": _FALSE_ALARM,
    "optimism of the best, corrected": (-0.25, 0.25),
}
"""What is promised, by a finding's name or by what stands before its colon."""


def simulate(
    worlds: int = 1000,
    patients: int = 200,
    draws: int = 600,
    seed: int = 0,
    on_world: Callable[[int], None] = lambda done: None,
) -> list[Finding]:
    """Evaluate many worlds with and without effects, and say how often the evaluation was right.

    Args:
        worlds: of each sort.
        patients: in each; from `bootstrap.FEWEST_PATIENTS` there are intervals.
        draws: of the bootstrap in each world.
        seed: same seed, same findings.
        on_world: told how many worlds are done.
    """
    seen: dict[str, list[float]] = {}
    for number in range(worlds):
        rng = np.random.default_rng((seed, number))
        found: dict[str, float] = {}
        for hospital in (EFFECTS, EQUAL):
            world = hospital.world(patients, rng)
            num, den = columns(world)
            scores = draw(world.subject_id, num, den, draws=draws, seed=number)
            naive = draw(np.arange(len(num)), num, den, draws=draws, seed=number)
            if hospital is EFFECTS:
                found |= _coverage(hospital, scores, naive) | _contrasts(hospital, scores)
                found |= _both_formed(hospital, world, draws, number)
            else:
                found |= _false_alarms(scores, naive) | _optimism(hospital, scores)
        for name, value in found.items():
            seen.setdefault(name, []).append(value)
        on_world(number + 1)
    return [_finding(name, np.array(values)) for name, values in seen.items()]


def _coverage(hospital: Hospital, scores: Draws, naive: Draws) -> dict[str, float]:
    """Return the share of cells whose interval covers, metric by metric, and over all metrics for other intervals."""
    truth = hospital.true_scores()
    every = np.concatenate(list(truth.values()))
    share = np.nanmean(_covers(scores, every).reshape(len(truth), -1), axis=1)
    return {f"coverage: {name}": float(covers) for name, covers in zip(truth, share, strict=True)} | {
        "coverage, textbook percentile": float(np.nanmean(_covers(scores, every, Kind.PLAIN))),
        "coverage, BCa": float(np.nanmean(_covers(scores, every, Kind.BCA))),
        "coverage, visits drawn, not patients": float(np.nanmean(_covers(naive, every))),
    }


def _contrasts(hospital: Hospital, scores: Draws) -> dict[str, float]:
    """Return whether what is said of effects and of the best cell is true."""
    truth, cells = hospital.true_scores()["accuracy, all visits"], _all_visits(scores)
    asked = np.array(list(effects(RANKS, EPOCHS).values()))
    family = simultaneous(combine(cells, against(len(truth), 0)))
    differences = against(len(truth), 0) @ truth
    winner = best(cells)
    return {
        "coverage: rank, slope, interaction": float(np.nanmean(_covers(combine(cells, asked), asked @ truth))),
        "coverage: all differences at once": float(not ((family.lo > differences) | (differences > family.hi)).any()),
        "true best is tied with the best": float(winner is not None and winner.tied[truth.argmax()]),
    }


def _both_formed(hospital: Hospital, world: World, draws: int, seed: int) -> dict[str, float]:
    truth = hospital.true_scores()["accuracy"]
    pairs = [(cell, 0) for cell in range(1, len(truth))]
    both = paired(world.subject_id, world.precision, world.formed, pairs, draws=draws, seed=seed).both
    return {"coverage: differences, both a list": float(np.nanmean(_covers(both, truth[1:] - truth[0])))}


def _false_alarms(scores: Draws, naive: Draws) -> dict[str, float]:
    """Return whether a difference was found among equal cells."""
    cells, visits = _all_visits(scores), _all_visits(naive)
    rows = len(cells.point)
    family = simultaneous(combine(cells, against(rows, 0)))
    pairs = simultaneous(combine(cells, all_pairs(rows)[1]))
    one = against(rows, 0)[:1]
    return {
        "false alarm: any of 7, max-T": float((family.p < 0.05).any()),
        "false alarm: any of 7, max-T interval": float(((family.lo > 0) | (family.hi < 0)).any()),
        "false alarm: any of 7, Holm": float((family.holm < 0.05).any()),
        "false alarm: any of 28, max-T": float((pairs.p < 0.05).any()),
        "false alarm: any of 7, no correction": float((_covers(combine(cells, against(rows, 0)), 0.0) == 0).any()),
        "false alarm: one pair": float((_covers(combine(cells, one), 0.0) == 0).any()),
        "false alarm: one pair, visits drawn": float((_covers(combine(visits, one), 0.0) == 0).any()),
    }


def _optimism(hospital: Hospital, scores: Draws) -> dict[str, float]:
    """Return how far the best of equal cells lies above the truth, in standard errors of a cell."""
    truth, cells = hospital.true_scores()["accuracy, all visits"], _all_visits(scores)
    winner = best(cells)
    if winner is None:
        return {}
    se = cells.se()[winner.index]
    return {
        "optimism of the best, raw": float((winner.raw - truth[winner.index]) / se),
        "optimism of the best, corrected": float((winner.corrected - truth[winner.index]) / se),
    }


def _all_visits(scores: Draws) -> Draws:
    """Return the cells' accuracy over all visits."""
    place = list(EQUAL.true_scores()).index("accuracy, all visits")
    cells = len(EQUAL.accuracy)
    return combine(scores, np.eye(len(scores.point))[place * cells : (place + 1) * cells])


def _covers(scores: Draws, truth: Floats | float, kind: Kind = Kind.PERCENTILE) -> Floats:
    """Return 1 where the interval holds the truth, 0 where not, NaN where too few patients count for one."""
    interval = scores.intervals(kind)
    return np.where(np.isnan(interval.lo), np.nan, (interval.lo <= truth) & (truth <= interval.hi))


def _finding(name: str, values: Floats) -> Finding:
    values = values[~np.isnan(values)]
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return Finding(name, float(values.mean()), error, WANTED.get(name.partition(":")[0], WANTED.get(name)))


def to_markdown(findings: list[Finding]) -> str:
    """Return the findings as a table; ± is the simulation's own standard error, two of which are allowed for."""
    body = [
        (
            finding.name,
            f"{finding.value:.3f}",
            f"{finding.error:.3f}",
            "" if finding.wanted is None else f"{finding.wanted[0]:g} to {finding.wanted[1]:g}",
            {None: "", True: "yes", False: "NO"}[finding.kept],
        )
        for finding in findings
    ]
    return grid(("finding", "value", "±", "wanted", "kept"), body) + "\n"
