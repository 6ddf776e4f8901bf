"""The draw: every unit's chance is what the key says, and labels are scattered over patients."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.review.sampling import allocate, draw, level, pool, systematic


def units(patients: int = 50, drugs: int = 12) -> pl.DataFrame:
    rows = [(p, 1000 + p, f"drug {d}") for p in range(patients) for d in range(drugs)]
    drafts = pl.DataFrame(rows, schema=["subject_id", "hadm_id", "label"], orient="row")
    both = drafts.filter(pl.col("label") != "drug 0").with_columns(pl.lit("b").alias("row"))
    drafts = pl.concat([drafts.with_columns(pl.lit("a").alias("row")), both])
    objected = pl.col("label").is_in(["drug 3", "drug 4"])
    verdict = pl.when(objected).then(pl.lit("inappropriate")).otherwise(pl.lit("appropriate"))
    verdicts = drafts.select("hadm_id", pl.col("label").alias("drug"), verdict.alias("verdict"))
    return pool(drafts, verdicts, np.random.default_rng(0))


def test_a_unit_that_two_rows_drafted_stands_once():
    found = units()
    assert found.height == 600 == found.select("hadm_id", "label").n_unique()
    assert found.filter(label="drug 1")["rows"].to_list() == [["a", "b"]] * 50


def test_a_quarter_are_judge_negatives_and_rows_share_evenly():
    drawn = draw(units(), 100, 0.25, np.random.default_rng(1))
    counts = dict(drawn["stratum"].value_counts().iter_rows())
    assert counts["judge_negative × a"] + counts["judge_negative × b"] == 25
    assert abs(counts["judge_negative × a"] - counts["judge_negative × b"]) <= 1
    assert abs(counts["judge_positive × a"] - counts["judge_positive × b"]) <= 1


def test_inclusion_probabilities_are_frequencies_of_many_draws():
    pool_, times = units(20, 8), {}
    said = {}
    for seed in range(600):
        for row in draw(pool_, 40, 0.25, np.random.default_rng(seed)).iter_rows(named=True):
            unit = row["hadm_id"], row["label"]
            times[unit] = times.get(unit, 0) + 1
            said[unit] = row["inclusion_probability"]
    off = [(times[unit] / 600 - p) / np.sqrt(p * (1 - p) / 600) for unit, p in said.items()]
    assert len(said) == pool_.height
    assert max(map(abs, off)) < 4.5  # 160 units, normal
    assert np.std(off) == pytest.approx(1, abs=0.2)


def test_weighted_draws_recover_the_share_that_unweighted_ones_miss():
    pool_ = units()
    true = (pool_["judged"] == "judge_negative").mean()
    drawn = [draw(pool_, 80, 0.5, np.random.default_rng(seed)) for seed in range(30)]
    weighted = [((d["judged"] == "judge_negative") / d["inclusion_probability"]).sum() / pool_.height for d in drawn]
    assert np.mean(weighted) == pytest.approx(true)
    assert np.mean([(d["judged"] == "judge_negative").mean() for d in drawn]) == pytest.approx(0.5)


def test_labels_are_scattered_over_patients():
    drawn = draw(units(50, 12), 40, 0.0, np.random.default_rng(2))
    assert drawn["subject_id"].value_counts()["count"].max() <= 2


def test_any_judge_who_objects_makes_a_unit_negative_and_an_error_no_opinion():
    drafts = pl.DataFrame({"row": ["a"] * 3, "subject_id": [1] * 3, "hadm_id": [1] * 3, "label": ["x", "y", "z"]})
    verdicts = pl.DataFrame(
        {
            "hadm_id": [1] * 5,
            "drug": ["x", "x", "y", "y", "z"],
            "verdict": ["appropriate", "insufficient_information", "appropriate", "error", "error"],
        }
    )
    found = pool(drafts, verdicts, np.random.default_rng(0))
    assert found["judged"].to_list() == ["judge_negative", "judge_positive", "unjudged"]


@given(st.integers(1, 500), st.integers(0, 500), st.integers(0, 99))
def test_a_systematic_draw_takes_that_many_distinct_places(size, n, seed):
    n = min(n, size)
    places = systematic(size, n, np.random.default_rng(seed))
    assert len(set(places)) == n
    assert all(0 <= place < size for place in places)


sizes = st.dictionaries(
    st.sampled_from([f"{judged} × {row}" for judged in ("judge_negative", "judge_positive") for row in "abc"]),
    st.integers(1, 60),
    min_size=1,
)


@given(sizes, st.integers(0, 200), st.floats(0, 1))
def test_all_draws_are_given_out_while_there_are_units(sizes, n, negatives):
    given_ = allocate(sizes, n, negatives)
    assert sum(given_.values()) == min(n, sum(sizes.values()))
    assert all(0 <= given_[name] <= size for name, size in sizes.items())


@given(sizes, st.integers(0, 200))
def test_no_holder_gets_two_more_than_one_that_had_room(sizes, n):
    shares = level(sizes, n)
    roomy = [share for name, share in shares.items() if share < sizes[name]]
    assert max(shares.values()) - min(roomy, default=max(shares.values())) <= 1
