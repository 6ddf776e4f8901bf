"""Build a cohort from MIMIC-IV: load, run sql/, count, describe, write.

Same input and settings, same bytes: no clock, no path, no thread and no order of rows decides a byte.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts, prompts, source, warehouse
from etl.account import Account
from etl.audit import audit
from etl.cohort import FORMAT, check_same
from etl.drug_map import DrugMap, read_drug_map
from etl.drug_vocabulary import DrugVocabulary, Level, read_drug_vocabulary
from etl.errors import ConfigError, ContractError, SourceDataError
from etl.icd import category
from etl.report import render_report
from etl.settings import CohortSettings, SplitBy
from etl.statistics import Statistics
from etl.suppression import MINIMUM, suppress_counts, suppress_statistics
from etl.workspace import MEMORY_LIMIT, workspace

log = logging.getLogger(__name__)

Told = Callable[[str, int, int], None]
"""Is told which stage runs, how much of it is done, and of how much; 0 of 0 where nobody knows."""

_MEANING = "STRUCT(name VARCHAR, category VARCHAR, labels VARCHAR[], mapped_ingredient BOOLEAN, mapped_atc BOOLEAN)"
_SEEDS = ("labs", "measurements", "rules")


def build_cohort(
    mimic: Path | str,
    out: Path,
    settings: CohortSettings | None = None,
    *,
    overwrite: bool = False,
    memory_limit: str = MEMORY_LIMIT,
    told: Told = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Build `out` from MIMIC-IV, or find it whole and leave it.

    Args:
        mimic: a folder that holds hosp/, a DuckDB file or a PostgreSQL connection string; see `etl.source`.
        out: the cohort's folder; it appears whole or not at all.
        settings: what the cohort is asked to be; None: the defaults.
        overwrite: replace a cohort that came from other files, settings or versions.
        memory_limit: see `etl.workspace`.
        told: see `Told`.

    Returns:
        The content of cohort.json.

    Raises:
        SourceDataError: see `etl.source`.
        ConfigError: settings contradict each other or the data.
        ContractError: `out` holds something else than this cohort; nothing is touched.
    """
    settings = settings or CohortSettings()
    settings.check()
    told = _logged(told)
    drug_map = read_drug_map(settings.drug_map) if settings.drug_map else None
    vocabulary = read_drug_vocabulary(settings.drug_map)
    tables = source.needed(labs=settings.labs, drug_map=drug_map)
    found = source.open_source(mimic, tables)
    artefacts.check_replaceable(out, "cohort.json", "rxdraft etl")
    origin = {
        "format": FORMAT,
        "settings": settings.described(),
        "sql": artefacts.sha256("".join(model.query for model in warehouse.read_models()).encode()),
        "vocabulary": vocabulary.digest,
        "versions": {"duckdb": duckdb.__version__, "prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
    }
    if (out / "cohort.json").exists() and not overwrite:
        told("digests", 0, 0)
        if (inputs := found.digests()) is not None:
            return check_same(out, {**origin, "inputs": inputs})
        raise ContractError(f"{out} holds a cohort, and nothing tells whether {found.kind} changed; give --overwrite")
    stamps = found.stamps()
    with workspace(out, {**origin, "stamps": stamps} if stamps else None, memory_limit) as con:
        _lay_out(con, settings, vocabulary, drug_map)
        origin["inputs"] = _load(con, found, tables, told)
        _check_years(con, settings)
        con.execute("SET preserve_insertion_order = true").fetchall()  # a sorted table stays sorted
        warehouse.run_models(con, warehouse.read_models(), lambda table: told(table, 0, 0))
        told("report", 0, 0)
        cohort = {
            **origin,
            "source": {"kind": found.kind, "version": source.release(found, con)},
            **_describe(con, settings),
        }
        with artefacts.whole_or_absent(out) as folder:
            folder.mkdir()
            told("parquet", 0, 0)
            for table in ("samples", "formulary", "icd_titles", "evidence"):
                target = str(folder / f"{table}.parquet").replace("'", "''")
                con.execute(f"COPY (FROM {table}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)").fetchall()
            if drug_map:
                (folder / "drug_map.csv").write_bytes(settings.drug_map.read_bytes())  # type: ignore[union-attr]
            (folder / "cohort.html").write_text(render_report(cohort), "utf-8")
            cohort["outputs"] = {path.name: artefacts.sha256_file(path) for path in sorted(folder.iterdir())}
            artefacts.write_json(folder / "cohort.json", cohort)
    told("end", 0, 0)
    log.info("cohort of %d admissions written", cohort["flow"][-1]["admissions"])
    return cohort


def _load(
    con: duckdb.DuckDBPyConnection, found: source.Source, tables: dict[str, source.Columns], told: Told
) -> dict[str, str] | None:
    """Load the tables that do not stand yet, two at a time: while one waits for its chunk, the other is parsed.

    Returns:
        The digests of the source, taken beside.

    Raises:
        SourceDataError: of the table that failed first; the others are interrupted, what is finished stands.
    """
    missing = [table for table in tables if not warehouse.has_table(con, table, "raw")]
    cursors = {table: con.cursor() for table in sorted(missing, key=found.size, reverse=True)}
    with ThreadPoolExecutor(2, thread_name_prefix="load") as pool:
        loads: list[Future[Any]] = [
            pool.submit(source.load, cursor, found, table, tables[table], functools.partial(told, f"load {table}"))
            for table, cursor in cursors.items()
        ]
        loads.append(digests := pool.submit(found.digests))
        try:
            for load in as_completed(loads):
                load.result()
        except BaseException:
            for load in loads:
                load.cancel()
            for cursor in cursors.values():
                cursor.interrupt()
            raise
        finally:
            wait(loads)
            for cursor in cursors.values():
                cursor.close()
    return digests.result()


def _logged(told: Told) -> Told:
    """Log how long each stage took when the next one begins; all loads are one."""
    running, began = "start", time.perf_counter()

    def logged(stage: str, done: int, total: int) -> None:
        nonlocal running, began
        name = stage.split()[0]
        if name != running:
            log.info("%s: %.2f s", running, time.perf_counter() - began)
            running, began = name, time.perf_counter()
        told(stage, done, total)

    return logged


def _lay_out(
    con: duckdb.DuckDBPyConnection, settings: CohortSettings, vocabulary: DrugVocabulary, drug_map: DrugMap | None
) -> None:
    """Lay out what the SQL leans on besides the source: functions, seeds and settings."""
    # Rows arrive in any order and no query asks for it: their order costs a thread its work.
    con.execute("SET preserve_insertion_order = false").fetchall()
    meaning = functools.partial(_meaning, vocabulary, settings.level)
    con.create_function("drug_meaning", meaning, ["VARCHAR"], _MEANING)
    con.create_function("icd_category", category, ["VARCHAR", "INTEGER"], "VARCHAR")
    if warehouse.has_table(con, "settings"):
        return
    with warehouse.transaction(con):
        con.execute("CREATE SCHEMA raw; CREATE SCHEMA seed").fetchall()
        con.execute("CREATE TABLE loaded (source_table VARCHAR, rows_read BIGINT)").fetchall()
        if not settings.labs:  # sql/labs.sql then finds nothing
            kinds = ", ".join(f"{name} {kind}" for name, kind in source.LABEVENTS.items())
            con.execute(f"CREATE TABLE raw.labevents ({kinds})").fetchall()
        for seed in _SEEDS:
            with as_file(files("etl") / "vocabulary" / f"{seed}.csv") as path:
                con.execute(f"CREATE TABLE seed.{seed} AS FROM read_csv(?, header = true)", [str(path)]).fetchall()
        names = drug_map.names if drug_map else {}
        con.execute(
            "CREATE TABLE seed.drug_map AS SELECT unnest(?::VARCHAR[]) AS key, unnest(?::VARCHAR[]) AS name",
            [list(names), list(names.values())],
        ).fetchall()
        con.execute(
            "CREATE TABLE settings AS SELECT ?::VARCHAR AS predict_at, ?::INTEGER AS within_hours, "
            "?::VARCHAR AS codes, ?::VARCHAR[] AS dropped, ?::VARCHAR AS split, ?::INTEGER AS folds, "
            "?::INTEGER AS fold, ?::VARCHAR AS split_seed, ?::INTEGER AS fewest_patients",
            [
                *(settings.predict_at.value, settings.within_hours, settings.codes.value, list(settings.drop)),
                *(settings.split.value, settings.folds, settings.fold, str(settings.seed)),
                1 if settings.open_data else MINIMUM,
            ],
        ).fetchall()


def _meaning(vocabulary: DrugVocabulary, level: Level, spelling: str) -> dict[str, Any]:
    """Say what a spelling means, as sql/spellings.sql asks for it."""
    drug = vocabulary.look_up(spelling)
    return {
        "name": drug.name,
        "category": drug.category,
        "labels": list(vocabulary.labels(spelling, level)),
        "mapped_ingredient": bool(drug.ingredients),
        "mapped_atc": bool(drug.atc),
    }


def _describe(con: duckdb.DuckDBPyConnection, settings: CohortSettings) -> dict[str, Any]:
    """Return what cohort.json says of the tables: the account of every row, statistics, the audit."""
    counts = Account(con, settings).sections()
    if not counts["flow"][-1]["admissions"]:
        left = "; ".join(f"{step['step']}: {step['admissions']}" for step in counts["flow"])
        raise SourceDataError(f"no admission is left ({left}); do the files belong to one release?")
    statistics, findings = Statistics(con).sections(), audit(con, counts["orders"])
    if not settings.open_data:
        counts, statistics = suppress_counts(counts), suppress_statistics(statistics)
    return {**counts, "statistics": statistics, "audit": findings}


def _check_years(con: duckdb.DuckDBPyConnection, settings: CohortSettings) -> None:
    if settings.split is not SplitBy.TIME:
        return
    groups = con.execute("SELECT count(DISTINCT anchor_year_group) FROM raw.patients").fetchall()[0][0]
    if groups < 3:
        raise ConfigError(
            f"--split time needs 3 or more anchor_year_group values, found {groups}; choose --split patient or fold"
        )
