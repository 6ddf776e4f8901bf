"""The subcommand `sweep`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from etl.domain import Split
from etl.errors import ConfigError, RxdraftError

if TYPE_CHECKING:
    from etl.progress import Told
    from training.sweep.grid import Trial
    from training.sweep.local import OnEnd, OnRun

_INTERRUPTED = 130
"""Exit status of a command that was stopped by ctrl-C, as shells have it."""


class TrialsFailedError(RxdraftError):
    """Some trials of a sweep ended early; the table is made of the others."""


def sweep(
    out: Annotated[Path, typer.Option(help="Folder of the sweep; one that stands there goes on.")],
    data: Annotated[Path | None, typer.Option(help="Cohort made by `rxdraft etl`.")] = None,
    base: Annotated[str, typer.Option(help="Folder or hub id of the base model; or tiny.")] = "tiny",
    config: Annotated[
        str, typer.Option(help="Shipped config or a TOML file: what all trials have in common.")
    ] = "best",
    set_: Annotated[list[str] | None, typer.Option("--set", help="key=value over the config; repeatable.")] = None,
    ranks: Annotated[str | None, typer.Option(help="As 16,32; the config's, else.")] = None,
    steps: Annotated[str | None, typer.Option(help="Checkpoints after these steps; the config's, else.")] = None,
    seeds: Annotated[str, typer.Option(help="Each of the order of the samples and of A alike.")] = "0,1,2",
    methods: Annotated[str | None, typer.Option(help="As fa-lora,lora; the config's, else.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once on this machine; 1, else.")] = None,
    ray: Annotated[
        str | None, typer.Option(help="Trials as Ray tasks: a cluster's address; or auto, for this node's or its own.")
    ] = None,
    split: Annotated[Split, typer.Option(help="Part of the cohort to score; test when all is decided.")] = (
        Split.VALIDATION
    ),
    draws: Annotated[int, typer.Option(min=200, help="Redraws of patients for the intervals.")] = 2000,
    status: Annotated[bool, typer.Option("--status", help="Only say how far the sweep in --out is.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print every trial's `rxdraft train`.")] = False,
) -> None:
    """Train every rank with every seed, score all checkpoints on one base, and print the rank x step table."""
    from training.sweep import status as states

    if status:
        print("\n".join(states.lines(out)))
        return
    if data is None:
        raise ConfigError("--data is missing: a sweep trains on a cohort of `rxdraft etl`")
    from etl.progress import bars
    from evaluation.results import Redrawn
    from evaluation.sweep.report import causes, evaluate_sweep
    from training.sweep.grid import Grid, step_sizes
    from training.sweep.local import check_alone
    from training.sweep.lock import locked
    from training.tiny import tiny_base

    check_alone()
    seeded = _numbers("--seeds", seeds) or []
    grid = Grid(config, set_ or (), _numbers("--ranks", ranks), _numbers("--steps", steps), seeded, _words(methods))
    trials = grid.trials(out, data, base)  # what cannot be is said before a tiny base is made
    print("\n".join(step_sizes(trials)))
    with _going_on(trials), bars() as add:
        trials = grid.trials(out, data, str(tiny_base(add)) if base == "tiny" else base)
        if dry_run:
            print("\n".join(trial.command_line for trial in trials))
            return
        with locked(out, patience_seconds=2):
            states.claim(out, trials)
            _train(trials, jobs, ray, add, lambda trial: states.update(out))
            target = out / f"evaluation-{split}"
            swept = evaluate_sweep(trials, split, target, Redrawn(draws), _drafts(add))
    print((target / "sweep.md").read_text("utf-8"))
    print(f"written to {target}: sweep.md, sweep.csv, sweep.svg")
    if swept.failed:
        raise TrialsFailedError(f"{len(swept.failed)} of {len(trials)} trials failed: {causes(swept.failed)}")


@contextmanager
def _going_on(trials: Sequence[Trial]) -> Iterator[None]:
    """End the command at ctrl-C with a line that says how to go on."""
    from training.sweep.status import State, standing

    try:
        yield
    except KeyboardInterrupt:
        whole = sum(standing(trial.folder).state is State.WHOLE for trial in trials)
        print(f"rxdraft: stopped; {whole} of {len(trials)} trials are whole, the same command goes on", file=sys.stderr)
        raise typer.Exit(_INTERRUPTED) from None


def _train(trials: Sequence[Trial], jobs: int | None, ray: str | None, on_run: OnRun, on_end: OnEnd) -> None:
    """Train what is not whole, where it was asked to be trained."""
    from training.loop import refuse_impossible
    from training.sweep.local import in_processes, in_sequence
    from training.sweep.on_ray import on_ray
    from training.sweep.status import State, standing

    remaining = [trial for trial in trials if standing(trial.folder).state is not State.WHOLE]
    if ray is not None and remaining:
        on_ray(remaining, ray, jobs, on_run, on_end)
        return
    for trial in remaining:
        refuse_impossible(trial.config)
    if jobs is None or jobs == 1:
        in_sequence(remaining, on_run, on_end)
    else:
        in_processes(remaining, jobs, on_run, on_end)


def _drafts(add: Callable[[str], Told]) -> Callable[[str, int, int], None]:
    """Return who is told of a row's drafts: a bar for each row."""
    told: dict[str, Told] = {}

    def on_drafts(row: str, done: int, total: int) -> None:
        if row not in told:
            told[row] = add(f"drafts {row}")
        told[row](done, total, None)

    return on_drafts


def _words(text: str | None) -> list[str] | None:
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(option: str, text: str | None) -> list[int] | None:
    words = _words(text)
    if words is not None and not (words and all(word.isdecimal() for word in words)):
        raise ConfigError(f"{option} {text}: wanted whole numbers between commas, as 16,32")
    return None if words is None else [int(word) for word in words]
