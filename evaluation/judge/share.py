"""Verdicts for others: no text of a chart, no identifier of MIMIC-IV; enough to recompute the table.

    verdicts.csv   the ledger without evidence and raw answers
    rows.csv       row, patient, visit, context_hmac, drug, verdict, approval, weight

Patients, visits and charts have names made with the ledger's secret, which stays behind. Verdicts on credentialed
data remain derived data: their terms say who may see them.
"""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl

from etl import artefacts
from etl.errors import ContractError
from evaluation.judge.appropriateness import FOLDER
from evaluation.judge.ledger import Ledger, open_ledger


def export(evaluation: Path, ledger_path: Path | None, out: Path) -> dict[str, int]:
    """Write what may be shared; return the number of rows of each file.

    Raises:
        ContractError: the evaluation is not judged, or `out` holds something else.
    """
    verdicts, units = (evaluation / FOLDER / name for name in ("verdicts.parquet", "units.parquet"))
    if not verdicts.is_file() or not units.is_file():
        raise ContractError(f"{evaluation} is not judged; run `rxdraft judge` first")
    path = ledger_path or evaluation / FOLDER / "ledger.sqlite"
    if not path.is_file():
        raise ContractError(f"{path} is missing; give the ledger of this judgement with --ledger")
    artefacts.check_replaceable(out, "verdicts.csv", "rxdraft judge export")
    with open_ledger(path) as ledger, artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        columns, rows = ledger.rows_without_text()
        with (folder / "verdicts.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([columns, *rows])
        table = _named(pl.read_parquet(verdicts), pl.read_parquet(units), ledger)
        table.write_csv(folder / "rows.csv")
    return {"verdicts.csv": len(rows), "rows.csv": table.height}


def _named(verdicts: pl.DataFrame, units: pl.DataFrame, ledger: Ledger) -> pl.DataFrame:
    """Replace every identifier by a name."""
    contexts = units.select("hadm_id", "context_hmac").unique()

    def name(column: str) -> pl.Expr:
        names = {value: ledger.name_context(f"{column} {value}") for value in verdicts[column].unique()}
        return pl.col(column).replace_strict(names, return_dtype=pl.String)

    return (
        verdicts.join(contexts, on="hadm_id", how="left", maintain_order="left")
        .select(
            "row",
            name("subject_id").alias("patient"),
            name("hadm_id").alias("visit"),
            *("context_hmac", "drug", "verdict", "approval", "weight"),
        )
        .sort("row", "patient", "visit", "drug")
    )
