"""Turn a MIMIC-IV folder into a cohort: samples, formulary, prompts, and an account of what was left out.

    RUN/samples.parquet        one row per admission (sql/samples.sql)
    RUN/formulary.parquet      canonical drugs of the training split (sql/formulary.sql)
    RUN/icd_titles.parquet     code, version, title (sql/icd_titles.sql)
    RUN/prompts/SPLIT.jsonl    one conversation per admission (etl/prompts.py)
    RUN/cohort.json            flow, counts, digests, versions; written last

Same input, same bytes: no clock, no path and no thread decides a byte.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from etl import artefacts, prompts, source, warehouse
from etl.account import MEASUREMENTS, Account
from etl.domain import Admission, Diagnosis, Split
from etl.drugs import normalise_drug
from etl.errors import ContractError, SourceDataError

log = logging.getLogger(__name__)

SPLITS = tuple(split.value for split in Split)
FORMAT = 1
"""Version of the folder's layout."""


def build_cohort(
    mimic: Path,
    out: Path,
    *,
    seed: int = 0,
    overwrite: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Build `out` from the MIMIC-IV folder `mimic`, or find it whole and leave it.

    Args:
        mimic: holds hosp/ with csv.gz, csv or parquet files; mixtures will do.
        out: the cohort's folder; it appears whole or not at all.
        seed: of the split, with the patient's number.
        overwrite: replace a cohort that came from other files, another seed or another version.
        on_stage: told the name of each stage when it begins.

    Returns:
        The content of cohort.json.

    Raises:
        SourceDataError: see `etl.source`.
        ContractError: `out` holds something else than this cohort; nothing is touched.
    """
    found = source.find_files(mimic)
    artefacts.check_replaceable(out, "cohort.json", "rxdraft etl")
    on_stage("digests")
    origin = {
        "format": FORMAT,
        "inputs": source.digests(mimic, found),
        "seed": seed,
        "versions": {"duckdb": duckdb.__version__, "prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
    }
    if (out / "cohort.json").exists() and not overwrite:
        return _whole(out, origin)
    with artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        with duckdb.connect() as con:
            _prepare(con, seed)
            on_stage("source files")
            read = source.load(con, found)
            warehouse.run_models(con, warehouse.read_models(), on_stage)
            counts = Account(con, read).sections()
            _check_not_empty(counts)
            on_stage("parquet")
            for table in ("samples", "formulary", "icd_titles"):
                target = str(folder / f"{table}.parquet").replace("'", "''")
                con.execute(f"COPY (FROM {table}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)").fetchall()
        on_stage("prompts")
        _write_prompts(folder)
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        cohort = {
            **origin,
            **counts,
            "outputs": {str(path.relative_to(folder)): artefacts.sha256_file(path) for path in written},
        }
        artefacts.write_json(folder / "cohort.json", cohort)
    log.info("cohort of %d admissions written", counts["flow"][-1]["admissions"])
    return cohort


def read_cohort(run: Path) -> dict[str, Any]:
    """Return the content of a whole cohort's cohort.json.

    Raises:
        ContractError: the folder is unfinished, of another layout, or a file is missing.
    """
    cohort = artefacts.read_json(run / "cohort.json", "rxdraft etl")
    if cohort.get("format") != FORMAT:
        raise ContractError(
            f"{run} has layout {cohort.get('format')}, wanted {FORMAT}; make it again with `rxdraft etl`"
        )
    gone = [name for name in cohort["outputs"] if not (run / name).is_file()]
    if gone:
        raise ContractError(f"{run} lacks {', '.join(gone)}; make it again with `rxdraft etl --overwrite`")
    return cohort


def read_samples(run: Path, split: str) -> pl.DataFrame:
    """Return one split of samples.parquet, in the order of subject_id and admission."""
    return pl.read_parquet(run / "samples.parquet").filter(pl.col("split") == split)


def read_prompts(run: Path, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one split's prompts: hadm_id, subject_id and messages, answer included."""
    with (run / "prompts" / f"{split}.jsonl").open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def to_admission(sample: dict[str, Any]) -> Admission:
    """Return the facts of one row of samples.parquet; the drugs of the stay, its answer, are left out."""
    previous = sample["previous_drugs"]
    return Admission(
        diagnoses=tuple(Diagnosis(d["icd_code"], d["icd_version"], d["title"]) for d in sample["diagnoses"]),
        previous_drugs=None if previous is None else tuple(previous),
        **{name: sample[name] for name in ("age", "sex", *MEASUREMENTS)},
    )


def _prepare(con: duckdb.DuckDBPyConnection, seed: int) -> None:
    """Lay out what the SQL leans on besides the source: seeds, settings and the normaliser."""
    # One CSV row group after another: without it the order of rows, and so the bytes, would vary.
    con.execute("SET preserve_insertion_order = true").fetchall()
    con.create_function("normalise_drug", normalise_drug, ["VARCHAR"], "VARCHAR")
    con.execute("CREATE TABLE settings AS SELECT ?::VARCHAR AS split_seed", [str(seed)]).fetchall()
    con.execute("CREATE SCHEMA seed").fetchall()
    with as_file(files("etl") / "vocabulary" / "measurements.csv") as path:
        con.execute("CREATE TABLE seed.measurements AS FROM read_csv(?, header = true)", [str(path)]).fetchall()


def _check_not_empty(counts: dict[str, Any]) -> None:
    if not counts["flow"][-1]["admissions"]:
        left = "; ".join(f"{step['step']}: {step['admissions']}" for step in counts["flow"])
        raise SourceDataError(f"no admission is left ({left}); do the files belong to one release?")


def _write_prompts(folder: Path) -> None:
    """Write each split's conversations, in the order of samples.parquet; an empty split is an empty file."""
    samples = pl.read_parquet(folder / "samples.parquet")
    (folder / "prompts").mkdir()
    for split in SPLITS:
        with (folder / "prompts" / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for sample in samples.filter(pl.col("split") == split).iter_rows(named=True):
                answer = {"role": "assistant", "content": prompts.render_answer(sample["drugs"])}
                row = {
                    "subject_id": sample["subject_id"],
                    "hadm_id": sample["hadm_id"],
                    "messages": [*prompts.render_prompt(to_admission(sample)), answer],
                }
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _whole(out: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the cohort that stands at `out` if it is the one asked for."""
    cohort = read_cohort(out)
    other = [name for name in origin if cohort.get(name) != origin[name]]
    if other:
        raise ContractError(
            f"{out} holds a cohort that differs in {', '.join(other)}; "
            "choose another --out, or replace it with --overwrite"
        )
    log.info("cohort is whole, nothing to do")
    return cohort
