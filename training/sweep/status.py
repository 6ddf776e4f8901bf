"""How far every trial of a sweep is, read from the folders; sweep.json, which says the same to other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from etl import artefacts
from training.sweep.grid import Trial, describe
from training.sweep.lock import is_locked
from training.sweep.trial import FAILED, is_whole

_TAIL_BYTES = 4096
"""Of a log, enough for its last line."""


class State(StrEnum):
    """How far a trial is."""

    WAITING = "waiting"
    TRAINING = "training"
    STOPPED = "stopped"
    """Begun, and nobody is at it; the next sweep goes on from its newest checkpoint."""
    FAILED = "failed"
    WHOLE = "whole"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a trial stands.

    Attributes:
        state: of `State`.
        step: the last in the log, 0 before the first.
        checkpoints: kept so far.
        why: it failed; "" where it did not.
    """

    state: State
    step: int
    checkpoints: int
    why: str = ""


def standing(run: Path) -> Standing:
    """Read how far the trial in a folder is."""
    step, checkpoints = _last_step(run / "log.jsonl"), len(list(run.glob("step-*/manifest.json")))
    if is_whole(run):
        return Standing(State.WHOLE, step, checkpoints)
    if is_locked(run):
        return Standing(State.TRAINING, step, checkpoints)
    if (run / FAILED).is_file():
        why = artefacts.read_json(run / FAILED, "rxdraft sweep")["why"]
        return Standing(State.FAILED, step, checkpoints, why)
    return Standing(State.STOPPED if (run / "run.json").is_file() else State.WAITING, step, checkpoints)


def _last_step(log: Path) -> int:
    if not log.is_file():
        return 0
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().splitlines()
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):  # cut short by a kill, or by where we began to read
            continue
    return 0


def claim(folder: Path, trials: Sequence[Trial]) -> None:
    """Write what the sweep is into its folder, or see that the one that stands there is this one.

    Ranks, seeds and methods may be added to a sweep; all else would make its cells incomparable.

    Raises:
        ContractError: another sweep stands there; what differs is named.
    """
    wanted = describe(trials)
    if (folder / "sweep.json").is_file():
        stands = read_sweep(folder)
        apart = {name: value for name, value in wanted.items() if name not in ("trials", "base", "cohort")}
        to_do = "ranks, seeds and methods may be added, all else needs another --out"
        artefacts.check_same(folder, stands, apart, within="config", to_do=to_do)
        wanted["trials"] = stands["trials"] | wanted["trials"]
    _write(folder, wanted)


def update(folder: Path) -> None:
    """Bring the states in sweep.json to what the folders say."""
    _write(folder, read_sweep(folder))


def read_sweep(folder: Path) -> dict[str, Any]:
    """Read what a sweep is.

    Raises:
        ContractError: none stands there.
    """
    content: dict[str, Any] = artefacts.read_json(folder / "sweep.json", "rxdraft sweep")
    return content


def _write(folder: Path, sweep: dict[str, Any]) -> None:
    states = {name: standing(folder / name).state for name in sweep["trials"]}
    trials = {name: {**trial, "state": states[name].value} for name, trial in sweep["trials"].items()}
    with artefacts.whole_or_absent(folder / "sweep.json") as new:
        artefacts.write_json(new, {**sweep, "trials": trials})


def lines(folder: Path) -> list[str]:
    """Return how far the sweep in a folder is, a line a trial, and how many are whole."""
    trials = read_sweep(folder)["trials"]
    found = {name: standing(folder / name) for name in trials}
    width = max(map(len, found))
    told = [
        f"{name:<{width}}  {at.state:<8}  step {at.step:>6}, {at.checkpoints} of {trials[name]['checkpoints']} "
        f"checkpoints{f'; {at.why}' if at.why else ''}"
        for name, at in found.items()
    ]
    whole = sum(at.state is State.WHOLE for at in found.values())
    return [*told, f"{whole} of {len(found)} trials are whole"]
