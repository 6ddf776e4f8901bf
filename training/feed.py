"""From the rows of a batch to the tensors that one process puts through the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from training.data import AnyRow, Row, collate, cut_by_rows, cut_by_tokens, deal
from training.packing import pack
from training.questions import Question, collate_questions

MicroBatch = tuple[torch.Tensor, torch.Tensor, dict[str, Any]]
"""input_ids, what is to be learned, and what else the loss wants: where packed conversations begin, or the lengths and
dropout of questions."""

CPU_TOKENS = 1024
"""Tokens in memory at once on a CPU: enough to keep it busy, and more would only add padding and memory."""


@dataclass(frozen=True, slots=True)
class Feed:
    """How rows become micro-batches.

    Attributes:
        pad_id: token that fills shorter rows.
        micro_batch_size: rows in memory at once; None: all of the process' share, but on a CPU `CPU_TOKENS`.
        packed: whether rows go end to end instead of padded.
        device: on which the model is.
        processes, process: among how many a batch is dealt, and which of them this is.
    """

    pad_id: int
    micro_batch_size: int | None
    packed: bool
    device: torch.device
    processes: int = 1
    process: int = 0

    def __call__(self, rows: Sequence[Row]) -> Iterator[MicroBatch]:
        """Yield this process' micro-batches of a batch, equally many on every process."""
        for part in deal(rows, self._cut, self.processes, self.process):
            input_ids, learned, where = self._tensors(part)
            yield self._put(input_ids), self._put(learned), {name: self._put(value) for name, value in where.items()}

    def _tensors(self, part: Sequence[Any]) -> MicroBatch:
        """Return rows, all of one kind, as tensors on the CPU."""
        if isinstance(part[0], Question):
            return collate_questions(part, self.pad_id)
        return pack(part) if self.packed else (*collate(part, self.pad_id), {})

    def _cut(self, share: Sequence[AnyRow]) -> list[list[AnyRow]]:
        if self.micro_batch_size is None and self.device.type == "cpu":
            return cut_by_tokens(share, CPU_TOKENS)
        return cut_by_rows(share, self.micro_batch_size or max(1, len(share)))

    def _put(self, value: Any) -> Any:
        return value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
