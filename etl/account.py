"""Account for every row: what was read, what was kept, and why the rest was left out.

Counts only; nothing here names a patient. Each method is one section of cohort.json.
"""

from __future__ import annotations

from typing import Any

import duckdb

from etl.cohort import MEASUREMENTS
from etl.settings import Codes, CohortSettings

_LABS = """
    SELECT count(*) FROM raw.labevents AS events
    INNER JOIN seed.labs AS labs USING (itemid)
    INNER JOIN seed.rules AS rules ON rules.rule = labs.quantity
    WHERE labs.quantity = '{0}' AND valuenum IS NOT NULL AND valuenum NOT BETWEEN rules.low AND rules.high"""
_READINGS = "SELECT count(*) FROM readings WHERE quantity = '{0}' AND reading IS NOT NULL AND NOT first_plausible"
_CODED = "SELECT count(*) FROM raw.diagnoses_icd SEMI JOIN admissions USING (hadm_id)"

_RULES = {
    "age": "SELECT count(*) FROM admissions WHERE NOT adult",
    "bmi": _READINGS.format("bmi"),
    "code_empty": f"{_CODED} WHERE icd_code IS NULL",
    "code_repeated": f"SELECT ({_CODED} WHERE icd_code IS NOT NULL) - (SELECT count(*) FROM diagnoses)",
    "code_unknown_stay": "SELECT count(*) FROM raw.diagnoses_icd ANTI JOIN admissions USING (hadm_id)",
    "code_untitled": "SELECT count(*) FROM diagnoses INNER JOIN icd_codes USING (code_number) WHERE title IS NULL",
    "creatinine_mg_dl": _LABS.format("creatinine_mg_dl"),
    "diastolic_mmhg": "SELECT count(*) FROM readings WHERE second_reading IS NOT NULL AND NOT second_plausible",
    "discharge_before_admission": "SELECT count(*) FROM raw.admissions WHERE dischtime < admittime",
    "height_cm": _READINGS.format("height_cm"),
    "not_a_number": """
        SELECT count(*) FROM readings
        WHERE reading IS NULL OR (quantity = 'systolic_mmhg' AND second_reading IS NULL)""",
    "order_category": "SELECT coalesce(sum(orders), 0) FROM fates WHERE fate LIKE 'left out: category %'",
    "order_not_main": "SELECT coalesce(sum(orders), 0) FROM fates WHERE fate LIKE '%, not MAIN'",
    "order_outside_window": "SELECT coalesce(sum(orders), 0) FROM fates WHERE fate = 'left out: outside the window'",
    "order_unknown_stay": "SELECT coalesce(sum(orders), 0) FROM fates WHERE fate = 'left out: no such admission'",
    "order_unnamed": "SELECT coalesce(sum(orders), 0) FROM fates WHERE fate = 'left out: no name'",
    "other_measurement": "SELECT count(*) FROM raw.omr ANTI JOIN seed.measurements USING (result_name)",
    "potassium_meq_l": _LABS.format("potassium_meq_l"),
    "repeated_row": """
        SELECT sum(rows_read) - (SELECT count(*) FROM raw.patients) - (SELECT count(*) FROM raw.admissions)
            - (SELECT count(*) FROM raw.d_icd_diagnoses)
        FROM loaded WHERE source_table IN ('patients', 'admissions', 'd_icd_diagnoses')""",
    "sex_other": "SELECT count(*) FROM raw.patients WHERE gender IS NULL OR gender NOT IN ('F', 'M')",
    "systolic_mmhg": _READINGS.format("systolic_mmhg"),
    "unlisted_patient": "SELECT count(*) FROM raw.admissions ANTI JOIN admissions USING (hadm_id)",
    "weight_kg": _READINGS.format("weight_kg"),
}
"""What each rule of etl/vocabulary/rules.csv touched, in rows of its source table."""

_STEPS = (
    "patient listed",
    "adult",
    "still in hospital at the prediction time",
    "at least one diagnosis",
    "at least one drug to be drafted",
)
"""What an admission must be, in this order; the first it is not excludes it."""

