"""Write the admissions of a cohort as events of the Medical Event Data Standard.

    OUT/data/SPLIT/0.parquet             one row per event, by subject and time
    OUT/metadata/codes.parquet           what each code means
    OUT/metadata/subject_splits.parquet  the split of each subject
    OUT/metadata/dataset.json            who made it

Events are made of samples.parquet alone, by DuckDB, which spills. Nothing here decides what data mean.
Source: meds 0.4.1, schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts, parquet
from etl.errors import ContractError

VERSION = "0.4.1"
"""The Medical Event Data Standard that the events follow (meds, schema.py)."""

_SPLITS = {"train": "train", "validation": "tuning", "test": "held_out"}


def write_meds(run: Path, folder: Path, splits: Sequence[str], on_rows: Callable[[int], None]) -> dict[str, Any]:
    """Write each split's events, the codes, the split of each subject and the metadata.

    Returns:
        Events per split, and those that have no place in time and are left out, as export.json tells them.

    Raises:
        ContractError: the run holds conversations but no admissions.
    """
    counts = dict.fromkeys(splits, 0)
    metadata = folder / "metadata"
    metadata.mkdir()
    with parquet.connect() as con:
        _open_samples(con, run)
        for split in splits:
            shard = folder / "data" / _SPLITS[split] / "0.parquet"
            shard.parent.mkdir(parents=True)
            counts[split] = parquet.copy(con, _SHARD, shard, split=split)
            on_rows(sum(counts.values()))
        [(untimed,)] = con.execute(_UNTIMED, {"splits": splits}).fetchall()
        parquet.copy(con, _CODES, metadata / "codes.parquet", splits=splits)
        parquet.copy(con, _SUBJECTS, metadata / "subject_splits.parquet", splits=splits, names=_SPLITS)
    dataset = {
        "dataset_name": "rxdraft cohort",
        "etl_name": "rxdraft",
        "etl_version": version("rxdraft"),
        "meds_version": VERSION,
        "raw_source_id_columns": ["hadm_id"],
    }
    artefacts.write_json(metadata / "dataset.json", dataset)
    return {"splits": counts, "left out: no time is known": untimed}


def _open_samples(con: duckdb.DuckDBPyConnection, run: Path) -> None:
    """Make the views `samples`, `facts` and, of those with a place in time, `events`.

    Raises:
        ContractError: there are no admissions.
    """
    path = run / "samples.parquet"
    if not path.is_file():
        raise ContractError(f"{run} holds no admissions, which MEDS needs; choose --format chat, alpaca or datasets")
    con.read_parquet(str(path)).create_view("samples")
    con.execute(_FACTS).fetchall()
    con.execute(f"CREATE VIEW events AS FROM facts WHERE {_PLACED}").fetchall()


# To MEDS an event without a time was always so: of a drug without one that would be a lie.
_PLACED = "(time IS NOT NULL OR starts_with(code, 'GENDER//'))"

# Each fact stands where it is known at the latest: what was ordered or coded in a stay at its end, for samples hold
# no order's own time. A body measurement counts from the beginning of its day on and belongs to no stay.
_FACTS = """
    CREATE VIEW facts (split, subject_id, hadm_id, time, code, numeric_value, description) AS
    SELECT DISTINCT split, subject_id, NULL, NULL::TIMESTAMP, 'GENDER//' || sex, NULL, NULL
    FROM samples
    WHERE sex IS NOT NULL
    UNION ALL
    SELECT split, subject_id, hadm_id, admittime, concat_ws('//', 'HOSPITAL_ADMISSION', admission_type), NULL, NULL
    FROM samples
    UNION ALL
    SELECT split, subject_id, hadm_id, dischtime, 'HOSPITAL_DISCHARGE', NULL, NULL FROM samples
    UNION ALL
    SELECT split, subject_id, hadm_id, admittime, 'AGE', age, NULL FROM samples WHERE age IS NOT NULL
    UNION ALL
    SELECT split, subject_id, hadm_id, admittime, 'RACE//' || race, NULL, NULL FROM samples WHERE race IS NOT NULL
    UNION ALL
    SELECT split, subject_id, hadm_id, predict_time, 'DRUG//' || unnest(current_drugs), NULL, NULL FROM samples
    UNION ALL
    SELECT split, subject_id, hadm_id, dischtime, 'DRUG//' || unnest(drugs), NULL, NULL FROM samples
    UNION ALL
    SELECT
        split, subject_id, hadm_id, known,
        'DIAGNOSIS//ICD' || diagnosis.icd_version || 'CM//' || diagnosis.icd_code, NULL, diagnosis.title
    FROM (
        SELECT
            *,
            CASE WHEN diagnoses IS NULL THEN admittime ELSE dischtime END AS known,
            unnest(coalesce(diagnoses, earlier_diagnoses)) AS diagnosis
        FROM samples
    )
    UNION ALL
    SELECT split, subject_id, hadm_id, predict_time, 'LAB//' || quantity, reading, NULL
    FROM (UNPIVOT samples ON creatinine_mg_dl, egfr, potassium_meq_l INTO NAME quantity VALUE reading)
    UNION ALL
    SELECT DISTINCT
        split, subject_id, NULL, CAST(predict_time AS DATE) - CAST(measured.age_days AS INTEGER),
        'OMR//' || measured.quantity, measured.reading, NULL
    FROM (
        SELECT
            *,
            unnest([
                {'quantity': 'height_cm', 'reading': height_cm, 'age_days': height_age_days},
                {'quantity': 'weight_kg', 'reading': weight_kg, 'age_days': weight_age_days},
                {'quantity': 'bmi', 'reading': bmi, 'age_days': bmi_age_days},
                {'quantity': 'systolic_mmhg', 'reading': systolic_mmhg, 'age_days': blood_pressure_age_days},
                {'quantity': 'diastolic_mmhg', 'reading': diastolic_mmhg, 'age_days': blood_pressure_age_days}
            ]) AS measured
        FROM samples
    )
    WHERE measured.reading IS NOT NULL
"""

_UNTIMED = f"SELECT count(*) FROM facts WHERE split IN (SELECT unnest($splits)) AND NOT {_PLACED}"

_SHARD = """
    SELECT subject_id, time, code, CAST(numeric_value AS FLOAT) AS numeric_value, hadm_id
    FROM events
    WHERE split = $split
    ORDER BY subject_id, time NULLS FIRST, hadm_id, code
"""

_CODES = """
    SELECT code, max(description) AS description, NULL::VARCHAR[] AS parent_codes
    FROM events
    WHERE split IN (SELECT unnest($splits))
    GROUP BY code
    ORDER BY code
"""

_SUBJECTS = """
    SELECT DISTINCT subject_id, CAST($names AS MAP(VARCHAR, VARCHAR))[split] AS split
    FROM samples
    WHERE split IN (SELECT unnest($splits))
    ORDER BY subject_id
"""
