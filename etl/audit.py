"""Look for the leaks and losses that published pipelines had, on the very tables a cohort is written from.

Each check counts what should not be there, by a way of its own: none trusts the SQL model it looks at. A check that
found none passes; what is no mistake but must be known when a score is read is a note.
"""

from __future__ import annotations

import re

import duckdb

from etl.cohort import to_admission
from etl.prompts import render_prompt

Finding = dict[str, str]

PROMPTS = 1000
"""Prompts rendered and read, at most."""
MAX_Z = 3.5
"""Standard errors between the first and the last third of patients; chance goes beyond once in 2,000 cohorts."""

_PLACEHOLDER = re.compile(r"[{}]|<\||\b(None|nan|NaN|NULL|NaT)\b")

_BIG_ORDERS = 2_000_000
"""With more orders than this, every drug is traced in a sixteenth of the stays, chosen by hash."""


def audit(con: duckdb.DuckDBPyConnection, orders: dict[str, int]) -> list[Finding]:
    """Return every check with its status, what was found and what was wanted.

    Args:
        con: a database whose models are built, the source's tables still in schema `raw`.
        orders: fates of the orders, as `etl.account` counts them.

    Source: the mistakes are those of SafeDrug, LEADER, VITA, CausalMed and RAREMed, read in their public code.
    """
    return [
        _overlap(con),
        _formulary(con),
        *_traces(con, orders),
        _versions(con),
        _titles(con),
        _placeholders(con),
        _by_position(con),
        _post_hoc(con),
    ]


def _finding(check: str, wrong: int, found: str, wanted: str) -> Finding:
    return {"check": check, "status": "fail" if wrong else "pass", "found": found, "wanted": wanted}


def _overlap(con: duckdb.DuckDBPyConnection) -> Finding:
    wrong = _one(
        con, "SELECT count(*) FROM (FROM samples SELECT 1 GROUP BY subject_id HAVING count(DISTINCT split) > 1)"
    )
    return _finding("No patient stands in two splits", wrong, f"{wrong:,} patients in several", "0")


def _formulary(con: duckdb.DuckDBPyConnection) -> Finding:
    """Compare the formulary with the training lists: names and counts, as a test stay adds to either."""
    wrong = _one(
        con,
        """
        SELECT count(*)
        FROM (
            SELECT drug, count(*) AS admissions
            FROM (SELECT unnest(drugs) AS drug FROM samples WHERE split = 'train') GROUP BY drug
        ) AS train
        FULL JOIN formulary USING (drug)
        WHERE train.admissions IS DISTINCT FROM formulary.admissions
        """,
    )
    size = _one(con, "SELECT count(*) FROM formulary")
    found = f"{wrong:,} of {size:,} drugs differ from the training lists"
    return _finding("The formulary is made of training admissions alone", wrong, found, "0")


