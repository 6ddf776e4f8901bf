"""Put the raters' answers side by side: how far they agree, how they did on the checks, what is left to settle.

REVIEW/ratings.csv         every answer of every rater
REVIEW/adjudication.xlsx   the drafted drugs they disagree on, for one more person
REVIEW/agreement.html      the page, without a word of a chart
REVIEW/agreement.json      the same for programs; written last
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import polars as pl

from etl import artefacts
from etl.errors import ContractError
from evaluation.judge.decoys import Kind
from evaluation.review.agreement import MISSING, agreement
from evaluation.review.drawing import DRAFTED
from evaluation.review.form import FIELDS, VERDICTS
from evaluation.review.page import render_page
from evaluation.review.returned import Rater, Review, read_returned, read_review, sheet_digests
from evaluation.review.workbook import Column, write_csv, write_xlsx
from evaluation.statistics.bootstrap import clopper_pearson

MADE_BY = "rxdraft review merge"

_GUIDE = """# Drugs the raters disagree on

Read the chart and what each rater said, then settle the **verdict** for every row of the sheet "Items": appropriate,
inappropriate, or insufficient_information. Write under **adjudicated_by** who decided: initials or a role, the same on
every row you settle. No row may stay open.

The charts are patients' data. Do not copy, mail or upload them, and show them to no chatbot."""


def merge_review(folder: Path) -> dict[str, Any]:
    """Read all answers, write ratings, agreement and the sheet to adjudicate; return agreement.json's content.

    Raises:
        ContractError: an answer is wrong (see `read_returned`), or an adjudication stands there already.
    """
    review = read_review(folder)
    _check_unadjudicated(folder)
    raters = read_returned(review)
    open_items = disagreements(review, raters)
    merged = {
        "made_by": MADE_BY,
        "review_sha256": artefacts.sha256_file(folder / "review.json"),
        "sheets": sheet_digests(review),
        "raters": {name: summarise(rater, review) for name, rater in raters.items()},
        "absent": [name for name in review.raters if name not in raters],
        "counts": _counts(review, raters) | {"to_adjudicate": len(open_items)},
        "agreement": {
            question.name: _agreement(review, raters, question.name, question.answers)
            for question in FIELDS
            if question.answers and question.name != "confidence"
        },
        "cross": _cross(review, raters),
    }
    _write(review, raters, open_items, merged)
    return merged


def disagreements(review: Review, raters: Mapping[str, Rater]) -> list[str]:
    """Return the drafted items on which two verdicts or more were given, and not the same."""
    return [
        item_id
        for item_id in _drafted(review)
        if len({rater.answers[item_id]["verdict"] for rater in raters.values() if item_id in rater.answers}) > 1
    ]


def _drafted(review: Review) -> list[str]:
    return review.key.filter(kind=DRAFTED)["item_id"].to_list()


def _check_unadjudicated(folder: Path) -> None:
    sheet, merged = folder / "adjudication.xlsx", folder / "agreement.json"
    if not sheet.is_file():
        return
    made = artefacts.read_json(merged, MADE_BY)["outputs"] if merged.is_file() else {}
    if made.get(sheet.name) != artefacts.sha256_file(sheet):
        raise ContractError(f"{sheet} was worked on; run `rxdraft review finalize`, or move it away to merge again")


# --- numbers -------------------------------------------------------------------------------------------


def _agreement(review: Review, raters: Mapping[str, Rater], question: str, answers: tuple[str, ...]) -> dict[str, Any]:
    """Return the agreement on drafted drugs; decoys are there to be easy and would flatter it."""
    drafted = review.key.filter(kind=DRAFTED)
    place = {answer: number for number, answer in enumerate(answers)}
    rows = [
        [place.get(rater.answers.get(item_id, {}).get(question, ""), MISSING) for rater in raters.values()]
        for item_id in drafted["item_id"]
    ]
    ratings = np.array(rows, dtype=np.int64).reshape(drafted.height, len(raters))
    return agreement(ratings, drafted["subject_id"].to_numpy(), answers, review.made["settings"]["seed"])


def _cross(review: Review, raters: Mapping[str, Rater]) -> list[dict[str, Any]]:
    """Return each pair of raters' verdicts on drafted drugs against each other."""
    tables = []
    for (one, first), (other, second) in combinations(raters.items(), 2):
        both = [item_id for item_id in _drafted(review) if item_id in first.answers and item_id in second.answers]
        pairs = [(first.answers[item_id]["verdict"], second.answers[item_id]["verdict"]) for item_id in both]
        counts = [[pairs.count((mine, theirs)) for theirs in VERDICTS] for mine in VERDICTS]
        tables.append({"rows": one, "columns": other, "counts": counts})
    return tables


