"""Every table of an evaluation in one text: table.md."""

from __future__ import annotations

from collections.abc import Sequence

from etl import artefacts
from etl.prompts import Outcome
from evaluation import targets
from evaluation.conventions import CONVENTIONS
from evaluation.drafts import Kind
from evaluation.evaluate import Evaluation
from evaluation.figures import UNDEFINED, Figures, written
from evaluation.ladder import RUNGS, Rule
from evaluation.markdown import grid
from evaluation.metrics import BY_NAME, Unit
from evaluation.results import LITERATURE_RUNG
from evaluation.table import main_table, parity_table

_RARE = ("recall_never", *(f"recall_fifth_{fifth}" for fifth in range(1, 6)))
_CHANGES = ("continued", "started", "stopped", *_RARE)
_ITEMS = ("length_bias", "length_error", "repeats", "unknown", "off_formulary", "same_class", "exact")
_BESIDE = ("changed", "overlap")
_INTERACTIONS = ("ddi_rate", "ddi_rate_truth", "novel_per_100", "pair_coverage")
_COMPARED = ("precision", "recall", "f1", "jaccard")


def write(evaluation: Evaluation) -> None:
    """Write table.md."""
    with artefacts.whole_or_absent(evaluation.folder / "table.md") as new:
        new.write_text(whole_text(evaluation), "utf-8")


def whole_text(evaluation: Evaluation) -> str:
    """Return all tables, as table.md holds them."""
    figures, about = Figures(evaluation.results), evaluation.about
    rows = [row["name"] for row in about["rows"]]
    parts = [
        ("Rank x step", main_table(evaluation).rstrip()),
        ("The reference's columns alone", parity_table(evaluation).rstrip()),
        ("Targets", targets.to_markdown(targets.targets(evaluation))),
        ("Against the oracle and two baselines", _against(evaluation)),
        ("Answers that are no list", _failures(evaluation)),
        ("Lists", _metrics(figures, rows, _ITEMS)),
        (f"Beside {evaluation.selected}", _metrics(figures, rows, _BESIDE)),
        ("Continued, started, stopped; rare drugs", _metrics(figures, rows, _CHANGES)),
        ("The same drug, more and more coarsely", _ladder(figures, rows)),
        ("As others count", _conventions(figures, rows)),
        ("Interactions", _interactions(figures, rows)),
        ("Subgroups", _subgroups(evaluation)),
        ("Probabilities", _probabilities(evaluation)),
    ]
    return "\n\n".join(f"## {title}\n\n{text}" for title, text in parts if text) + "\n"


def _failures(evaluation: Evaluation) -> str:
    counts = evaluation.visits.group_by("row", "outcome").len()
    found = {(row, outcome): n for row, outcome, n in counts.iter_rows()}
    used = [outcome for outcome in Outcome if any(key[1] == outcome.value for key in found)]
    written_by = [row["name"] for row in evaluation.about["rows"] if row["kind"] not in (Kind.BASELINE, Kind.ORACLE)]
    rows = [[row, *(str(found.get((row, outcome.value), 0)) for outcome in used)] for row in written_by]
    return grid(["row", *(outcome.value for outcome in used)], rows)


def _metrics(figures: Figures, rows: Sequence[str], names: Sequence[str]) -> str:
    metrics = [BY_NAME[name] for name in names]
    body = [
        [row, *(written(figures.find(row, metric.name)["value"], metric.unit) for metric in metrics)] for row in rows
    ]
    return grid(["row", *(metric.title for metric in metrics)], body)


