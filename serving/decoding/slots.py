"""A key-value cache whose rows grow each at its own end, so that answers of any age run side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_STEP = 256
"""Tokens by which rows are lengthened: seldom copied, little left empty."""


class Slots:
    """Keys and values of many sequences in rows without gaps.

    What lies behind a row's end is left over from padding: no token attends to it, and the row's next tokens are
    written over it. So there is no padding on the left, and a row's numbers do not hang on its neighbours' lengths.
    """

    def __init__(self, model: Any, rows: int) -> None:
        """Make room for so many rows; none is there yet.

        Args:
            model: causal language model of Hugging Face's Llama kind, adapters injected; attention sdpa or eager.
            rows: sequences at once, at most.
        """
        self._model = model
        self._most_rows = rows
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self.lengths = torch.zeros(rows, dtype=torch.long, device=model.device)
        self._rows = slice(0, 0)
        self._places = torch.zeros(0, dtype=torch.long)
        self._longest = 0

    @torch.no_grad()
    def feed(self, first: int, chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Run each row's next tokens, and return the logits behind the last of them, (rows, vocabulary).

        Args:
            first: the chunks are of this row and those behind it.
            chunks: token ids, at least one for each row.
        """
        device, n, longest = self._model.device, len(chunks), max(map(len, chunks))
        self._rows = rows = slice(first, first + n)
        sizes = torch.tensor([len(chunk) for chunk in chunks], device=device)
        ids = torch.tensor([[*chunk, *[0] * (longest - len(chunk))] for chunk in chunks], device=device)
        before = self.lengths[rows]
        self._places = before[:, None] + torch.arange(longest, device=device)  # (rows, tokens)
        self._longest = int(before.max()) + longest
        seen = torch.arange(self._longest, device=device) <= self._places[:, None, :, None]
        with _grouped_attention(self._model.config):
            hidden = self._model.model(
                input_ids=ids, attention_mask=seen, position_ids=self._places, past_key_values=self, use_cache=True
            ).last_hidden_state
        self.lengths[rows] = before + sizes
        logits: torch.Tensor = self._model.lm_head(hidden[torch.arange(n, device=device), sizes - 1]).float()
        return logits

    def update(self, keys: torch.Tensor, values: torch.Tensor, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Write a layer's new keys and values, (rows, heads, tokens, dim), and return all there are.

        The model calls it, as it would a cache of its own library.
        """
        if layer == len(self._keys):
            for kept, like in ((self._keys, keys), (self._values, values)):
                kept.append(like.new_empty(self._most_rows, like.shape[1], 0, like.shape[3]))
        row = torch.arange(len(self._places), device=keys.device)[:, None]
        for kept, new in ((self._keys, keys), (self._values, values)):
            if kept[layer].shape[2] < self._longest:
                kept[layer] = _lengthened(kept[layer], self._longest)
            kept[layer][self._rows][row, :, self._places] = new.transpose(1, 2)
        return self._keys[layer][self._rows, :, : self._longest], self._values[layer][self._rows, :, : self._longest]

    def clear(self, row: int) -> None:
        """Let the next sequence begin in this row."""
        self.lengths[row] = 0

    @torch.no_grad()
    def copy(self, row: int, to: int) -> None:
        """Make another row what this one is."""
        length = int(self.lengths[row])
        for kept in (*self._keys, *self._values):
            kept[to, :, :length] = kept[row, :, :length]
        self.lengths[to] = length


@contextmanager
def _grouped_attention(config: Any) -> Iterator[None]:
    """Let the model attend by `_attend` for a while."""
    usual = config._attn_implementation
    config._attn_implementation = _GROUPED
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: torch.Tensor, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attend without a copy of keys and values per head: the heads that share one are further queries to it.

    Transformers does so for single tokens only, and a chunk is most often two or three.
    """
    rows, heads, tokens, dim = query.shape
    group = heads // key.shape[1]
    packed = query.reshape(rows, key.shape[1], group * tokens, dim)
    mixed = F.scaled_dot_product_attention(packed, key, value, seen.repeat(1, 1, group, 1), scale=kwargs["scaling"])
    return mixed.reshape(rows, heads, tokens, dim).transpose(1, 2).contiguous(), None


_GROUPED = "rxdraft_grouped"
ALL_ATTENTION_FUNCTIONS.register(_GROUPED, _attend)


def _lengthened(kept: torch.Tensor, tokens: int) -> torch.Tensor:
    rows, heads, had, dim = kept.shape
    longer = kept.new_zeros(rows, heads, -(-tokens // _STEP) * _STEP, dim)  # zeros: what is not seen must be finite
    longer[:, :, :had] = kept
    return longer
