"""The subcommands `synth` and `etl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from etl.drug_vocabulary import CATEGORIES, DEFAULT_DROP, Level
from etl.settings import Codes, PredictAt, SplitBy


def synth(
    out: Annotated[Path, typer.Option(help="Folder to write: hosp/*.csv.gz, oracle.parquet, hospital.json.")],
    patients: Annotated[int, typer.Option(min=1, help="Patients; about 1.9 admissions each.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of everything drawn, the hospital's habits included.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the hospital that --out holds.")] = False,
) -> None:
    """Write a synthetic hospital as MIMIC-IV files."""
    from etl.progress import bar
    from etl.synth import write_hospital

    with bar("synthetic patients", total=patients) as told:
        made = write_hospital(out, patients, seed, overwrite=overwrite, on_patients=told)
    print(f"{made['admissions']} admissions with orders of {patients} synthetic patients in {out}")


def etl(
    mimic: Annotated[
        str,
        typer.Option(
            help="MIMIC-IV: a folder that holds hosp/ (csv.gz, csv or parquet), a DuckDB file as mimic-code builds it, "
            "or postgresql://..."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: samples, formulary, cohort.html, cohort.json.")],
    predict_at: Annotated[
        PredictAt, typer.Option(help="When the draft is asked for; measurements and drugs after it are not known.")
    ] = PredictAt.ADMISSION,
    within_hours: Annotated[
        int | None, typer.Option(help="Draft only what is ordered so soon after it; left out: the rest of the stay.")
    ] = None,
    codes: Annotated[
        Codes, typer.Option(help="ICD codes of this stay, which are assigned after discharge, or of earlier stays.")
    ] = Codes.STAY,
    level: Annotated[Level, typer.Option(help="What a drug is called in answers and scores.")] = Level.DRUG,
    drop: Annotated[
        str, typer.Option(help=f"Categories of orders left out, of {', '.join(CATEGORIES)}; empty: none.")
    ] = ",".join(DEFAULT_DROP),
    drug_map: Annotated[
        Path | None, typer.Option(help="CSV that says what drug names, GSNs or NDCs mean; goes before our vocabulary.")
    ] = None,
    split: Annotated[SplitBy, typer.Option(help="Deal patients by hash, by anchor_year_group, or into folds.")] = (
        SplitBy.PATIENT
    ),
    folds: Annotated[int, typer.Option(help="Folds of --split fold.")] = 5,
    fold: Annotated[int, typer.Option(help="The fold that is test; the next one is validation.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the split of patients into train, validation and test.")] = 0,
    labs: Annotated[bool, typer.Option("--labs", help="Read creatinine and potassium from labevents as well.")] = False,
    open_data: Annotated[
        bool, typer.Option("--open-data", help="The source may be shown in full: the report hides no small cell.")
    ] = False,
    memory_limit: Annotated[str, typer.Option(help="What DuckDB may use before it spills to disk.")] = "2GB",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")] = False,
) -> None:
    """Turn MIMIC-IV into one sample per admission, and a report on them."""
    from etl.build import build_cohort
    from etl.progress import stages
    from etl.settings import CohortSettings

    dropped = tuple(name for name in (part.strip() for part in drop.split(",")) if name)
    settings = CohortSettings(
        *(predict_at, within_hours, codes, level, dropped, drug_map, split, folds, fold, seed, labs, open_data)
    )
    with stages("etl") as told:
        cohort = build_cohort(mimic, out, settings, overwrite=overwrite, memory_limit=memory_limit, told=told)
    print(f"{cohort['source']['version']}, predicted at {predict_at}, level {level}, dropped: {drop or 'nothing'}")
    for step in cohort["flow"]:
        left = "" if step["excluded"] == 0 else f", {_shown(step['excluded'])} left out"
        print(f"{step['step']:<42} {_shown(step['admissions']):>9}{left}")
    for name, counts in cohort["splits"].items():
        admissions, patients = (counts["admissions"], counts["patients"]) if counts else (None, None)
        print(f"{name:<42} {_shown(admissions):>9} of {_shown(patients)} patients")
    print(f"{'drugs in the formulary':<42} {cohort['drugs']['formulary']:>9,}")
    for finding in cohort["audit"]:
        if finding["status"] == "fail":
            print(f"AUDIT FAILED: {finding['check']}: {finding['found']}, wanted {finding['wanted']}")
    hidden = "" if open_data else "; counts of few patients are hidden, --open-data shows them"
    print(f"report: {out / 'cohort.html'}{hidden}")


def _shown(count: int | None) -> str:
    return "few" if count is None else f"{count:,}"
