"""What other code scored on the open MIMIC-IV demo, to be printed beside our rows on the same admissions.

Source: `demo_rows.csv`, measured on the MIMIC-IV Clinical Database Demo v2.2 by code that shares nothing with this:
five folds of patients dealt twice, drugs ordered in the stay as MAIN, lists of the training median, the stay's own ICD
codes with age and sex, no history. The regression is L2 with C = 0.1, one per drug, on ICD-10 categories.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import polars as pl

METRICS = ("precision", "recall", "F1", "Jaccard", "PRAUC")
COHORT = {"admissions": 250, "patients": 100, "drugs": 551}
"""Of the demo without `--drop`: no other cohort is compared."""
BAR = "logistic regression"
"""The best of them."""

Mean = tuple[float, float]
"""Mean and standard deviation over folds."""


def applies(samples: pl.DataFrame) -> bool:
    """Tell whether these are the demo's admissions: as many of them, of their patients and of their drugs."""
    patients, drugs = samples["subject_id"].n_unique(), samples["drugs"].explode().n_unique()
    return {"admissions": samples.height, "patients": patients, "drugs": drugs} == COHORT


def read() -> dict[str, tuple[Mean, ...]]:
    """Return mean and deviation of METRICS by row."""
    table = pl.read_csv((files("evaluation") / "demo_rows.csv").read_bytes())
    return {
        row["row"]: tuple((row[metric], row[f"{metric}_sd"]) for metric in METRICS)
        for row in table.iter_rows(named=True)
    }


def verdict(name: str, means: Sequence[float]) -> str:
    """Say where a row stands beside the bar.

    Args:
        name: of the row.
        means: over folds, of METRICS.
    """
    bar = read()[BAR]
    told = [
        f"{metric} {mean:.3f} ({'above' if mean > other else 'not above'} {other:.3f})"
        for metric, mean, (other, _) in zip(METRICS, means, bar, strict=True)
    ]
    return f"Best of ours: {name}, {', '.join(told)}; in brackets the reference's {BAR}, which uses no history."
