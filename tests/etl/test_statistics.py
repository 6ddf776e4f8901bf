"""The tables that describe a cohort, recounted by hand."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.statistics import TOP, Statistics

SPLITS = ("train", "validation", "test")
Rows = list[dict[str, Any]]

samples = st.lists(
    st.fixed_dictionaries(
        {
            "subject_id": st.integers(1, 30),
            "age": st.none() | st.integers(18, 91),
            "sex": st.sampled_from([None, "F", "M"]),
            "race": st.sampled_from([None, "WHITE", "WHITE - RUSSIAN", "BLACK/AFRICAN", "UNABLE TO OBTAIN", "OTHER"]),
            "drugs": st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=True),
            "codes": st.lists(st.tuples(st.sampled_from("XYZ"), st.sampled_from([9, 10])), max_size=4, unique=True),
            "previous_drugs": st.none() | st.just(["a"]),
        }
    ),
    min_size=1,
    max_size=60,
)


few = settings(max_examples=25)  # each builds a database


def split_of(row: dict[str, Any]) -> str:
    return SPLITS[row["subject_id"] % 3]


def warehouse(rows: Rows) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute(
        """
        CREATE TABLE samples (
            subject_id BIGINT, hadm_id BIGINT, split VARCHAR, age INTEGER, sex VARCHAR, race VARCHAR,
            diagnoses STRUCT(icd_code VARCHAR, icd_version INTEGER, title VARCHAR)[], drugs VARCHAR[],
            previous_drugs VARCHAR[]
        )
        """
    ).fetchall()
    columns = [
        [row["subject_id"] for row in rows],
        list(range(len(rows))),
        [row.get("split", split_of(row)) for row in rows],
        *([row.get(name) for row in rows] for name in ("age", "sex", "race")),
        [[{"icd_code": c, "icd_version": v, "title": None} for c, v in row.get("codes", [])] for row in rows],
        [row.get("drugs", ["a"]) for row in rows],
        [row.get("previous_drugs") for row in rows],
    ]
    types = [row[1] for row in con.execute("DESCRIBE samples").fetchall()]
    values = ", ".join(f"unnest(CAST(? AS {kind}[]))" for kind in types)
    con.execute(f"INSERT INTO samples SELECT {values}", columns).fetchall()
    return con


def sections(rows: Rows) -> dict[str, Any]:
    return Statistics(warehouse(rows)).sections()


def table(rows: Rows, section: str, fact: str) -> dict[str, Any]:
    return next(table for table in sections(rows)[section] if table["fact"] == fact)


@few
@given(samples)
def test_every_column_that_sums_adds_up_to_the_admissions_of_its_split(rows: Rows):
    admissions = {split: sum(split_of(row) == split for row in rows) for split in SPLITS}
    for tables in sections(rows).values():
        for found in tables:
            for split, cells in found["columns"].items():
                if found["sums"]:
                    assert sum(cell["admissions"] for cell in cells) == admissions[split], found["fact"]


@few
@given(samples)
def test_levels_count_admissions_and_distinct_patients_as_a_reader_would(rows: Rows):
    found = table(rows, "table_one", "Sex")
    for split, cells in found["columns"].items():
        for level, cell in zip(found["levels"], cells, strict=True):
            held = [row for row in rows if split_of(row) == split and (row["sex"] or "unknown") == level]
            assert cell["admissions"] == len(held)
            assert cell["patients"] == len({row["subject_id"] for row in held})


@few
@given(samples)
def test_top_counts_each_patient_once_however_many_stays(rows: Rows):
    drugs, diagnoses = sections(rows)["top"]
    for drug, cell in zip(drugs["levels"], drugs["columns"]["all"], strict=True):
        held = [row for row in rows if drug in row["drugs"]]
        assert (cell["admissions"], cell["patients"]) == (len(held), len({row["subject_id"] for row in held}))
    for label, cell in zip(diagnoses["levels"], diagnoses["columns"]["all"], strict=True):
        held = [row for row in rows for code, version in row["codes"] if f"(ICD-{version} {code})" in label]
        assert (cell["admissions"], cell["patients"]) == (len(held), len({row["subject_id"] for row in held}))


@few
@given(samples, st.randoms())
def test_the_order_of_rows_decides_nothing(rows: Rows, random: Any):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert sections(shuffled) == sections(rows)


def test_no_more_than_the_top_is_listed_most_frequent_first():
    rows = [{"subject_id": i, "drugs": [f"drug {j}" for j in range(i)]} for i in range(1, TOP + 10)]
    drugs = sections(rows)["top"][0]
    assert drugs["levels"] == sorted((f"drug {j}" for j in range(TOP)), key=lambda name: int(name[5:]))
    assert [cell["patients"] for cell in drugs["columns"]["all"]] == list(range(TOP + 9, 9, -1))


def test_labels_of_race_fall_into_groups_and_a_refusal_is_unknown():
    labels = ["WHITE - RUSSIAN", "BLACK/CAPE VERDEAN", "HISPANIC OR LATINO", "PORTUGUESE", "PATIENT DECLINED TO ANSWER"]
    found = table([{"subject_id": 3, "race": label} for label in labels], "table_one", "Race")
    assert found["levels"] == ["Black", "Hispanic or Latino", "White", "other", "unknown"]


def test_unknown_is_counted_and_no_mean_is_made_of_it():
    rows = [{"subject_id": 3, "age": 60}, {"subject_id": 3, "age": 70}, {"subject_id": 6, "age": None}]
    [cell] = table(rows, "table_one", "Age, years")["columns"]["train"]
    assert (cell["mean"], cell["median"], cell["patients"]) == (65, 65, 1)
    known, unknown = table(rows, "missing", "Age, years")["columns"]["train"]
    assert (known["admissions"], unknown["admissions"], unknown["patients"]) == (2, 1, 1)


def test_histograms_hold_empty_bins_and_name_their_ends():
    rows = [{"subject_id": 3, "drugs": [str(j) for j in range(n)]} for n in (1, 5, 11, 15)]
    found = table(rows, "histograms", "Drugs per admission")
    assert found["levels"] == ["1–5", "6–10", "11–15"]
    assert [cell["admissions"] for cell in found["columns"]["train"]] == [2, 0, 2]


def test_admissions_without_any_list_are_a_bin_of_their_own():
    con = warehouse([{"subject_id": 3, "codes": [("X", 9)]}, {"subject_id": 6}])
    con.execute("UPDATE samples SET diagnoses = NULL WHERE subject_id = 6").fetchall()
    found = Statistics(con).sections()["histograms"][1]
    assert found["levels"] == ["1–2", "unknown"]
    assert [cell["admissions"] for cell in found["columns"]["train"]] == [1, 1]


def test_what_was_not_asked_for_is_not_told_as_missing():
    con = warehouse([{"subject_id": 3}])
    con.execute("UPDATE samples SET diagnoses = NULL").fetchall()
    assert not any("iagnoses" in table["fact"] for tables in Statistics(con).sections().values() for table in tables)


def test_a_column_that_samples_lacks_is_left_out_and_one_it_gains_is_told():
    con = warehouse([{"subject_id": 3}])
    assert "eGFR, mL/min/1.73 m²" not in {table["fact"] for table in Statistics(con).sections()["table_one"]}
    con.execute("ALTER TABLE samples ADD COLUMN egfr DOUBLE DEFAULT 60").fetchall()
    con.execute("ALTER TABLE samples ADD COLUMN bmi_age_days INTEGER DEFAULT 12").fetchall()
    found = Statistics(con).sections()
    assert "eGFR, mL/min/1.73 m²" in {table["fact"] for table in found["table_one"]}
    assert found["measurement_ages"][0]["columns"]["train"][0]["mean"] == 12


# --- standardised differences --------------------------------------------------------------------------


def test_two_levels_differ_by_the_textbook_formula():
    rows = [{"subject_id": i, "split": "train", "sex": "F" if i < 3 else "M"} for i in range(10)]
    rows += [{"subject_id": 10 + i, "split": "test", "sex": "F" if i < 6 else "M"} for i in range(10)]
    wanted = 0.3 / ((0.3 * 0.7 + 0.6 * 0.4) / 2) ** 0.5
    assert table(rows, "table_one", "Sex")["smd"] == {"test": pytest.approx(wanted, abs=5e-4)}


def test_numbers_differ_by_the_textbook_formula():
    rows = [{"subject_id": i, "split": "train", "age": 50 + 10 * (i % 2)} for i in range(4)]
    rows += [{"subject_id": 9 + i, "split": "test", "age": 60 + 20 * (i % 2)} for i in range(4)]
    wanted = 15 / ((100 / 3 + 400 / 3) / 2) ** 0.5
    assert table(rows, "table_one", "Age, years")["smd"] == {"test": pytest.approx(wanted, abs=5e-4)}


def test_like_splits_do_not_differ_and_unlike_ones_have_no_number():
    like = [{"subject_id": i, "split": split, "sex": sex} for i, sex in enumerate("FMFM") for split in SPLITS]
    assert table(like, "table_one", "Sex")["smd"] == {"test": 0, "validation": 0}
    unlike = [{"subject_id": 1, "split": "train", "sex": "F"}, {"subject_id": 2, "split": "test", "sex": "M"}]
    assert table(unlike, "table_one", "Sex")["smd"] == {"test": None}


@pytest.mark.demo_data
def test_the_demo_is_described_in_full(mimic_demo, tmp_path):
    from etl.build import build_cohort

    build_cohort(mimic_demo, tmp_path / "run")
    con = duckdb.connect()
    con.execute("CREATE TABLE samples AS FROM read_parquet(?)", [str(tmp_path / "run/samples.parquet")]).fetchall()
    found = Statistics(con).sections()
    total = found["table_one"][0]["columns"]
    assert (
        sum(column[0]["patients"] for column in total.values())
        == con.execute("SELECT count(DISTINCT subject_id) FROM samples").fetchall()[0][0]
    )
    assert {len(table["levels"]) for table in found["top"]} == {TOP}