# One spelling means one thing, so orders are counted by spelling before anything is joined.
_FATES = """
    CREATE OR REPLACE TEMP TABLE fates AS
    WITH counted AS (
        SELECT
            orders.drug AS spelling,
            orders.drug_type,
            times.hadm_id IS NOT NULL AS known_stay,
            samples.hadm_id IS NOT NULL AS sampled,
            coalesce(orders.starttime, times.admittime) > times.truth_from
            AND coalesce(orders.starttime, times.admittime) <= times.truth_until AS due,
            count(*) AS orders
        FROM raw.prescriptions AS orders
        LEFT JOIN prediction_times AS times USING (hadm_id)
        LEFT JOIN samples USING (hadm_id)
        GROUP BY ALL
    )

    SELECT
        CASE
            WHEN drug_type IS DISTINCT FROM 'MAIN'
                THEN 'left out: ' || coalesce(drug_type, 'no type') || ', not MAIN'
            WHEN NOT known_stay THEN 'left out: no such admission'
            WHEN coalesce(labels, []) = [] THEN 'left out: no name'
            WHEN dropped THEN 'left out: category ' || category
            WHEN NOT due THEN 'left out: outside the window'
            WHEN NOT sampled THEN 'left out: admission excluded'
            ELSE 'kept'
        END AS fate,
        spelling,
        CAST(sum(orders) AS BIGINT) AS orders
    FROM counted
    LEFT JOIN spellings USING (spelling)
    GROUP BY ALL"""


