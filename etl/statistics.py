"""Describe the cohort: who stands in each split, what is not known of them, what they were given.

Every section is a list of tables of one shape, so that one rule hides small cells in all of them:

    {"fact": "Sex", "levels": ["F", "M"], "sums": True, "smd": {"test": 0.12, "validation": 0.05},
     "columns": {"train": [{"admissions": 205, "patients": 79, "share": 0.41}, ...], ...}}

Cells hold counts, moments and quartiles, never a patient's value. Only the table `samples` is read; a fact whose
column it does not have is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np

from etl.domain import OTHER_RACE, RACES

Cell = dict[str, Any]
Table = dict[str, Any]

TOP = 30


@dataclass(frozen=True, slots=True)
class Fact:
    """What is told of every admission.

    Attributes:
        name: as printed, unit included.
        column: of `samples`, without which the fact is left out.
        sql: an expression over `samples`; empty: the column itself.
    """

    name: str
    column: str
    sql: str = ""

    @property
    def value(self) -> str:
        """The expression."""
        return self.sql or self.column


_RACE = f"""
    CASE regexp_extract(race, '^\\w+')
        {" ".join(f"WHEN '{word}' THEN {'NULL' if group is None else repr(group)}" for word, group in RACES.items())}
        ELSE if(race IS NULL, NULL, '{OTHER_RACE}')
    END"""
_ICD = "array_to_string(list_sort(list_distinct(list_transform(diagnoses, lambda d: d.icd_version))), ' and ICD-')"

TOTAL = Fact("Admissions", "hadm_id", "'all'")
DIAGNOSES = Fact("Diagnoses per admission", "diagnoses", "len(diagnoses)")
DRUGS = Fact("Drugs per admission", "drugs", "len(drugs)")
CODED = Fact("Diagnoses coded in", "diagnoses", f"'ICD-' || nullif({_ICD}, '')")
EARLIER = Fact("Earlier admission with drugs", "previous_drugs", "if(previous_drugs IS NULL, 'none', 'on file')")
NUMBERS = (
    Fact("Age, years", "age"),
    Fact("Height, cm", "height_cm"),
    Fact("Weight, kg", "weight_kg"),
    Fact("Body mass index, kg/m²", "bmi"),
    Fact("Systolic pressure, mmHg", "systolic_mmhg"),
    Fact("Diastolic pressure, mmHg", "diastolic_mmhg"),
    Fact("Creatinine, mg/dL", "creatinine_mg_dl"),
    Fact("eGFR, mL/min/1.73 m²", "egfr"),
    Fact("Potassium, mEq/L", "potassium_meq_l"),
)
LEVELS = (
    Fact("Sex", "sex"),
    Fact("Race", "race", _RACE),
    Fact("Admission type", "admission_type"),
    Fact("Years of the patient's anchor", "anchor_year_group"),
)
LISTS = (
    Fact("Diagnoses", "diagnoses", "nullif(len(diagnoses), 0)"),
    Fact("Drugs of an earlier admission", "previous_drugs"),
    Fact("Diagnoses of earlier admissions", "earlier_diagnoses", "nullif(len(earlier_diagnoses), 0)"),
    Fact("Current drugs", "current_drugs"),
)
AGES = (
    Fact("Height", "height_age_days"),
    Fact("Weight", "weight_age_days"),
    Fact("Body mass index", "bmi_age_days"),
    Fact("Blood pressure", "blood_pressure_age_days"),
)
_BINS = {DRUGS: 5, DIAGNOSES: 2}
_TITLE = "coalesce(item.title, 'no title') || ' (ICD-' || item.icd_version || ' ' || item.icd_code || ')'"
_ITEMS = {
    Fact("Drugs", "drugs"): ("unnest(drugs)", "item::VARCHAR"),
    Fact("Diagnoses", "diagnoses"): ("unnest(diagnoses)", _TITLE),
}
ASKED_FOR = ("diagnoses", "earlier_diagnoses", "current_drugs", "creatinine_mg_dl", "egfr", "potassium_meq_l")
"""Columns that a run fills only if its settings say so; told only where they hold anything."""


class Statistics:
    """The tables that describe `samples`, by split; differences are those of a split to train."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        """Look at a database whose models are built."""
        self._con = con
        columns = {row[0] for row in con.execute("DESCRIBE samples").fetchall()}
        empty = {name for name in columns & {*ASKED_FOR} if not self._known(name)}
        self._columns = columns - empty
        self._splits: dict[str, int] = dict(
            con.execute("SELECT split, count(*) FROM samples GROUP BY split ORDER BY split").fetchall()
        )

    def sections(self) -> dict[str, list[Table]]:
        """Return all tables, by section."""
        return {
            "table_one": [
                self._levels(TOTAL),
                *map(self._numbers, self._present((*NUMBERS, DIAGNOSES, DRUGS))),
                *map(self._levels, self._present((*LEVELS, CODED, EARLIER))),
            ],
            "missing": [self._missing(fact) for fact in self._present((*NUMBERS, *LEVELS, *LISTS))],
            "measurement_ages": [self._numbers(fact) for fact in self._present(AGES)],
            "histograms": [self._histogram(fact, _BINS[fact]) for fact in self._present(_BINS)],
            "top": [self._top(fact, *_ITEMS[fact]) for fact in self._present(_ITEMS)],
        }

    def _known(self, column: str) -> bool:
        return bool(self._con.execute(f"SELECT count({column}) FROM samples").fetchall()[0][0])

    def _present(self, facts: Iterable[Fact]) -> list[Fact]:
        return [fact for fact in facts if fact.column in self._columns]

    def _levels(self, fact: Fact) -> Table:
        """Return admissions and patients of each level, in the order of their names, unknown last."""
        counts = self._counts(fact.value)
        return self._counted(fact.name, counts, sorted({level for _, level in counts}, key=_unknown_last), str)

    def _missing(self, fact: Fact) -> Table:
        counts = self._counts(f"if(({fact.value}) IS NULL, 'unknown', 'known')")
        return self._counted(fact.name, counts, ["known", "unknown"], str)

    def _histogram(self, fact: Fact, width: int) -> Table:
        """Return counts by bins of `width`, empty ones between included: 0, 1-5, 6-10 and so on."""
        counts = self._counts(f"({fact.value} + {width - 1}) // {width}")
        found = {bin_ for _, bin_ in counts}
        bins = found - {None}
        levels = [*range(min(bins, default=0), max(bins, default=-1) + 1), *(found & {None})]
        label = lambda bin_: f"{(bin_ - 1) * width + 1}–{bin_ * width}" if bin_ else "0"  # noqa: E731
        return self._counted(fact.name, counts, levels, label)

    def _counts(self, value: str) -> dict[tuple[str, Any], tuple[int, int]]:
        """Return admissions and patients by split and value."""
        rows = self._con.execute(
            f"SELECT split, {value}, count(*), count(DISTINCT subject_id) FROM samples GROUP BY ALL"
        ).fetchall()
        return {(split, level): (admissions, patients) for split, level, admissions, patients in rows}

    def _counted(
        self, name: str, counts: dict[tuple[str, Any], tuple[int, int]], levels: list[Any], label: Callable[[Any], str]
    ) -> Table:
        columns = {
            split: [_share(*counts.get((split, level), (0, 0)), of=total) for level in levels]
            for split, total in self._splits.items()
        }
        labels = ["unknown" if level is None else label(level) for level in levels]
        smd = _differences(columns, _smd_levels)
        return {"fact": name, "levels": labels, "sums": True, "columns": columns, "smd": smd}

    def _numbers(self, fact: Fact) -> Table:
        """Return mean, standard deviation and quartiles of the values known, with the patients behind them."""
        rows = self._con.execute(
            f"""
            SELECT
                split, count(DISTINCT subject_id), avg(number), stddev_samp(number),
                quantile_cont(number, [0.25, 0.5, 0.75])
            FROM (SELECT split, subject_id, CAST({fact.value} AS DOUBLE) AS number FROM samples)
            WHERE number IS NOT NULL
            GROUP BY split
            """
        ).fetchall()
        columns = {split: [{"patients": 0}] for split in self._splits} | {
            split: [dict(zip(("patients", "mean", "sd", "q1", "median", "q3"), (n, mean, sd, *quartiles), strict=True))]
            for split, n, mean, sd, quartiles in rows
        }
        smd = _differences(columns, _smd_numbers)
        rounded = {
            split: [{name: None if x is None else round(x, 2) for name, x in cell.items()} for cell in cells]
            for split, cells in columns.items()
        }
        return {"fact": fact.name, "levels": [""], "sums": False, "columns": rounded, "smd": smd}

    def _top(self, fact: Fact, items: str, label: str) -> Table:
        """Return the items that most admissions hold, and their patients.

        A patient is one number with a bit for each item held: counting distinct patients item by item took
        five times as long.
        """
        rows = self._con.execute(
            f"""
            WITH held AS (SELECT subject_id, {items} AS item FROM samples),
            top AS (
                SELECT item, count(*) AS admissions, {label} AS label
                FROM held GROUP BY item ORDER BY admissions DESC, label LIMIT {TOP}
            ),
            ranked AS (SELECT *, row_number() OVER (ORDER BY admissions DESC, label) - 1 AS place FROM top),
            patients AS (
                SELECT bit_or(1::BIGINT << place) AS places
                FROM held INNER JOIN ranked USING (item) GROUP BY subject_id
            )
            SELECT label, admissions, count(*)
            FROM ranked INNER JOIN patients ON places >> place & 1 = 1
            GROUP BY place, label, admissions ORDER BY place
            """
        ).fetchall()
        total = sum(self._splits.values())
        cells = [_share(admissions, patients, of=total) for _, admissions, patients in rows]
        return {
            "fact": fact.name,
            "levels": [row[0] for row in rows],
            "sums": False,
            "columns": {"all": cells},
            "smd": {},
        }


def _unknown_last(level: str | None) -> tuple[bool, str]:
    return level is None, level or ""


def _share(admissions: int, patients: int, *, of: int) -> Cell:
    return {"admissions": admissions, "patients": patients, "share": round(admissions / of, 4)}


# --- standardised differences --------------------------------------------------------------------------


def _differences(
    columns: dict[str, list[Cell]], smd: Callable[[list[Cell], list[Cell]], float | None]
) -> dict[str, float | None]:
    train = columns.get("train")
    return {} if train is None else {name: smd(train, cells) for name, cells in columns.items() if name != "train"}


def _smd_numbers(one: list[Cell], other: list[Cell]) -> float | None:
    """Return |m₁ - m₂| / √((s₁² + s₂²) / 2); None where a split has under two values or none varies.

    Source: Austin, Stat Med 2009;28:3083-3107.
    """
    (a,), (b,) = one, other
    spread = ((a.get("sd") or 0) ** 2 + (b.get("sd") or 0) ** 2) / 2
    if a.get("sd") is None or b.get("sd") is None or not spread:
        return None
    return round(abs(a["mean"] - b["mean"]) / spread**0.5, 3)


def _smd_levels(one: list[Cell], other: list[Cell]) -> float | None:
    """Return √(d' S⁻¹ d), one number for all levels: the multinomial Mahalanobis distance.

    d is the difference of shares, S the mean of the two multinomial covariances; unknown is a level. With two
    levels it is |p₁ - p₂| / √((p₁q₁ + p₂q₂) / 2). None: the levels of one split do not occur in the other.

    Source: Yang and Dalton, SAS Global Forum 2012, paper 335.
    """
    p, q = (np.array([cell["admissions"] for cell in cells], float) for cells in (one, other))
    p, q = p / p.sum(), q / q.sum()
    covariance = (np.diag(p) - np.outer(p, p) + np.diag(q) - np.outer(q, q)) / 2
    inverse = np.linalg.pinv(covariance, hermitian=True)  # shares sum to 1, so one level too many is no matter
    if not np.allclose(covariance @ inverse @ (p - q), p - q):
        return None
    return round(float(max((p - q) @ inverse @ (p - q), 0) ** 0.5), 3)
