"""Write what `formulations.py` found as docs/formulations.md, with its pictures: every figure comes from its JSON."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from statistics import mean, median
from typing import Any

from formulations_pictures import draw_curve, draw_rows
from formulations_rows import ROWS

from etl import artefacts
from evaluation.markdown import grid

Json = dict[str, Any]

_DOCUMENT = """\
# Formulations: how to ask a model for drugs

```console
make formulations
```

wrote this page and its pictures (`benchmarks/formulations.py`). One small base learned in several ways from the same
admissions, by FA-LoRA of rank {rank}, and is asked for the drugs of the same test admissions; beside it stand
regressions, and the oracle, which knows the chance of every drug.
{hospitals}
Curve, cut, prior weight and blend weight of every row were chosen on the validation split by the code that
`rxdraft calibrate` runs; the test split was asked once.

## The table

{table}

{marks}

![Jaccard of every row with its interval](images/formulations.svg)

What each learned from:

{learned}

## Against the regressions

{differences}

## What wins, and why the others lose

{words}

## What limits it: data

{curve}

![Jaccard over training admissions](images/formulations-curve.svg)

{limits}

## What this does not tell

- Anything about real patients or text. Each hospital's diseases, drugs and habits are drawn from a written model
  (`etl/synthetic/`), whose diagnoses come in fewer than 200 wordings: a regression on codes loses nothing there.
- What an 8B model makes of each formulation. The base here has 2 million parameters and was pretrained to write lists
  of drugs, which favours the list; it never met a yes or a no.
- What longer training does for the losers: the list read {list_tokens} million tokens, the label head
  {label_tokens}.
"""


def write_document(found: Json, path: Path) -> None:
    """Write the document at `path` and its pictures beside it, whole or not at all."""
    names = {row["name"]: row["title"] for row in found["rows"]}
    drawn = [(name, names[name]) for name in found["curve"][-1]["rows"]]
    pictures = {
        path.stem: draw_rows(found["rows"], "jaccard", "Jaccard on the test split; the dashed line is the oracle"),
        f"{path.stem}-curve": draw_curve(found["curve"], drawn, "jaccard", "Jaccard on the test split of seed 1"),
    }
    texts = {path.parent / "images" / f"{name}.svg": picture for name, picture in pictures.items()}
    for place, text in {**texts, path: to_markdown(found)}.items():
        with artefacts.whole_or_absent(place) as new:
            new.write_text(text, "utf-8")


def to_markdown(found: Json) -> str:
    """Return the document's text."""
    learned = next(iter(found["learned"].values()))
    return _DOCUMENT.format(
        rank=found["rank"],
        hospitals=_wrapped(_hospitals(found)),
        table=_table(found["rows"]),
        marks=_MARKS,
        learned=_learned(found),
        differences=_differences(found["rows"]),
        words=_wrapped(_words(found)),
        curve=_curve(found),
        limits=_wrapped(_limits(found)),
        list_tokens=f"{learned['list']['tokens'] / 1e6:.1f}",
        label_tokens=f"{learned['labels']['tokens'] / 1e6:.1f}",
    )


def _wrapped(text: str) -> str:
    """Return paragraphs and points in lines of usual length."""
    points = re.split(r"\n(?=- )", text)
    lines = (
        textwrap.fill(
            " ".join(point.split()), 119, subsequent_indent="  " * point.startswith("- "), break_on_hyphens=False
        )
        for point in points
    )
    return "\n".join(lines)


_MARKS = """\
F1 and Jaccard are means over admissions, with 95 % intervals of patients drawn again; *of oracle* is Jaccard's share of
the best that can be. PRAUC is the mean average precision; Brier score, expected calibration error (ten bins of equal
mass) and log-loss are over all drugs of the formulary. A list written freely may be none, and counts 0 then; all other
rows always give a list of distinct formulary drugs. Drafts per second are those of one thread, by CPU time, 64
admissions at a time in one process: for comparing rows, not for sizing a server ([performance](performance.md))."""

