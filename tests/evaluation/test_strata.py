"""Groups of visits: every visit has one in each stratum, an unknown stays unknown."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.cohort import read_samples
from evaluation.strata import strata

DIAGNOSES = pl.List(pl.Struct({"icd_code": pl.String, "icd_version": pl.Int32, "title": pl.String}))


def visits(**columns: list[object]) -> pl.DataFrame:
    """Samples with the given columns, the rest plain."""
    n = len(next(iter(columns.values())))
    plain = {
        "sex": ["F"] * n,
        "age": [50] * n,
        "race": ["WHITE"] * n,
        "admission_type": ["URGENT"] * n,
        "diagnoses": [None] * n,
        "drugs": [["a"]] * n,
    }
    return pl.DataFrame({**plain, **columns}, schema_overrides={"diagnoses": DIAGNOSES, "age": pl.Int32})


@pytest.mark.parametrize(
    ("age", "band"),
    [
        *((18, "under 40"), (39, "under 40"), (40, "40 to 64"), (64, "40 to 64"), (65, "65 to 79")),
        *((79, "65 to 79"), (80, "80 and over"), (91, "80 and over"), (None, None)),
    ],
)
def test_a_band_begins_with_its_first_age(age, band):
    assert strata(visits(age=[age]))["age_band"].to_list() == [band]


def test_the_chapter_is_that_of_the_first_ranked_diagnosis_under_its_version():
    def coded(code: str, version: int) -> list[dict[str, object]]:
        other = {"icd_code": "Z9989", "icd_version": 10, "title": None}
        return [{"icd_code": code, "icd_version": version, "title": "x"}, other]

    found = strata(visits(diagnoses=[coded("I509", 10), coded("4280", 9), coded("E8801", 9), coded("E8801", 10)]))
    heart, heart_9, fall, metabolic = found["icd_chapter"]
    assert heart == heart_9 is not None
    assert len({heart, fall, metabolic}) == 3


FREE_TEXT = [{"icd_code": None, "icd_version": None, "title": "heart failure"}]


@pytest.mark.parametrize("missing", [None, [], FREE_TEXT])
def test_a_visit_without_coded_diagnosis_has_no_chapter(missing):
    known = [{"icd_code": "I509", "icd_version": 10, "title": None}]
    assert strata(visits(diagnoses=[missing]))["icd_chapter"].to_list() == [None]
    assert strata(visits(diagnoses=[missing, known]))["icd_chapter"].to_list()[0] is None


def test_what_is_not_known_is_null_and_not_a_group():
    found = strata(visits(sex=[None], race=[None], admission_type=[None]))
    assert found["sex"].to_list() == [None]
    assert found["admission_type"].to_list() == [None]


@given(st.lists(st.integers(0, 30), min_size=4, max_size=40))
def test_longer_lists_never_stand_in_a_lower_quartile(lengths):
    quartiles = strata(visits(drugs=[["x"] * n for n in lengths]))["drugs_quartile"].to_list()
    assert set(quartiles) <= {"1", "2", "3", "4"}
    by_length = sorted(zip(lengths, quartiles, strict=True))
    assert [q for _, q in by_length] == sorted(quartiles)
    assert all(a[1] == b[1] for a in by_length for b in by_length if a[0] == b[0])


def test_eight_different_lengths_fill_four_quartiles_evenly():
    quartiles = strata(visits(drugs=[["x"] * n for n in range(8)]))["drugs_quartile"].to_list()
    assert [quartiles.count(q) for q in "1234"] == [2, 2, 2, 2]


def test_every_visit_of_a_real_split_has_a_row_in_its_order(tiny_cohort):
    samples = read_samples(tiny_cohort, "test")
    found = strata(samples)
    assert found.height == samples.height
    assert found["sex"].to_list() == samples["sex"].to_list()
    unknown = samples["race"].is_in(["UNKNOWN", "UNABLE TO OBTAIN", "PATIENT DECLINED TO ANSWER"])
    assert found["race"].is_null().to_list() == unknown.to_list()
