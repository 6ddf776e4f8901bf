"""The training loop: one run per rank, checkpoints at the listed steps, resumed where it was killed.

Our own loop rather than a trainer's: the vocabulary projection runs on response tokens only, the freeze is
checked around every evaluation, and the order of the data is a pure function of seed and epoch, so that a
run that was killed ends with the same bits as one that was not.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers import PreTrainedTokenizerBase

from etl import artefacts, prompts
from etl.cohort import read_cohort, read_prompts
from etl.errors import ConfigError, ContractError
from etl.progress import Told
from training import base as bases
from training import checkpoint, fa_lora
from training.config import TrainConfig
from training.data import IGNORED, Encoded, EncodedSplit, collate, encode_split, epoch_batches
from training.manifest import FORMAT, Manifest, find_checkpoints, read_manifest

log = logging.getLogger(__name__)

STANDS_STILL = 1e-3
"""|ΔW| / |W| below which a checkpoint is hardly another model than its base; said in a warning."""


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run trains on and with, read and checked."""

    config: TrainConfig
    rank: int
    folder: Path
    base: str
    base_folder: Path
    base_sha256: str
    cohort: Path
    cohort_sha256: str
    tokenizer: PreTrainedTokenizerBase
    train: EncodedSplit
    validation: EncodedSplit

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in which every sample comes once."""
        return math.ceil(len(self.train.rows) / self.config.batch_size)

    @property
    def checkpoint_steps(self) -> tuple[int, ...]:
        """Steps after which a checkpoint is kept; the last is the end."""
        epochs = tuple(epoch * self.steps_per_epoch for epoch in self.config.checkpoint_epochs)
        return epochs or self.config.checkpoint_steps


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
    bases.resolve_attention(config.attention)
    tokenizer = bases.load_tokenizer(base_folder)
    read_cohort(cohort)
    splits = {
        split: encode_split(read_prompts(cohort, split), tokenizer, config.max_length)
        for split in ("train", "validation")
    }
    if not splits["train"].rows:
        raise ConfigError(f"{cohort} has no training samples")
    base_sha256 = bases.base_sha256(base_folder)
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
            cohort_sha256=artefacts.sha256_file(cohort / "cohort.json"),
            tokenizer=tokenizer,
            train=splits["train"],
            validation=splits["validation"],
        )
        made += train_run(run, on_run(name))
    return made


def train_run(run: Run, on_step: Told) -> list[Path]:
    """Train one rank from its newest checkpoint, or from the start, to its last checkpoint."""
    _claim(run)
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
    optimizers = _optimizers(run.config, model)
    if newest:
        checkpoint.load_trainer(optimizers, newest)
    loss_module, *prepared = accelerator.prepare(ResponseLoss(model), *optimizers)
    first_a = fa_lora.lora_a(model) if run.rank else {}
    started_at = done[newest] if newest else 0
    loss_sum, token_count = 0.0, 0
    with _StepLog(run.folder / "log.jsonl", keep=started_at) as step_log:
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
            checkpoint.save(folder, model, run.tokenizer, optimizers, run.cohort, _manifest(run, model, step, losses))
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


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """Return the rate of step 1, 2, … `steps`: warm-up from 0, then constant or half a cosine down to 0."""
    if step <= config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if config.schedule == "constant":
        return config.learning_rate
    share = (step - config.warmup_steps) / max(1, steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


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


def _optimizers(config: TrainConfig, model: nn.Module) -> list[torch.optim.Optimizer]:
    """Return the optimisers that share what learns; all take the one learning rate of a step."""
    learning = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    if config.optimizer == "sgd":
        return [torch.optim.SGD(learning.values(), **settings)]
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(learning.values(), **settings)]
    inner = [weight for name, weight in learning.items() if ".layers." in name and weight.ndim == 2]
    rest = [weight for weight in learning.values() if all(weight is not other for other in inner)]
    # match_rms_adamw: an update as large as AdamW's, so that one rate suits both.
    return [
        torch.optim.Muon(inner, adjust_lr_fn="match_rms_adamw", **settings),
        torch.optim.AdamW(rest, **settings),
    ]


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


def _claim(run: Run) -> None:
    """Write what this run is into its folder, or see that the run that stands there is this one."""
    identity: dict[str, Any] = {
        # The list of ranks is not this run's: another rank beside it changes nothing here.
        "config": {k: v for k, v in run.config.model_dump(mode="json").items() if k != "ranks"},
        "rank": run.rank,
        "base_sha256": run.base_sha256,
        "cohort_sha256": run.cohort_sha256,
    }
    path = run.folder / "run.json"
    if not path.exists():
        with artefacts.whole_or_absent(path) as new:
            # Where the cohort lay is for whoever evaluates the run, not part of what it is.
            artefacts.write_json(new, {**identity, "cohort": str(run.cohort.resolve())})
        return
    stands = artefacts.read_json(path, "rxdraft train")
    other = [key for key in identity if key != "config" and stands.get(key) != identity[key]]
    other += [k for k, v in identity["config"].items() if stands.get("config", {}).get(k) != v]
    if other:
        raise ContractError(f"{run.folder} holds a run that differs in {', '.join(other)}; choose another --out")


def _manifest(run: Run, model: nn.Module, step: int, losses: dict[str, float | None]) -> Manifest:
    longest = max(row.response_tokens for row in run.train.rows)
    return Manifest(
        format=FORMAT,
        base=run.base,
        base_sha256=run.base_sha256,
        method=run.config.method,
        rank=run.rank,
        alpha=run.config.alpha if run.rank else 0,
        scaling=run.config.alpha / run.rank if run.rank else 0,
        targets=list(run.config.targets) if run.rank else [],
        frozen=["lora_A"] if run.rank else [],
        a_seed=run.config.a_seed,
        step=step,
        steps=run.checkpoint_steps[-1],
        trainable_parameters=fa_lora.count_trainable(model),
        weights_sha256="",  # checkpoint.save knows it
        cohort_sha256=run.cohort_sha256,
        prompt_version=prompts.VERSION,
        formulary_sha256=artefacts.sha256_file(run.cohort / "formulary.parquet"),
        icd_titles_sha256=artefacts.sha256_file(run.cohort / "icd_titles.parquet"),
        max_length=run.config.max_length,
        max_answer_tokens=math.ceil(longest * 4 / 3),
        losses=losses,
        samples=len(run.train.rows),
        shortened=run.train.shortened,
        config=run.config.model_dump(mode="json"),
        versions={name: version(name) for name in ("rxdraft", "torch", "transformers", "peft", "tokenizers")},
    )


class _StepLog:
    """`log.jsonl`: a line per step, without any of a sample's text; lines after `keep` are of a lost run."""

    def __init__(self, path: Path, keep: int) -> None:
        lines: Iterable[str] = path.read_text("utf-8").splitlines() if path.exists() else ()
        kept = []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:  # the line a kill cut short
                break
            if entry["step"] <= keep:
                kept.append(line + "\n")
        path.write_text("".join(kept), "utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: dict[str, Any]) -> None:
        self._file.write(json.dumps(entry) + "\n")

    def __enter__(self) -> _StepLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
