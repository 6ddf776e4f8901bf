"""The table in words: the reference's three columns and the honest ones, what they mean, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from etl.cohort import to_admission
from etl.prompts import render_prompt
from evaluation.drafts import SERVED, Kind
from evaluation.evaluate import Evaluation
from evaluation.figures import Figures, training_of
from evaluation.judge.appropriateness import Appropriateness, read_appropriateness
from evaluation.markdown import grid
from evaluation.metrics import BY_NAME
from evaluation.predict import LABELS
from evaluation.results import AGAINST_ORACLE
from evaluation.rows import CONSTRAINED

MAIN = ("output_rate", "accuracy", "accuracy_all", "recall", "f1", "jaccard", "prauc", "ece", "drugs", "started")
"""Columns of the main table; the judge's comes after accuracy."""
PARITY_METRICS = ("output_rate", "accuracy")

_NOT_JUDGED = "Appropriateness: nobody was asked; `rxdraft judge` asks a model, and says what it lets pass."
_PRODUCTS = {
    SERVED: "served: the selected checkpoint as it is served: no drug but the formulary's, none twice.",
    CONSTRAINED: "constrained: the same without votes: the likeliest list, held to the formulary, no probabilities.",
}
_LABELS = "labels: every drug's probability is read off the question; nothing is written, so no answer is raw."
_OWN = "Baselines are cut where their F1 was highest on validation, as each is served."
_MATCHED = (
    "Baselines have the selected checkpoint's list lengths, visit by visit; where it gave no list, its mean length."
)
_PROBES = "note-swap: the same checkpoint given another patient's note. sex-flip: F for M and M for F."
_ORACLE = "oracle: the list of highest expected Jaccard by one who knows the chance of every drug."


# --- the reference's table ------------------------------------------------------------------------------


def parity_table(evaluation: Evaluation) -> str:
    """Return the reference's table: output rate, accuracy, appropriateness per rank and step, and no baseline."""
    figures, judged = Figures(evaluation.results), read_appropriateness(evaluation.folder, paper_parity=True)
    rows = [
        (
            *_labels(row, evaluation.about),
            *(figures.text(row["name"], BY_NAME[name]) for name in PARITY_METRICS),
            _judged(judged, row["name"]),
        )
        for row in evaluation.about["rows"]
        if row["kind"] == Kind.CHECKPOINT
    ]
    about = evaluation.about
    nobody = "" if judged else ": nobody was asked"
    notes = f"""
        {_visits(about)} The reference's definitions on other data: accuracy is the mean share of the drafted drugs
        that were ordered, over the answers that are a list and name a drug; all else is left out of it. Appropriateness
        is a judge's own count per list, without decoys (`rxdraft judge --paper-parity`){nobody}.
    """
    header = ("rank", "step", *(BY_NAME[name].title for name in PARITY_METRICS), "appropriateness")
    return "\n".join([grid(header, rows), "", _filled(notes)]) + "\n"


# --- ours ----------------------------------------------------------------------------------------------


def main_table(evaluation: Evaluation) -> str:
    """Return the rank x step table with what it faces, and what every column means."""
    figures, judged = Figures(evaluation.results), read_appropriateness(evaluation.folder)
    rows = []
    for row in evaluation.about["rows"]:
        cells = [figures.text(row["name"], BY_NAME[name]) for name in MAIN]
        if row["kind"] in (Kind.BASELINE, Kind.ORACLE):
            cells[MAIN.index("output_rate")] = ""  # a rule always gives a list
        rows.append((*_labels(row, evaluation.about), *cells[:2], _judged(judged, row["name"]), *cells[2:]))
    titles = [BY_NAME[name].title for name in MAIN]
    header = ("rank", "step", *titles[:2], "appropriateness", *titles[2:])
    return "\n".join([grid(header, _marked(evaluation, header, rows)), "", *_notes(evaluation, bool(judged))]) + "\n"


def _labels(row: dict[str, Any], about: dict[str, Any]) -> tuple[str, str]:
    if row["kind"] != Kind.CHECKPOINT:
        return row["name"], ""
    return training_of(row, about), str(row["step"])


def _judged(judged: dict[str, Appropriateness] | None, row: str) -> str:
    if judged is None:
        return "not judged"
    found = judged.get(row)
    return "" if found is None else f"{found.text} {found.badge}".strip()