_WORDS = """\
- **The label head blended with `pooled` wins**, and is what `rxdraft train --config labels` and `rxdraft
  calibrate` make: {blended_share} of the oracle's Jaccard, {blended_best} from the better regression and
  {blended_first} from the other. It takes one pass over the question: {blended_speed} drafts a second where ten
  votes make {votes_speed}.
- The head alone is beside the regressions: {labels_best} in Jaccard from `pooled`, {labels_first} from
  `logistic-history`. It reads titles and names, they count codes; in a hospital where every code has one title
  there is nothing more to read. Their mistakes differ, and the blend lives on that. The model's weight was
  {weights}.
- A list is learned with an order. A drug is decided once, by what stands before it; the list ends where lists
  used to end, not where F1 is best; nobody knows how sure it is. Holding it to the formulary mends the
  {malformed} that are no list, and is faster than not to: of a name's tokens most need not be asked for.
- Votes give a list model probabilities, and ten lists a little more F1: {constrained_f1} becomes {fewer_f1}
  with five, {votes_f1} with ten; log-loss is {fewer_loss} and {votes_loss}. They still end below the
  regressions, at the price of many drafts.
- Names scored in one pass tell what a list begins with, not what it holds, and are worse than popularity. By
  the token they are worse again: long names, sure of themselves once begun, move up.
- A yes or no is one bit for a whole question, where the head learns {formulary} from it: {samples} questions
  hold {bits} of the training split's answers. A draft takes {formulary} of them, though they share the facts.
  The base writes drugs and could not be taught the words yes and no (`benchmarks/formulations_yes_no.py`): the
  drug's name and an empty answer stand in for them, and so few questions taught it little or nothing that
  popularity does not know: log-loss {yes_no_loss} beside {popularity_loss}."""

_LIMITS = """\
From {before:,} to {all:,} training admissions the blend goes from {missing} below the oracle to {left} below
it: what is missing is patients. The head alone gains {labels}, `pooled` {pooled}: each drug's part of the head
is learned from the admissions that had it, few for most of the {formulary} drugs, while `pooled` learns once,
from all drugs together, how far an earlier prescription tells the next. For a point of the curve so many
training admissions were kept; validation and test split and formulary are those of the table."""

_COLUMNS = ("", "F1", "Jaccard", "of oracle", "PRAUC", "Brier", "ECE", "log-loss", "output rate", "drafts/s", "chosen")


def _hospitals(found: Json) -> str:
    sizes = list(found["splits"].values())
    of = {split: ", ".join(f"{size[split]:,}" for size in sizes) for split in sizes[0]}
    return (
        f"Synthetic hospitals of {found['patients']:,} patients and {found['formulary']} drugs, seeds"
        f" {', '.join(map(str, found['seeds']))}: {of['train']} training admissions, {of['validation']} of validation,"
        f" {of['test']} of test."
    )


def _words(found: Json) -> str:
    by_name = {row["name"]: row for row in found["rows"]}
    names = ("labels", "blended", "votes-10", "votes-5", "yes-no")
    labels, blended, votes, fewer, yes_no = (by_name[name] for name in names)
    first, best = blended["less"]
    learned = next(iter(found["learned"].values()))["yes-no"]["samples"]
    training = next(iter(found["splits"].values()))["train"]
    return _WORDS.format(
        blended_share=_share(blended["of_oracle"]["jaccard"]),
        blended_best=_signed(blended["less"][best]["jaccard"]),
        blended_first=_signed(blended["less"][first]["jaccard"]),
        blended_speed=_speed(blended),
        votes_speed=_speed(votes),
        labels_best=_signed(labels["less"][best]["jaccard"]),
        labels_first=_signed(labels["less"][first]["jaccard"]),
        weights=", ".join(how.split(",")[0].removeprefix("weight ") for how in blended["chosen"]),
        malformed=_share(1 - by_name["free"]["output_rate"]["value"]),
        constrained_f1=f"{_mean_over(by_name['constrained'], 'f1', votes['seeds']):.3f}",
        fewer_f1=_number(fewer["f1"], 3),
        votes_f1=_number(votes["f1"], 3),
        fewer_loss=_number(fewer["log_loss"], 4),
        votes_loss=_number(votes["log_loss"], 4),
        yes_no_loss=_number(yes_no["log_loss"], 4),
        popularity_loss=f"{_mean_over(by_name['popularity'], 'log_loss', yes_no['seeds']):.4f}",
        formulary=found["formulary"],
        samples=f"{learned:,}",
        bits=_share(learned / training / found["formulary"]),
    )


