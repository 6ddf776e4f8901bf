"""An evaluation of drafts that were never a model's, over the tiny cohort, and raters wrong as often as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

Fill = Callable[..., None]


@pytest.fixture(scope="session")
def drafted(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rows' drafts for the training split, which has the most patients; a judge who objects to every seventh."""
    from etl.artefacts import sha256_file
    from etl.cohort import read_samples
    from evaluation.judge.items import read_charts, read_drafts

    folder = tmp_path_factory.mktemp("evaluation") / "evaluation"
    samples = read_samples(tiny_cohort, "train")
    formulary = pl.read_parquet(tiny_cohort / "formulary.parquet")["drug"].to_list()
    origin = {"cohort_sha256": sha256_file(tiny_cohort / "cohort.json"), "split": "train"}
    rng = np.random.default_rng(0)
    (folder / "predictions").mkdir(parents=True)
    for row, kept in (("rank-16-step-000060", 0.5), ("rank-32-step-000060", 0.7)):
        drafts = [
            [d for d in drugs if rng.random() < kept] + [formulary[i] for i in rng.integers(0, 40, 4)]
            for drugs in samples["drugs"]
        ]
        samples.select("subject_id", "hadm_id").with_columns(
            pl.lit("ok").alias("outcome"),
            pl.Series("drugs", [list(dict.fromkeys(drugs)) for drugs in drafts], dtype=pl.List(pl.String)),
        ).write_parquet(folder / "predictions" / f"{row}.parquet", metadata={"rxdraft": json.dumps(origin)})
    units = read_drafts(folder, read_charts(tiny_cohort, "train")).select(
        "row", "hadm_id", pl.col("label").alias("drug")
    )
    objects = (pl.int_range(pl.len()) % 7 == 0).alias("objects")
    said = units.select("hadm_id", "drug").unique().sort("hadm_id", "drug").with_columns(objects)
    verdict = pl.when("objects").then(pl.lit("inappropriate")).otherwise(pl.lit("appropriate")).alias("verdict")
    (folder / "judge").mkdir()
    units.join(said, on=["hadm_id", "drug"]).with_columns(verdict).write_parquet(folder / "judge" / "verdicts.parquet")
    return folder


@pytest.fixture(scope="session")
def made(drafted: Path, tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A review of 120 items for two raters, as it was made; copy it to work on it."""
    from evaluation.review.drawing import Settings
    from evaluation.review.make import make_review

    folder = tmp_path_factory.mktemp("review") / "review"
    make_review(drafted, tiny_cohort, folder, Settings(n=120))
    return folder


@pytest.fixture
def review(made: Path, tmp_path: Path) -> Path:
    """A copy of that review."""
    import shutil

    return Path(shutil.copytree(made, tmp_path / "review"))


class Scripted:
    """What the scripted raters know and say."""

    @staticmethod
    def key(folder: Path) -> dict[str, dict[str, str]]:
        return {
            row["item_id"]: row for row in pl.read_csv(folder / "key.csv", infer_schema=False).iter_rows(named=True)
        }

    @classmethod
    def drafted(cls, folder: Path) -> dict[str, dict[str, str]]:
        return {item_id: item for item_id, item in cls.key(folder).items() if item["kind"] == "drafted"}

    @staticmethod
    def truth(item: dict[str, str]) -> str:
        """What a perfect rater says: decoys are wrong, true drugs right, and of the drafted a third is wrong."""
        if item["kind"] == "drafted":
            return "inappropriate" if int(item["item_id"], 16) % 3 == 0 else "appropriate"
        return "appropriate" if item["kind"] == "positive_control" else "inappropriate"

    @classmethod
    def answers(cls, item: dict[str, str], wrong: bool = False) -> dict[str, str]:
        """One item's cells."""
        other = {"appropriate": "inappropriate", "inappropriate": "appropriate"}
        verdict = other[cls.truth(item)] if wrong else cls.truth(item)
        indication = "Y" if verdict == "appropriate" else "N"
        asked = {"indication": indication, "effectiveness": "Y", "contraindication": "N", "duplication": "N"}
        return {**asked, "verdict": verdict, "confidence": "4", "comment": ""}

    @classmethod
    def errors(cls, folder: Path, rater: str, share: float) -> set[str]:
        """The items a rater gets wrong: every so many of the drafted, none of the checks."""
        return set(sorted(cls.drafted(folder))[int(rater[-1]) :: round(1 / share)]) if share else set()


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def fill() -> Fill:
    """Fill a rater's workbook as a spreadsheet would: open, type, save."""
    import openpyxl

    def fill(folder: Path, rater: str, share: float = 0.0, **cells: str) -> None:
        wrong, key = Scripted.errors(folder, rater, share), Scripted.key(folder)
        path = folder / "sheets" / f"{rater}.xlsx"
        workbook = openpyxl.load_workbook(path)
        sheet = workbook["Items"]
        column = {cell.value: cell.column for cell in sheet[1]}
        for row in range(2, sheet.max_row + 1):
            item_id = sheet.cell(row, 1).value
            for name, said in (Scripted.answers(key[item_id], item_id in wrong) | cells).items():
                sheet.cell(row, column[name]).value = int(said) if said.isdigit() else said or None
        workbook["About you"]["B1"], workbook["About you"]["B2"] = "internist", 12
        workbook.save(path)

    return fill


@pytest.fixture
def settle() -> Callable[[Path], None]:
    """Fill the adjudication sheet with the truth."""
    import openpyxl

    def settle(folder: Path) -> None:
        key, path = Scripted.key(folder), folder / "adjudication.xlsx"
        workbook = openpyxl.load_workbook(path)
        sheet = workbook["Items"]
        column = {cell.value: cell.column for cell in sheet[1]}
        for row in range(2, sheet.max_row + 1):
            sheet.cell(row, column["verdict"]).value = Scripted.truth(key[sheet.cell(row, 1).value])
            sheet.cell(row, column["adjudicated_by"]).value = "third reader"
        workbook.save(path)

    return settle
