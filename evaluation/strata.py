"""The groups that a visit belongs to, for scores by group."""

from __future__ import annotations

from bisect import bisect
from itertools import pairwise
from typing import Any

import polars as pl

from etl.domain import race_group
from etl.icd import category, chapter

AGES = (40, 65, 80)
"""Ages at which a new band begins."""


def strata(samples: pl.DataFrame) -> pl.DataFrame:
    """Return sex, age_band, race, admission_type, icd_chapter (of the first-ranked diagnosis) and drugs_quartile.

    Args:
        samples: rows of samples.parquet; a quartile is one of these samples.
    """
    bands = [
        f"under {AGES[0]}",
        *(f"{a} to {b - 1}" for a, b in pairwise(AGES)),
        f"{AGES[-1]} and over",
    ]
    ranked = samples["drugs"].list.len()
    quarters = [ranked.quantile(share, "lower") for share in (0.25, 0.5, 0.75)]
    codes = samples["diagnoses"].list.first() if samples["diagnoses"].count() else None
    return samples.select(
        "sex",
        pl.Series("age_band", [None if age is None else bands[bisect(AGES, age)] for age in samples["age"]], pl.String),
        pl.Series("race", [race_group(race) for race in samples["race"]], pl.String),
        "admission_type",
        pl.Series(
            "icd_chapter",
            [_chapter(code) for code in codes] if codes is not None else [None] * samples.height,
            pl.String,
        ),
        pl.Series("drugs_quartile", [str(1 + sum(n > q for q in quarters)) for n in ranked], pl.String),
    )


def _chapter(diagnosis: dict[str, Any] | None) -> str | None:
    if diagnosis is None or diagnosis["icd_code"] is None:  # free text
        return None
    return chapter(category(diagnosis["icd_code"], diagnosis["icd_version"]))
