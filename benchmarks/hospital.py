"""A hospital of any size for benchmarks: the demo's patients drawn again under new numbers, kept in the cache.

All columns of the release are there, so that a reader skips what it would skip in reality; rows per admission are
those of MIMIC-IV 3.1 and files are sorted by patient, as it is. What it has less of than the release: spellings,
codes and stays are the demo's, only more often, so nothing measured here speaks of how large a vocabulary gets.
Without the demo the synthetic model (`etl.synth`) stands in; its rows per admission are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import duckdb

from etl import artefacts, synth

FULL_ADMISSIONS = 546_000
FULL_ROWS = {"diagnoses_icd": 6_400_000, "prescriptions": 20_000_000, "omr": 7_800_000}
"""Rows of MIMIC-IV 3.1, rounded."""

_DRAWN_TABLES = ("patients", "admissions", *FULL_ROWS)
_STAYS_PER_SYNTHETIC_PATIENT = 1.9

# Numbers of the release look drawn at random: multiplying modulo a prime shuffles without ever repeating one.
_SHUFFLED = "(7368787 * {}) % 9999991"

_COPIES = """
    WITH drawn AS (
        SELECT copy, 1 + hash({seed}, copy) % (SELECT count(*) FROM demo.patients) AS place
        FROM range({admissions}) AS copies (copy)
    ),

    listed AS (
        SELECT patients.subject_id, row_number() OVER (ORDER BY patients.subject_id) AS place, count(*) AS stays
        FROM demo.patients AS patients
        INNER JOIN demo.admissions USING (subject_id)
        GROUP BY patients.subject_id
    )

    SELECT copy, subject_id AS demo_subject_id, 10000000 + {shuffled} AS subject_id
    FROM drawn
    INNER JOIN listed USING (place)
    QUALIFY sum(stays) OVER (ORDER BY copy) - stays < {admissions}
"""
"""As many patients as it takes to reach the admissions; the last one's stays may go over."""

_STAYS = """
    SELECT
        copies.copy,
        copies.subject_id,
        admissions.hadm_id AS demo_hadm_id,
        20000000 + {shuffled} AS hadm_id
    FROM copies
    INNER JOIN demo.admissions AS admissions ON admissions.subject_id = copies.demo_subject_id
"""

_TABLES = {
    "patients": """
        SELECT rows.* REPLACE (copies.subject_id AS subject_id)
        FROM demo.patients AS rows
        INNER JOIN copies ON copies.demo_subject_id = rows.subject_id
        ORDER BY subject_id
    """,
    "admissions": """
        SELECT rows.* REPLACE (stays.subject_id AS subject_id, stays.hadm_id AS hadm_id)
        FROM demo.admissions AS rows
        INNER JOIN stays ON stays.demo_hadm_id = rows.hadm_id
        ORDER BY subject_id, hadm_id
    """,
    "diagnoses_icd": """
        SELECT rows.* REPLACE (stays.subject_id AS subject_id, stays.hadm_id AS hadm_id)
        FROM demo.diagnoses_icd AS rows
        INNER JOIN stays ON stays.demo_hadm_id = rows.hadm_id
        CROSS JOIN range({times}) AS repeats (number)
        WHERE number + {chance} < {factor}
        ORDER BY subject_id, hadm_id, CAST(seq_num AS INTEGER)
    """,
    "prescriptions": """
        SELECT
            rows.* REPLACE (
                stays.subject_id AS subject_id,
                stays.hadm_id AS hadm_id,
                (CAST(rows.pharmacy_id AS BIGINT) + 48271 * copy) % 100000000 AS pharmacy_id,
                stays.subject_id || '-' || rows.poe_seq AS poe_id
            )
        FROM demo.prescriptions AS rows
        INNER JOIN stays ON stays.demo_hadm_id = rows.hadm_id
        CROSS JOIN range({times}) AS repeats (number)
        WHERE number + {chance} < {factor}
        ORDER BY subject_id, hadm_id, pharmacy_id, drug_type, drug
    """,
    # A repeated row is a later visit's: readings of one day would only ever tie.
    "omr": """
        SELECT
            rows.* REPLACE (
                copies.subject_id AS subject_id,
                CAST(CAST(rows.chartdate AS DATE) + CAST(30 * number AS INTEGER) AS VARCHAR) AS chartdate
            )
        FROM demo.omr AS rows
        INNER JOIN copies ON copies.demo_subject_id = rows.subject_id
        CROSS JOIN range({times}) AS repeats (number)
        WHERE number + {chance} < {factor}
        ORDER BY subject_id, chartdate, result_name, CAST(seq_num AS INTEGER)
    """,
}


