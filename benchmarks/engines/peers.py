"""TRL's SFTTrainer and transformers' Trainer, each in the settings its users have; base and adapter are ours."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from engines import workload
from transformers import DataCollatorForSeq2Seq, PreTrainedTokenizerBase, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from training.base import load_model, load_tokenizer
from training.data import IGNORED, epoch_batches
from training.methods import attach

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "TRL, padded": ("trl", {}),
    "TRL, padded, checkpointing": ("trl", {"gradient_checkpointing": True}),
    "TRL, packed": (
        "trl",
        {
            "packing": True,
            "packing_strategy": "bfd",
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": workload.BATCH // 2,
        },
    ),
    "TRL, our batches": ("trl", {"train_sampling_strategy": "sequential"}),
    "Trainer, padded": ("transformers", {}),
    "Trainer, grouped by length": ("transformers", {"train_sampling_strategy": "group_by_length"}),
    "Trainer, four times one": (
        "transformers",
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": workload.BATCH},
    ),
    "Trainer, our batches": ("transformers", {"train_sampling_strategy": "sequential"}),
}
"""Checkpointing is TRL's default; `our batches` are the rows in the order that ours trains on. Packed, two packs of
2,048 tokens hold about a step's four rows; one pack at a time, for two at once would be one attention over both."""


def run(folder: Path, name: str) -> list[float]:
    """Train one setting on the rows in `folder`; return the loss of each step."""
    library, settings = SETTINGS[name]
    tokenizer = load_tokenizer(folder / "base")
    config = workload.config()
    model: Any = attach(load_model(folder / "base", torch.float32, "sdpa"), config, workload.RANK)
    with tempfile.TemporaryDirectory(prefix="bench-train-") as out:
        arguments = {
            "output_dir": out,
            "num_train_epochs": 1,
            "per_device_train_batch_size": config.batch_size,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": "constant",
            "max_grad_norm": 0.0,
            "gradient_checkpointing": False,
            "use_cpu": True,
            "bf16": False,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "dataloader_pin_memory": False,
            "seed": 0,
        }
        trainer = TRAINERS[library](model, tokenizer, rows(folder, name), {**arguments, **settings})
        trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rows(folder: Path, name: str) -> datasets.Dataset:
    """Return token ids and labels, prompts ignored; for `our batches` in the order of our first epoch."""
    encoded = workload.read_rows(folder)
    if name.endswith("our batches"):
        encoded = [encoded[i] for batch in epoch_batches(encoded, workload.BATCH, 0, 0) for i in batch]
    return datasets.Dataset.from_list(
        [
            {
                "input_ids": row.input_ids,
                "labels": [IGNORED] * row.prompt_tokens + row.input_ids[row.prompt_tokens :],
            }
            for row in encoded
        ]
    )


def sft_trainer(
    model: Any, tokenizer: PreTrainedTokenizerBase, data: datasets.Dataset, settings: dict[str, Any]
) -> Trainer:
    """Return TRL's trainer."""
    arguments = SFTConfig(**settings, max_length=workload.MAX_LENGTH)
    return SFTTrainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer)


def plain_trainer(
    model: Any, tokenizer: PreTrainedTokenizerBase, data: datasets.Dataset, settings: dict[str, Any]
) -> Trainer:
    """Return transformers' trainer with its collator that pads labels too."""
    collator = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORED)
    arguments = TrainingArguments(**settings)
    return Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator)


TRAINERS: dict[str, Callable[..., Trainer]] = {"trl": sft_trainer, "transformers": plain_trainer}
