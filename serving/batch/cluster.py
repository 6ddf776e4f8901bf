"""Drafts for a file by Ray Data: workers that each hold the model draft parts; this process keeps and joins them.

A part is the same bytes whoever drafts it, and so is the file. A worker that is lost is begun anew, and its part with
it. Workers read the admissions and the model themselves: both lie where every node sees them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import ConfigError, RxdraftError
from etl.ray_cluster import ray_at
from serving.batch.job import Job
from serving.batch.parts import Counts, collect, draft_part
from serving.loading import loader
from serving.recommendation import Drafter


@dataclass(frozen=True, slots=True)
class Model:
    """What every worker loads: the arguments of `serving.loading.loader`."""

    model: Path
    base: str | None
    data: Path | None
    k: int | None

    def load(self) -> Drafter:
        """Load it."""
        return loader(self.model, self.base, self.data, self.k)()


def predict_on_ray(
    job: Job, model: Model, address: str, workers: int | None, told: Callable[[int, int], None]
) -> Counts:
    """Draft what no earlier run has drafted, many parts at once, and join it.

    Args:
        job: as planned; its source is on storage that all nodes share.
        model: the same holds for it.
        address: of a cluster; auto: the one this node belongs to, or else a Ray of this machine's own.
        workers: models at work at once; None: one a GPU, or one a node where there is none.
        told: told (rows done, all).

    Raises:
        ConfigError: Ray is not installed, nothing answers at the address, it has no room for so many workers, or a
            worker cannot load the model or read the file.
    """

    def drafted(missing: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it says of Ray Data's own doing helps no user
        with ray_at(address, part="ray.data") as ray:
            yield from _drafted(ray, job, model, workers, missing)

    return collect(job, drafted, told)


def _drafted(
    ray: Any, job: Job, model: Model, workers: int | None, missing: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield parts as workers finish them; each is a block of its own, so that it comes back when it is done."""
    lost = ray.exceptions
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers, room = _share(ray, workers)
    parts = ray.data.from_items([{"part": number} for number in missing], override_num_blocks=len(missing))
    contents = parts.map_batches(
        _Worker,
        batch_size=1,
        batch_format="pandas",
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(missing))),
        fn_constructor_args=(job, model),
        **room,
    )
    try:
        for block in contents.iter_batches(batch_size=None, batch_format="pandas"):
            for number, content, refusal in block.itertuples(index=False):
                if refusal:
                    raise ConfigError(f"a worker: {refusal}")
                yield int(number), content
    except (lost.ActorDiedError, lost.ActorUnavailableError, lost.WorkerCrashedError, lost.OutOfMemoryError) as error:
        raise ConfigError(
            f"Ray gave part of the work up ({type(error).__name__}); what is drafted is kept: run again to go on"
        ) from None


def _share(ray: Any, workers: int | None) -> tuple[int, dict[str, float]]:
    """Return how many workers there are, and what of the cluster each takes."""
    there = ray.cluster_resources()
    gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    nodes = sum(node["Alive"] for node in ray.nodes())
    wanted = workers or gpus or nodes
    if wanted > (gpus or cpus):
        kind = "GPUs" if gpus else "CPUs"
        raise ConfigError(f"--workers {wanted} each want one, and the cluster has {gpus or cpus} {kind}")
    # As many threads as its share of the processors: Ray tells the libraries so.
    return wanted, {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": max(1, cpus // wanted)}


class _Worker:
    """Holds the model, loaded with the first part."""

    def __init__(self, job: Job, model: Model) -> None:
        self._job, self._model = job, model
        self._recommender: Drafter | None = None

    def __call__(self, parts: Any) -> Any:
        """Draft parts; what a user can mend comes back as its message, since a worker has no other way to tell."""
        contents, refusals = [], []
        for number in parts["part"]:
            try:
                contents.append(self._draft(int(number)))
                refusals.append("")
            except (RxdraftError, OSError) as error:
                contents.append(b"")
                refusals.append(str(error))
        return parts.assign(content=contents, refusal=refusals)

    def _draft(self, number: int) -> bytes:
        if self._recommender is None:
            self._recommender = self._model.load()
        return draft_part(self._job, self._recommender, number)