def _traces(con: duckdb.DuckDBPyConnection, orders: dict[str, int]) -> list[Finding]:
    """Trace every drug of a sample to an order of that stay of type MAIN, and every such order to the list."""
    read = _one(con, "SELECT count(*) FROM raw.prescriptions")
    some = "hash(hadm_id) % 16 = 0" if read > _BIG_ORDERS else "true"
    con.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE seen_labels AS
        SELECT hadm_id, unnest(drugs) AS drug FROM samples WHERE {some};
        CREATE OR REPLACE TEMP TABLE seen_orders AS
        SELECT orders.hadm_id, orders.drug_type, orders.starttime, drug_names.drug
        FROM raw.prescriptions AS orders
        INNER JOIN drug_names ON drug_names.spelling = orders.drug
        WHERE {some.replace("hadm_id", "orders.hadm_id")};
        """
    ).fetchall()
    untraced = "seen_labels ANTI JOIN (FROM seen_orders WHERE drug_type = 'MAIN') AS main USING (hadm_id, drug)"
    wrong, total = _one(con, f"SELECT count(*) FROM {untraced}"), _one(con, "SELECT count(*) FROM seen_labels")
    other = _one(con, f"SELECT count(*) FROM {untraced} SEMI JOIN seen_orders USING (hadm_id, drug)")
    unlisted = _one(
        con,
        """
        SELECT count(*)
        FROM seen_orders AS orders
        INNER JOIN prediction_times AS times USING (hadm_id)
        SEMI JOIN samples USING (hadm_id)
        ANTI JOIN seen_labels AS labels ON labels.hadm_id = orders.hadm_id AND labels.drug = orders.drug
        WHERE orders.drug_type = 'MAIN'
            AND coalesce(orders.starttime, times.admittime) > times.truth_from
            AND coalesce(orders.starttime, times.admittime) <= times.truth_until
        """,
    )
    traced = _one(con, "SELECT count(*) FROM seen_orders")
    counted = sum(count for fate, count in orders.items() if fate != "read")
    return [
        _finding(
            "No drug is filled in from another row or patient",
            wrong - other,
            f"{wrong - other:,} of {total:,} drugs without an order in their stay",
            "0",
        ),
        _finding(
            "No diluent or additive stands for a drug", other, f"{other:,} drugs without an order of type MAIN", "0"
        ),
        _finding(
            "No order is lost without being counted",
            abs(read - counted) + unlisted,
            f"{counted:,} orders counted; of {traced:,} traced, {unlisted:,} due ones are missing in their list",
            f"{read:,} counted, 0 missing",
        ),
    ]


def _versions(con: duckdb.DuckDBPyConnection) -> Finding:
    wrong = _one(
        con,
        """
        SELECT count(*)
        FROM (SELECT DISTINCT unnest(diagnoses, recursive := true) FROM samples) AS used
        ANTI JOIN raw.diagnoses_icd USING (icd_code, icd_version)
        """,
    )
    return _finding(
        "ICD-9 and ICD-10 are never merged", wrong, f"{wrong:,} codes of samples that no stay has in that version", "0"
    )


def _titles(con: duckdb.DuckDBPyConnection) -> Finding:
    """See that a title belongs to its code in its version; hundreds of codes exist in both, with other meanings."""
    wrong = _one(
        con,
        """
        SELECT count(*)
        FROM (SELECT DISTINCT unnest(diagnoses, recursive := true) FROM samples) AS used
        LEFT JOIN raw.d_icd_diagnoses AS dictionary USING (icd_code, icd_version)
        WHERE used.title IS DISTINCT FROM dictionary.long_title
        """,
    )
    return _finding("A title is that of its code and version", wrong, f"{wrong:,} codes with another title", "0")


def _placeholders(con: duckdb.DuckDBPyConnection) -> Finding:
    """Render prompts, chosen by a hash that no order of rows decides, and look for what a template leaves behind."""
    cursor = con.execute(f"FROM samples ORDER BY md5(hadm_id::VARCHAR) LIMIT {PROMPTS}")
    names = [column[0] for column in cursor.description]
    prompts = [
        render_prompt(to_admission(dict(zip(names, row, strict=True))))[-1]["content"] for row in cursor.fetchall()
    ]
    wrong = sum(bool(_PLACEHOLDER.search(prompt)) for prompt in prompts)
    found = f"{wrong:,} of {len(prompts):,} prompts with a brace, a control token, None or nan"
    return _finding("No prompt holds an unfilled placeholder", wrong, found, "0")


def _by_position(con: duckdb.DuckDBPyConnection) -> Finding:
    """Compare the first and the last third of patients: a split by position holds out one of them more.

    z = (p₁ - p₃) / √(p (1 - p) (1 / n₁ + 1 / n₃)), p the share of patients outside train.
    """
    rows = con.execute(
        """
        SELECT third, count(*), count(*) FILTER (WHERE NOT train)
        FROM (
            SELECT ntile(3) OVER (ORDER BY subject_id) AS third, bool_and(split = 'train') AS train
            FROM samples GROUP BY subject_id
        )
        WHERE third <> 2 GROUP BY third ORDER BY third
        """
    ).fetchall()
    (n1, k1), (n3, k3) = (counts for _, *counts in rows) if len(rows) == 2 else ((1, 0), (1, 0))
    p = (k1 + k3) / (n1 + n3)
    error = (p * (1 - p) * (1 / n1 + 1 / n3)) ** 0.5
    z = abs(k1 / n1 - k3 / n3) / error if error else 0.0
    found = (
        f"held out: {k1 / n1:.1%} of the first third of patients, {k3 / n3:.1%} of the last, {z:.1f} standard errors"
    )
    return _finding("The split does not follow the order of patients", z > MAX_Z, found, f"at most {MAX_Z}")


def _post_hoc(con: duckdb.DuckDBPyConnection) -> Finding:
    """Tell whether codes of the stay itself are used: a first stay has no others."""
    used, total = con.execute(
        """
        SELECT count(*) FILTER (WHERE len(diagnoses) > 0), count(*)
        FROM samples
        SEMI JOIN (SELECT arg_min(hadm_id, (admittime, hadm_id)) AS hadm_id FROM admissions GROUP BY subject_id)
            USING (hadm_id)
        """
    ).fetchall()[0]
    found = f"{used:,} of {total:,} first stays have codes of the stay itself, assigned after discharge"
    wanted = "0; else read a score beside that of a cohort made with --codes earlier"
    check = "Diagnoses are known when the draft is asked for"
    return {"check": check, "status": "note" if used else "pass", "found": found, "wanted": wanted}


def _one(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return con.execute(query).fetchall()[0][0] or 0
