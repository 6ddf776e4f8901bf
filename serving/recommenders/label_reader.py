"""Read every label's logit off prompts, many in one pass; what all prompts begin with is read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DynamicCache

from etl import prompts as texts
from etl.domain import Admission
from training.labels import LabelHead

_TOKENS = {"cpu": 1024, "cuda": 16_384}
"""Of one pass, padding included: with more, a processor's cache does not hold them; with fewer, a GPU idles."""


class LabelReader:
    """One adapter's label head on its base.

    A row's logits depend on its prompt alone, but for the rounding of sums: by less than 1e-5 in float32.
    """

    def __init__(self, model: Any, head: LabelHead, opening: Sequence[int]) -> None:
        """Take the parts.

        Args:
            model: causal language model of Hugging Face's kind, the adapter injected; on whenever `read` is called.
            head: in evaluation mode, on the model's device.
            opening: tokens that prompts are likely to begin with, at least one; others are read whole.
        """
        self._model, self._head = model, head
        self._opening = list(opening)

    @property
    def labels(self) -> int:
        """How many labels there are."""
        return len(self._head.bias)

    @torch.inference_mode()
    def read(self, prompts: Sequence[list[int]]) -> NDArray[np.float64]:
        """Return logits, (prompts, labels), in the order of the head's labels.

        Args:
            prompts: token ids, each with its BOS; none is empty.
        """
        logits = np.empty((len(prompts), self.labels))
        for batch in _batches([len(ids) for ids in prompts], _TOKENS[self._model.device.type]):
            logits[batch] = self._read_batch([prompts[place] for place in batch]).cpu().numpy()
        return logits

    def _read_batch(self, prompts: list[list[int]]) -> torch.Tensor:
        """Run what follows the opening. Padding on the right needs no mask: no token sees what is behind it."""
        shared = min(len(_common([self._opening, *prompts])), min(map(len, prompts)) - 1)
        states, cache = self._begun(shared, len(prompts))
        longest, device = max(map(len, prompts)), self._model.device
        ids = torch.tensor([[*ids[shared:], *[0] * (longest - len(ids))] for ids in prompts], device=device)
        rest = self._model.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        lengths = torch.tensor([len(ids) for ids in prompts], device=device)
        logits: torch.Tensor = self._head(torch.cat([states, rest], dim=1), lengths)
        return logits

    def _begun(self, tokens: int, rows: int) -> tuple[torch.Tensor, DynamicCache]:
        """Return the opening's first tokens in as many rows: their states, (rows, tokens, hidden), and a cache."""
        states, kept = self._opened
        spread = [tuple(one[:, :, :tokens].expand(rows, -1, -1, -1) for one in pair) for pair in kept]
        return states[:, :tokens].expand(rows, -1, -1), DynamicCache(spread, config=self._model.config)

    @cached_property
    def _opened(self) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
        """The opening's states, (1, tokens, hidden), and each layer's keys and values, (1, heads, tokens, dim)."""
        cache = DynamicCache(config=self._model.config)
        ids = torch.tensor([self._opening], device=self._model.device)
        states = self._model.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state
        return states, [(layer.keys, layer.values) for layer in cache.layers]


def find_opening(tokenizer: Any) -> list[int]:
    """Return the tokens that every question begins with: the system message and the user's header."""
    asked = [texts.render_prompt(Admission((), age=age)) for age in (None, 7)]
    return _common([texts.encode(tokenizer, messages) for messages in asked])


def _common(rows: Sequence[Sequence[int]]) -> list[int]:
    """Return the tokens that all rows begin with."""
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))]


def _batches(lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    """Yield places of prompts of like length, as many as fit into so many tokens, or one."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
