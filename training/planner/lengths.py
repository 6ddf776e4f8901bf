"""How long the samples are: as a cohort's are, or as the user says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from etl.cohort import read_cohort, read_training_prompts
from etl.errors import ConfigError
from training.base import load_tokenizer
from training.config import TrainConfig
from training.data import encode_split


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of samples."""

    longest: int
    mean: int
    response: int
    """Of the longest answer, its end of turn included."""
    samples: int
    """To an epoch."""

    def labelled(self, config: TrainConfig) -> int:
        """Return the tokens to learn of the longest row."""
        return self.longest if config.loss_on == "all" else self.response


def stated(length: int, response: int, samples: int) -> Lengths:
    """Return what the user says: all rows as long as the longest.

    Raises:
        ConfigError: the answer fills the row.
    """
    if response >= length:
        raise ConfigError(f"response {response} fills the {length} tokens of a row; wanted a smaller --response")
    return Lengths(length, length, response, samples)


def measured(cohort: Path, base: str, config: TrainConfig) -> Lengths:
    """Return what a cohort's training samples measure under a base's tokenizer, cut to the config's max_length.

    Raises:
        ConfigError: the base is no folder, so it has no tokenizer here, or the cohort has no training samples.
    """
    if not Path(base).is_dir():
        raise ConfigError(f"base {base} has no tokenizer here to measure {cohort} with; give a folder, or --length")
    dialogues = read_cohort(cohort).get("kind") == "dialogues"
    conversations = read_training_prompts(cohort, "train")
    rows = encode_split(conversations, load_tokenizer(Path(base)), config.max_length, dialogues=dialogues).rows
    if not rows:
        raise ConfigError(f"{cohort} has no training samples")
    every = [len(row.input_ids) for row in rows]
    answers = max(row.response_tokens for row in rows)
    return Lengths(max(every), math.ceil(sum(every) / len(every)), answers, len(rows))
