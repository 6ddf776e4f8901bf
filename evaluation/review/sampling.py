"""Which drafted drugs people look at: a random sample in which every drug's chance of being drawn is known.

A unit is a patient's stay and a drug, whichever rows drafted it, as for the judge. Strata are what the judge said
times one of the unit's rows, picked blindly, so that every row gets its share and no unit stands in two strata.
Within a stratum the draw is systematic along the patients in random order: equal chances, and labels scattered
over as many patients as there are, since ten drugs of one patient tell little more than one.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl

NEGATIVE, POSITIVE, UNJUDGED = "judge_negative", "judge_positive", "unjudged"


def pool(drafts: pl.DataFrame, verdicts: pl.DataFrame | None, rng: np.random.Generator) -> pl.DataFrame:
    """Return every unit that could be drawn, once.

    Args:
        drafts: as `evaluation.judge.items.read_drafts` returns them.
        verdicts: the judge's: hadm_id, drug (the label), verdict; None: nobody was asked.
        rng: picks one of a unit's rows.

    Returns:
        subject_id, hadm_id, label, rows, judged (NEGATIVE, POSITIVE or UNJUDGED) and stratum; a unit that any
        judge objected to, or abstained on, is negative.
    """
    units = (
        drafts.drop_nulls("label")
        .group_by("subject_id", "hadm_id", "label")
        .agg(pl.col("row").unique().sort().alias("rows"))
        .sort("subject_id", "hadm_id", "label")
    )
    units = units.join(_judged(verdicts), on=["hadm_id", "label"], how="left", maintain_order="left")
    pick = pl.Series("pick", (rng.random(units.height) * units["rows"].list.len().to_numpy()).astype(np.int64))
    units = units.with_columns(pl.col("judged").fill_null(UNJUDGED), pick)
    stratum = pl.concat_str("judged", pl.col("rows").list.get("pick"), separator=" × ")
    return units.with_columns(stratum.alias("stratum")).drop("pick")


def _judged(verdicts: pl.DataFrame | None) -> pl.DataFrame:
    if verdicts is None:
        return pl.DataFrame(schema={"hadm_id": pl.Int64, "label": pl.String, "judged": pl.String})
    opinions = verdicts.filter(pl.col("verdict") != "error").group_by("hadm_id", pl.col("drug").alias("label"))
    approved = opinions.agg((pl.col("verdict") == "appropriate").all().alias("approved"))
    return approved.select(
        "hadm_id", "label", pl.when("approved").then(pl.lit(POSITIVE)).otherwise(pl.lit(NEGATIVE)).alias("judged")
    )


def draw(units: pl.DataFrame, n: int, negatives: float, rng: np.random.Generator) -> pl.DataFrame:
    """Draw `n` units, or all where there are fewer, and say how likely each was to be drawn.

    Args:
        units: as `pool` returns them.
        n: how many.
        negatives: the share to be drawn from those the judge did not approve; what one group lacks, the others give.
        rng: orders the patients, and sets the start of each stratum's draw.

    Returns:
        The drawn units with inclusion_probability, in (0, 1].
    """
    sizes = {str(stratum): size for stratum, size in units["stratum"].value_counts().sort("stratum").iter_rows()}
    patients = np.unique(units["subject_id"].to_numpy())
    place = dict(zip(patients.tolist(), rng.permutation(len(patients)).tolist(), strict=True))
    along = units.with_columns(pl.col("subject_id").replace_strict(place, return_dtype=pl.Int64).alias("place"))
    drawn = []
    for stratum, size in allocate(sizes, n, negatives).items():
        if size:
            members = along.filter(stratum=stratum).sort("place", "hadm_id", "label")
            chosen = members[systematic(members.height, size, rng)]
            drawn.append(chosen.with_columns(pl.lit(size / members.height).alias("inclusion_probability")))
    return pl.concat(drawn).drop("place") if drawn else along.clear().drop("place")


def systematic(size: int, n: int, rng: np.random.Generator) -> list[int]:
    """Return `n` of `size` places, evenly spaced from a random start; each has the chance n / size."""
    start = rng.random()
    return [min(size - 1, math.floor((start + i) * size / n)) for i in range(n)]


def allocate(sizes: dict[str, int], n: int, negatives: float) -> dict[str, int]:
    """Share `n` draws among strata: the judge's negatives first, then rows as evenly as their sizes allow.

    Args:
        sizes: units by stratum, which is named "JUDGED × ROW".
        n: draws in all; all units are drawn where there are fewer.
        negatives: share of the draws that go to negatives.
    """
    negative = {stratum: size for stratum, size in sizes.items() if stratum.startswith(NEGATIVE)}
    others = {stratum: size for stratum, size in sizes.items() if stratum not in negative}
    wanted = min(round(n * negatives), sum(negative.values()))
    wanted = max(wanted, min(sum(negative.values()), n - sum(others.values())))
    return level(negative, wanted) | level(others, n - wanted)


def level(sizes: dict[str, int], n: int) -> dict[str, int]:
    """Share `n` among holders as evenly as their sizes allow; earlier names get what does not divide.

    >>> level({"a": 1, "b": 9, "c": 9}, 8)
    {'a': 1, 'b': 4, 'c': 3}
    """
    given = dict.fromkeys(sizes, 0)
    left = min(n, sum(sizes.values()))
    while left:
        open_ = [name for name, size in sizes.items() if given[name] < size]
        for name in open_[:left]:  # all of them, until less than one for each is left
            given[name] += min(max(1, left // len(open_)), sizes[name] - given[name])
        left = min(n, sum(sizes.values())) - sum(given.values())
    return given