def summarise(rater: Rater, review: Review) -> dict[str, Any]:
    """Return how much a rater answered, and how they did on the items whose answer is known."""
    kinds = dict(review.key.select("item_id", "kind").iter_rows())
    verdicts: dict[str, list[str]] = {}
    for item_id, answers in rater.answers.items():
        verdicts.setdefault(kinds[item_id], []).append(answers["verdict"])
    decoys = {kind: given for kind, given in sorted(verdicts.items()) if kind not in (DRAFTED, Kind.POSITIVE)}
    sure = [int(answers["confidence"]) for answers in rater.answers.values() if answers["confidence"]]
    return {
        "file": rater.file,
        "about": rater.about,
        "answered": len(rater.answers),
        "asked": review.key.height,
        "decoys_caught": _share([v for given in decoys.values() for v in given], "inappropriate"),
        "decoys_caught_by_kind": {kind: _share(given, "inappropriate") for kind, given in decoys.items()},
        "true_drugs_accepted": _share(verdicts.get(Kind.POSITIVE, []), "appropriate"),
        "drafted": {verdict: verdicts.get(DRAFTED, []).count(verdict) for verdict in VERDICTS},
        "mean_confidence": fmean(sure) if sure else None,
        "median_seconds": median(rater.seconds.values()) if rater.seconds else None,
    }


def _share(verdicts: list[str], wanted: str) -> dict[str, Any]:
    """Return how many are as wanted, with a Clopper-Pearson interval; abstaining is neither."""
    k, n = verdicts.count(wanted), len(verdicts)
    lo, hi = clopper_pearson(k, n) if n else (None, None)
    abstained = verdicts.count("insufficient_information")
    return {"k": k, "n": n, "abstained": abstained, "value": k / n if n else None, "lo": lo, "hi": hi}


def _counts(review: Review, raters: Mapping[str, Rater]) -> dict[str, int]:
    given = [sum(item_id in rater.answers for rater in raters.values()) for item_id in _drafted(review)]
    return {
        "drafted": len(given),
        "patients": review.key.filter(kind=DRAFTED)["subject_id"].n_unique(),
        "rated_by_all": sum(n == len(raters) for n in given),
        "rated_by_some": sum(0 < n < len(raters) for n in given),
        "unrated": sum(n == 0 for n in given),
    }


# --- files ---------------------------------------------------------------------------------------------


def _write(review: Review, raters: Mapping[str, Rater], open_items: list[str], merged: dict[str, Any]) -> None:
    folder = review.folder
    names = ["rater", "item_id", *(question.name for question in FIELDS), "seconds"]
    rows = [
        {"rater": name, "item_id": item_id, **rater.answers[item_id], "seconds": rater.seconds.get(item_id, "")}
        for name, rater in raters.items()
        for item_id in sorted(rater.answers)
    ]
    with artefacts.whole_or_absent(folder / "ratings.csv") as new:
        write_csv(new, names, rows)
    with artefacts.whole_or_absent(folder / "adjudication.xlsx") as new:
        _write_adjudication(new, review, raters, open_items)
    with artefacts.whole_or_absent(folder / "agreement.html") as new:
        new.write_text(render_page(merged, review.made), "utf-8")
    outputs = ("ratings.csv", "adjudication.xlsx", "agreement.html")
    merged["outputs"] = {name: artefacts.sha256_file(folder / name) for name in outputs}
    with artefacts.whole_or_absent(folder / "agreement.json") as new:
        artefacts.write_json(new, merged)


def _write_adjudication(path: Path, review: Review, raters: Mapping[str, Rater], open_items: list[str]) -> None:
    shown = [Column(name, locked=True) for name in ("item_id", "chart", "drug", *raters)]
    asked = [
        Column("verdict", "What it shall be", VERDICTS),
        Column("adjudicated_by", "Who decided"),
        Column("comment"),
    ]
    facts = _facts(review)
    rows = [
        {**facts[item_id], **{name: _said(rater, item_id) for name, rater in raters.items()}} for item_id in open_items
    ]
    write_xlsx(path, [*shown, *asked], rows, "adjudication", _GUIDE, about=True)


def _facts(review: Review) -> dict[str, dict[str, str]]:
    """Return what was shown of each item."""
    tasks = json.loads((review.folder / "label-studio" / f"tasks-{review.raters[0]}.json").read_text("utf-8"))
    return {task["data"]["item_id"]: task["data"] for task in tasks}


def _said(rater: Rater, item_id: str) -> str:
    """Return a rater's answers in few words."""
    answers = rater.answers.get(item_id)
    if answers is None:
        return "(no answer)"
    criteria = [f"{question.name} {answers[question.name]}" for question in FIELDS[:4] if answers[question.name]]
    return "\n".join(filter(None, [answers["verdict"], *criteria, answers["comment"]]))


def gold_verdicts(review: Review, raters: Mapping[str, Rater]) -> pl.DataFrame:
    """Return the drafted items on which all who answered agree: item_id, verdict, raters (how many)."""
    open_items = set(disagreements(review, raters))
    rows = [
        (item_id, given[0], len(given))
        for item_id in _drafted(review)
        if item_id not in open_items
        and (given := [r.answers[item_id]["verdict"] for r in raters.values() if item_id in r.answers])
    ]
    return pl.DataFrame(rows, schema={"item_id": pl.String, "verdict": pl.String, "raters": pl.Int64}, orient="row")
