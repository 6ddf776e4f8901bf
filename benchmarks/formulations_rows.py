"""The rows of the table: what is asked for each, how it is judged, and how rows compare over all seeds together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from formulations_asked import Arrays, Split
from formulations_judged import SCORES, Judged, judge_blend, judge_lists, judge_probabilities, judge_scores, judge_votes

from evaluation.statistics.bootstrap import Draws, draw
from serving.probabilities.curves import Curve
from serving.probabilities.cut import Cut, Floats

Json = dict[str, Any]

REGRESSIONS = ("logistic-history", "pooled")
"""What models are compared with; the last is what `rxdraft calibrate` blends them with."""
ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Answers:
    """All that was said of one seed's hospital, by what was asked, split and array; and what was right."""

    said: dict[str, dict[str, Arrays]]
    splits: dict[str, Split]

    def lists(self, asked: str) -> Judged:
        """Judge lists."""
        return judge_lists(self.said[asked]["test"], self.splits["test"])

    def scores(self, asked: str, name: str = "scores") -> Judged:
        """Judge scores."""
        return judge_scores(self.said[asked]["validation"][name], self.said[asked]["test"][name], self.splits)

    def votes(self, name: str) -> Judged:
        """Judge votes."""
        popularity = self.said["popularity"]["test"]["scores"][0]
        return judge_votes(self.said["votes"], name, popularity, self.splits)

    def blend(self) -> Judged:
        """Judge the label head with the regression beside it."""
        return judge_blend(self.said["labels"], self.said[REGRESSIONS[-1]], self.splits)

    def best(self) -> Judged:
        """Judge who knows every chance; the lists are those of the highest expected Jaccard."""
        known = self.said[ORACLE]["test"]
        chances = judge_probabilities(np.clip(known["scores"], 1e-6, 1 - 1e-6), self.splits["test"], Curve(), Cut())
        of_lists = np.isin(SCORES, ("f1", "jaccard"))
        return Judged(np.where(of_lists, self.lists(ORACLE).scores, chances.scores), chances.ece, "")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table.

    Attributes:
        name: in files.
        title: in print.
        judge: says what it is worth.
        asked: whose speed is the row's: the sum of all of these.
        run: checkpoint that is asked; None: none is.
    """

    name: str
    title: str
    judge: Callable[[Answers], Judged]
    asked: tuple[str, ...] = ()
    run: str | None = None

    def is_in(self, answers: Answers) -> bool:
        """Tell whether all was asked that it takes."""
        return set(self.asked) <= answers.said.keys()

    def speed(self, answers: Answers) -> float:
        """Return drafts to the CPU second; seconds add up where two are asked."""
        return float(1 / sum(1 / answers.said[asked]["speed"]["drafts"] for asked in self.asked))


ROWS = (
    Row("free", "list, written freely", lambda a: a.lists("free"), ("free",), "list"),
    Row("constrained", "list, held to the formulary", lambda a: a.lists("constrained"), ("constrained",), "list"),
    Row("votes-5", "votes of 5 lists", lambda a: a.votes("first_5"), ("votes-5",), "list"),
    Row("votes-10", "votes of 10 lists", lambda a: a.votes("first_10"), ("votes",), "list"),
    Row("names", "names in one pass, whole", lambda a: a.scores("names", "whole"), ("names",), "list"),
    Row("names-token", "names in one pass, per token", lambda a: a.scores("names", "per_token"), ("names",), "list"),
    Row("yes-no", "yes or no for each drug", lambda a: a.scores("yes-no"), ("yes-no",), "yes-no"),
    Row("labels", "label head", lambda a: a.scores("labels"), ("labels",), "labels"),
    Row("blended", "label head, blended", lambda a: a.blend(), ("labels", REGRESSIONS[-1]), "labels"),
    Row("popularity", "popularity", lambda a: a.scores("popularity")),
    *(Row(name, name, lambda a, name=name: a.scores(name), (name,)) for name in REGRESSIONS),
    Row(ORACLE, ORACLE, Answers.best),
)


def summarise(seeds: dict[int, Answers], rows: Sequence[Row] = ROWS) -> list[Json]:
    """Return each row's figures over all seeds that it was asked of, and what it is less the regressions.

    Intervals are of patients drawn again with their visits; no patient is in two hospitals.
    """
    judged = {row.name: {seed: row.judge(one) for seed, one in seeds.items() if row.is_in(one)} for row in rows}
    patients = {seed: _patients(seed, answers) for seed, answers in seeds.items()}
    found = []
    for row in (row for row in rows if judged[row.name]):
        there = list(judged[row.name])
        scores = {
            name: np.concatenate([judged[name][seed].scores for seed in there])
            for name in (row.name, ORACLE, *REGRESSIONS)
        }
        about = {"name": row.name, "title": row.title, "run": row.run, "seeds": there}
        speeds = [row.speed(seeds[seed]) for seed in there if row.asked]
        compared = _compare(row.name, scores, np.concatenate([patients[seed] for seed in there]))
        found.append({**about, **_figures(list(judged[row.name].values())), **compared, "drafts_per_second": speeds})
    return found


def _figures(judged: Sequence[Judged]) -> Json:
    """Return what stands for each seed by itself: calibration error, and what was chosen."""
    eces = [one.ece for one in judged if one.ece is not None]
    return {
        "ece": {"value": float(np.mean(eces)), "seeds": eces} if eces else None,
        "chosen": [one.how for one in judged],
        "by_seed": {score: [float(one.scores[:, i].mean()) for one in judged] for i, score in enumerate(SCORES)},
    }


def _compare(name: str, scores: dict[str, Floats], patients: Any) -> Json:
    """Return a row's scores with intervals, its share of the oracle's, and its differences from the regressions."""
    mine, oracle = scores[name], scores[ORACLE].mean(axis=0)
    values = dict(zip(SCORES, _intervals(draw(patients, np.nan_to_num(mine), share=False)), strict=True))
    known = dict(zip(SCORES, ~np.isnan(mine).any(axis=0), strict=True))
    return {
        **{score: value if known[score] else None for score, value in values.items()},
        "of_oracle": {score: float(mine[:, i].mean() / oracle[i]) for i, score in enumerate(SCORES[:2])},
        "less": {
            other: dict(zip(SCORES[:2], _intervals(_difference(patients, mine, scores[other])), strict=True))
            for other in REGRESSIONS
            if other != name
        },
    }


def _patients(seed: int, answers: Answers) -> Any:
    ids = answers.splits["test"].samples["subject_id"].to_numpy()
    return np.array([f"{seed} {subject_id}" for subject_id in ids])


def _difference(patients: Any, mine: Floats, others: Floats) -> Draws:
    return draw(patients, (mine - others)[:, :2], share=False)


def _intervals(draws: Draws) -> list[dict[str, float]]:
    """Return value and 95 % interval of each column."""
    found = draws.intervals()
    columns = zip(found.point, found.lo, found.hi, strict=True)
    return [{"value": float(value), "lo": float(lo), "hi": float(hi)} for value, lo, hi in columns]
