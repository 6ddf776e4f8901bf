"""Trials as Ray tasks: on this machine or on a cluster, one GPU each where there are GPUs; lost ones begin again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from etl.ray_cluster import ray_at
from training.sweep.grid import Trial
from training.sweep.local import RESTARTS, OnEnd, OnRun, Watch, unheard
from training.sweep.status import State, standing
from training.sweep.trial import mark_failed, train_trial

log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_ELSEWHERE = (
    "a node trained it where this one cannot see it; give --out, --data and --base on storage that all nodes share"
)


def on_ray(trials: Sequence[Trial], address: str, jobs: int | None, on_run: OnRun, on_end: OnEnd) -> None:
    """Train trials as Ray tasks.

    Args:
        trials: to be trained; their folders are on storage that all nodes share.
        address: of a cluster; auto: the one this node belongs to, or else a Ray of this machine's own.
        jobs: CPUs of a Ray of its own; None: all.
        on_run: told a trial's name when it begins; returns who is told of its steps.
        on_end: told each trial that is whole or failed.

    Raises:
        ConfigError: Ray is not installed, or nothing answers at the address.
    """
    with ray_at(address, own_cpus=jobs) as ray:
        _train(ray, trials, Watch(on_run), on_end)


def _train(ray: Any, trials: Sequence[Trial], watch: Watch, on_end: OnEnd) -> None:
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RESTARTS)(_task)
    pending = {task.remote(trial): trial for trial in trials}
    try:
        while pending:
            ended, _ = ray.wait(list(pending), timeout=_LOOK_SECONDS)
            watch.look(list(pending.values()))
            for reference in ended:
                trial = pending.pop(reference)
                _settle(ray, reference, trial)
                on_end(trial)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _settle(ray: Any, reference: Any, trial: Trial) -> None:
    """See how a task ended, and write down what it could not."""
    try:
        ray.get(reference)
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError) as error:
        mark_failed(trial, f"its worker was lost {RESTARTS + 1} times, last by {type(error).__name__}")
        return
    except ray.exceptions.RayTaskError as error:
        log.error("%s: %s", trial.name, error)
        mark_failed(trial, "its worker raised what is told above")
        return
    if standing(trial.folder).state not in (State.WHOLE, State.FAILED):
        mark_failed(trial, _ELSEWHERE)


def _task(trial: Trial) -> bool:
    return train_trial(trial, unheard)
