"""What runs have learned so far, as one PNG: losses, gradient norm and |ΔW| by step, a line a run.

Reads logs and looks at the validation loss; knows no model. A run may still be training.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ContractError
from training.drawing import Line, Panel, draw_panels
from training.tracking import read_log

POINTS = 60
"""Most points of a line; more entries are averaged over stretches of equal length."""

_LOSSES = {"list": ("learned token", "answer token"), "labels": ("drug", "drug")}
"""What the losses of an objective are means over, in training and in validation: two of them share no axis."""

_Entries = Sequence[dict[str, Any]]


def draw_curves(runs: Path, out: Path | None = None) -> Path:
    """Draw every run at or below a folder and return the PNG: the same bytes for the same curves.

    Args:
        runs: folder of one run or of many.
        out: the file; None: curves.png in `runs`.

    Raises:
        ContractError: no run there has taken a step.
    """
    panels = [panel for panel in read_panels(runs) if panel.lines]
    if not panels:
        raise ContractError(
            f"{runs} holds no log.jsonl with a step in it; give a folder that `rxdraft train` writes to"
        )
    told = json.dumps([(panel.title, [(line.name, line.points) for line in panel.lines]) for panel in panels])
    origin = {"Software": f"rxdraft {version('rxdraft')}", "Source": f"sha256 {artefacts.sha256(told.encode())}"}
    path = out or runs / "curves.png"
    with artefacts.whole_or_absent(path) as new:
        draw_panels(panels, new, origin)
    return path


def read_panels(runs: Path) -> list[Panel]:
    """Return what there is to draw, by run in the order of their numbers; a panel may be without lines."""
    logs = {path.parent: read_log(path) for path in _logs(runs)}
    names = {run: run.relative_to(runs).as_posix() if run != runs else run.resolve().name for run in logs}
    objectives = {run: _objective(run) for run in logs}
    drawn: dict[str, dict[Path, list[tuple[float, float]]]] = {}
    for objective, (learned, scored) in _LOSSES.items():
        alike = {run: log for run, log in logs.items() if objectives[run] == objective}
        if alike:
            drawn |= {
                f"train loss per {learned}": {
                    run: _means(log, "loss", "response_tokens") for run, log in alike.items()
                },
                f"validation loss per {scored}": {run: _looks(run, log) for run, log in alike.items()},
            }
    drawn |= {
        "gradient norm before clipping": {run: _means(log, "grad_norm") for run, log in logs.items()},
        "norm of the update |dW|": {run: _means(log, "update_norm") for run, log in logs.items()},
    }
    # A run keeps its look in every panel, also where it is missing from one.
    looks = {run: look for look, run in enumerate(logs)}
    return [
        Panel(title, [Line(names[run], points, looks[run]) for run, points in lines.items() if points])
        for title, lines in drawn.items()
    ]


def _logs(runs: Path) -> list[Path]:
    """Return the logs at or below a folder, rank-2 before rank-16; none of what is unfinished."""
    found = [path for path in runs.rglob("log.jsonl") if not any(p[0] == "." for p in path.relative_to(runs).parts)]
    return sorted(found, key=lambda path: [(int(n or 0), word) for n, word in re.findall(r"(\d+)|(\D+)", str(path))])


def _objective(run: Path) -> str:
    """Return what a run learns, as its config says; lists where no config stands."""
    path = run / "run.json"
    config = artefacts.read_json(path, "rxdraft train")["config"] if path.exists() else {}
    return str(config.get("objective", "list"))


def _means(log: _Entries, name: str, weight: str | None = None) -> list[tuple[float, float]]:
    """Return a value's means over stretches of the log, each at its last step; what is no number is left out."""
    entries = [entry for entry in log if math.isfinite(entry.get(name, math.nan))]
    stretch = -(-len(entries) // POINTS) or 1
    points = []
    for part in (entries[start : start + stretch] for start in range(0, len(entries), stretch)):
        weights = [entry[weight] if weight else 1 for entry in part]
        total = sum(entry[name] * w for entry, w in zip(part, weights, strict=True))
        points.append((float(part[-1]["step"]), total / sum(weights)))
    return points


def _looks(run: Path, log: _Entries) -> list[tuple[float, float]]:
    """Return the looks at the validation loss, from their file and from the log."""
    path = run / "validation.json"
    kept = artefacts.read_json(path, "rxdraft train")["looks"] if path.exists() else []
    return sorted(dict((*_pairs(kept, "loss"), *_pairs(log, "validation_loss"))).items())


def _pairs(entries: _Entries, name: str) -> Iterator[tuple[float, float]]:
    for entry in entries:
        if math.isfinite(value := entry.get(name) or math.nan):
            yield float(entry["step"]), value
