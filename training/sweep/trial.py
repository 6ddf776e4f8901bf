"""Train one trial, wherever it runs, and mark it whole or failed: the folder is all that others look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from etl import artefacts
from etl.errors import ContractError, RxdraftError
from etl.progress import Told
from training import loop
from training.manifest import find_checkpoints, read_manifest
from training.sweep.grid import Trial
from training.sweep.lock import locked

WHOLE, FAILED = "whole.json", "failed.json"


def train_trial(trial: Trial, on_run: Callable[[str], Told]) -> bool:
    """Train a trial from wherever it stands to its end; return whether it is whole now.

    What went wrong for a reason that the user can mend is written into the folder, not raised: other trials go on.

    Args:
        trial: which.
        on_run: told the name when training begins; returns who is told of its steps.
    """
    with locked(trial.folder):
        if is_whole(trial.folder):
            return True
        (trial.folder / WHOLE).unlink(missing_ok=True)
        (trial.folder / FAILED).unlink(missing_ok=True)
        try:
            loop.train(trial.config, trial.cohort, trial.base, trial.folder.parent, lambda _: on_run(trial.name))
            _mark_whole(trial)
        except RxdraftError as error:
            mark_failed(trial, str(error))
            return False
    return True


def is_whole(run: Path) -> bool:
    """Say whether a trial is marked whole and has all that the mark names."""
    if not (run / WHOLE).is_file():
        return False
    kept = artefacts.read_json(run / WHOLE, "rxdraft sweep")["checkpoints"]
    return all((run / name / "manifest.json").is_file() for name in kept)


def _mark_whole(trial: Trial) -> None:
    found = {path.name: read_manifest(path).weights_sha256 for path in find_checkpoints(trial.folder)}
    if len(found) != trial.checkpoints:
        raise ContractError(
            f"{trial.folder} has {len(found)} checkpoints, wanted {trial.checkpoints}; remove it and sweep again"
        )
    _write(trial.folder / WHOLE, {"checkpoints": found})


def mark_failed(trial: Trial, why: str) -> None:
    """Write why a trial ended early; one line, which `--status` and the table repeat."""
    _write(trial.folder / FAILED, {"why": why})


def _write(path: Path, content: dict[str, object]) -> None:
    with artefacts.whole_or_absent(path) as new:
        artefacts.write_json(new, content)
