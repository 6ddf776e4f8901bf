"""Evidence: the counts are right, and what is shown tells of nobody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.icd import category
from etl.warehouse import read_models

QUERIES = {model.table: model.query for model in read_models()}
CODES = ["I5020", "I5021", "42822", "E1165", "J189"]  # the first three are of one category
FEWEST = 3

Stay = tuple[int, str, list[str]]
stays = st.lists(
    st.tuples(st.integers(0, 15), st.sampled_from(CODES), st.lists(st.sampled_from("abcd"), min_size=1, unique=True)),
    max_size=60,
)


def version(code: str) -> int:
    return 9 if code.isdigit() else 10


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as con:
        con.create_function("icd_category", category, ["VARCHAR", "INTEGER"], "VARCHAR")
        con.execute("CREATE TABLE icd_codes (icd_code VARCHAR, icd_version INTEGER, code VARCHAR)").fetchall()
        for code in CODES:
            con.execute("INSERT INTO icd_codes VALUES ($1, $2, $1)", [code, version(code)]).fetchall()
        yield con


def counted(
    con: duckdb.DuckDBPyConnection, stays: list[Stay], fewest: int, split: str = "train"
) -> dict[tuple[str, str], tuple[int | None, int]]:
    """Run the shipped SQL over stays: patient, principal code, drugs."""
    con.execute("CREATE OR REPLACE TABLE settings AS SELECT ?::INTEGER AS fewest_patients", [fewest]).fetchall()
    con.execute(
        "CREATE OR REPLACE TABLE samples AS SELECT unnest($1::INTEGER[]) AS subject_id, $4 AS split, "
        "unnest($2::VARCHAR[][]) AS drugs, "
        "unnest($3::STRUCT(icd_code VARCHAR, icd_version INTEGER)[][]) AS diagnoses",
        [
            [patient for patient, _, _ in stays],
            [drugs for _, _, drugs in stays],
            [[{"icd_code": c, "icd_version": version(c)} for c in (code, "J189")] for _, code, _ in stays],
            split,
        ],
    ).fetchall()
    for table in ("evidence_counts", "evidence"):
        con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {QUERIES[table]}").fetchall()
    rows = con.execute("SELECT category, drug, ordered, admissions FROM evidence").fetchall()
    return {(name, drug): (ordered, admissions) for name, drug, ordered, admissions in rows}


def by_hand(stays: list[Stay]) -> dict[tuple[str, str], tuple[int, int]]:
    admissions: dict[str, int] = defaultdict(int)
    ordered: dict[tuple[str, str], int] = defaultdict(int)
    for _, code, drugs in stays:
        name = category(code, version(code))
        admissions[name] += 1
        for drug in drugs:
            ordered[name, drug] += 1
    return {key: (count, admissions[key[0]]) for key, count in ordered.items()}


def patients(stays: list[Stay], name: str | None, drug: str | None = None, had: bool = True) -> set[int]:
    """Who has an admission of the category with the drug, or without it."""
    return {
        patient
        for patient, code, drugs in stays
        if name in (None, category(code, version(code))) and (drug is None or (drug in drugs) == had)
    }


@settings(max_examples=50)
@given(stays)
def test_of_open_data_every_count_is_shown_and_right(con: Any, stays: list[Stay]):
    assert counted(con, stays, 1) == by_hand(stays)


@settings(max_examples=50)
@given(stays)
def test_what_is_shown_is_right_and_tells_of_no_few_patients(con: Any, stays: list[Stay]):
    truth = by_hand(stays)
    for (name, drug), (ordered, admissions) in counted(con, stays, FEWEST).items():
        assert admissions == truth[name, drug][1]
        assert len(patients(stays, name)) >= FEWEST
        if ordered is not None:
            assert ordered == truth[name, drug][0]
            assert len(patients(stays, name, drug)) >= FEWEST
            assert len(patients(stays, name, drug, had=False)) not in range(1, FEWEST)


@settings(max_examples=50)
@given(stays)
def test_subtracting_all_that_is_shown_from_a_total_tells_of_no_few_patients(con: Any, stays: list[Stay]):
    shown = counted(con, stays, FEWEST)
    left = [stay for stay in stays if category(stay[1], version(stay[1])) not in {name for name, _ in shown}]
    assert not shown or not left or len(patients(left, None)) >= FEWEST
    for drug in "abcd":
        told = {name for (name, one), (ordered, _) in shown.items() if one == drug and ordered is not None}
        rest = [s for s in stays if drug in s[2] and category(s[1], version(s[1])) not in told]
        assert not told or not rest or len(patients(rest, None)) >= FEWEST


def test_a_drugs_smallest_shown_count_is_hidden_with_the_few(con: Any):
    had = {"I5020": range(4), "E1165": range(10, 15), "J189": range(20, 22)}
    stays = [(patient, code, ["a", "b"]) for code, some in had.items() for patient in some]
    stays += [(patient + 30, code, ["b"]) for code in had for patient in range(3)]
    shown = counted(con, stays, FEWEST)
    of = {drug: {name: shown[name, drug][0] for name in ("E11", "I50", "J18")} for drug in "ab"}
    assert of["a"] == {"E11": 5, "I50": None, "J18": None}  # 2 of J18, so I50's 4 as well
    assert of["b"] == {"E11": 8, "I50": 7, "J18": 5}


def test_only_training_admissions_are_counted(con: Any):
    assert counted(con, [(1, "I5020", ["a"])], 1)
    assert counted(con, [(1, "I5020", ["a"])], 1, split="test") == {}
    assert counted(con, [(1, "I5020", ["a"])], 1, split="validation") == {}


def test_the_cohorts_evidence_is_what_its_samples_say(tiny_hospital: Any, tmp_path: Any):
    from etl.build import build_cohort
    from etl.cohort import read_samples
    from etl.settings import CohortSettings

    build_cohort(tiny_hospital, tmp_path / "run", CohortSettings(open_data=True))
    training = read_samples(tmp_path / "run", "train")
    rows = zip(training["subject_id"], training["diagnoses"].list.first(), training["drugs"], strict=True)
    truth: dict[tuple[str, str], int] = defaultdict(int)
    for _, first, drugs in rows:
        for drug in drugs:
            truth[category(first["icd_code"], first["icd_version"]), drug] += 1
    evidence = pl.read_parquet(tmp_path / "run" / "evidence.parquet")
    assert {(c, d): n for c, d, n in evidence.select("category", "drug", "ordered").iter_rows()} == truth
    assert evidence.equals(evidence.sort("category", "drug"))


def test_a_cohort_that_is_not_open_shows_no_category_of_few_patients(tiny_cohort: Any):
    from etl.cohort import read_samples

    training = read_samples(tiny_cohort, "train")
    seen: dict[str, set[int]] = defaultdict(set)
    for patient, first in zip(training["subject_id"], training["diagnoses"].list.first(), strict=True):
        seen[category(first["icd_code"], first["icd_version"])].add(patient)
    shown = set(pl.read_parquet(tiny_cohort / "evidence.parquet")["category"])
    assert all(len(seen[name]) >= 11 for name in shown)
    assert any(len(patients) < 11 for patients in seen.values())
