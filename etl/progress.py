"""Progress on a terminal: what runs, how far it is. Quiet where nobody watches, but for one line a task."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Told = Callable[[int, int, str | None], None]
"""Is told how far a task is: done, of how many, and what to say beside, such as its loss."""


def _console(quiet: bool = False) -> Console:
    return Console(file=sys.stderr, quiet=quiet)


def _progress(console: Console, *columns: ProgressColumn, transient: bool = False) -> Progress:
    first = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn())
    return Progress(*first, *columns, console=console, transient=transient, disable=not console.is_terminal)


@contextmanager
def bar(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show one bar; lend a function that is told how much is done."""
    with bars() as add:
        told = add(title)
        yield lambda done: told(done, total or done, None)


@contextmanager
def bars(quiet: bool = False) -> Iterator[Callable[[str], Told]]:
    """Show bars one under another; lend a function that begins one and returns who is told of its steps.

    Args:
        quiet: show nothing, since another process shows the same.
    """
    console = _console(quiet)
    began = time.perf_counter()
    note = TextColumn("{task.fields[note]}")
    with _progress(console, MofNCompleteColumn(), note, TimeRemainingColumn()) as progress:
        titles: list[str] = []

        def add(title: str) -> Told:
            titles.append(title)
            task = progress.add_task(title, total=None, note="")

            def told(done: int, total: int, note: str | None = None) -> None:
                progress.update(task, completed=done, total=total, note=note or "")

            return told

        yield add
    if not console.is_terminal:
        console.print(f"{', '.join(titles)}: {time.perf_counter() - began:.1f} s", highlight=False)


@contextmanager
def stages(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show the stage that runs, with a bar where its size is known; lend a function that is told of it.

    What is told is the stage's name, how much is done, and of how much; 0 of 0 where nobody knows.
    """
    console = _console()
    began = time.perf_counter()
    with _progress(console, TimeElapsedColumn(), transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                for earlier in progress.tasks:
                    progress.update(earlier.id, visible=bool(earlier.total and not earlier.finished))
                tasks[stage] = progress.add_task(f"{title}: {stage}", total=None)
            progress.update(tasks[stage], completed=done, total=total or None)

        yield told
    console.print(f"{title}: {time.perf_counter() - began:.1f} s", highlight=False)
