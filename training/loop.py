"""The training loop: one run per rank, checkpoints at the listed steps, resumed where it was killed.

Our own loop rather than a trainer's: the vocabulary projection runs on response tokens only, the freeze is
checked around every evaluation, and the order of the data is a pure function of seed and epoch, so that a
run that was killed ends with the same bits as one that was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from torch.nn import functional as F  # noqa: N812

from etl import artefacts
from etl.cohort import read_cohort, read_training_prompts
from etl.errors import ConfigError
from etl.progress import Told
from training import base as bases
from training import checkpoint, fa_lora
from training.config import TrainConfig
from training.data import IGNORED, Encoded, collate, encode_split, epoch_batches
from training.manifest import find_checkpoints, read_manifest
from training.optimisers import learning_rate, make_optimizers
from training.run import Run, StepLog, claim, describe

log = logging.getLogger(__name__)

STANDS_STILL = 1e-3
"""|ΔW| / |W| below which a checkpoint is hardly another model than its base; said in a warning."""


class ResponseLoss(nn.Module):
    """Summed cross-entropy over response tokens; the logits of prompt tokens are never made.

    Exact, and on a real vocabulary most of what memory is needed for: responses are few among the tokens.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the sum; both arguments are (batch, tokens), right-padded, without a mask."""
        causal_lm: Any = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        hidden = causal_lm.model(input_ids=input_ids, use_cache=False).last_hidden_state[:, :-1]
        target = labels[:, 1:]  # (batch, tokens - 1)
        kept = target != IGNORED
        return F.cross_entropy(causal_lm.lm_head(hidden[kept]).float(), target[kept], reduction="sum")


def train(config: TrainConfig, cohort: Path, base: str, out: Path, on_run: Callable[[str], Told]) -> list[Path]:
    """Train every rank of the config in turn, each in a folder of its own, and return the checkpoints.

    What is whole is kept: a run whose last checkpoint stands is skipped, one that was killed goes on from
    its newest checkpoint.

    Args:
        config: settings of all runs.
        cohort: folder made by `rxdraft etl`; only its train and validation splits are read.
        base: folder or hub id.
        out: gets a folder rank-R for each rank, or `full`.
        on_run: told each run's name when it begins; returns who is told of its steps.

    Raises:
        ConfigError, ContractError: data, base, config or what stands in `out` do not fit together.
    """
    base_folder = bases.base_folder(base)
    bases.resolve_attention(config.attention)  # refused before the data are encoded, not after
    tokenizer = bases.load_tokenizer(base_folder)
    described = read_cohort(cohort)
    dialogues = described.get("kind") == "dialogues"
    splits = {
        split: encode_split(read_training_prompts(cohort, split), tokenizer, config.max_length, dialogues=dialogues)
        for split in ("train", "validation")
    }
    if not splits["train"].rows:
        raise ConfigError(f"{cohort} has no training samples")
    base_sha256 = bases.base_sha256(base_folder)
    cohort_sha256 = artefacts.sha256_file(cohort / "cohort.json")
    made = []
    for rank in config.ranks if config.method == "fa-lora" else (0,):
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
        made += train_run(run, on_run(name))
    return made


def train_run(run: Run, on_step: Told) -> list[Path]:
    """Train one rank from its newest checkpoint, or from the start, to its last checkpoint."""
    claim(run)
    steps = run.checkpoint_steps
    done = {path: read_manifest(path).step for path in find_checkpoints(run.folder)}
    newest = max(done, key=done.__getitem__, default=None)
    if newest and done[newest] == steps[-1]:
        on_step(steps[-1], steps[-1], read_manifest(newest).losses["train"] or 0.0)
        return list(done)

    accelerator = Accelerator()
    if accelerator.num_processes > 1:
        raise ConfigError(f"started as {accelerator.num_processes} processes, wanted 1: a run is one process")
    model = _build(run)
    if newest:
        checkpoint.load_weights(model, newest)
        log.info("going on from step %d", done[newest])
    if run.rank:
        fa_lora.freeze_lora_a(model)
        fa_lora.check_only_b_trains(model)
    optimizers = make_optimizers(run.config, model)
    if newest:
        checkpoint.load_trainer(optimizers, newest)
    loss_module, *prepared = accelerator.prepare(ResponseLoss(model), *optimizers)
    first_a = fa_lora.lora_a(model) if run.rank else {}
    started_at = done[newest] if newest else 0
    loss_sum, token_count = 0.0, 0
    with StepLog(run.folder / "log.jsonl", keep=started_at) as step_log:
        for step, epoch, rows in _steps_from(run, started_at):
            loss, tokens, entry = _step(run, accelerator, loss_module, prepared, step, rows)
            loss_sum, token_count = loss_sum + loss, token_count + tokens
            step_log.write({"step": step, "epoch": epoch, **entry})
            on_step(step, steps[-1], loss / tokens)
            if step not in steps:
                continue
            losses = {"train": loss_sum / token_count, "validation": evaluate_loss(run, loss_module)}
            if run.rank:
                fa_lora.check_only_b_trains(model)
                _check_a_unchanged(model, first_a)
                _warn_if_still(model, step)
            folder = run.folder / f"step-{step:06d}"
            checkpoint.save(folder, model, run.tokenizer, optimizers, run.cohort, describe(run, model, step, losses))
            checkpoint.drop_older_trainers(run.folder, folder)
            log.info("step %d: train loss %.4f, validation loss %s", step, losses["train"], losses["validation"])
            loss_sum, token_count = 0.0, 0
    return find_checkpoints(run.folder)


@torch.no_grad()
def evaluate_loss(run: Run, loss_module: nn.Module) -> float | None:
    """Return the mean loss per response token over the validation split; None where it has no sample."""
    rows = sorted(run.validation.rows, key=lambda row: len(row.input_ids))
    if not rows:
        return None
    training = loss_module.training
    loss_module.eval()
    total = 0.0
    for start in range(0, len(rows), run.config.batch_size):
        input_ids, labels = _batch(run, rows[start : start + run.config.batch_size])
        total += float(loss_module(input_ids, labels))
    loss_module.train(training)
    return total / sum(row.response_tokens for row in rows)


def _step(
    run: Run,
    accelerator: Accelerator,
    loss_module: nn.Module,
    optimizers: list[Any],
    step: int,
    rows: list[Encoded],
) -> tuple[float, int, dict[str, Any]]:
    """Take one optimiser step; return the summed loss, the response tokens and what the log keeps."""
    began = time.perf_counter()
    rate = learning_rate(run.config, step, run.checkpoint_steps[-1])
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = rate
    loss_module.train()
    input_ids, labels = _batch(run, rows)
    tokens = sum(row.response_tokens for row in rows)
    loss = loss_module(input_ids, labels)
    accelerator.backward(loss / tokens)
    loss_sum = float(loss.detach())
    learning = [weight for weight in loss_module.parameters() if weight.requires_grad]
    norm = nn.utils.get_total_norm([weight.grad for weight in learning if weight.grad is not None])
    if not torch.isfinite(norm):
        raise ConfigError(f"the gradient of step {step} is not finite; lower learning_rate or set clip_norm")
    if run.config.clip_norm is not None:
        nn.utils.clip_grads_with_norm_(learning, run.config.clip_norm, norm)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return (
        loss_sum,
        tokens,
        {
            "loss": loss_sum / tokens,
            "learning_rate": rate,
            "grad_norm": float(norm),
            "response_tokens": tokens,
            "tokens": sum(len(row.input_ids) for row in rows),
            "padded_tokens": input_ids.numel(),
            "seconds": round(time.perf_counter() - began, 4),
        },
    )


def _steps_from(run: Run, done: int) -> Iterator[tuple[int, int, list[Encoded]]]:
    """Yield (step, epoch, rows) for every step after the first `done`; steps and epochs count from 1."""
    rows, last = run.train.rows, run.checkpoint_steps[-1]
    step = done
    while step < last:
        epoch, place = divmod(step, run.steps_per_epoch)
        batches = epoch_batches(rows, run.config.batch_size, run.config.seed, epoch)
        for batch in batches[place : place + last - step]:
            step += 1
            yield step, epoch + 1, [rows[i] for i in batch]


def _batch(run: Run, rows: list[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    input_ids, labels = collate(rows, run.tokenizer.pad_token_id)
    return input_ids.to(bases.device()), labels.to(bases.device())


def _build(run: Run) -> nn.Module:
    config = run.config
    attention = bases.resolve_attention(config.attention)
    model = bases.load_model(run.base_folder, bases.resolve_dtype(config.dtype), attention)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    if not run.rank:
        return model
    peft_model = fa_lora.add_fa_lora(model, run.rank, config.alpha, config.targets, config.a_seed)
    peft_model.peft_config["default"].base_model_name_or_path = run.base
    return peft_model


def _check_a_unchanged(model: nn.Module, first: dict[str, torch.Tensor]) -> None:
    moved = [name for name, a in fa_lora.lora_a(model).items() if not torch.equal(a, first[name])]
    if moved:
        raise fa_lora.TrainingStateError(f"A changed in {len(moved)} layers, first {moved[0]}")


@torch.no_grad()
def _warn_if_still(model: nn.Module, step: int) -> None:
    weights = [layer.get_base_layer().weight.float().norm() for _, layer in fa_lora.lora_layers(model)]
    whole = float(torch.stack(weights).norm())
    moved = fa_lora.update_norm(model)
    if moved < STANDS_STILL * whole:
        log.warning(
            "after %d steps |ΔW| is %.2g of |W|: the adapter hardly differs from its base; "
            "a higher learning_rate or optimizer adamw moves B",
            step,
            moved / whole,
        )