def _limits(found: Json) -> str:
    first, *_, last = found["curve"]

    def jaccard(point: Json, name: str) -> float:
        return float(point["rows"][name]["jaccard"]["value"])

    return _LIMITS.format(
        before=first["admissions"],
        all=last["admissions"],
        missing=f"{jaccard(first, 'oracle') - jaccard(first, 'blended'):.3f}",
        left=f"{jaccard(last, 'oracle') - jaccard(last, 'blended'):.3f}",
        formulary=found["formulary"],
        **{name: f"{jaccard(last, name) - jaccard(first, name):+.3f}" for name in ("labels", "pooled")},
    )


def _table(rows: list[Json]) -> str:
    """Return the table, with what is to be known where rows or seeds are missing."""
    notes = [grid(_COLUMNS, [_row(row, _title(row, rows)) for row in rows])]
    if any(row["seeds"] != rows[-1]["seeds"] for row in rows):
        notes.append("A row with seeds behind its name was asked of those hospitals alone, and is compared there.")
    there = {row["name"] for row in rows}
    if missing := [row.title for row in ROWS if row.name not in there]:
        notes.append(f"Not asked by the time this was written: {', '.join(missing)}.")
    return "\n\n".join(notes)


def _title(row: Json, rows: list[Json]) -> str:
    """Return a row's title, with its seeds where they are not all."""
    seeds = ", ".join(f"seed {seed}" for seed in row["seeds"])
    return row["title"] if row["seeds"] == rows[-1]["seeds"] else f"{row['title']} ({seeds})"


def _row(row: Json, title: str) -> list[str]:
    return [
        title,
        _interval(row["f1"]),
        _interval(row["jaccard"]),
        _share(row["of_oracle"]["jaccard"]),
        *(_number(row[name], digits) for name, digits in (("prauc", 3), ("brier", 4), ("ece", 4), ("log_loss", 4))),
        _share(row["output_rate"]["value"]),
        _speed(row),
        row["chosen"][0],
    ]


def _learned(found: Json) -> str:
    first = next(iter(found["learned"].values()))
    rows = [[name, f"{run['samples']:,}", f"{run['tokens'] / 1e6:.1f} million"] for name, run in first.items()]
    return grid(("run", "samples", "tokens read"), rows)


def _differences(rows: list[Json]) -> str:
    columns = ("", *(f"{score} less {other}'s" for other in rows[0]["less"] for score in ("F1", "Jaccard")))
    told = [
        [
            row["title"],
            *(
                _signed(row["less"][other][score]) if other in row["less"] else ""
                for other in rows[0]["less"]
                for score in ("f1", "jaccard")
            ),
        ]
        for row in rows
    ]
    return grid(columns, told)


def _curve(found: Json) -> str:
    names = {row["name"]: row["title"] for row in found["rows"]}
    points = found["curve"]
    columns = ("Jaccard", *(f"{point['admissions']:,} admissions" for point in points))
    rows = [
        [names[name], *(f"{point['rows'][name]['jaccard']['value']:.3f}" for point in points)]
        for name in points[0]["rows"]
    ]
    return grid(columns, rows)


# --- numbers ----------------------------------------------------------------------------------------------


def _interval(found: Json) -> str:
    return f"{found['value']:.3f} [{found['lo']:.3f}, {found['hi']:.3f}]"


def _signed(found: Json) -> str:
    return f"{found['value']:+.3f} [{found['lo']:+.3f}, {found['hi']:+.3f}]"


def _number(found: Json | None, digits: int) -> str:
    return "" if found is None else f"{found['value']:.{digits}f}"


def _mean_over(row: Json, score: str, seeds: list[int]) -> float:
    """Return a score's mean over some of the row's seeds, each weighing the same."""
    return mean(value for seed, value in zip(row["seeds"], row["by_seed"][score], strict=True) if seed in seeds)


def _speed(row: Json) -> str:
    """Return drafts to the CPU second in two digits, the median of the seeds."""
    if not row["drafts_per_second"]:
        return ""
    speed = median(row["drafts_per_second"])
    return f"{round(speed, 1 - math.floor(math.log10(speed))):,.0f}" if speed >= 10 else f"{speed:.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
