"""The tiny base: a real Llama of a few million parameters, made here, so that all else runs offline.

A byte-level BPE tokenizer with the Llama-3 special tokens and chat template, and a LlamaForCausalLM trained
on a synthetic hospital of other patients and other habits than anybody else's. It knows what a list of drugs
looks like and which disease calls for what; an adapter still has a hospital to learn.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging as hf_logging

from etl import artefacts, prompts
from etl.build import build_cohort
from etl.cohort import read_prompts
from etl.progress import Told
from etl.synth import write_hospital
from training.config import TrainConfig, load_config
from training.loop import train

log = logging.getLogger(__name__)

PATIENTS, SEED = 7000, 20_080_101
"""Of the hospital the base learns from; the seed is nobody's default."""

SHAPE: dict[str, Any] = {
    "vocab_size": 2048,
    "hidden_size": 192,
    "intermediate_size": 768,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    "tie_word_embeddings": True,
}

SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|finetune_right_pad_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
_LLAMA3_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text into words before it merges bytes; punctuation swallows the line break behind it."""

RECIPE = 1
"""Version of all that decides the base and is no setting of the config; part of the cache's name."""


def cache_folder() -> Path:
    """Return where bases are kept: RXDRAFT_CACHE, or rxdraft in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rxdraft"
    return Path(os.environ.get("RXDRAFT_CACHE") or default)


def tiny_base(on_stage: Callable[[str], Told], cache: Path | None = None) -> Path:
    """Return the tiny base's folder, making it first where the cache has none; a killed making goes on.

    Args:
        on_stage: told each stage's name when it begins; returns who is told of its steps.
        cache: instead of `cache_folder()`.
    """
    config = load_config("tiny_base")
    folder = (cache or cache_folder()) / base_name(config)
    if (folder / "config.json").is_file():
        return folder
    work = folder.with_name(f"{folder.name}.work")
    hospital, cohort, start = work / "hospital", work / "cohort", work / "untrained"
    if not hospital.exists():
        told = on_stage("tiny base: hospital")
        write_hospital(hospital, PATIENTS, SEED, on_patients=lambda n: told(n, PATIENTS, None))
    if not cohort.exists():
        on_stage("tiny base: cohort")
        build_cohort(hospital, cohort)
    if not start.exists():
        on_stage("tiny base: tokenizer")
        with artefacts.whole_or_absent(start) as new:
            untrained_llama(read_prompts(cohort, "train")).save(new)
    last = train(config, cohort, str(start), work / "runs", lambda name: on_stage("tiny base: pretraining"))[-1]
    with artefacts.whole_or_absent(folder) as new:
        shutil.copytree(last / "model", new)  # not moved: a kill here must leave the checkpoint whole
    artefacts.remove(work)
    log.info("tiny base made")
    return folder


def base_name(config: TrainConfig) -> str:
    """Return the name under which the cache keeps the base: of all that decides it, and of nothing else.

    Settings at their defaults are left out, so that a new one makes no base anew.
    """
    asked = config.model_dump_json(exclude_defaults=True)
    recipe = f"{RECIPE} {prompts.VERSION} {PATIENTS} {SEED} {sorted(SHAPE.items())} {asked}"
    return f"tiny-{artefacts.sha256(recipe.encode())[:12]}"


class Untrained:
    """A tokenizer trained on conversations, and a random Llama that fits it."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
        self.tokenizer, self.model = tokenizer, model

    def save(self, folder: Path) -> None:
        """Write both as one Hugging Face folder."""
        hf_logging.disable_progress_bar()
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def untrained_llama(conversations: Iterable[dict[str, Any]], seed: int = 0, **shape: Any) -> Untrained:
    """Train the tokenizer on the conversations' text and draw a random model.

    Args:
        conversations: rows of prompts/*.jsonl.
        seed: of the weights.
        shape: over `SHAPE`.
    """
    wanted = SHAPE | shape
    tokenizer = train_tokenizer((row["messages"] for row in conversations), wanted["vocab_size"])
    ids = tokenizer.convert_tokens_to_ids(["<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"])
    config = LlamaConfig(**wanted, bos_token_id=ids[0], eos_token_id=ids[1], pad_token_id=ids[2])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Untrained(tokenizer, LlamaForCausalLM(config))


def train_tokenizer(conversations: Iterable[list[prompts.Message]], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on rendered conversations; any other text still tokenises, byte by byte."""
    template = (Path(__file__).parent / "llama3_chat.jinja").read_text("utf-8")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_LLAMA3_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()

    def wrap() -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast(
            tokenizer_object=core,
            bos_token="<|begin_of_text|>",
            eos_token="<|eot_id|>",
            pad_token="<|finetune_right_pad_id|>",
            chat_template=template,
            clean_up_tokenization_spaces=False,
        )

    untrained = wrap()

    def texts() -> Iterator[str]:
        for messages in conversations:
            rendered = untrained.apply_chat_template(messages, tokenize=False, date_string=prompts.TEMPLATE_DATE)
            yield from filter(None, re.split(r"<\|\w+\|>", rendered))

    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(texts(), trainer)
    return wrap()  # a wrapper copies its core when made