def _marked(evaluation: Evaluation, header: Sequence[str], rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Set the best checkpoint's Jaccard in bold, and a sign at those that tie with it."""
    best = evaluation.about["comparisons"]["jaccard"]["best"]
    if best is None:
        return rows
    place, marked = header.index(BY_NAME["jaccard"].title), []
    for row, cells in zip(evaluation.about["rows"], rows, strict=True):
        text = cells[place]
        if row["name"] == best["row"]:
            text = f"**{text}**"
        elif row["name"] in best["tied"]:
            text = f"{text} ="
        marked.append((*cells[:place], text, *cells[place + 1 :]))
    return marked


def _notes(evaluation: Evaluation, judged: bool) -> list[str]:
    about = evaluation.about
    found, kinds = about["comparisons"]["jaccard"], {row["kind"] for row in about["rows"]}
    names, lengths = {row["name"] for row in about["rows"]}, _MATCHED if about["matched_lengths"] else _OWN
    notes = [
        f"""
        {_visits(about)} Truth: the drugs ordered in the stay. Output rate: answers that are a list, an empty one
        included, as the model wrote them. Accuracy: mean share of the drafted drugs that were ordered, over lists that
        name a drug (the reference's). All other columns are over all admissions, and an answer that is no list counts
        0. PRAUC: of rows that score every drug. New starts: share of the ordered drugs that the previous admission did
        not have, where there was one. ECE: how far probabilities lie from what was ordered, over the formulary.
        """,
        f"""
        Brackets: 95 % intervals, {about["redrawn"]["draws"]} redraws of patients. Bold: the highest Jaccard of a
        checkpoint; =: cannot be told from it (all pairs, max-T). Selected on validation: {about["selected"]}.
        {lengths if Kind.BASELINE in kinds else ""}
        """,
        _best(found["best"], len(about["checkpoints"])),
        _detectable(found["smallest_detectable"]),
        ""
        if judged
        else "Appropriateness: nobody was asked; `rxdraft judge` asks a model, and says what it lets pass.",
        *(text for name, text in _PRODUCTS.items() if name in names),
        _LABELS if any(known.get("objective") == LABELS for known in about["checkpoints"].values()) else "",
        _PROBES if Kind.PROBE in kinds else "",
        _ORACLE if Kind.ORACLE in kinds else "",
    ]
    return [*map(_filled, filter(None, notes)), *_compared(about), *_of_oracle(evaluation)]


def _compared(about: dict[str, Any]) -> list[str]:
    """Return who is better in words: against baselines and the oracle it is the recommender that a user gets."""
    served = about["served_less_baselines"]["jaccard"]
    against_it = {line["row"] for line in served}
    selected = [one for one in about["comparisons"]["jaccard"]["selected_less_others"] if one["row"] not in against_it]
    sides = ((about["selected"], selected), (SERVED, served))
    told = [(name, line) for name, lines in sides for line in lines if line["lo"] is not None]
    return [_sentence(line, name) for name, line in told if line["lo"] < line["hi"]]  # else they are the same lists


def _of_oracle(evaluation: Evaluation) -> list[str]:
    figures = Figures(evaluation.results)
    found = {name: figures.find(SERVED, f"oracle_share_{name}") for name in AGAINST_ORACLE}
    shares = [
        f"{100 * line['value']:.1f} % [{100 * line['lo']:.1f}, {100 * line['hi']:.1f}] of its {BY_NAME[name].title}"
        for name, line in found.items()
        if line["lo"] is not None
    ]
    return [f"{SERVED} reaches of the oracle {' and '.join(shares)}."] if shares else []


def _visits(about: dict[str, Any]) -> str:
    return f"{about['admissions']} admissions of {about['patients']} patients, split {about['split']}."


def _best(best: dict[str, Any] | None, of: int) -> str:
    if best is None or of < 2:
        return ""
    return f"""
        Best of {of}: {best["row"]}, Jaccard {best["raw"]:.3f}; {best["corrected"]:.3f} less the optimism of having been
        picked on these admissions.
    """


def _detectable(difference: float | None) -> str:
    if not difference:
        return ""
    return f"Differences below {difference:.3f} in Jaccard would mostly not be found with these patients."


def _filled(text: str) -> str:
    return fill(" ".join(text.split()), 118, break_long_words=False, break_on_hyphens=False)


def _sentence(line: dict[str, Any], selected: str) -> str:
    verdict = "better" if line["lo"] > 0 else "worse" if line["hi"] < 0 else "not to be told apart"
    return f"{selected} less {line['row']}: {line['point']:+.3f} [{line['lo']:+.3f}, {line['hi']:+.3f}], {verdict}."


def worked_example(evaluation: Evaluation, place: int = 0) -> str:
    """Return one admission in words: what the model was told, the draft with hits marked, and what it missed."""
    sample = evaluation.samples.row(place, named=True)
    drafted = evaluation.drafts(evaluation.selected).row(place, named=True)
    truth = set(sample["drugs"])
    told = render_prompt(to_admission(sample))[1]["content"].splitlines()
    lines = [
        f"One admission of split {evaluation.about['split']}, drafted by {evaluation.selected}.",
        "What the model was told:",
        *(f"  {line}" for line in told),
        f"Draft ({drafted['outcome']}); + was ordered in the stay, - was not:",
        *(f"  {'+' if drug in truth else '-'} {drug}" for drug in drafted["drugs"]),
        f"Ordered and not drafted: {', '.join(d for d in sample['drugs'] if d not in drafted['drugs']) or 'nothing'}",
    ]
    return "\n".join(lines)
