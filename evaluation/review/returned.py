"""What raters gave back, whatever form they used: every mistake found at once, each with its sheet and row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.errors import ContractError
from evaluation.review.bundles import Returned, read_label_studio, read_potato
from evaluation.review.form import FIELDS, Answers, read_answers
from evaluation.review.sheets import read_sheet

_SHOWN_PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Review:
    """A review's folder as it was made.

    Attributes:
        made: the content of review.json.
        key: its items; `drug` and `hadm_id` by item_id.
    """

    folder: Path
    made: dict[str, Any]
    key: pl.DataFrame

    @property
    def raters(self) -> list[str]:
        """Who was asked."""
        return list(self.made["raters"])


@dataclass(slots=True)
class Rater:
    """What one rater gave back.

    Attributes:
        file: where it stands.
        answers: by item_id; only items with a verdict.
        seconds: spent on an item, where the tool timed it.
        about: profession and the like, where the form had a page for it.
    """

    file: str
    answers: dict[str, Answers] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)


def read_review(folder: Path) -> Review:
    """Read the folder of `rxdraft review make`.

    Raises:
        ContractError: it is none, or its key was changed.
    """
    made = artefacts.read_json(folder / "review.json", "rxdraft review make")
    key = folder / "key.csv"
    if not key.is_file() or artefacts.sha256_file(key) != made["outputs"]["key.csv"]:
        raise ContractError(f"{key} is missing or was changed; put back the one that `rxdraft review make` wrote")
    types = {"subject_id": pl.Int64, "hadm_id": pl.Int64, "inclusion_probability": pl.Float64}
    return Review(folder, made, pl.read_csv(key, infer_schema=False).cast(types))  # type: ignore[arg-type]


def sheet_digests(review: Review) -> dict[str, str]:
    """Return the digests of all files that came back, by path below sheets/."""
    return artefacts.sha256_tree(review.folder / "sheets")


def read_returned(review: Review) -> dict[str, Rater]:
    """Return what every rater gave back, in the order of their names; those who gave nothing are absent.

    Raises:
        ContractError: a file is no sheet, a column is missing, an item is missing, doubled or unknown, an answer is
            none of those asked for, a rater came back twice, or nobody answered anything. All are named at once.
    """
    problems: list[str] = []
    raters: dict[str, Rater] = {}
    for path in _files(review):
        for name, rater in _read(path, review, problems).items():
            if name not in review.raters:
                problems.append(f"{rater.file} is of no rater of this review ({', '.join(review.raters)}); rename it")
            elif name in raters:
                problems.append(f"{rater.file} and {raters[name].file} both hold answers of {name}; keep one")
            else:
                raters[name] = rater
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        raise ContractError("; ".join(problems[:_SHOWN_PROBLEMS]) + (f"; and {more} more" if more > 0 else ""))
    if not raters:
        raise ContractError(f"{review.folder / 'sheets'} holds no answer yet; put the filled sheets there")
    return dict(sorted(raters.items(), key=lambda named: review.raters.index(named[0])))


def _files(review: Review) -> Iterator[Path]:
    """Yield what may hold answers: not what stands as it was made, nor the locks of open spreadsheets."""
    for name, digest in sheet_digests(review).items():
        path = review.folder / "sheets" / name
        if not path.name.startswith((".", "~")) and review.made["outputs"].get(f"sheets/{name}") != digest:
            yield path


def _read(path: Path, review: Review, problems: list[str]) -> dict[str, Rater]:
    """Return the raters that a file holds answers of; none where it is empty."""
    try:
        if path.suffix.lower() in (".xlsx", ".csv"):
            found = {path.stem: _read_sheet(path, review, problems)}
        elif path.name == "user_state.json":
            found = _gathered(path, read_potato(path), review, problems)
        elif path.suffix.lower() == ".json":
            found = _gathered(path, read_label_studio(path), review, problems)
        elif path.parent.name == "sheets":
            problems.append(f"{path.name} is no XLSX, CSV or JSON; take it out of sheets/")
            return {}
        else:
            return {}  # whatever else Potato keeps in annotation_output/
    except ContractError as error:
        problems.append(str(error))
        return {}
    return {name: rater for name, rater in found.items() if rater.answers}


def _read_sheet(path: Path, review: Review, problems: list[str]) -> Rater:
    sheet, rater = read_sheet(path), Rater(path.name)
    needed = ["item_id", "drug", *(field.name for field in FIELDS)]
    if missing := [name for name in needed if name not in sheet.columns]:
        raise ContractError(f"{path.name} lacks the columns {', '.join(missing)}; restore the header")
    drugs = dict(review.key.select("item_id", "drug").iter_rows())
    rater.about = sheet.about
    rows = [(number, str(row["item_id"] or "").strip(), row) for number, row in sheet.rows]
    times = Counter(item_id for _, item_id, _ in rows)
    for number, item_id, row in rows:
        where = f"{path.name} row {number}"
        if item_id not in drugs:
            problems.append(f"{where}: item_id is unknown to this review")
        elif times[item_id] > 1:
            problems.append(f"{where}: item_id {item_id} stands {times[item_id]} times")
        elif str(row["drug"] or "").strip() != drugs[item_id].strip():
            problems.append(f"{where}: the drug is not that of item_id {item_id}; were columns sorted apart?")
        else:
            _note(rater, where, item_id, row, problems)
    if gone := [item_id for item_id in drugs if item_id not in times]:
        problems.append(f"{path.name} lacks {len(gone)} items ({', '.join(gone[:3])}…); put their rows back, empty")
    return rater


def _gathered(path: Path, given: list[Returned], review: Review, problems: list[str]) -> dict[str, Rater]:
    raters: dict[str, Rater] = {}
    known, seen = set(review.key["item_id"]), set()
    for name, where, item_id, answers in given:
        rater = raters.setdefault(name, Rater(path.name if path.name != "user_state.json" else f"{name}/{path.name}"))
        if item_id not in known:
            problems.append(f"{where}: item_id is unknown to this review")
        elif (name, item_id) in seen:
            problems.append(f"{where}: item_id {item_id} stands twice for {name}")
        else:
            _note(rater, where, item_id, answers, problems)
        seen.add((name, item_id))
    return raters


def _note(rater: Rater, where: str, item_id: str, raw: dict[str, Any], problems: list[str]) -> None:
    answers, wrong = read_answers(raw)
    problems.extend(f"{where}: {what}" for what in wrong)
    if answers["verdict"]:
        rater.answers[item_id] = answers
        if raw.get("seconds") is not None:
            rater.seconds[item_id] = raw["seconds"]
