"""The training loop: one run per rank, checkpoints at the listed steps, resumed where it was killed.

Our own loop rather than a trainer's: the vocabulary projection runs on response tokens only, the freeze is
checked around every evaluation, and the order of the data is a pure function of seed and epoch, so that a
run that was killed ends with the same bits as one that was not.

    loop.py         the story of a run: this
    learner.py      the model as it learns: built, gone on from a checkpoint, kept in one
    step.py         one optimiser step, and the validation loss
    feed.py         rows -> tensors of one process: data.py pads, packing.py packs
    loss.py         tensors -> loss, of lists or of labels
    distributed.py  several processes
    looks.py        the best step by validation loss, and when to stop
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from etl import artefacts
from etl.cohort import read_cohort, read_training_prompts
from etl.errors import ConfigError
from etl.progress import Told
from training import advice, kernels, methods
from training import base as bases
from training.config import TrainConfig
from training.data import Encoded, EncodedSplit, encode_split, epoch_batches
from training.distributed import Processes
from training.learner import Learner, build
from training.looks import Looks, stopped_at
from training.manifest import find_checkpoints, read_manifest
from training.packing import packs
from training.questions import Question, encode_questions, read_formulary
from training.run import Run, claim
from training.step import NotFiniteError
from training.tracking import Log, Tracker, open_log

log = logging.getLogger(__name__)

UPDATE_NORM_EVERY = 50
"""Steps between two entries of |ΔW| in the log, beside those at checkpoints and looks."""

NOT_FINITE = "not-finite.json"
"""In a run's folder: the rows of the batch that ended it. They are the cohort's, so they stay where the run is."""


def train(
    config: TrainConfig,
    cohort: Path,
    base: str,
    out: Path,
    on_run: Callable[[str], Told],
    trackers: Sequence[Tracker] = (),
) -> list[Path]:
    """Train every rank of the config in turn, each in a folder of its own, and return the checkpoints.

    What is whole is kept: a run whose last checkpoint stands is skipped, one that was killed goes on from
    its newest checkpoint. Started by torchrun or accelerate launch, all processes share every run.

    Args:
        config: settings of all runs.
        cohort: folder made by `rxdraft etl`; only its train and validation splits are read.
        base: folder or hub id.
        out: gets a folder rank-R for each rank, or `full`.
        on_run: told each run's name when it begins; returns who is told of its steps.
        trackers: who gets a copy of the log.

    Raises:
        ConfigError, ContractError: data, base, config or what stands in `out` do not fit together.
    """
    refuse_impossible(config)  # before the data are encoded, not after
    for said in advice.on_config(config):
        log.warning(said)
    base_folder = bases.base_folder(base)
    tokenizer = bases.load_tokenizer(base_folder)
    described = read_cohort(cohort)
    splits = {split: _encode(config, cohort, split, tokenizer) for split in ("train", "validation")}
    if not splits["train"].rows:
        raise ConfigError(f"{cohort} has no training samples")
    if config.patience is not None and not splits["validation"].rows:
        raise ConfigError(f"{cohort} has no validation samples, which patience looks at")
    base_sha256 = bases.base_sha256(base_folder)
    cohort_sha256 = artefacts.sha256_file(cohort / "cohort.json")
    made = []
    for rank in (0,) if config.method == "full" else config.ranks:
        name = f"rank-{rank}" if rank else "full"
        run = Run(
            config=config,
            rank=rank,
            folder=out / name,
            base=base,
            base_folder=base_folder,
            base_sha256=base_sha256,
            cohort=cohort,
            cohort_sha256=cohort_sha256,
            cohort_settings=described.get("settings", {}),
            tokenizer=tokenizer,
            train=splits["train"],
            validation=splits["validation"],
        )
        made += train_run(run, on_run(name), trackers)
    return made


def _encode(
    config: TrainConfig, cohort: Path, split: str, tokenizer: PreTrainedTokenizerBase
) -> EncodedSplit[Encoded] | EncodedSplit[Question]:
    """Return a split's rows, as the objective learns them."""
    conversations = read_training_prompts(cohort, split)
    if config.objective == "labels":
        return encode_questions(conversations, tokenizer, config.max_length, read_formulary(cohort))
    dialogues = read_cohort(cohort).get("kind") == "dialogues"
    return encode_split(conversations, tokenizer, config.max_length, dialogues=dialogues)


def refuse_impossible(config: TrainConfig) -> None:
    """See that this machine can run what the config asks for.

    Raises:
        ConfigError: it cannot; what is lacking is named.
    """
    attention = bases.resolve_attention(config.attention, bases.resolve_dtype(config.dtype))
    packs(config, attention)
    methods.refuse_impossible(config)
    kernels.refuse_impossible(config)


