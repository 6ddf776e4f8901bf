"""Five ways in which the field averages the same per-visit counts; no two papers measure the same thing.

Every convention is a function of the per-visit table, for one row of it. Several samples of a visit stand as
several visits. The keys they share mean the same measure under another rule, so that they can stand side by side:

| convention | mean over              | nothing drafted | both empty | no list at all | DDI rate             |
|------------|------------------------|-----------------|------------|----------------|----------------------|
| `paper`    | visits with a list     | dropped*        | dropped    | dropped        | -                    |
| `safedrug` | patients, their visits | 0               | 0          | an empty list  | pooled pairs         |
| `pyhealth` | visits                 | zero_division*  | the same   | an empty list  | pooled pairs         |
| `lamo`     | visits                 | 0               | 0          | an empty list  | per visit, known pairs |
| `strict`   | visits, and patients   | 0               | 1          | 0              | pooled, and coverage |

* of precision only; recall, F1 and Jaccard of an empty draft are 0.

Literature numbers stand on ATC-3 labels (`rung="atc3"`), ours on drug names unless another rung is named. "± std"
there is the spread of redrawn test sets, no confidence interval.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from evaluation.statistics.ratios import Floats, Ratio, divide, mean, patient_mean, ratio

Scores = dict[str, Ratio]


def paper(visits: pl.DataFrame, rung: str = "drug") -> Scores:
    """Score as the reference's table: over well-formed answers only, undefined scores left out.

    A selected mean: rows with other output rates are averaged over other patients. `precision` is its "accuracy".
    """
    formed = visits["well_formed"].to_numpy()
    scores = {name: mean(np.where(formed, score, np.nan)) for name, score in _set_scores(visits, rung).items()}
    drugs = np.where(formed, visits[f"p_{rung}"].to_numpy(), np.nan)
    return {"output_rate": mean(formed), **scores, "drugs": mean(drugs)}


def safedrug(visits: pl.DataFrame, rung: str = "drug") -> Scores:
    """Score as SafeDrug's `multi_label_metric`, run once per patient and averaged, and its `ddi_rate_score`.

    Its guard against two empty lists compares a set with 0 and raises ZeroDivisionError; here such a visit counts
    the 0 it meant. `drugs` and `ddi_rate` are over visits there too. It cuts scores at 0.5; our lists come cut.

    Source: github.com/ycq091044/SafeDrug, src/util.py and SafeDrug.py.
    """
    patients = visits["subject_id"].to_numpy()
    by_visit = _set_scores(visits, rung) | _ranking(visits)
    scores = {name: patient_mean(np.nan_to_num(score), patients) for name, score in by_visit.items()}
    return {**scores, "ddi_rate": _pooled_ddi(visits), "drugs": mean(visits[f"p_{rung}"])}


def pyhealth(visits: pl.DataFrame, rung: str = "drug", labels: int | None = None, zero_division: float = 0.0) -> Scores:
    """Score as PyHealth's `multilabel_metrics_fn`: `precision` is its `precision_samples`, and so on.

    Traps of the original: its threshold is 0.3 where its docstring says 0.5; its DDI matrix comes from a global
    cache file, and asking for `ddi` before another metric overwrites the predictions of that one.

    Args:
        labels: size of the label space. Given, `accuracy` and `hamming_loss` are there as well; both are element by
            element and near their best whatever the list, since most drugs are rightly absent.
        zero_division: what 0/0 counts, as scikit-learn's argument; PyHealth leaves it at 0.

    Source: github.com/sunlabuiuc/PyHealth, pyhealth/metrics/multilabel.py; scikit-learn's averages.
    """
    p, t, tp = _counts(visits, rung)
    by_visit = {name: np.nan_to_num(score, nan=zero_division) for name, score in _scores(p, t, tp).items()}
    samples = {name: mean(score) for name, score in (by_visit | _ranking(visits)).items()}
    pooled = {
        "precision_micro": ratio(tp, p, zero_division),
        "recall_micro": ratio(tp, t, zero_division),
        "f1_micro": ratio(2 * tp, p + t, zero_division),
        "jaccard_micro": ratio(tp, p + t - tp, zero_division),
    }
    scores = {**samples, **pooled, "ddi_rate": _pooled_ddi(visits), "drugs": mean(p)}
    if labels:
        wrong = p + t - 2 * tp
        scores |= {"accuracy": mean(1 - wrong / labels), "hamming_loss": mean(wrong / labels)}
    return scores


def pyhealth_by_label(p: Floats, t: Floats, tp: Floats, zero_division: float = 0.0) -> dict[str, float]:
    """Return PyHealth's macro and weighted averages, which no per-visit count can tell.

    Args:
        p, t, tp: (labels,), in how many visits each drug was drafted, ordered, and both; at least one label.
    """
    scores = {name: np.nan_to_num(score, nan=zero_division) for name, score in _scores(p, t, tp).items()}
    macro = {f"{name}_macro": float(score.mean()) for name, score in scores.items()}
    weighted = {
        f"{name}_weighted": float(np.average(score, weights=t)) if t.any() else zero_division
        for name, score in scores.items()
    }
    return macro | weighted


def lamo(visits: pl.DataFrame, rung: str = "drug") -> Scores:
    """Score as LAMO: per visit, undefined scores 0, and a DDI rate per visit, 0 with fewer than two drugs.

    A drug that its name map lacks vanishes from the pairs, so a list of unknown drugs is a safe one. That undefined
    scores are 0 is inferred from its notebooks.
    """
    scores = {name: mean(np.nan_to_num(score)) for name, score in _set_scores(visits, rung).items()}
    ddi = divide(visits["ddi_pairs"], visits["mapped_pairs"], undefined=0.0)
    return {**scores, "ddi_rate": mean(ddi), "drugs": mean(visits[f"p_{rung}"])}


def strict(visits: pl.DataFrame, rung: str = "drug") -> Scores:
    """Score lists as they were written, by visit and by patient (`..._by_patient`).

    Every item counts: repeats and names of no known drug are false positives. An answer that is no list counts 0;
    nothing rightly drafted counts 1. Above the drug rung a drafted drug pairs with one ordered drug of its class.
    """
    formed = visits["well_formed"].to_numpy()
    items = visits["items"].to_numpy() * formed
    t = visits["t_drug"].to_numpy()
    tp = visits[f"one_{rung}"].to_numpy() * formed
    rightly_none = formed & (items == 0) & (t == 0)
    scores = {name: np.where(rightly_none, 1.0, np.nan_to_num(score)) for name, score in _scores(items, t, tp).items()}
    patients = visits["subject_id"].to_numpy()
    return {
        **{name: mean(score) for name, score in scores.items()},
        **{f"{name}_by_patient": patient_mean(score, patients) for name, score in scores.items()},
        "ddi_rate": _pooled_ddi(visits),
        "ddi_coverage": ratio(visits["mapped_pairs"], visits["pairs"]),
        "drugs": mean(items),
    }


CONVENTIONS: dict[str, Callable[[pl.DataFrame, str], Scores]] = {
    "paper": paper,
    "safedrug": safedrug,
    "pyhealth": pyhealth,
    "lamo": lamo,
    "strict": strict,
}


def average_precision(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    """Return Σ (Rₙ - Rₙ₋₁) Pₙ over each visit's thresholds, drugs of equal score together; 0 where nothing is true.

    Args:
        truth: (visits, labels).
        scores: (visits, labels), higher is likelier; a bare 0/1 list has one threshold and compares with nothing.

    Returns:
        (visits,).

    Source: scikit-learn's `average_precision_score`, which the field calls PRAUC.
    """
    return np.array([_average_precision(row[true], row) for true, row in zip(truth, scores, strict=True)])


def _average_precision(of_true: Floats, of_all: Floats) -> float:
    """Return the mean precision at the score of each true drug."""
    true, ranked = np.sort(of_true), np.sort(of_all)
    hits = len(true) - np.searchsorted(true, true)
    listed = len(ranked) - np.searchsorted(ranked, true)
    return float((hits / listed).mean()) if len(true) else 0.0


def _counts(visits: pl.DataFrame, rung: str) -> tuple[Floats, Floats, Floats]:
    p, t, tp = (visits[f"{name}_{rung}"].to_numpy().astype(float) for name in ("p", "t", "tp"))
    return p, t, tp


def _scores(p: Floats, t: Floats, tp: Floats) -> dict[str, Floats]:
    """Return the scores of counts; NaN where one is undefined."""
    return {
        "precision": divide(tp, p),
        "recall": divide(tp, t),
        "f1": divide(2 * tp, p + t),
        "jaccard": divide(tp, p + t - tp),
    }


def _set_scores(visits: pl.DataFrame, rung: str) -> dict[str, Floats]:
    return _scores(*_counts(visits, rung))


def _ranking(visits: pl.DataFrame) -> dict[str, Floats]:
    """Return the score of the ranking; nothing where the row has lists only."""
    ap = visits["average_precision"]
    return {"prauc": ap.fill_null(0.0).to_numpy()} if ap.count() else {}


def _pooled_ddi(visits: pl.DataFrame) -> Ratio:
    return ratio(visits["ddi_pairs"], visits["pairs"], 0.0)
