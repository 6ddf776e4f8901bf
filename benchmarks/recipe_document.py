"""Write what `ablate_recipe.py` found as docs/recipe.md, with its picture: every figure comes from its JSON."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from etl import artefacts
from evaluation.markdown import grid

Json = dict[str, Any]

_DOCUMENT = """\
# The recipe: what each choice is worth

```console
{command}
```

wrote this page and its picture. It trains the reference's recipe, ours, and ours with one factor changed at a time, on
the synthetic hospital of `make demo` and the tiny base; killed at any moment, the same command goes on.
{machine}

A recipe is trained with {seeds} seeds, each of A and of the samples' order together, on {samples} of {training}
training samples, the reference on all of them in its five epochs ({reference_samples:,} samples). All that chooses
looks at the validation split ({validation}); the test split ({test}) was
drafted for two recipes alone, the reference and the winner. Scores are those of `rxdraft evaluate`: an answer that is
no list counts 0. Intervals are 95 %, of patients drawn again with their visits, over the mean of the seeds; those of
the differences hold all at once.

## The reference against ours, test split

{headline}

The oracle knows every drug's chance; nobody can beat it. Ours less the reference: Jaccard {test_difference}.
‖ΔW‖ is the norm of what training added to the base's weights. Seconds are those of a core for all that `train` does,
the median of the seeds, on a machine that others used too.

## One factor at a time, validation split

{factors}

![Differences in Jaccard from ours, with intervals](images/recipe.svg)

- An alternative would take our place if its interval lay above 0; ours was found by a few runs on the same split.
{lower}
- *Difference* is the recipe's Jaccard less ours, with its simultaneous interval; *seeds* are the differences of the
  single seeds. *Even* says that the interval holds 0, not that there is no difference.
- The loss is that of the answer's tokens. It compares recipes that answer in one order: under another order of the list
  the same drugs have another loss, so there and elsewhere the drafts decide.
- The cohort gives a list in the order of first prescription, and by name within one moment (`sql/drug_lists.sql`).
  Drafts are scored as sets: the order changes what is learned and not what is asked.

## The reference's sweep compares step sizes, not ranks

At a fixed alpha the update is scaled by s = alpha / rank. A step of SGD moves B by its gradient, which has a factor s,
and the update has s again: ‖ΔW‖ goes with s² √rank, and what a step gains in loss with s² rank.

{confound}

At alpha 16, rank 16 is ahead of rank 32 by the size of its steps. With alpha / √rank (`scaling = "rslora"`, or alpha
raised with √rank) that lead is gone.{adamw}

## What won, and what of it `best.toml` keeps

{winner}