def _against(evaluation: Evaluation) -> str:
    """Return every row as a share of the oracle's and less each reference."""
    figures, less = Figures(evaluation.results), evaluation.about["less_references"]
    lines = {
        (metric, reference, line["row"]): line
        for metric, by_reference in less.items()
        for reference, family in by_reference.items()
        for line in family
    }
    oracle = any(row["kind"] == Kind.ORACLE for row in evaluation.about["rows"])
    columns = [
        *((f"{BY_NAME[metric].title} of the oracle's", metric, None) for metric in less if oracle),
        *((f"{BY_NAME[metric].title} less {name}'s", metric, name) for metric in less for name in less[metric]),
    ]

    def cell(row: str, metric: str, reference: str | None) -> str:
        if reference is None:
            line = figures.find(row, f"oracle_share_{metric}")
            return _between(line["value"], line["lo"], line["hi"])
        found = lines.get((metric, reference, row))
        return "" if found is None else _between(found["point"], found["lo"], found["hi"], "+")

    body = [
        [row["name"], *(cell(row["name"], metric, reference) for _, metric, reference in columns)]
        for row in evaluation.about["rows"]
    ]
    note = "Shares are ratios of means; differences of one column hold all at once (max-T). 95 % intervals."
    return f"{grid(['row', *(title for title, *_ in columns)], body)}\n\n{note}" if columns else ""


def _between(value: float | None, lo: float | None, hi: float | None, sign: str = "") -> str:
    if value is None:
        return UNDEFINED
    interval = "" if lo is None or hi is None else f" [{lo:{sign}.3f}, {hi:{sign}.3f}]"
    return f"{value:{sign}.3f}{interval}"


def _ladder(figures: Figures, rows: Sequence[str]) -> str:
    """Return precision at each rung, one to one, with skill: 0 is another patient's list, 1 is perfect."""

    def cell(row: str, rung: str) -> str:
        value, skill = (
            figures.find(row, name, rung=rung, rule=Rule.ONE_TO_ONE)["value"]
            for name in ("ladder_precision", "skill_precision")
        )
        return f"{written(value, Unit.SHARE)} ({written(skill, Unit.SCORE)})"

    text = grid(["row", *RUNGS], [[row, *(cell(row, rung) for rung in RUNGS)] for row in rows])
    return f"{text}\n\nPrecision over all admissions (and skill: 0 is another patient's list, 1 is perfect)."


def _conventions(figures: Figures, rows: Sequence[str]) -> str:
    def line(row: str, convention: str, rung: str) -> list[str]:
        values = (figures.find(row, name, convention, rung)["value"] for name in _COMPARED)
        return [row, rung, convention, *(written(value, Unit.SCORE) for value in values)]

    body = [line(row, name, rung) for row in rows for rung in ("drug", LITERATURE_RUNG) for name in CONVENTIONS]
    return grid(["row", "rung", "convention", *_COMPARED], body)


def _interactions(figures: Figures, rows: Sequence[str]) -> str:
    def line(row: str) -> list[str]:
        values = [figures.find(row, name)["value"] for name in _INTERACTIONS]
        return [row, *(f"{UNDEFINED if value is None else f'{value:.5f}'}" for value in values)]

    return grid(
        ["row", "rate", "rate of the truth", "new pairs in 100 lists", "pairs known"], [line(row) for row in rows]
    )


def _subgroups(evaluation: Evaluation) -> str:
    rows = [
        [
            stratum,
            group["group"],
            "<20" if group["hidden"] else str(group["patients"]),
            written(group["estimate"], Unit.SCORE),
            f"[{written(group['lo'], Unit.SCORE)}, {written(group['hi'], Unit.SCORE)}]"
            if group["lo"] is not None
            else "",
            "" if group["gap"] is None else f"{group['gap']:+.3f}",
            "lowest" if group["worst"] else "",
        ]
        for stratum, groups in evaluation.about["subgroups"]["jaccard"].items()
        for group in groups
    ]
    text = grid(["of", "group", "patients", "Jaccard", "95 %", "gap to the rest", ""], rows)
    note = f"Of {evaluation.selected}. Groups of fewer than 20 patients, and what would tell of them, are hidden."
    return f"{text}\n\n{note}"


def _probabilities(evaluation: Evaluation) -> str:
    rows = [
        [row, universe, *(_short(found[name]) for name in ("brier", "ece", "debiased_ece", "in_the_large"))]
        for row, by_universe in evaluation.about["calibration"].items()
        for universe, found in by_universe.items()
    ]
    return grid(["row", "over", "Brier", "ECE", "debiased ECE", "drugs too many"], rows) if rows else ""


def _short(value: float | None) -> str:
    return UNDEFINED if value is None else f"{value:.4f}"