class Account:
    """The counts of a warehouse whose tables are built."""

    def __init__(self, con: duckdb.DuckDBPyConnection, settings: CohortSettings) -> None:
        """Look at a database that holds the source's and the cohort's tables."""
        self._con, self._settings = con, settings
        self._read: dict[str, int] = dict(con.execute("FROM loaded").fetchall())
        con.execute(_FATES).fetchall()

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
            "rules": self.rules(),
        }

    def flow(self) -> list[dict[str, Any]]:
        """Return the admissions left after each condition, and how many, of how many patients, it excluded."""
        coded_asked = self._settings.codes is not Codes.EARLIER
        excluded: dict[str | None, tuple[int, int]] = {
            step: (admissions, patients)
            for step, admissions, patients in self._con.execute(
                f"""
                SELECT
                    CASE
                        WHEN known.hadm_id IS NULL THEN 'patient listed'
                        WHEN NOT known.adult THEN 'adult'
                        WHEN NOT times.reached THEN 'still in hospital at the prediction time'
                        WHEN diagnosis_lists.hadm_id IS NULL AND {coded_asked}
                            THEN 'at least one diagnosis'
                        WHEN samples.hadm_id IS NULL THEN 'at least one drug to be drafted'
                    END AS step,
                    count(*),
                    count(DISTINCT listed.subject_id)
                FROM raw.admissions AS listed
                LEFT JOIN admissions AS known USING (hadm_id)
                LEFT JOIN prediction_times AS times USING (hadm_id)
                LEFT JOIN diagnosis_lists USING (hadm_id)
                LEFT JOIN samples USING (hadm_id)
                GROUP BY step
                """
            ).fetchall()
        }
        left = self._one("SELECT count(*) FROM raw.admissions")
        flow = [{"step": "admissions read", "admissions": left, "excluded": 0, "excluded_patients": 0}]
        steps = [step for step in _STEPS if coded_asked or step != "at least one diagnosis"]
        for step in steps:
            admissions, patients = excluded.get(step, (0, 0))
            left -= admissions
            flow.append({"step": step, "admissions": left, "excluded": admissions, "excluded_patients": patients})
        return flow

    def splits(self) -> dict[str, dict[str, int]]:
        """Return admissions and patients of each split that has any."""
        rows = self._con.execute(
            "SELECT split, count(*), count(DISTINCT subject_id) FROM samples GROUP BY split ORDER BY split"
        ).fetchall()
        return {split: {"admissions": admissions, "patients": patients} for split, admissions, patients in rows}

    def orders(self) -> dict[str, int]:
        """Return the fate of every order; the fates add up to the rows read."""
        fates = self._table("SELECT fate, CAST(sum(orders) AS BIGINT) FROM fates GROUP BY fate ORDER BY fate")
        return {"read": self._read["prescriptions"], **fates}

    def diagnoses(self) -> dict[str, int]:
        """Return the fate of every coded diagnosis; `without a title` is among those kept."""
        touched = {rule: self._one(_RULES[rule]) for rule in _RULES if rule.startswith("code_")}
        return {
            "read": self._read["diagnoses_icd"],
            "kept": self._one("SELECT count(*) FROM diagnoses"),
            "left out: no such admission": touched["code_unknown_stay"],
            "left out: no code": touched["code_empty"],
            "left out: repeated in the stay": touched["code_repeated"],
            "without a title": touched["code_untitled"],
        }

    def measurements(self) -> dict[str, Any]:
        """Return readings per quantity, those dropped, and how many samples know none."""
        by_quantity, dropped = "GROUP BY ALL ORDER BY ALL", "NOT (first_plausible AND second_plausible)"
        unknown = ", ".join(f"count(*) - count({name})" for name in MEASUREMENTS)
        return {
            "readings": self._table(f"SELECT quantity, count(*) FROM readings {by_quantity}"),
            "dropped as implausible": self._table(
                f"SELECT quantity, count(*) FROM readings WHERE {dropped} {by_quantity}"
            ),
            "omr rows of other kinds": self._one(_RULES["other_measurement"]),
            "unknown in samples": dict(
                zip(MEASUREMENTS, self._con.execute(f"SELECT {unknown} FROM samples").fetchall()[0], strict=True)
            ),
        }

    def drugs(self) -> dict[str, Any]:
        """Return how spellings became labels, and what of them is dropped, mapped and not mapped.

        Coverage is over the orders kept: how many name a drug whose ingredients, and whose ATC code, are known.
        """
        kept = "FROM fates INNER JOIN spellings USING (spelling) WHERE fate = 'kept'"
        orders = "CAST(coalesce(sum(orders), 0) AS BIGINT)"
        rows, ingredient, atc = self._con.execute(
            f"SELECT {orders}, {orders.replace('sum(orders)', 'sum(orders) FILTER (mapped_ingredient)')}, "
            f"{orders.replace('sum(orders)', 'sum(orders) FILTER (mapped_atc)')} {kept}"
        ).fetchall()[0]
        unmapped = self._con.execute(
            f"SELECT name, {orders} {kept} AND NOT mapped_ingredient GROUP BY name ORDER BY 2 DESC, 1"
        ).fetchall()
        return {
            "level": self._settings.level.value,
            "spellings": self._one("SELECT count(*) FROM spellings"),
            "canonical": self._one("SELECT count(DISTINCT drug) FROM prescriptions"),
            "formulary": self._one("SELECT count(*) FROM formulary"),
            "samples with previous drugs": self._one("SELECT count(*) FROM samples WHERE previous_drugs IS NOT NULL"),
            "dropped": self._table(
                f"SELECT category, {orders} FROM fates INNER JOIN spellings USING (spelling) "
                "WHERE fate LIKE 'left out: category %' GROUP BY category ORDER BY category"
            ),
            "coverage": {"rows": rows, "mapped_ingredient": ingredient, "mapped_atc4": atc},
            "unmapped": [{"name": name, "orders": count} for name, count in unmapped],
        }

    def rules(self) -> list[dict[str, Any]]:
        """Return every cleaning rule of etl/vocabulary/rules.csv with the rows of its table that it touched."""
        rows = self._con.execute(
            "SELECT rule, source_table, source_column, low, high, unit, action, source FROM seed.rules ORDER BY rule"
        ).fetchall()
        names = ("rule", "table", "column", "low", "high", "unit", "action", "source")
        return [{**dict(zip(names, row, strict=True)), "touched": self._one(_RULES[row[0]])} for row in rows]

    def _one(self, query: str) -> int:
        return int(self._con.execute(query).fetchall()[0][0])

    def _table(self, query: str) -> dict[str, int]:
        return dict(self._con.execute(query).fetchall())
