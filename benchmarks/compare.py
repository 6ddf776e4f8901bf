"""Compare two samples.parquet, row by row and column by column, lists in their order; nothing of a row is shown."""

from __future__ import annotations

from pathlib import Path

import duckdb

_LISTS = {
    "diagnoses": "list_transform({t}.diagnoses, lambda d: [d.icd_code, CAST(d.icd_version AS VARCHAR), d.title])",
}
_READINGS = ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")
_PLAIN = ("subject_id", "split", "age", "sex", "race", "admission_type", "drugs")
_ROUNDED = 1e-9
"""Readings may differ in the last bit: a text becomes a float by other code in every library."""


def count_differences(ours: Path, theirs: Path) -> dict[str, int]:
    """Return the number of stays that differ, per column, and those that stand in one file only; {} if equal."""
    tests = {name: f"a.{name} IS DISTINCT FROM b.{name}" for name in _PLAIN}
    # Ours leaves out what an earlier stay ordered after this one began; nobody else looks at the time.
    tests["previous_drugs"] = "NOT list_has_all(coalesce(b.previous_drugs, []), coalesce(a.previous_drugs, []))"
    tests |= {name: f"{e.format(t='a')} IS DISTINCT FROM {e.format(t='b')}" for name, e in _LISTS.items()}
    tests |= {
        name: f"(a.{name} IS NULL) <> (b.{name} IS NULL) OR abs(a.{name} - b.{name}) > {_ROUNDED}" for name in _READINGS
    }
    counts = ", ".join(f"count(*) FILTER (WHERE one_side IS NULL AND ({test})) AS {n}" for n, test in tests.items())
    query = f"""
        WITH a AS (FROM read_parquet(?)), b AS (FROM read_parquet(?)), joined AS (
            SELECT a, b, CASE WHEN b.hadm_id IS NULL THEN 'a' WHEN a.hadm_id IS NULL THEN 'b' END AS one_side
            FROM a FULL JOIN b ON a.hadm_id = b.hadm_id
        )
        SELECT
            count(*) FILTER (WHERE one_side = 'a') AS missing,
            count(*) FILTER (WHERE one_side = 'b') AS extra,
            {counts}
        FROM joined
    """
    with duckdb.connect() as con:
        result = con.execute(query, [str(ours), str(theirs)])
        names = [column[0] for column in result.description]
        found = dict(zip(names, result.fetchall()[0], strict=True))
    return {name: count for name, count in found.items() if count}
