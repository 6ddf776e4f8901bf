"""Which trainings a sweep is made of, and what one sweep has in common."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ConfigError
from training import base as bases
from training.advice import rank_sets_step
from training.config import TrainConfig, load_config
from training.methods import scaling

FORMAT = 1
VARYING = ("method", "ranks", "seed", "a_seed", "checkpoint_steps", "checkpoint_epochs")
"""Settings in which the trials of one sweep differ, or which the sweep states by itself."""
_MARKS = ("checkpoint_steps", "checkpoint_epochs")


@dataclass(frozen=True, slots=True)
class Trial:
    """One training: a method at one rank with one seed, and the checkpoints it keeps.

    Attributes:
        config: with one rank; `seed` and `a_seed` are the trial's seed.
        folder: of the run.
        cohort, base: what it is trained on, absolute where they are folders.
        command: the arguments of `rxdraft train` that train the same.
    """

    config: TrainConfig
    folder: Path
    cohort: Path
    base: str
    command: tuple[str, ...]

    @property
    def rank(self) -> int:
        """Of its adapters."""
        return self.config.ranks[0]

    @property
    def name(self) -> str:
        """Its folder's place in the sweep."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    @property
    def checkpoints(self) -> int:
        """How many it keeps."""
        return len(self.config.checkpoint_steps or self.config.checkpoint_epochs)

    @property
    def command_line(self) -> str:
        """What trains it by hand, on whatever machine."""
        return shlex.join(("rxdraft", "train", *self.command))


@dataclass(frozen=True, slots=True)
class Grid:
    """What is to be compared; None: as the config has it.

    Attributes:
        config: shipped config or TOML file; overrides: key=value over it.
        ranks, methods: each with each.
        steps: after which checkpoints are kept.
        seeds: each of the order of the samples and of A alike.
    """

    config: str
    overrides: Sequence[str] = ()
    ranks: Sequence[int] | None = None
    steps: Sequence[int] | None = None
    seeds: Sequence[int] = (0, 1, 2)
    methods: Sequence[str] | None = None

    def trials(self, folder: Path, cohort: Path, base: str) -> list[Trial]:
        """Return the trainings, seed by seed, so that the first seed's row is there first.

        A schedule that looks at the total (linear, cosine) makes an early checkpoint no shorter training: there
        every step is a trial by itself.

        Raises:
            ConfigError: the settings cannot be, or cannot be compared.
        """
        first = self._load()
        marks = next((name, getattr(first, name)) for name in _MARKS if getattr(first, name))
        if self.steps:
            marks = ("checkpoint_steps", tuple(sorted(set(self.steps))))
        self._check(first)
        alone = first.schedule != "constant"
        kept = [(mark,) for mark in marks[1]] if alone else [marks[1]]
        suffix = f"-{marks[0].removeprefix('checkpoint_').removesuffix('s')}-" if alone else ""
        return [
            self._trial(folder, cohort, base, (method, rank, seed), (marks[0], some), f"{suffix}{some[0]}" * alone)
            for seed, method, rank, some in product(
                dict.fromkeys(self.seeds),
                dict.fromkeys(self.methods or (first.method,)),
                dict.fromkeys(self.ranks or first.ranks),
                kept,
            )
        ]

    def _load(self) -> TrainConfig:
        steps = ["checkpoint_epochs=[]", f"checkpoint_steps=[{max(self.steps)}]"] if self.steps else []
        return load_config(self.config, [*self.overrides, *steps])

    def _check(self, config: TrainConfig) -> None:
        own = [name for name in VARYING if any(pair.partition("=")[0].strip() == name for pair in self.overrides)]
        problems = [f"--set {name} is the sweep's own; use --ranks, --steps, --seeds, --methods" for name in own]
        if "full" in (self.methods or (config.method,)):
            problems.append("method full has no rank and no adapter; train it with `rxdraft train`")
        if config.patience is not None:
            problems.append("patience ends a run before the steps that are compared; leave it out")
        if problems:
            raise ConfigError(f"a sweep compares adapters of known steps: {'; '.join(problems)}")

    def _trial(
        self,
        folder: Path,
        cohort: Path,
        base: str,
        what: tuple[str, int, int],
        marks: tuple[str, Sequence[int]],
        suffix: str,
    ) -> Trial:
        method, rank, seed = what
        varied: dict[str, Any] = {"method": method, "ranks": [rank], "seed": seed, "a_seed": seed}
        varied |= {name: list(marks[1]) if name == marks[0] else [] for name in _MARKS}
        settings = [*self.overrides, *(f"{name}={value}" for name, value in varied.items())]
        cohort = cohort.resolve()
        base = str(Path(base).resolve()) if Path(base).is_dir() else base
        run = folder.resolve() / f"{method}-seed-{seed}{suffix}" / f"rank-{rank}"
        command = ["--data", str(cohort), "--base", base, "--out", str(run.parent), "--config", self.config]
        command += [part for setting in settings for part in ("--set", setting)]
        return Trial(load_config(self.config, settings), run, cohort, base, tuple(command))


def describe(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return what a sweep is, without how far it is: its content in sweep.json but for the trials' states.

    Args:
        trials: of one grid, at least one.
    """
    first = trials[0]
    common = {name: value for name, value in first.config.model_dump(mode="json").items() if name not in VARYING}
    steps = {mark: sorted({at for trial in trials for at in getattr(trial.config, mark)}) for mark in _MARKS}
    return {
        "format": FORMAT,
        "config": {**common, **steps},
        "config_sha256": artefacts.sha256(json.dumps({**common, **steps}, sort_keys=True).encode()),
        "base": first.base,
        "base_sha256": bases.base_sha256(bases.base_folder(first.base)),
        "cohort": str(first.cohort),
        "cohort_sha256": artefacts.sha256_file(first.cohort / "cohort.json"),
        "trials": {
            trial.name: {
                "method": trial.config.method,
                "rank": trial.rank,
                "seed": trial.config.seed,
                "checkpoints": trial.checkpoints,
                "scaling": scaling(trial.config, trial.rank),
                "step_size": step_size(trial.config, trial.rank),
            }
            for trial in trials
        },
    }


def step_size(config: TrainConfig, rank: int) -> float:
    """Return s² r, by which one step of SGD moves what the layer computes while A is random and frozen.

    alpha² / r where s = alpha / r, and alpha² at every rank where s = alpha / sqrt(r).
    """
    return scaling(config, rank) ** 2 * rank


def step_sizes(trials: Sequence[Trial]) -> list[str]:
    """Return the facts about step size to be read before ranks are compared: a line a rank, and a warning."""
    sizes = {trial.rank: step_size(trial.config, trial.rank) for trial in trials}
    lines = [
        f"rank {rank}: s = {scaling(trials[0].config, rank):.4g}, s²r = {size:.4g}" for rank, size in sizes.items()
    ]
    confounded = any(rank_sets_step(t.config.method, t.config.optimizer, t.config.scaling) for t in trials)
    if confounded and len(sizes) > 1:
        low, high = min(sizes), max(sizes)
        times = sizes[low] / sizes[high]
        lines.append(
            f"at a fixed alpha the rank sets the size of a step: one of SGD moves the model {times:.3g} times as far "
            f"at rank {low} as at rank {high}; --set scaling=rslora gives all ranks one s²r"
        )
    return lines
