"""Write a cohort in the formats others read: chat, Alpaca, Hugging Face datasets, MEDS.

    OUT/...             files of one format; docs/formats.md shows each and how to open it
    OUT/export.json     format, rows per split, digests of the cohort and of the files; written last

Conversations are rendered and written one by one; of the cohort one split's samples are in memory. MEDS events are
DuckDB's, which spills.
Nothing here decides what data mean: texts come from `etl.cohort.read_prompts`, events from samples.parquet.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts, prompts
from etl.cohort import SPLITS, read_cohort, read_prompts
from etl.errors import ConfigError, ContractError

log = logging.getLogger(__name__)

MARKER = "export.json"
"""The file that says a folder is an export, and so may be replaced by another."""

_TOLD_EVERY = 1000

Row = dict[str, Any]


class Format(StrEnum):
    """What an export is written as."""

    CHAT = "chat"
    ALPACA = "alpaca"
    DATASETS = "datasets"
    MEDS = "meds"


def export(
    run: Path,
    out: Path,
    form: Format,
    splits: Sequence[str] = SPLITS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Write splits of the cohort `run` to the folder `out`; same cohort, same bytes.

    Args:
        run: a whole cohort, or an imported corpus.
        out: absent, empty, or an earlier export, which is replaced; it appears whole or not at all.
        form: what to write.
        splits: of train, validation and test.
        on_rows: told now and then how many rows are written.

    Returns:
        The content of export.json.

    Raises:
        ConfigError: `out` lies in `run`, or the splits hold no row.
        ContractError: `run` is no whole cohort or lacks what the format needs, or something else stands at `out`.
    """
    read_cohort(run)
    if out.resolve().is_relative_to(run.resolve()):
        raise ConfigError(f"--out {out} lies in the cohort {run}, which is only read; choose a folder outside it")
    artefacts.check_replaceable(out, MARKER, "rxdraft export")
    with artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        write = _write_meds if form is Format.MEDS else _write_conversations
        sections = write(run, folder, form, tuple(dict.fromkeys(splits)), on_rows)
        rows = sum(sections["splits"].values())
        if not rows:
            raise ConfigError(f"{run} has nothing in {', '.join(sections['splits'])}; choose another --split")
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        exported = {
            "cohort_sha256": artefacts.sha256_file(run / "cohort.json"),
            "format": form.value,
            "outputs": {path.relative_to(folder).as_posix(): artefacts.sha256_file(path) for path in written},
            **sections,
            "versions": {"duckdb": duckdb.__version__, "prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
        }
        artefacts.write_json(folder / MARKER, exported)
    log.info("%s export of %d rows written", form, rows)
    return exported


# --- conversations ------------------------------------------------------------------------------------


def _write_conversations(
    run: Path, folder: Path, form: Format, splits: Sequence[str], on_rows: Callable[[int], None]
) -> dict[str, Any]:
    """Write each split's conversations; return how many it has, as export.json tells it."""
    write = {Format.CHAT: _write_chat, Format.ALPACA: _write_alpaca, Format.DATASETS: _write_parquet}[form]
    counts = dict.fromkeys(splits, 0)

    def counted(split: str) -> Iterator[Row]:
        for row in read_prompts(run, split):
            yield row
            counts[split] += 1
            if counts[split] % _TOLD_EVERY == 0:
                on_rows(sum(counts.values()))

    for split in splits:
        write(folder, split, counted(split))
    on_rows(sum(counts.values()))
    if form is Format.DATASETS:
        # One empty split among the listed, and load_dataset opens none.
        (folder / "README.md").write_text(_card([split for split in splits if counts[split]]), "utf-8")
    return {"splits": counts}


def _write_chat(folder: Path, split: str, rows: Iterable[Row]) -> None:
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_alpaca(folder: Path, split: str, rows: Iterable[Row]) -> None:
    with (folder / f"{split}.json").open("w", encoding="utf-8") as file:
        begin = "[\n"
        for row in rows:
            file.write(begin + json.dumps(to_alpaca(row["messages"]), ensure_ascii=False))
            begin = ",\n"
        file.write("\n]\n" if begin == ",\n" else "[]\n")


def to_alpaca(messages: Sequence[prompts.Message]) -> dict[str, Any]:
    """Return a conversation as an Alpaca item; turns before the last are its history.

    The system text, which is what the user's text is to be read under, becomes the instruction. A conversation
    without one has its last question there.

    >>> to_alpaca([{"role": "user", "content": "Age: 67"}, {"role": "assistant", "content": "aspirin"}])
    {'instruction': 'Age: 67', 'input': '', 'output': 'aspirin'}
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    texts = [message["content"] for message in messages if message["role"] != "system"]
    *earlier, question, answer = texts
    instruction, given = (system[0], question) if system else (question, "")
    history = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    return {"instruction": instruction, "input": given, "output": answer, **({"history": history} if history else {})}


def _write_parquet(folder: Path, split: str, rows: Iterable[Row]) -> None:
    """Write a split as the shard that `load_dataset` looks for."""
    _write_chat(folder, split, rows)
    lines = folder / f"{split}.jsonl"
    (folder / "data").mkdir(exist_ok=True)
    with _connect() as con:
        _copy(con, _PARQUET_ROWS, folder / "data" / f"{split}-00000-of-00001.parquet", lines=str(lines))
    lines.unlink()


_PARQUET_ROWS = """
    FROM read_json(
        $lines,
        format = 'newline_delimited',
        columns = {subject_id: 'BIGINT', hadm_id: 'BIGINT', messages: 'STRUCT("role" VARCHAR, content VARCHAR)[]'},
        maximum_object_size = 1 << 30
    )
"""


def _card(splits: Sequence[str]) -> str:
    """Return the README.md that tells `load_dataset` which file is which split."""
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in splits)
    return _CARD.replace("FILES", files)


_CARD = """---
license: other
license_name: terms-of-the-source
task_categories:
- text-generation
configs:
- config_name: default
  data_files:
FILES
dataset_info:
  features:
  - name: subject_id
    dtype: int64
  - name: hadm_id
    dtype: int64
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
---

# Conversations of an rxdraft cohort

One row per conversation; its last message is the answer to learn. Of an admission the question says what is
known, the answer which drugs were prescribed. No `subject_id` stands in two splits. Made by `rxdraft export`;
`export.json` names the cohort.

**Terms.** These rows are under the terms of what they were made from. MIMIC-IV is credentialed: its data use
agreement covers everything derived from it, and does not allow uploading it to a hub.
"""


# --- events -------------------------------------------------------------------------------------------

MEDS_VERSION = "0.4.1"
"""The Medical Event Data Standard that the events follow (meds, schema.py)."""

_MEDS_SPLITS = {"train": "train", "validation": "tuning", "test": "held_out"}


def _write_meds(
    run: Path, folder: Path, form: Format, splits: Sequence[str], on_rows: Callable[[int], None]
) -> dict[str, Any]:
    """Write each split's events, the codes, the split of each subject and the metadata.

    Returns:
        Events per split, and those that have no place in time and are left out, as export.json tells them.
    """
    counts = dict.fromkeys(splits, 0)
    metadata = folder / "metadata"
    metadata.mkdir()
    with _connect() as con:
        _open_samples(con, run)
        for split in splits:
            shard = folder / "data" / _MEDS_SPLITS[split] / "0.parquet"
            shard.parent.mkdir(parents=True)
            counts[split] = _copy(con, _SHARD, shard, split=split)
            on_rows(sum(counts.values()))
        [(untimed,)] = con.execute(_UNTIMED, {"splits": splits}).fetchall()
        _copy(con, _CODES, metadata / "codes.parquet", splits=splits)
        _copy(con, _SUBJECTS, metadata / "subject_splits.parquet", splits=splits, names=_MEDS_SPLITS)
    dataset = {
        "dataset_name": "rxdraft cohort",
        "etl_name": "rxdraft",
        "etl_version": version("rxdraft"),
        "meds_version": MEDS_VERSION,
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


# --- files --------------------------------------------------------------------------------------------


def _connect() -> duckdb.DuckDBPyConnection:
    # One thread, so that rows fall into the same row groups on every machine.
    return duckdb.connect(config={"threads": 1})


def _copy(con: duckdb.DuckDBPyConnection, query: str, path: Path, **parameters: Any) -> int:
    """Write a query's rows as Parquet; return how many they are."""
    copy = f"COPY ({query}) TO $path (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 30720)"
    return con.execute(copy, {**parameters, "path": str(path)}).fetchall()[0][0]
