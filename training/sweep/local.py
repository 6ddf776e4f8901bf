"""Trials on this machine: one after another in this process, or several at once in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any

import torch

from etl.errors import ConfigError
from etl.progress import Told
from training.sweep.grid import Trial
from training.sweep.status import standing
from training.sweep.trial import mark_failed, train_trial

OnRun = Callable[[str], Told]
OnEnd = Callable[[Trial], None]

RESTARTS = 3
"""Times a trial is begun again after its process was killed from outside."""
_LOOK_SECONDS = 1.0
"""Between two looks at how far the trials are."""


def in_sequence(trials: Sequence[Trial], on_run: OnRun, on_end: OnEnd) -> None:
    """Train trials one after another in this process."""
    for trial in trials:
        train_trial(trial, on_run)
        on_end(trial)


def in_processes(trials: Sequence[Trial], jobs: int, on_run: OnRun, on_end: OnEnd) -> None:
    """Train trials side by side, each in a process of its own, which ends with this one however this one ends.

    A process is forked from one that has only imported the libraries: a trial begins in a fraction of a second and
    gives all its memory back. GPUs are dealt out in turn.

    Args:
        trials: to be trained, in this order.
        jobs: processes at once.
        on_run: told a trial's name when it begins; returns who is told of its steps.
        on_end: told each trial that is whole or failed.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training.loop"])
    watch, lost = Watch(on_run), Counter[str]()
    waiting, free = deque(trials), deque(range(jobs))
    running: dict[Any, tuple[Any, Trial, int]] = {}
    try:
        while waiting or running:
            while waiting and free:
                trial, slot = waiting.popleft(), free.popleft()
                process = context.Process(target=_work, args=(trial, _settings(slot, jobs)), daemon=True)
                process.start()
                running[process.sentinel] = (process, trial, slot)
            ended = wait(list(running), timeout=_LOOK_SECONDS)
            watch.look([trial for _, trial, _ in running.values()])
            for sentinel in ended:
                process, trial, slot = running.pop(sentinel)
                process.join()
                free.append(slot)
                lost[trial.name] += 1
                if process.exitcode < 0 and lost[trial.name] <= RESTARTS:
                    waiting.append(trial)
                    continue
                if process.exitcode:
                    mark_failed(trial, _why(process.exitcode))
                on_end(trial)
    finally:
        for process, _, _ in running.values():
            process.kill()
            process.join()


def _why(exitcode: int) -> str:
    if exitcode > 0:
        return f"its process ended with status {exitcode}; what it printed on stderr tells why"
    return f"its process was killed {RESTARTS + 1} times, last by signal {-exitcode}; out of memory? lower --jobs"


class Watch:
    """Tells how far trials are that run elsewhere: what their logs say."""

    def __init__(self, on_run: OnRun) -> None:
        self._on_run = on_run
        self._told: dict[str, Told] = {}

    def look(self, trials: Sequence[Trial]) -> None:
        """Tell of every trial whose training has begun."""
        for trial in trials:
            step = standing(trial.folder).step
            if step:
                if trial.name not in self._told:
                    self._told[trial.name] = self._on_run(trial.name)
                self._told[trial.name](step, max((*trial.config.checkpoint_steps, step)), None)


def _settings(slot: int, jobs: int) -> dict[str, str]:
    """Return what a process gets of the machine: one GPU, its share of the cores."""
    settings = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // jobs))}
    gpus = visible_gpus()
    return settings | ({"CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else {})


def visible_gpus() -> list[str]:
    """Return the GPUs that may be used, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu and gpu != "-1"]
    return [str(gpu) for gpu in range(torch.cuda.device_count())]


def _work(trial: Trial, settings: dict[str, str]) -> None:
    """Train a trial in this process, which is its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who commands it hears ctrl-C, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gpu = settings.get("CUDA_VISIBLE_DEVICES")
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(int(settings["OMP_NUM_THREADS"]))
    train_trial(trial, unheard)


def unheard(name: str) -> Told:
    """Tell nobody of a trial's steps: who watches reads its log."""

    def told(done: int, total: int, note: str | None) -> None: ...

    return told


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone: nobody must train on in a folder that is gone on from."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def check_alone() -> None:
    """See that the sweep is not itself one of several processes.

    Raises:
        ConfigError: torchrun or accelerate launch started it.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "a sweep starts its own processes and was started by torchrun; run it plainly, or train each trial of "
            "`rxdraft sweep --dry-run` with torchrun"
        )
