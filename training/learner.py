"""A run's model as it learns on this process: built, gone on from a checkpoint, and kept in one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from training import advice, checkpoint, kernels, methods
from training import base as bases
from training.distributed import Processes
from training.feed import Feed
from training.labels import LabelHead
from training.loss import LabelLoss, ResponseLoss, causal_model
from training.optimisers import make_optimizers
from training.packing import packs
from training.questions import Question, rates
from training.run import Run, describe
from training.step import Stepper

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learner:
    """A model, what moves it, and what must not move in it.

    Attributes:
        model: the base with its adapter.
        head: under objective labels.
        loss: the module that holds both, as no wrapper has it.
    """

    model: nn.Module
    head: LabelHead | None
    loss: ResponseLoss | LabelLoss
    optimizers: list[torch.optim.Optimizer]
    frozen: methods.Frozen
    stepper: Stepper
    processes: Processes

    def keep(self, run: Run, step: int, losses: dict[str, float | None], best: bool | None) -> None:
        """Check that what is frozen stayed so, and write a checkpoint; all processes must call.

        Raises:
            TrainingStateError: it moved, or something else learns than should.
        """
        methods.check_learning(self.model, run.config)
        self.frozen.check()
        if said := advice.on_update(self.model, step):
            log.warning(said)
        folder = run.folder / f"step-{step:06d}"
        with self.processes.gathered(self.model, self.optimizers):
            if self.processes.first:
                manifest = describe(run, self.loss, step, losses, best)
                checkpoint.save(folder, self.model, run.tokenizer, self.optimizers, run.cohort, manifest, self.head)
                checkpoint.drop_older_trainers(run.folder, folder)
        self.processes.wait()


def build(run: Run, newest: Path | None, processes: Processes) -> Learner:
    """Load the base and what the method lets learn, as the newest checkpoint left them, onto the processes."""
    config, dtype = run.config, bases.resolve_dtype(run.config.dtype)
    attention = bases.resolve_attention(config.attention, dtype)
    place = torch.device("cpu") if processes.sharded else bases.device()  # whole, it may be too large for a GPU
    base = bases.load_model(run.base_folder, dtype, attention, methods.quantization(config, dtype), place)
    if config.fused_kernels:
        kernels.fuse(base)
    if config.gradient_checkpointing:
        base.activation_checkpointing_enable({"use_reentrant": False})
        base.enable_input_require_grads()
    model = methods.attach(base, config, run.rank)
    head = _head(run, model)
    if newest:
        checkpoint.load_weights(model, newest, head)
        methods.settle(model, config)
        log.info("going on from %s", newest.name)
    if config.compile:
        kernels.compile_layers(model)
    loss = LabelLoss(model, head) if head else ResponseLoss(model)
    spread = processes.spread(loss)
    optimizers = make_optimizers(config, model, head)
    if newest:
        with processes.scattering(optimizers):
            checkpoint.load_trainer(optimizers, newest)
    feed = Feed(
        pad_id=run.tokenizer.pad_token_id,
        micro_batch_size=config.micro_batch_size,
        packed=packs(config, attention),
        device=bases.device(),
        processes=processes.count,
        process=processes.index,
    )
    correction = methods.GradientCorrection(model, config)
    stepper = Stepper(config, spread, optimizers, correction, feed, processes)
    return Learner(model, head, loss, optimizers, methods.Frozen(model, config), stepper, processes)


def _head(run: Run, model: nn.Module) -> LabelHead | None:
    """Return a label head as it is before the first step: drawn from the seed, its biases the training rates."""
    questions = [row for row in run.train.rows if isinstance(row, Question)]
    if not questions:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config.seed)
        head = LabelHead(causal_model(model).config.hidden_size, questions[0].labels)
    head.start_at(rates(questions))
    return head.to(bases.device())
