"""Account for every row: what was read, what was kept, and why the rest was left out.

Counts only; nothing here names a patient. Each function is one section of cohort.json.
"""

from __future__ import annotations

from typing import Any

import duckdb

MEASUREMENTS = ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")


class Account:
    """The counts of a warehouse whose tables are built."""

    def __init__(self, con: duckdb.DuckDBPyConnection, read: dict[str, int]) -> None:
        """Look at a database that holds the source's and the cohort's tables.

        Args:
            con: the database.
            read: rows read per source table.
        """
        self._con, self._read = con, read

    def sections(self) -> dict[str, Any]:
        """Return all counts, as cohort.json has them."""
        return {
            "rows_read": dict(sorted(self._read.items())),
            "flow": self.flow(),
            "splits": self.splits(),
            "orders": self.orders(),
            "diagnoses": self.diagnoses(),
            "measurements": self.measurements(),
            "drugs": self.drugs(),
        }

    def flow(self) -> list[dict[str, Any]]:
        """Return the admissions left after each condition, and how many it excluded."""
        left = {
            "admissions read": self._read["admissions"],
            "patient listed": self._one("SELECT count(*) FROM admissions"),
            "at least one diagnosis": self._one("SELECT count(*) FROM admissions SEMI JOIN diagnoses USING (hadm_id)"),
            "at least one drug": self._one("SELECT count(*) FROM samples"),
        }
        before = [self._read["admissions"], *left.values()]
        return [
            {"step": step, "admissions": admissions, "excluded": earlier - admissions}
            for earlier, (step, admissions) in zip(before, left.items(), strict=False)
        ]

    def splits(self) -> dict[str, dict[str, int]]:
        """Return admissions and patients of each split that has any."""
        rows = self._con.execute(
            "SELECT split, count(*), count(DISTINCT subject_id) FROM samples GROUP BY split ORDER BY split"
        ).fetchall()
        return {split: {"admissions": admissions, "patients": patients} for split, admissions, patients in rows}

    def orders(self) -> dict[str, int]:
        """Return the fate of every order; the fates add up to the rows read."""
        return {
            "read": self._read["prescriptions"],
            **self._table(
                """
                SELECT
                    CASE
                        WHEN drug_type IS DISTINCT FROM 'MAIN'
                            THEN 'left out: ' || coalesce(drug_type, 'no type') || ', not MAIN'
                        WHEN admissions.hadm_id IS NULL THEN 'left out: no such admission'
                        WHEN drug_names.drug IS NULL THEN 'left out: no name'
                        WHEN samples.hadm_id IS NULL THEN 'left out: admission excluded'
                        ELSE 'kept'
                    END AS fate,
                    count(*)
                FROM raw.prescriptions AS orders
                LEFT JOIN admissions USING (hadm_id)
                LEFT JOIN samples USING (hadm_id)
                LEFT JOIN drug_names ON drug_names.spelling = orders.drug
                GROUP BY ALL
                ORDER BY ALL
                """
            ),
        }

    def diagnoses(self) -> dict[str, int]:
        """Return the fate of every coded diagnosis; `without a title` is among those kept."""
        read, kept = self._read["diagnoses_icd"], self._one("SELECT count(*) FROM diagnoses")
        of_known_stays = "FROM raw.diagnoses_icd SEMI JOIN admissions USING (hadm_id)"
        listed = self._one(f"SELECT count(*) {of_known_stays}")
        no_code = self._one(f"SELECT count(*) {of_known_stays} WHERE icd_code IS NULL")
        return {
            "read": read,
            "kept": kept,
            "left out: no such admission": read - listed,
            "left out: no code": no_code,
            "left out: repeated in the stay": listed - no_code - kept,
            "without a title": self._one("SELECT count(*) FROM diagnoses WHERE title IS NULL"),
        }

    def measurements(self) -> dict[str, Any]:
        """Return readings per quantity, those dropped, and how many samples know none."""
        by_quantity = "GROUP BY ALL ORDER BY ALL"
        return {
            "readings": self._table(f"SELECT quantity, count(*) FROM readings {by_quantity}"),
            "dropped as implausible": self._table(
                f"SELECT quantity, count(*) FROM readings WHERE NOT plausible {by_quantity}"
            ),
            "omr rows of other kinds": self._one(
                "SELECT count(*) FROM raw.omr ANTI JOIN seed.measurements USING (result_name)"
            ),
            "unknown in samples": {
                name: self._one(f"SELECT count(*) FROM samples WHERE {name} IS NULL") for name in MEASUREMENTS
            },
        }

    def drugs(self) -> dict[str, int]:
        """Return how spellings became a formulary."""
        return {
            "spellings": self._one("SELECT count(*) FROM drug_names"),
            "canonical": self._one("SELECT count(DISTINCT drug) FROM prescriptions"),
            "formulary": self._one("SELECT count(*) FROM formulary"),
            "samples with previous drugs": self._one("SELECT count(*) FROM samples WHERE previous_drugs IS NOT NULL"),
        }

    def _one(self, query: str) -> int:
        return self._con.execute(query).fetchall()[0][0]

    def _table(self, query: str) -> dict[str, int]:
        return dict(self._con.execute(query).fetchall())
