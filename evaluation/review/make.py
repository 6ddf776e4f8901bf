"""Make a review: draw the items, hide what they are, and write them for every rater in every form.

REVIEW/README.md        what this folder is and whose terms it is under
REVIEW/instructions.md  for raters; also the first sheet of every workbook
REVIEW/sheets/          RATER.xlsx and RATER.csv; filled in place, or replaced by an export of an annotation tool
REVIEW/label-studio/    config.xml and tasks-RATER.json
REVIEW/potato/          config.yaml and items.jsonl
REVIEW/key.csv          what each item is, and how likely it was to be drawn; for no rater's eyes
REVIEW/review.json      settings, origin, counts, digests; written last
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl import artefacts
from etl.cohort import read_cohort
from etl.errors import ConfigError, ContractError
from evaluation.judge.items import Charts, read_charts, read_drafts, read_split
from evaluation.review import bundles
from evaluation.review.drawing import Settings, draw_items
from evaluation.review.form import COLUMNS, FIELDS, SHOWN, instructions
from evaluation.review.workbook import Column, write_csv, write_xlsx

MADE_BY = "rxdraft review make"


def make_review(evaluation: Path, cohort: Path | None, out: Path, settings: Settings) -> dict[str, Any]:
    """Draw the items of a review and write its folder; return the content of review.json.

    Args:
        evaluation: folder of `rxdraft evaluate`; with judge/verdicts.parquet the judge's negatives are oversampled.
        cohort: folder of `rxdraft etl`; None: where the runs beside the evaluation say it lay.
        out: folder to write.
        settings: how to draw.

    Raises:
        ConfigError: a setting makes no sense, or openpyxl is not installed.
        ContractError: evaluation and cohort do not belong together, or `out` holds filled sheets or something else.
    """
    _check(settings)
    check_unfilled(out)
    folder = cohort or recorded_cohort(evaluation)
    charts = read_charts(folder, read_split(evaluation, folder))
    drafts = _chosen_rows(read_drafts(evaluation, charts), settings.rows)
    verdicts = _read_verdicts(evaluation)
    key = draw_items(charts, drafts, verdicts, settings)
    review = {
        "made_by": MADE_BY,
        "settings": asdict(settings) | {"rows": list(settings.rows)},
        "raters": settings.names,
        "origin": _origin(evaluation, folder),
        "provenance": "open" if read_cohort(folder)["settings"].get("open_data") else "credentialed",
        "counts": _counts(key, drafts),
        "judged": verdicts is not None,
    }
    with artefacts.whole_or_absent(out) as new:
        _write(new, key, charts, review, settings)
    return review


def check_unfilled(out: Path) -> None:
    """See that a review may be replaced: no file of it was changed or added since it was made.

    Raises:
        ContractError: it holds somebody's work, which is named, or is no review.
    """
    artefacts.check_replaceable(out, "review.json", MADE_BY)
    if not (out / "review.json").is_file():
        return
    made = artefacts.read_json(out / "review.json", MADE_BY)["outputs"]
    found = artefacts.sha256_tree(out)
    theirs = sorted(name for name, digest in found.items() if name != "review.json" and made.get(name) != digest)
    if theirs:
        raise ContractError(
            f"{out} holds work that was not there when it was made ({', '.join(theirs[:5])}); choose another --out"
        )


def recorded_cohort(evaluation: Path) -> Path:
    """Return the cohort that the runs beside an evaluation were trained on.

    Raises:
        ConfigError: they do not say.
    """
    for run in sorted(evaluation.resolve().parent.glob("**/run.json")):
        if cohort := artefacts.read_json(run, "rxdraft train").get("cohort"):
            return Path(cohort)
    raise ConfigError(f"nothing beside {evaluation} says which cohort it is of; give it with --data")


# --- the folder ----------------------------------------------------------------------------------------


def _write(new: Path, key: pl.DataFrame, charts: Charts, review: dict[str, Any], settings: Settings) -> None:
    for folder in ("sheets", "label-studio", "potato"):
        (new / folder).mkdir(parents=True)
    new.chmod(0o700)
    items = [
        {"item_id": item_id, "chart": charts.render(hadm_id), "drug": drug}
        for item_id, hadm_id, drug in key.select("item_id", "hadm_id", "drug").iter_rows()
    ]
    for number, rater in enumerate(settings.names):
        order = np.random.default_rng([settings.seed, number]).permutation(len(items))
        _write_rater(new, rater, [items[place] for place in order])
    (new / "label-studio" / "config.xml").write_text(bundles.label_studio_config(), "utf-8")
    config = bundles.potato_config(settings.names, len(items))
    # JSON is YAML; written so, it needs no library.
    artefacts.write_json(new / "potato" / "config.yaml", config)
    (new / "potato" / "items.jsonl").write_text(bundles.potato_items(items), "utf-8")
    (new / "instructions.md").write_text(instructions(), "utf-8")
    (new / "instructions.md").write_text(instructions(), "utf-8")
    key.write_csv(new / "key.csv")
    (new / ".gitignore").write_text("*\n", "utf-8")  # patients' charts belong in no repository
    (new / "README.md").write_text(_readme(review), "utf-8")
    artefacts.write_json(new / "review.json", review | {"outputs": artefacts.sha256_tree(new)})


def _write_rater(new: Path, rater: str, items: Sequence[dict[str, str]]) -> None:
    columns = [Column(name, locked=True) for name in SHOWN]
    columns += [Column(field.name, field.question, field.answers) for field in FIELDS]
    write_xlsx(new / "sheets" / f"{rater}.xlsx", columns, items, rater, instructions(), about=True)
    write_csv(new / "sheets" / f"{rater}.csv", COLUMNS, items)
    tasks = json.dumps(bundles.label_studio_tasks(items, rater), indent=1, ensure_ascii=False) + "\n"
    (new / "label-studio" / f"tasks-{rater}.json").write_text(tasks, "utf-8")


_TERMS = {
    "credentialed": "They are CREDENTIALED patient data: keep this folder inside the area that your data-use "
    "agreement covers, give sheets only to people who signed it, and send none to a service that keeps them.",
    "open": "The cohort says that they are open data; treat them as patients' charts all the same.",
}


def _readme(review: dict[str, Any]) -> str:
    raters = ", ".join(review["raters"])
    return f"""# Review of drafted drugs

