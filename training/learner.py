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
from training.loss import ResponseLoss
from training.optimisers import make_optimizers
from training.packing import packs
from training.run import Run, describe
from training.step import Stepper

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learner:
    """A model, what moves it, and what must not move in it."""

    model: nn.Module
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
                manifest = describe(run, self.model, step, losses, best)
                checkpoint.save(folder, self.model, run.tokenizer, self.optimizers, run.cohort, manifest)
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
    if newest:
        checkpoint.load_weights(model, newest)
        methods.settle(model, config)
        log.info("going on from %s", newest.name)
    if config.compile:
        kernels.compile_layers(model)
    loss_module = processes.spread(ResponseLoss(model))
    optimizers = make_optimizers(config, model)
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
    stepper = Stepper(config, loss_module, optimizers, correction, feed, processes)
    return Learner(model, optimizers, methods.Frozen(model, config), stepper, processes)
