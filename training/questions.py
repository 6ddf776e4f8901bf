"""Admissions as questions and the drugs that were given: what a label head learns from.

The list model's rows are `data.Encoded`. Here no token is learned, so there is no answer among the tokens: its drugs
are places in the cohort's formulary.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import polars as pl
import torch
from transformers import PreTrainedTokenizerBase

from etl import prompts
from etl.errors import ConfigError
from training.data import IGNORED, EncodedSplit


@dataclass(frozen=True, slots=True)
class Question:
    """One admission as the label head learns it.

    Attributes:
        input_ids: the question, up to where its answer would begin.
        drugs: places in the formulary; None: nothing is learned.
        labels: drugs in the formulary.
        dropout_seed: of what the head is kept from seeing; None: it sees all.
    """

    input_ids: list[int]
    drugs: tuple[int, ...] | None
    labels: int
    dropout_seed: int | None = None

    @property
    def targets(self) -> int:
        """How many drugs are to be told from the others: all of the formulary."""
        return 0 if self.drugs is None else self.labels

    def stand_in(self) -> Self:
        """Return two tokens, from which nothing is learned."""
        return replace(self, input_ids=self.input_ids[:2], drugs=None)


def read_formulary(cohort: Path) -> list[str]:
    """Return a cohort's drugs in the order of formulary.parquet, which is that of the labels.

    Raises:
        ConfigError: it knows none, as an imported corpus.
    """
    drugs: list[str] = pl.read_parquet(cohort / "formulary.parquet", columns=["drug"])["drug"].to_list()
    if not drugs:
        raise ConfigError(
            f"{cohort} has no formulary, which objective labels learns to choose from; "
            "give a cohort made by `rxdraft etl`, or set objective=list"
        )
    return drugs


def encode_questions(
    conversations: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    formulary: Sequence[str],
) -> EncodedSplit[Question]:
    """Tokenise questions as they are served, so that none exceeds `max_length`.

    Args:
        conversations: as `etl.cohort.read_prompts` yields them.
        tokenizer: of the base model.
        max_length: tokens; a longer question loses its last-ranked diagnoses.
        formulary: drugs by label. Others, which validation may have, are no label of anybody.

    Raises:
        ConfigError: a question has not exactly one BOS, or is too long without any diagnosis; none is quoted.
    """
    places = {drug: place for place, drug in enumerate(formulary)}
    rows, shortened, wrong = [], 0, 0
    for conversation in conversations:
        *question, answer = conversation["messages"]
        input_ids, dropped = prompts.encode_prompt(tokenizer, question, max_length)
        # Split, not parsed: this is what `render_answer` wrote and no model, and no drug's name is beyond belief.
        names = answer["content"].split("\n")
        drugs = sorted({places[name] for name in names if name in places})
        rows.append(Question(input_ids, tuple(drugs), len(formulary)))
        shortened += dropped > 0
        wrong += input_ids.count(tokenizer.bos_token_id) != 1
    if wrong:
        raise ConfigError(f"{wrong} samples without exactly one BOS")
    return EncodedSplit(rows, shortened)


def with_dropout(rows: Sequence[Question], seed: int, step: int) -> list[Question]:
    """Return a batch's rows with what their dropout is drawn from: a pure function of the arguments.

    By the row's place in the batch, so that micro-batches and processes change nothing, and a run that was killed
    goes on with the same draws.
    """
    seeds = (random.Random(f"{seed}:{step}:{place}").getrandbits(32) for place in range(len(rows)))
    return [replace(row, dropout_seed=seed) for row, seed in zip(rows, seeds, strict=True)]


def rates(rows: Sequence[Question]) -> torch.Tensor:
    """Return the share of rows that have each drug, (labels,); there must be a row."""
    return _targets(rows).mean(dim=0)


def collate_questions(rows: Sequence[Question], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Pad on the right; return input_ids (rows, tokens), targets (rows, labels), and what else the loss wants.

    Targets are 0 or 1, or `IGNORED` all along a row from which nothing is learned.
    """
    lengths = [len(row.input_ids) for row in rows]
    input_ids = torch.full((len(rows), max(lengths)), pad_id, dtype=torch.long)
    for i, row in enumerate(rows):
        input_ids[i, : lengths[i]] = torch.tensor(row.input_ids)
    where = {"lengths": torch.tensor(lengths), "dropout_seeds": [row.dropout_seed for row in rows]}
    return input_ids, _targets(rows), where


def _targets(rows: Sequence[Question]) -> torch.Tensor:
    targets = torch.zeros(len(rows), rows[0].labels)
    for i, row in enumerate(rows):
        targets[i] = IGNORED if row.drugs is None else 0.0
        targets[i, list(row.drugs or ())] = 1.0
    return targets