**The sheets hold patients' charts.** {_TERMS[review["provenance"]]}

1. Give every rater ({raters}) one of: their sheet in `sheets/` (XLSX or CSV, filled in place), their project of
   `label-studio/`, or a login of that name at `potato/`; and `instructions.md`, which a workbook has as first sheet.
2. `key.csv` and `review.json` tell which items are checks and what a model or judge had to do with them.
   **No rater may see them before the review is over.**
3. Put what comes back into `sheets/` under the rater's name: RATER.xlsx or RATER.csv over the empty one, Label Studio's
   JSON export as a file, Potato's `annotation_output/` as a folder.
4. `rxdraft review merge` here writes `agreement.html` and `adjudication.xlsx`; when the latter is filled,
   `rxdraft review finalize` writes `gold.csv`.
"""


# --- origin and counts ---------------------------------------------------------------------------------


def _check(settings: Settings) -> None:
    wrong = [f"--raters {settings.raters}, wanted at least 1"] if settings.raters < 1 else []
    shares = {"--decoys": settings.decoys, "--true-drugs": settings.true_drugs, "--negatives": settings.negatives}
    wrong += [f"{name} {share}, wanted 0 to 1" for name, share in shares.items() if not 0 <= share <= 1]
    if settings.n < 1 or settings.decoys + settings.true_drugs >= 1:
        wrong.append("no room for a drafted drug; raise --n or lower --decoys and --true-drugs")
    if wrong:
        raise ConfigError("; ".join(wrong))


def _chosen_rows(drafts: pl.DataFrame, rows: tuple[str, ...]) -> pl.DataFrame:
    known = drafts["row"].unique().sort().to_list()
    if unknown := [row for row in rows if row not in known]:
        raise ConfigError(f"no row {', '.join(unknown)} was drafted; there are {', '.join(known)}")
    return drafts.filter(pl.col("row").is_in(list(rows))) if rows else drafts


def _read_verdicts(evaluation: Path) -> pl.DataFrame | None:
    path = evaluation / "judge" / "verdicts.parquet"
    if not path.is_file():
        return None
    try:
        return pl.read_parquet(path, columns=["hadm_id", "drug", "verdict"])
    except (OSError, pl.exceptions.PolarsError):
        raise ContractError(f"{path} holds no verdicts; make it again with `rxdraft judge`") from None


def _origin(evaluation: Path, cohort: Path) -> dict[str, Any]:
    verdicts = evaluation / "judge" / "verdicts.parquet"
    return {
        "cohort_sha256": artefacts.sha256_file(cohort / "cohort.json"),
        "predictions_sha256": artefacts.sha256_files(sorted((evaluation / "predictions").glob("*.parquet"))),
        "verdicts_sha256": artefacts.sha256_file(verdicts) if verdicts.is_file() else None,
    }


def _counts(key: pl.DataFrame, drafts: pl.DataFrame) -> dict[str, Any]:
    return {
        "items": key.height,
        "patients": key["subject_id"].n_unique(),
        "kinds": dict(key["kind"].value_counts().sort("kind").iter_rows()),
        "judged": dict(key.drop_nulls("judged")["judged"].value_counts().sort("judged").iter_rows()),
        "drafted_units": drafts.drop_nulls("label").select("hadm_id", "label").n_unique(),
    }
