"""The subcommands `synth` and `etl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    mimic: Annotated[Path, typer.Option(help="MIMIC-IV folder that holds hosp/ (csv.gz, csv or parquet).")],
    out: Annotated[Path, typer.Option(help="Folder to write: samples, formulary, prompts, cohort.json.")],
    seed: Annotated[int, typer.Option(help="Of the split of patients into train, validation and test.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what --out holds.")] = False,
) -> None:
    """Turn MIMIC-IV files into one sample per admission, and prompts."""
    from etl.cohort import build_cohort
    from etl.progress import stages

    with stages("etl") as told:
        cohort = build_cohort(mimic, out, seed=seed, overwrite=overwrite, on_stage=told)
    for step in cohort["flow"]:
        left = f", {step['excluded']} left out" if step["excluded"] else ""
        print(f"{step['step']:<24} {step['admissions']:>9,}{left}")
    for split, counts in cohort["splits"].items():
        print(f"{split:<24} {counts['admissions']:>9,} of {counts['patients']:,} patients")
    print(f"{'drugs in the formulary':<24} {cohort['drugs']['formulary']:>9,}")
