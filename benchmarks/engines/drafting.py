"""What the serving benchmark asks of a model: a checkpoint's, or one of a given shape with random weights."""

from __future__ import annotations

import copy
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from engines.random_llama import Size, learner, train_config

from etl import prompts
from etl.build import build_cohort
from etl.cohort import read_prompts, read_samples, to_admission
from etl.synth import write_hospital
from serving.decoding.trie import FormularyTrie
from serving.recommenders.engine import Engine
from serving.vocabulary import read_vocabulary
from training.base import end_of_turn, resolve_attention
from training.manifest import find_checkpoints, read_manifest
from training.tiny import train_tokenizer

RANDOM = "random"
"""Name of the adapter that has random weights."""
MOST_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts, and the model that is to answer them.

    Attributes:
        questions, encoded: each prompt as messages and as token ids.
        most_tokens: of an answer.
    """

    engine: Engine
    adapter: str
    trie: FormularyTrie
    questions: list[list[prompts.Message]]
    encoded: list[list[int]]
    most_tokens: int

    def save_merged(self, folder: Path) -> None:
        """Write a whole model for servers that take no adapter, the adapter's update added to the base's weights."""
        with self.engine.turned_to(self.adapter):
            model = copy.deepcopy(self.engine._model).merge_and_unload([self.adapter])
        model.generation_config.eos_token_id = self.engine.end
        model.generation_config.pad_token_id = self.engine.tokenizer.pad_token_id
        model.save_pretrained(folder)
        self.engine.tokenizer.save_pretrained(folder)


def of_checkpoint(runs: Path, cohort: Path, base: str | None, admissions: int) -> Job:
    """Have a run's last checkpoint answer for admissions of the test split."""
    checkpoint = find_checkpoints(runs)[-1]
    manifest = read_manifest(checkpoint)
    engine = Engine(base or manifest.base, manifest.base_sha256)
    adapter = manifest.weights_sha256[:16]
    engine.add_adapter(adapter, checkpoint, manifest)
    trie = FormularyTrie(engine.tokenizer, read_vocabulary(checkpoint, manifest).formulary, engine.end)
    questions = [
        prompts.render_prompt(to_admission(facts))
        for facts in read_samples(cohort, "test").head(admissions).iter_rows(named=True)
    ]
    room = manifest.max_length - manifest.max_answer_tokens
    encoded = [prompts.encode_prompt(engine.tokenizer, question, room)[0] for question in questions]
    return Job(engine, adapter, trie, questions, encoded, manifest.max_answer_tokens)


def of_shape(size: Size, admissions: int) -> Job:
    """Have random weights answer for a synthetic hospital; they never end a list before they must."""
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        write_hospital(Path(folder, "hospital"), patients=200, seed=1)
        build_cohort(Path(folder, "hospital"), Path(folder, "cohort"))
        rows = list(read_prompts(Path(folder, "cohort"), "train"))
    tokenizer = train_tokenizer((row["messages"] for row in rows), vocab_size=2048)
    questions = [row["messages"][:2] for row in rows[:admissions]]
    names = sorted({name for row in rows for name in row["messages"][2]["content"].split("\n") if name})
    engine = _RandomEngine(size, tokenizer)
    encoded = [prompts.encode(tokenizer, question) for question in questions]
    return Job(engine, RANDOM, FormularyTrie(tokenizer, names, engine.end), questions, encoded, MOST_TOKENS)


class _RandomEngine(Engine):
    """The same engine on a model that is in no file."""

    def __init__(self, size: Size, tokenizer: Any) -> None:
        torch.manual_seed(0)
        config = train_config(size)
        self._model: Any = learner(config, size, resolve_attention("auto")).eval()
        self._model.add_adapter(RANDOM, self._model.peft_config["default"])
        self._model.set_adapter(RANDOM)
        self._model.delete_adapter("default")
        self.tokenizer, self.end, self._lock = tokenizer, end_of_turn(tokenizer), threading.Lock()
        self.causal.lm_head.register_forward_hook(self._go_on)

    def _go_on(self, _: Any, __: Sequence[Any], logits: torch.Tensor) -> None:
        logits[..., self.end] -= 100
