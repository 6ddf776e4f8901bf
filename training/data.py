"""Samples as token ids, and the order in which a run sees them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from etl import prompts
from etl.errors import ConfigError
from training.base import end_of_turn

IGNORED = -100
"""Label of a token that is not to be predicted."""

_WINDOW_BATCHES = 8
_REIMPORT = "raise it, or import them again with a smaller --max-length and the base's --tokenizer"


class Row(Protocol):
    """What a step learns from, whatever the objective."""

    @property
    def input_ids(self) -> list[int]:
        """Tokens that the base reads."""

    @property
    def targets(self) -> int:
        """How many terms the row's loss is the sum of."""

    def stand_in(self) -> Self:
        """Return a short row of the same kind, from which nothing is learned."""


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation: token ids, of which the first `prompt_tokens` are the question."""

    input_ids: list[int]
    prompt_tokens: int

    @property
    def response_tokens(self) -> int:
        """Tokens to learn: the answer and the end of turn."""
        return len(self.input_ids) - self.prompt_tokens

    @property
    def targets(self) -> int:
        """As `response_tokens`: each is a term of the loss."""
        return self.response_tokens

    def stand_in(self) -> Self:
        """Return a row of two tokens, both of them the question's."""
        return replace(self, input_ids=self.input_ids[:2], prompt_tokens=2)


@dataclass(frozen=True, slots=True)
class EncodedSplit(Generic[AnyRow]):
    """A split's rows, and how many prompts lost diagnoses to max_length."""

    rows: list[AnyRow]
    shortened: int


def encode_split(
    conversations: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    dialogues: bool = False,
) -> EncodedSplit[Encoded]:
    """Tokenise conversations so that none exceeds `max_length`; answers are never cut.

    Args:
        conversations: as `etl.cohort.read_prompts` yields them.
        tokenizer: of the base model.
        max_length: tokens.
        dialogues: they are an imported corpus', whose questions have no diagnoses to lose.

    Raises:
        ConfigError: an answer alone is too long, a conversation does not begin with its prompt, has not
            exactly one BOS or no end of turn to learn, or a dialogue is too long; rows are counted, never quoted.
    """
    rows, shortened, problems = [], 0, dict[str, int]()
    end = end_of_turn(tokenizer)
    for conversation in conversations:
        *question, _ = messages = conversation["messages"]
        prompt = prompts.encode(tokenizer, question)
        whole = prompts.encode(tokenizer, messages, answered=True)
        response = whole[len(prompt) :]
        found = [
            name
            for name, wrong in {
                "whose tokens do not begin with their prompt's": whole[: len(prompt)] != prompt,
                "without exactly one BOS": whole.count(tokenizer.bos_token_id) != 1,
                "whose answer does not end with the end of turn": not response or response[-1] != end,
                f"whose answer alone fills max_length {max_length}": len(response) >= max_length,
                f"that are dialogues longer than max_length {max_length} ({_REIMPORT})": (
                    dialogues and len(whole) > max_length
                ),
            }.items()
            if wrong
        ]
        for name in found:
            problems[name] = problems.get(name, 0) + 1
        if found:
            continue
        if len(whole) > max_length:
            prompt, _ = prompts.encode_prompt(tokenizer, question, max_length - len(response))
            shortened += 1
        rows.append(Encoded(prompt + response, len(prompt)))
    if problems:
        raise ConfigError("; ".join(f"{count} samples {name}" for name, count in problems.items()))
    return EncodedSplit(rows, shortened)


def as_learned(row: Encoded, loss_on: Literal["response", "all"]) -> Encoded:
    """Return the row as the loss takes it: under `all`, every token but the first counts as the answer's."""
    return row if loss_on == "response" else Encoded(row.input_ids, 1)


def epoch_batches(rows: Sequence[Row], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return one epoch's batches as row numbers: a pure function of its arguments.

    Rows are shuffled, sorted by length inside windows of a few batches, cut, and the batches shuffled: little
    padding, and still another mixture every epoch. Every row comes exactly once; the last batch may be short.
    """
    draw = random.Random(f"{seed}:{epoch}")
    order = list(range(len(rows)))
    draw.shuffle(order)
    window = batch_size * _WINDOW_BATCHES
    batches = []
    for start in range(0, len(order), window):
        part = sorted(order[start : start + window], key=lambda row: len(rows[row].input_ids))
        batches += [part[i : i + batch_size] for i in range(0, len(part), batch_size)]
    draw.shuffle(batches)
    return batches


def deal(
    batch: Sequence[AnyRow], cut: Callable[[Sequence[AnyRow]], list[list[AnyRow]]], processes: int, process: int
) -> list[list[AnyRow]]:
    """Return the micro-batches of one process: every n-th row of the batch, cut.

    All processes get equally many, since each forward pass of a model that is spread over them waits for all;
    one that has no row left gets a stand-in from which nothing is learned.

    Args:
        batch: by length, as `epoch_batches` has it: then shares are alike and micro-batches need little padding.
        cut: how a share becomes micro-batches.
        processes: among whom the batch is dealt.
        process: which of them asks, from 0.
    """
    shares = [cut(batch[place::processes]) for place in range(processes)]
    missing = max(map(len, shares)) - len(shares[process])
    return [*shares[process], *([batch[0].stand_in()] for _ in range(missing))]


def cut_by_rows(rows: Sequence[AnyRow], size: int) -> list[list[AnyRow]]:
    """Cut rows into micro-batches of `size`, the last perhaps smaller."""
    return [list(rows[start : start + size]) for start in range(0, len(rows), size)]


def cut_by_tokens(rows: Sequence[AnyRow], tokens: int) -> list[list[AnyRow]]:
    """Cut rows into micro-batches of at most `tokens` with padding; a row longer than that stands alone."""
    cut: list[list[AnyRow]] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row.input_ids))
        if cut and (len(cut[-1]) + 1) * longest <= tokens:
            cut[-1].append(row)
        else:
            cut.append([row])
            longest = len(row.input_ids)
    return cut


def collate(rows: Sequence[Encoded], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right; return input_ids and labels, both (batch, tokens).

    No attention mask: under a causal mask a token never sees the padding to its right, and padding has no
    label, so leaving the mask out changes nothing and keeps the fast kernel.
    """
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_id, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORED, dtype=torch.long)
    for i, row in enumerate(rows):
        ids = torch.tensor(row.input_ids)
        input_ids[i, : len(ids)] = ids
        labels[i, row.prompt_tokens : len(ids)] = ids[row.prompt_tokens :]
    return input_ids, labels
