"""How far an exported model's answers are from those of the checkpoint it was made of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from etl import prompts
from etl.build import build_cohort
from etl.cohort import read_training_prompts
from etl.errors import ConfigError
from etl.synth import write_hospital

CONVERSATIONS = 16
PATIENTS, SEED = 60, 20_240_726
"""Of the synthetic hospital that is asked about where no cohort is given."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two models' logits at the answers of the same conversations.

    Attributes:
        asked: "synthetic", or "validation" of a cohort.
        conversations, tokens: how many, and how many answer tokens in them.
        max_logit_difference: the largest over tokens and vocabulary.
        argmax_agreement: share of tokens at which both have the same token in front.
    """

    asked: Literal["synthetic", "validation"]
    conversations: int
    tokens: int
    max_logit_difference: float
    argmax_agreement: float


@dataclass(frozen=True, slots=True)
class Questions:
    """Conversations to ask two models: (prompt, answer) as token ids."""

    asked: Literal["synthetic", "validation"]
    rows: Sequence[tuple[list[int], list[int]]]

    @torch.inference_mode()
    def logits(self, model: Any) -> list[torch.Tensor]:
        """Return what a model says at each answer's tokens, (tokens, vocab) in float32."""
        found = []
        for prompt, answer in self.rows:
            ids = torch.tensor([prompt + answer], device=model.device)
            kept = model(input_ids=ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1]
            found.append(kept.float().cpu())
        return found

    def compare(self, one: Sequence[torch.Tensor], other: Sequence[torch.Tensor]) -> Disagreement:
        """Return how far two models' logits are apart."""
        pairs = list(zip(one, other, strict=True))
        tokens = sum(len(a) for a, _ in pairs)
        agreed = sum(int((a.argmax(1) == b.argmax(1)).sum()) for a, b in pairs)
        largest = max(float((a - b).abs().max()) for a, b in pairs)
        return Disagreement(self.asked, len(pairs), tokens, largest, agreed / tokens)


def read_questions(tokenizer: Any, max_length: int, cohort: Path | None) -> Questions:
    """Return the first conversations of a cohort's validation split, or of a synthetic hospital's.

    Args:
        tokenizer: of the checkpoint.
        max_length: tokens; longer conversations are left out.
        cohort: None: a synthetic one, the same on every machine.

    Raises:
        ConfigError: none is short enough.
    """
    if cohort is not None:
        return _encoded("validation", tokenizer, max_length, read_training_prompts(cohort, "validation"))
    with tempfile.TemporaryDirectory() as folder:
        hospital, made = Path(folder) / "hospital", Path(folder) / "cohort"
        write_hospital(hospital, PATIENTS, SEED)
        build_cohort(hospital, made)
        return _encoded("synthetic", tokenizer, max_length, read_training_prompts(made, "validation"))


def _encoded(
    asked: Literal["synthetic", "validation"], tokenizer: Any, max_length: int, conversations: Iterable[dict[str, Any]]
) -> Questions:
    def encode(messages: list[prompts.Message]) -> tuple[list[int], list[int]]:
        prompt = prompts.encode(tokenizer, messages[:-1])
        return prompt, prompts.encode(tokenizer, messages, answered=True)[len(prompt) :]

    pairs = (encode(row["messages"]) for row in conversations)
    rows = list(islice((pair for pair in pairs if sum(map(len, pair)) <= max_length), CONVERSATIONS))
    if not rows:
        raise ConfigError(
            f"no {asked} conversation has at most {max_length} tokens, the checkpoint's max_length; give another --data"
        )
    return Questions(asked, rows)