def write_full_hospital(folder: Path, admissions: int, seed: int = 0, demo: Path | None = None) -> None:
    """Write `folder/hosp/*.csv.gz` from the demo's patients, drawn with replacement.

    Args:
        folder: appears whole or not at all.
        admissions: reached, and passed by at most one patient's stays.
        seed: of the draws and of the rows that are thinned or repeated.
        demo: the MIMIC-IV demo; `find_demo()` where None.
    """
    demo = demo or find_demo()
    if demo is None:
        synth.write_hospital(folder, round(admissions / _STAYS_PER_SYNTHETIC_PATIENT), seed)
        return
    with artefacts.whole_or_absent(folder) as unfinished, duckdb.connect() as con:
        hosp = unfinished / "hosp"
        hosp.mkdir(parents=True)
        con.execute("SET memory_limit = '3GB'").fetchall()
        con.execute(f"SET temp_directory = '{_quoted(unfinished / 'spill')}'").fetchall()
        _load_demo(con, demo)
        for table, query in _recipe(con, admissions, seed).items():
            target = _quoted(hosp / f"{table}.csv.gz")
            if table in _DRAWN_TABLES:
                con.execute(f"COPY ({query}) TO '{target}' (FORMAT csv, HEADER, COMPRESSION gzip)").fetchall()
            else:
                con.execute(f"CREATE TABLE {table} AS {query}").fetchall()
        shutil.copyfile(demo / "hosp" / "d_icd_diagnoses.csv.gz", hosp / "d_icd_diagnoses.csv.gz")
        artefacts.remove(unfinished / "spill")


def cached_hospital(admissions: int, seed: int = 0) -> Path:
    """Return the cache's hospital of this size, made if it is not there yet; another recipe is another folder."""
    demo = find_demo()
    made_from = "demo" if demo else "synthetic"
    folder = _cache() / "bench" / f"hospital-{admissions}-{made_from}-{_digest(admissions, seed, demo)}"
    if not folder.is_dir():
        write_full_hospital(folder, admissions, seed, demo)
    return folder


def find_demo() -> Path | None:
    """Return the MIMIC-IV demo named by RXDRAFT_MIMIC_DEMO or lying beside the repository, if any."""
    beside = Path(__file__).parents[2] / "shared" / "mimic-iv-demo"
    folder = Path(os.environ.get("RXDRAFT_MIMIC_DEMO") or beside)
    return folder if (folder / "hosp").is_dir() else None


def _load_demo(con: duckdb.DuckDBPyConnection, demo: Path) -> None:
    """Load the demo as text: what is written again must read as it did."""
    con.execute("CREATE SCHEMA demo").fetchall()
    for table in _DRAWN_TABLES:
        path = _quoted(demo / "hosp" / f"{table}.csv.gz")
        con.execute(f"CREATE TABLE demo.{table} AS FROM read_csv('{path}', all_varchar = true)").fetchall()


def _recipe(con: duckdb.DuckDBPyConnection, admissions: int, seed: int) -> dict[str, str]:
    """Return the queries in the order they run: two tables to lean on, then the files."""
    numbered = _SHUFFLED.format("row_number() OVER (ORDER BY copies.copy, admissions.hadm_id)")
    queries = {
        "copies": _COPIES.format(seed=seed, admissions=admissions, shuffled=_SHUFFLED.format("(copy + 1)")),
        "stays": _STAYS.format(shuffled=numbered),
        "patients": _TABLES["patients"],
        "admissions": _TABLES["admissions"],
    }
    chance = f"hash({seed}, copy, rows.rowid) / 18446744073709551616.0"
    for table, full_rows in FULL_ROWS.items():
        factor = full_rows / FULL_ADMISSIONS / _rows_per_admission(con, table)
        queries[table] = _TABLES[table].format(chance=chance, factor=f"{factor:.6f}", times=int(factor) + 1)
    return queries


def _rows_per_admission(con: duckdb.DuckDBPyConnection, table: str) -> float:
    query = f"SELECT count(*) / (SELECT count(*) FROM demo.admissions) FROM demo.{table}"
    return con.execute(query).fetchall()[0][0]


def _digest(admissions: int, seed: int, demo: Path | None) -> str:
    """Return what tells two recipes apart; DuckDB's version belongs to it, since its hash may change."""
    recipe = {
        "admissions": admissions,
        "queries": [_COPIES, _STAYS, _TABLES, _SHUFFLED, FULL_ROWS],
        "seed": seed,
        "demo": artefacts.sha256_files(sorted((demo / "hosp").glob("*.csv.gz"))) if demo else None,
        "duckdb": duckdb.__version__,
    }
    return artefacts.sha256(json.dumps(recipe, sort_keys=True).encode())[:12]


def _cache() -> Path:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rxdraft"
    return Path(os.environ.get("RXDRAFT_CACHE") or default)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def main() -> None:
    """Make a hospital and print its folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--admissions", type=int, default=FULL_ADMISSIONS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(cached_hospital(options.admissions, options.seed))


if __name__ == "__main__":
    main()
