"""Every check of the audit passes on a sound cohort and fails on the one mistake it is for."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from etl.audit import audit


@pytest.fixture
def con(tiny_cohort: Path) -> duckdb.DuckDBPyConnection:
    """Tables that agree with the tiny cohort's samples because they are made from them."""
    con = duckdb.connect()
    con.execute("CREATE TABLE samples AS FROM read_parquet(?)", [str(tiny_cohort / "samples.parquet")]).fetchall()
    for statement in (
        "CREATE SCHEMA raw",
        "CREATE TABLE admissions AS SELECT subject_id, hadm_id, TIMESTAMP '2150-01-01' AS admittime FROM samples",
        """CREATE TABLE raw.prescriptions AS
        SELECT hadm_id, NULL::TIMESTAMP AS starttime, 'MAIN' AS drug_type, upper(unnest(drugs)) AS drug FROM samples
        UNION ALL SELECT hadm_id, NULL, 'BASE', 'Sterile water' FROM samples""",
        """CREATE TABLE prediction_times AS
        SELECT hadm_id, admittime, '-infinity'::TIMESTAMP AS truth_from, 'infinity'::TIMESTAMP AS truth_until
        FROM admissions""",
        "CREATE TABLE drug_names AS SELECT DISTINCT drug AS spelling, lower(drug) AS drug FROM raw.prescriptions",
        "CREATE TABLE raw.diagnoses_icd AS SELECT hadm_id, unnest(diagnoses, recursive := true) FROM samples",
        """CREATE TABLE raw.d_icd_diagnoses AS
        SELECT DISTINCT icd_code, icd_version, title AS long_title FROM raw.diagnoses_icd""",
        """CREATE TABLE formulary AS SELECT drug, count(*) AS admissions
        FROM (SELECT unnest(drugs) AS drug FROM samples WHERE split = 'train') GROUP BY drug""",
    ):
        con.execute(statement).fetchall()
    return con


def orders(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Count the orders as an account does that is right."""
    kept, other = con.execute(
        "SELECT count(*) FILTER (WHERE drug_type = 'MAIN'), count(*) FILTER (WHERE drug_type <> 'MAIN') "
        "FROM raw.prescriptions"
    ).fetchall()[0]
    return {"read": kept + other, "kept": kept, "left out: BASE, not MAIN": other}


def failed(con: duckdb.DuckDBPyConnection, counted: dict[str, int] | None = None) -> list[str]:
    return [finding["check"] for finding in audit(con, counted or orders(con)) if finding["status"] == "fail"]


def test_a_sound_cohort_passes_with_one_note(con):
    findings = audit(con, orders(con))
    assert [finding["status"] for finding in findings] == ["pass"] * (len(findings) - 1) + ["note"]
    assert all(set(finding) == {"check", "status", "found", "wanted"} for finding in findings)


@pytest.mark.parametrize(
    ("mistake", "check"),
    [
        (
            "UPDATE samples SET split = if(split = 'train', 'test', 'train') WHERE hadm_id = (SELECT min(hadm_id) FROM "
            "samples SEMI JOIN (FROM samples SELECT subject_id GROUP BY ALL HAVING count(*) > 1) USING (subject_id))",
            "No patient stands in two splits",
        ),
        ("INSERT INTO formulary VALUES ('only in test', 1)", "The formulary is made of training admissions alone"),
        (
            "UPDATE formulary SET admissions = admissions + 1 WHERE drug = (SELECT min(drug) FROM formulary)",
            "The formulary is made of training admissions alone",
        ),
        (
            "UPDATE samples SET drugs = list_append(drugs, 'filled in') WHERE split = 'test'",
            "No drug is filled in from another row or patient",
        ),
        (
            "UPDATE samples SET drugs = list_append(drugs, 'sterile water') WHERE split = 'test'",
            "No diluent or additive stands for a drug",
        ),
        ("UPDATE samples SET drugs = drugs[2:] WHERE split = 'test'", "No order is lost without being counted"),
        ("UPDATE raw.diagnoses_icd SET icd_version = 19 - icd_version", "ICD-9 and ICD-10 are never merged"),
        (
            "UPDATE raw.d_icd_diagnoses SET long_title = 'of the other version' WHERE icd_version = 9",
            "A title is that of its code and version",
        ),
        (
            "UPDATE samples SET diagnoses = [{'icd_code': NULL, 'icd_version': 9, 'title': '{title}'}]",
            "No prompt holds an unfilled placeholder",
        ),
        (
            "UPDATE samples SET split = if(subject_id > (SELECT quantile_disc(subject_id, 0.67) FROM samples), "
            "'test', 'train')",
            "The split does not follow the order of patients",
        ),
    ],
)
def test_a_mistake_fails_the_check_it_is_for(con, mistake, check):
    counted = orders(con)
    con.execute(mistake).fetchall()
    assert check in failed(con, counted)


def test_a_row_that_no_fate_counts_fails(con):
    short = orders(con) | {"left out: BASE, not MAIN": 0}
    assert failed(con, short) == ["No order is lost without being counted"]


def test_a_filled_in_drug_is_no_diluent_and_a_diluent_is_not_filled_in(con):
    counted = orders(con)
    con.execute("UPDATE samples SET drugs = list_append(drugs, 'sterile water') WHERE split = 'test'").fetchall()
    assert "No drug is filled in from another row or patient" not in failed(con, counted)


def test_a_cohort_without_the_codes_of_first_stays_has_no_note(con):
    con.execute("UPDATE samples SET diagnoses = []").fetchall()
    assert audit(con, orders(con))[-1]["status"] == "pass"


def test_findings_name_no_patient(con):
    con.execute("UPDATE samples SET drugs = list_append(drugs, 'filled in')").fetchall()
    ids = {
        str(row[0])
        for row in con.execute("SELECT subject_id FROM samples UNION SELECT hadm_id FROM samples").fetchall()
    }
    words = {word for finding in audit(con, orders(con)) for word in " ".join(finding.values()).split()}
    assert not ids & words
