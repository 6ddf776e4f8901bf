"""The subcommand `calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serving.loading import BASE

if TYPE_CHECKING:
    from serving.probabilities.calibration import Calibration


def calibrate(
    model: Annotated[Path, typer.Option(help="Checkpoint made by `rxdraft train`, or a folder of checkpoints.")],
    data: Annotated[Path, typer.Option(help="Cohort they were trained on; its validation split is asked.")],
    votes: Annotated[
        int, typer.Option(min=2, max=64, help="Lists drawn for an admission, by a model that writes lists.")
    ] = 10,
    temperature: Annotated[float, typer.Option(min=0.05, help="They are drawn at; 1: as the model has it.")] = 0.7,
    false_positives: Annotated[
        float | None,
        typer.Option(min=0, help="Wrong drugs that a list may be expected to have; left out: where F1 is best."),
    ] = None,
    blend: Annotated[
        bool,
        typer.Option(help="Blend with logistic regression on codes and history as far as that helps."),
    ] = True,
    base: BASE = None,
) -> None:
    """Make a checkpoint's scores probabilities, and find where its lists end best; both go into its manifest.

    Fitted on the validation split alone; the figures are those of patients who were held out.
    """
    from etl.progress import stages
    from serving.probabilities import calibrate as calibrating

    wanted = calibrating.Wanted(votes, temperature, false_positives, blend)
    with stages("calibrate") as told:
        found = list(calibrating.calibrate(model, data, wanted, base=base, told=told))
    print("\n".join(_table(model, found)))
    if all(stood for _, _, stood in found):
        print("calibrated so already; nothing was changed")


def _table(model: Path, found: list[tuple[Path, Calibration, bool]]) -> list[str]:
    """Return lines: a checkpoint, how it is calibrated, and each figure before and after."""
    rows = [["checkpoint", "weight", "curve", "cut", "log-loss", "Brier", "ECE", "F1"]]
    for path, calibration, _ in found:
        name = path.name if path == model else path.relative_to(model).as_posix()
        weight = calibration.blend.weight if calibration.blend else 1.0
        rows.append([name, f"{weight:.1f}", calibration.curve.kind.value, str(calibration.cut), *_figures(calibration)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _figures(calibration: Calibration) -> list[str]:
    if calibration.fitted is None:
        return []
    before, after = calibration.fitted.before, calibration.fitted.after
    pairs = [
        (before.log_loss, after.log_loss),
        (before.brier, after.brier),
        (before.ece, after.ece),
        (before.f1, after.f1),
    ]
    return [f"{one:.4f} -> {other:.4f}" for one, other in pairs]