def train_run(run: Run, on_step: Told, trackers: Sequence[Tracker] = ()) -> list[Path]:
    """Train one rank from its newest checkpoint, or from the start, to its last step or as long as patience lasts."""
    processes = Processes(run.config.sharding)
    with processes.one_by_one():
        claim(run)
    newest, last = _newest(run), run.checkpoint_steps[-1]
    done = read_manifest(newest).step if newest else 0
    looks = Looks(run.folder, done, run.config.patience)
    if newest and (done == last or looks.exhausted or stopped_at(run.folder)):
        on_step(last, last, None)
        return find_checkpoints(run.folder)

    learner = build(run, newest, processes)
    since_kept = Mean()
    with _log(run, done, trackers, processes) as step_log:
        for step, epoch, numbers in _steps_from(run, done):
            entry = {"step": step, "epoch": epoch, **_step(run, learner, step, numbers)}
            since_kept.add(entry["loss"], entry["response_tokens"])
            looked = _looks_at(run, step)
            if looked:
                entry |= _look(run, learner, looks, step)
            if run.rank and (looked or step % UPDATE_NORM_EVERY == 0):
                entry["update_norm"] = methods.update_norm(learner.model)
            step_log.write(entry)
            on_step(step, last, f"loss {entry['loss']:.3f}, {entry['tokens'] / entry['seconds']:,.0f} tokens/s")
            if not looked:
                continue
            best = looks.best_step == step if "validation_loss" in entry else None
            if step in run.checkpoint_steps or (best and run.config.patience):
                learner.keep(run, step, {"train": since_kept.take(), "validation": entry.get("validation_loss")}, best)
            if processes.first:
                _drop_overtaken(run, looks)
            if looks.exhausted:
                log.info("stopped after step %d, the best was %d", step, looks.best_step)
                break
    if processes.first:
        looks.write(ended=True)
    return find_checkpoints(run.folder)


class Mean:
    """The mean of what was added, by weight, since it was last taken."""

    def __init__(self) -> None:
        self._sum, self._weight = 0.0, 0

    def add(self, value: float, weight: int) -> None:
        """Add a value of a weight above 0."""
        self._sum, self._weight = self._sum + value * weight, self._weight + weight

    def take(self) -> float:
        """Return the mean and begin anew; there must be something."""
        mean = self._sum / self._weight
        self._sum, self._weight = 0.0, 0
        return mean


class Nowhere:
    """The log of a process that is not the first."""

    def write(self, entry: Mapping[str, Any]) -> None:
        """Keep nothing."""


def _log(run: Run, done: int, trackers: Sequence[Tracker], processes: Processes) -> AbstractContextManager[Log]:
    """Return the run's log after step `done`; only the first process has one."""
    return open_log(run.folder, done, trackers) if processes.first else nullcontext(Nowhere())


def _newest(run: Run) -> Path | None:
    found = find_checkpoints(run.folder)
    return max(found, key=lambda path: read_manifest(path).step, default=None)


def _steps_from(run: Run, done: int) -> Iterator[tuple[int, int, list[int]]]:
    """Yield (step, epoch, numbers of the rows) for every step after the first `done`; both count from 1."""
    step, last = done, run.checkpoint_steps[-1]
    while step < last:
        epoch, place = divmod(step, run.steps_per_epoch)
        batches = epoch_batches(run.train.rows, run.config.batch_size, run.config.seed, epoch)
        for batch in batches[place : place + last - step]:
            step += 1
            yield step, epoch + 1, batch


def _step(run: Run, learner: Learner, step: int, numbers: list[int]) -> dict[str, Any]:
    """Take a step.

    Raises:
        NotFiniteError: the run cannot go on; the message names the file that names the rows.
    """
    try:
        return learner.stepper.step(step, run.checkpoint_steps[-1], [run.train.rows[number] for number in numbers])
    except NotFiniteError as error:
        path = run.folder / NOT_FINITE
        if learner.processes.first:
            conversations = enumerate(read_training_prompts(run.cohort, "train"))
            rows = [{"row": n, "hadm_id": c.get("hadm_id")} for n, c in conversations if n in numbers]
            artefacts.write_json(path, {"step": step, "what": str(error), "split": "train", "rows": rows})
        raise NotFiniteError(
            f"step {step}: {error}; lower learning_rate or set clip_norm, or look at the rows that {path} names"
        ) from None


def _looks_at(run: Run, step: int) -> bool:
    """Return whether the validation loss is worked out after a step."""
    every = run.config.validate_every
    return step in run.checkpoint_steps or (every is not None and step % every == 0)


def _look(run: Run, learner: Learner, looks: Looks, step: int) -> dict[str, float]:
    """Look at the validation loss; return it for the log, or nothing where there is no validation row."""
    loss = learner.stepper.validation_loss(run.validation.rows)
    if loss is None:
        return {}
    looks.add(step, loss)
    if learner.processes.first:
        looks.write()
    return {"validation_loss": loss}


def _drop_overtaken(run: Run, looks: Looks) -> None:
    """Remove checkpoints that were kept as the best only and no longer are."""
    for path in find_checkpoints(run.folder) if run.config.patience else ():
        step = read_manifest(path).step
        if step not in run.checkpoint_steps and step != looks.best_step:
            artefacts.remove(path)
