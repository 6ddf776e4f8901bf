"""What every trainer is given: one base, one cohort, one adapter, one optimiser, each row once.

    FOLDER/base/         random Llama, its tokenizer, as a Hugging Face folder
    FOLDER/cohort/       made by `rxdraft import` from made-up admissions
    FOLDER/rows.jsonl    the same conversations as token ids, for those who do not read cohorts

Lengths are those of admissions with a history: 230 to 1,490 tokens, of which the answer has 30 to 45. No text in it
is of a patient; words come from the repository's own synthetic hospital.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from etl.build import build_cohort
from etl.cohort import read_prompts
from etl.dialogues import import_dialogues
from etl.synth import write_hospital
from training.base import load_tokenizer
from training.config import TrainConfig
from training.data import Encoded, encode_split
from training.tiny import untrained_llama

RANK, BATCH, MAX_LENGTH = 16, 4, 2048
SHAPE: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
"""Nine million parameters under a vocabulary of 2,048, its head 6 % of them, as in Llama-3.1-8B."""
TOKENIZER_VOCABULARY = 2048
"""Ids in the rows; a larger vocabulary of the model is there to be scored, as a real one mostly is."""

_LINES, _DRUGS = (15, 135), (10, 12)
_TRAINING_SHARE = 0.9
"""Of a corpus's conversations, by `rxdraft import`."""


def config(**settings: Any) -> TrainConfig:
    """Return what is trained, with our own settings over it."""
    common = {"method": "fa-lora", "ranks": [RANK], "alpha": RANK, "targets": ["q_proj", "v_proj"]}
    optimizer = {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0, "schedule": "constant"}
    batches = {"batch_size": BATCH, "max_length": MAX_LENGTH, "checkpoint_epochs": [1], "dtype": "float32"}
    return TrainConfig.model_validate({**common, **optimizer, **batches, **settings})


def make(folder: Path, rows: int, vocabulary: int) -> None:
    """Write base, cohort and rows; the same for the same arguments.

    Args:
        folder: to be made.
        rows: to train on; the import splits by content, so a few more or less come.
        vocabulary: of the base, at least `TOKENIZER_VOCABULARY`.
    """
    folder.mkdir(parents=True)
    write_hospital(folder / "hospital", patients=100, seed=1)
    build_cohort(folder / "hospital", folder / "small")
    stays = list(read_prompts(folder / "small", "train"))
    dialogues = folder / "dialogues.jsonl"
    dialogues.write_text("".join(json.dumps(each) + "\n" for each in _lengthened(stays, round(rows / _TRAINING_SHARE))))
    import_dialogues(dialogues, folder / "cohort", max_length=MAX_LENGTH)
    conversations = list(read_prompts(folder / "cohort", "train"))
    made = untrained_llama(conversations, **SHAPE, vocab_size=TOKENIZER_VOCABULARY)
    if vocabulary > TOKENIZER_VOCABULARY:
        torch.manual_seed(0)
        made.model = LlamaForCausalLM(LlamaConfig(**{**made.model.config.to_dict(), "vocab_size": vocabulary}))
    made.save(folder / "base")
    encoded = encode_split(conversations, load_tokenizer(folder / "base"), MAX_LENGTH, dialogues=True).rows
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps([row.input_ids, row.prompt_tokens]) + "\n" for row in encoded)
    )


def read_rows(folder: Path) -> list[Encoded]:
    """Return the rows to train on, in the cohort's order."""
    return [Encoded(*json.loads(line)) for line in (folder / "rows.jsonl").read_text().splitlines()]


def _lengthened(stays: list[dict[str, Any]], count: int) -> Iterator[dict[str, Any]]:
    """Yield conversations whose question lists as many dated diagnoses as were drawn, and few drugs answer."""
    draw = random.Random(0)
    titles = sorted({line for stay in stays for line in _lines(stay, "user") if line.startswith("- ")})
    drugs = sorted({line for stay in stays for line in _lines(stay, "assistant")})
    for _ in range(count):
        system, user, _ = (message["content"] for message in draw.choice(stays)["messages"])
        lines = [f"{draw.choice(titles)} ({draw.randrange(2100, 2200)})" for _ in range(draw.randint(*_LINES))]
        question = "\n".join([user.partition("Diagnoses:")[0] + "Diagnoses:", *lines])
        answer = "\n".join(draw.sample(drugs, draw.randint(*_DRUGS)))
        roles = {"system": system, "user": question, "assistant": answer}
        yield {"messages": [{"role": role, "content": content} for role, content in roles.items()]}


def _lines(stay: dict[str, Any], role: str) -> list[str]:
    return next(m["content"] for m in stay["messages"] if m["role"] == role).splitlines()