`training/configs/best.toml` takes what is about the method and not about the model's size:
{kept}.
The learning rate is its one guess. AdamW moves every entry of B by about the rate; A is drawn within ±1 / √width, so
that A x does not grow with the width, and the rate of B need not fall with it
([LoRA+](https://arxiv.org/abs/2402.12354); that of A must, so rates of plain LoRA are no guide). What the layers do
adds up, and an 8B model has 32 where this base has {layers}: `best.toml` has a tenth of ours, 3e-3. Look at ‖ΔW‖ in the
log and at the validation loss before believing it.

## What this does not tell

- Anything about real patients or real text. The hospital's diseases, drugs and habits are drawn from a written model
  (`etl/synthetic/`); its lists are short and hold {formulary} drugs.
- How large a gain is on an 8B model. The base here has 2 million parameters and was pretrained on a hospital of other
  habits: there is much to learn and little to forget.
- Which order of the list is best. This base wrote lists in the cohort's order before it came here: what is measured is
  above all the price of leaving a habit, which a language model does not have; alphabetical lists, half of which are
  the same as before, cost little. So with the prompts: this base never learned to write any, a language model did.
- Which method is best. The rates were looked for with fa-lora and lora was given two of them, with which it learns
  twice as many matrices. `best.toml` stays with fa-lora, whose lists are not told apart from the better of the two;
  `--method lora`, at a lower rate, is worth a run where nothing asks for a frozen A.
- What long training does. {samples} samples are {share} of an epoch: recipes that learn slowly look worse than they
  would end, and nothing overfits.
- How factors combine. Each was changed alone, from the winner; two that are even alone may differ together.
"""


def write_document(found: Json, path: Path) -> None:
    """Write the document at `path` and its picture beside it, whole or not at all."""
    picture = path.parent / "images" / f"{path.stem}.svg"
    for place, text in ((picture, _picture(_factors(found))), (path, to_markdown(found))):
        with artefacts.whole_or_absent(place) as new:
            new.write_text(text, "utf-8")


def to_markdown(found: Json) -> str:
    """Return the document's text."""
    arms = _by_name(found)
    winner, reference = arms["winner"], arms["reference"]
    test_difference = found["test"]["winner"]["difference"]
    return _DOCUMENT.format(
        command=shlex.join(found["command"]),
        machine=_machine(found["machine"]),
        seeds=len(found["seeds"]),
        samples=winner["runs"][0]["samples"],
        share=_share(winner["runs"][0]["samples"] / found["training_samples"]),
        reference_samples=reference["runs"][0]["samples"],
        validation=_people(found, "validation"),
        test=_people(found, "test"),
        headline=_headline(found),
        test_difference=_signed_interval(test_difference),
        factors=grid(_FACTOR_COLUMNS, [_factor_row(arm) for arm in (winner, *_factors(found))]),
        confound=_confound(arms),
        adamw=_adamw(arms),
        lower=_lower_losses(arms),
        winner=_winner(winner["config"]),
        kept=_kept(winner["config"]),
        formulary=found["formulary"],
        training=found["training_samples"],
        layers=found["layers"],
    )


def _by_name(found: Json) -> dict[str, Json]:
    return {arm["name"]: arm for arm in found["arms"]}


def _factors(found: Json) -> list[Json]:
    return [arm for arm in found["arms"] if arm["drafted"] and arm["name"] != "winner"]


def _machine(machine: Json) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    return f"The machine had {machine['cpus']} cores; {versions}."


def _people(found: Json, split: str) -> str:
    return f"{found['admissions'][split]} admissions of {found['patients'][split]} patients"


# --- numbers ----------------------------------------------------------------------------------------------


def _mean(arm: Json, figure: str) -> float:
    return mean(run[figure] for run in arm["runs"])


def _norm(arm: Json) -> str:
    return f"{_mean(arm, 'update_norm'):.3g}"


def _seconds(arm: Json) -> str:
    known = sorted(run["cpu_seconds"] for run in arm["runs"] if run["cpu_seconds"] is not None)
    return f"{known[len(known) // 2]:.0f} s" if known else ""


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _interval(found: Json) -> str:
    return f"{found['value']:.3f} ({found['lo']:.3f} to {found['hi']:.3f})"


def _signed_interval(found: Json) -> str:
    return f"{found['value']:+.3f} ({found['lo']:+.3f} to {found['hi']:+.3f})"


def verdict(difference: Json) -> str:
    """Say which side of 0 the interval lies on: better, worse, or even."""
    if difference["lo"] > 0:
        return "better"
    return "worse" if difference["hi"] < 0 else "even"


# --- tables -----------------------------------------------------------------------------------------------

_FACTOR_COLUMNS = ("factor", "instead", "loss", "Jaccard", "F1", "output rate", "‖ΔW‖", "difference", "seeds", "")


def _factor_row(arm: Json) -> list[str]:
    scores = arm["validation"]
    difference = scores.get("difference")
    return [
        arm["factor"],
        arm["level"],
        f"{_mean(arm, 'validation_loss'):.4f}",
        *(f"{scores[score]['value']:.3f}" for score in ("jaccard", "f1")),
        _share(scores["output_rate"]["value"]),
        _norm(arm),
        *(
            (_signed_interval(difference), " ".join(f"{x:+.3f}" for x in difference["seeds"]), verdict(difference))
            if difference
            else ("", "", "")
        ),
    ]


def _lower_losses(arms: dict[str, Json]) -> str:
    """Name the recipes whose loss is below ours with every seed; of those in our order of the list."""
    ours = [run["validation_loss"] for run in arms["winner"]["runs"]]
    names = [
        f"{arm['factor']} {arm['level']}"
        for arm in arms.values()
        if arm["drafted"]
        and arm["factor"] != "order of the list"
        and all(run["validation_loss"] < loss for run, loss in zip(arm["runs"], ours, strict=True))
    ]
    return f"- A lower loss than ours with every seed:\n  {'; '.join(names) or 'none'}."


def _headline(found: Json) -> str:
    arms, test = _by_name(found), found["test"]
    rows = []
    rows.append(["the base", *[""] * 3, f"{_mean(arms['base'], 'validation_loss'):.4f}", "0", "0", ""])
    for name, title in (("reference", "reference, 5 epochs"), ("winner", "ours")):
        runs, scores = arms[name], [_interval(test[name][score]) for score in ("jaccard", "f1")]
        scores += [_share(test[name]["output_rate"]["value"]), f"{_mean(runs, 'validation_loss'):.4f}"]
        rows.append([title, *scores, _norm(runs), f"{runs['runs'][0]['samples']:,}", _seconds(runs)])
    rows.append(["oracle", *(_interval(test["oracle"][score]) for score in ("jaccard", "f1")), *[""] * 5])
    return grid(("", "Jaccard", "F1", "output rate", "loss (validation)", "‖ΔW‖", "samples", "training"), rows)


def _confound(arms: dict[str, Json]) -> str:
    first, base = arms["reference-short"], _mean(arms["base"], "validation_loss")
    rows = []
    for name, title in (
        ("reference-short", "16, alpha / rank of 16"),
        ("reference-short-32", "32, alpha / rank of 16"),
        ("reference-short-fair-32", "32, alpha / √rank of 4"),
    ):
        arm, rank = arms[name], arms[name]["config"]["ranks"][0]
        s, first_s = arm["runs"][0]["scaling"], first["runs"][0]["scaling"]
        gain = base - _mean(arm, "validation_loss")
        rows.append(
            [
                title,
                f"{s:.3g}",
                _norm(arm),
                f"{_mean(first, 'update_norm') / _mean(arm, 'update_norm'):.2f}",
                f"{(first_s / s) ** 2 * math.sqrt(16 / rank):.2f}",
                f"{1e6 * gain:.1f}",
                f"{(base - _mean(first, 'validation_loss')) / gain:.2f}",
                f"{(first_s / s) ** 2 * 16 / rank:.2f}",
            ]
        )
    columns = ("rank, SGD 1e-3", "s", "‖ΔW‖", "r16 : this", "predicted", "10⁶ × loss gained", "r16 : this", "predicted")
    return grid(columns, rows)


def _adamw(arms: dict[str, Json]) -> str:
    first = _mean(arms["winner"], "update_norm")
    fixed, fair = (first / _mean(arms[name], "update_norm") for name in ("rank-32", "rank-32-fair"))
    return (
        "\nUnder AdamW, whose steps do not know their gradient's size, ‖ΔW‖ goes with s √rank: r16 : r32 is"
        f"\n{fixed:.2f} at a fixed alpha (predicted {math.sqrt(2):.2f})"
        f" and {fair:.2f} with alpha / √rank (predicted 1.00)."
    )


_TOLD = {
    "method": "what learns",
    "optimizer": "",
    "learning_rate": "at its highest",
    "schedule": "after warm-up",
    "warmup_steps": "",
    "clip_norm": "",
    "scaling": "of B A",
    "alpha": "",
    "ranks": "",
    "loss_on": "tokens that are learned",
    "batch_size": "",
}


def _winner(config: Json) -> str:
    rows = [[f"`{key}`", f"`{config[key]}`", note] for key, note in _TOLD.items()]
    return grid(("setting", "ours", ""), rows)


def _kept(config: Json) -> str:
    names = ("method", "optimizer", "schedule", "scaling", "loss_on")
    return ", ".join(f"`{name} = {config[name]}`" for name in names)


# --- the picture ------------------------------------------------------------------------------------------

_LEFT, _WIDTH, _ROW, _TOP = 330, 420, 22, 30
_LOWEST = -0.13
"""Where the axis ends; what lies below is told as a number at its end."""


def _picture(arms: Sequence[Json]) -> str:
    """Draw a line for each recipe: interval, mean, and its seeds; 0 is ours."""
    differences = [arm["validation"]["difference"] for arm in arms]
    low = max(_LOWEST, min(found["lo"] for found in differences))
    high = max(0.01, *(found["hi"] for found in differences))

    def at(x: float) -> float:
        return _LEFT + _WIDTH * (max(x, low) - low) / (high - low)

    bottom = _TOP + _ROW * len(arms)
    rows = [_line(arm, _TOP + _ROW * (place + 0.5), at, beyond=low) for place, arm in enumerate(arms)]
    ticks = [k / 50 for k in range(math.ceil(low * 50), math.floor(high * 50) + 1)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 30} {bottom + 30}" role="img"'
            ' font-family="sans-serif" font-size="12" fill="#222">',
            "<title>Jaccard on the validation split, less ours</title>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            f'<text x="{_LEFT}" y="18">Jaccard, validation split, less ours; small marks are single seeds</text>',
            f'<path d="M{at(0):.1f} {_TOP}V{bottom}" stroke="#999" stroke-dasharray="3 3"/>',
            *(line for row in rows for line in row),
            *(f'<text x="{at(x):.1f}" y="{bottom + 18}" text-anchor="middle">{x:+.2f}</text>' for x in ticks),
            "</svg>\n",
        ]
    )


def _line(arm: Json, y: float, at: Callable[[float], float], beyond: float) -> list[str]:
    found = arm["validation"]["difference"]
    colour = {"better": "#1b7837", "worse": "#b2182b", "even": "#555"}[verdict(found)]
    title = f'<text x="{_LEFT - 12}" y="{y + 4:.1f}" text-anchor="end">{arm["factor"]}: {arm["level"]}</text>'
    if found["value"] < beyond:
        return [title, f'<text x="{_LEFT}" y="{y + 4:.1f}" fill="{colour}">← {found["value"]:+.3f}</text>']
    return [
        title,
        f'<path d="M{at(found["lo"]):.1f} {y:.1f}H{at(found["hi"]):.1f}" stroke="{colour}" stroke-width="2"/>',
        *(f'<path d="M{at(x):.1f} {y - 5:.1f}v10" stroke="{colour}"/>' for x in found["seeds"]),
        f'<circle cx="{at(found["value"]):.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>',
    ]
