"""ICD codes of either version have one currency."""

from __future__ import annotations

import polars as pl
import pytest

from etl.icd import category, chapter


@pytest.mark.parametrize(
    ("code", "version", "expected"),
    [
        *(("I5020", 10, "I50"), ("42822", 9, "I50"), ("25000", 9, "E11"), ("25001", 9, "E10"), ("V5861", 9, "Z79")),
        *(("4019", 9, "I10"), ("E8801", 9, "W10"), ("E8801", 10, "E88"), ("E9358", 9, "ICD-9 E935")),
    ],
)
def test_a_code_of_either_version_has_its_icd_10_category(code, version, expected):
    assert category(code, version) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("A00", "I"), ("B99", "I"), ("C7A", "II"), ("D49", "II"), ("D50", "III"), ("H59", "VII"), ("H60", "VIII")),
        *(("O9A", "XV"), ("T88", "XIX"), ("U07", "XXII"), ("V00", "XX"), ("Z99", "XXI"), ("ICD-9 E935", None)),
    ],
)
def test_a_category_has_its_chapter(name, expected):
    assert chapter(name) == expected


@pytest.mark.demo_data
def test_nearly_every_code_of_the_demo_has_a_chapter(mimic_demo):
    codes = pl.read_csv(mimic_demo / "hosp" / "diagnoses_icd.csv.gz", infer_schema_length=0)
    found = [chapter(category(c, int(v))) for c, v in codes.select("icd_code", "icd_version").iter_rows()]
    assert found.count(None) / len(found) < 0.01
