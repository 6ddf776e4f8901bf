"""Settle every reviewed drug: one verdict each, who decided it, and what a report must say of the labels.

    REVIEW/gold.csv    item_id, hadm_id, drug, verdict, inclusion_probability, adjudicated_by
    REVIEW/gold.json   raters, agreement, counts, origin, TRIPOD-LLM 8b and 8c; written last

The decoys and true drugs that checked the raters are no sample of the drafts and stay out of gold.csv.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.errors import ContractError
from evaluation.review import form
from evaluation.review.drawing import DRAFTED
from evaluation.review.merge import MADE_BY as MERGED_BY
from evaluation.review.merge import disagreements, gold_verdicts
from evaluation.review.returned import Review, read_returned, read_review, sheet_digests
from evaluation.review.sheets import read_sheet

GOLD_COLUMNS = ("item_id", "hadm_id", "drug", "verdict", "inclusion_probability", "adjudicated_by")


def finalize_review(folder: Path) -> dict[str, Any]:
    """Write gold.csv and gold.json; return the latter's content.

    Raises:
        ContractError: the review was not merged since a sheet changed, or a disagreement is not settled.
    """
    review = read_review(folder)
    merged = artefacts.read_json(folder / "agreement.json", MERGED_BY)
    _check_current(review, merged)
    raters = read_returned(review)
    agreed = gold_verdicts(review, raters)
    settled, about = _read_adjudication(folder / "adjudication.xlsx", disagreements(review, raters))
    gold = (
        pl.concat([agreed.select("item_id", "verdict", pl.lit("").alias("adjudicated_by")), settled])
        .join(review.key, on="item_id")
        .select(GOLD_COLUMNS)
        .sort("item_id")
    )
    with artefacts.whole_or_absent(folder / "gold.csv") as new:
        gold.write_csv(new)
    content = _describe(review, merged, agreed, gold, about)
    with artefacts.whole_or_absent(folder / "gold.json") as new:
        artefacts.write_json(new, content | {"gold_sha256": artefacts.sha256_file(folder / "gold.csv")})
    return content


def _check_current(review: Review, merged: dict[str, Any]) -> None:
    stands = sheet_digests(review)
    changed = sorted(name for name in {*stands, *merged["sheets"]} if stands.get(name) != merged["sheets"].get(name))
    if changed:
        raise ContractError(f"{', '.join(changed)} changed since the review was merged; run `{MERGED_BY}` again")


def _read_adjudication(path: Path, open_items: list[str]) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return the settled items, and what the adjudicator said of themselves.

    Raises:
        ContractError: a row is open, doubled, unknown or not signed; all are named at once.
    """
    sheet = read_sheet(path)
    if missing := [name for name in ("item_id", "verdict", "adjudicated_by") if name not in sheet.columns]:
        raise ContractError(f"{path.name} lacks the columns {', '.join(missing)}; restore the header")
    problems, settled = [], {}
    for number, row in sheet.rows:
        item_id, by = (str(row.get(name) or "").strip() for name in ("item_id", "adjudicated_by"))
        verdict = str(row.get("verdict") or "").strip().casefold()
        if item_id not in open_items or item_id in settled:
            problems.append(f"row {number}: item_id is {'doubled' if item_id in settled else 'not to be settled'}")
        elif verdict not in form.VERDICTS:
            problems.append(f"row {number}: verdict is {'none of those asked for' if verdict else 'empty'}")
        elif not by:
            problems.append(f"row {number}: adjudicated_by is empty")
        settled[item_id] = (item_id, verdict, by)
    problems += [f"item {item_id} is missing" for item_id in open_items if item_id not in settled]
    if problems:
        raise ContractError(
            f"{path.name}: {'; '.join(problems[:8])}" + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        )
    schema = {"item_id": pl.String, "verdict": pl.String, "adjudicated_by": pl.String}
    return pl.DataFrame(list(settled.values()), schema=schema, orient="row"), sheet.about


def _describe(
    review: Review, merged: dict[str, Any], agreed: pl.DataFrame, gold: pl.DataFrame, about: dict[str, str]
) -> dict[str, Any]:
    adjudicators = Counter(by for by in gold["adjudicated_by"] if by)
    drafted = review.key.filter(kind=DRAFTED)
    unlabelled = drafted.join(gold, on="item_id", how="anti")
    counts = {
        "drafted": drafted.height,
        "labelled": gold.height,
        "patients": drafted.join(gold, on="item_id", how="semi")["subject_id"].n_unique(),
        "by_one_rater": agreed.filter(pl.col("raters") == 1).height,
        "adjudicated": sum(adjudicators.values()),
        "unlabelled_by_stratum": dict(unlabelled["stratum"].value_counts().sort("stratum").iter_rows()),
        "verdicts": dict(gold["verdict"].value_counts().sort("verdict").iter_rows()),
    }
    return {
        "made_by": "rxdraft review finalize",
        "origin": review.made["origin"],
        "provenance": review.made["provenance"],
        "settings": review.made["settings"],
        "raters": merged["raters"],
        "absent": merged["absent"],
        "adjudicators": dict(sorted(adjudicators.items())),
        "adjudicator_about": about,
        "instructions_sha256": artefacts.sha256(form.instructions().encode()),
        "agreement": merged["agreement"],
        "counts": counts,
        "tripod_llm": {"8b": _who(merged, counts, about), "8c": _how_alike(merged)},
    }


def _who(merged: dict[str, Any], counts: dict[str, Any], about: dict[str, str]) -> str:
    """Return TRIPOD-LLM 8b: who labelled, with what qualification, and how disagreements were settled."""
    raters = [f"{name} ({_profession(rater['about'])})" for name, rater in merged["raters"].items()]
    settled = f"{counts['adjudicated']} disagreements were settled by a further person ({_profession(about)})"
    return (
        f"{counts['labelled']} drafted drugs of {counts['patients']} patients were labelled by {', '.join(raters)}, "
        f"blind to model, row and judge, in an order of their own; {settled}."
    )


def _profession(about: dict[str, str]) -> str:
    if "profession" not in about:
        return "profession not stated"
    years = about.get("years_of_experience")
    return about["profession"] + (f", {years} years" if years else "")


def _how_alike(merged: dict[str, Any]) -> str:
    """Return TRIPOD-LLM 8c: the agreement on the verdict."""
    verdict = merged["agreement"]["verdict"]
    said = [f"{name} {_interval(figure)}" for name, figure in verdict["statistics"].items()]
    if not verdict["doubled"]:
        return "No drug was labelled by two raters, so their agreement is not known."
    return f"On {verdict['doubled']} drugs with two labels or more, before settling: {'; '.join(said)}."


def _interval(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "undefined"
    interval = "" if figure["lo"] is None else f" [{figure['lo']:.2f}, {figure['hi']:.2f}]"
    return f"{figure['value']:.2f}{interval}"
