"""Attention over slots of kept keys and values, for tokens of many rows that run through the model as one sequence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

Ints = npt.NDArray[np.int64]

FEW = 16
"""Tokens up to which a chunk attends beside others; a longer one attends by itself if its row is alone in its slot."""
_ALIGNED = 8
"""CUDA's kernels take masks whose rows are a multiple of this."""


class Reading:
    """Which tokens of one pass stand in which slot, and which of its columns they see.

    Short chunks attend together, those of one slot as further queries to it, so that what they share is read once; only
    there and only queries are padded. All else of the model sees the tokens one behind the other.
    """

    def __init__(
        self, slots: Ints, columns: Ints, sizes: Ints, seen: npt.NDArray[np.bool_], device: torch.device
    ) -> None:
        """Lay the pass out.

        Args:
            slots, columns: where each token is kept, (tokens,).
            sizes: tokens of each chunk, at least one, in the tokens' order.
            seen: columns of its slot that each token's row has, those of the whole chunk included, (tokens, room).
            device: of the model.
        """
        self.slots, self.columns = (torch.from_numpy(one).to(device) for one in (slots, columns))
        ends = np.cumsum(sizes)
        few = sizes <= FEW
        few |= ~np.array([seen[end - 1, : columns[end - 1]].all() for end in ends])  # others stand between: no prompt
        self._alone = [
            (slice(end - size, end), int(slots[end - 1]), int(columns[end - 1]) + 1)
            for size, end in zip(sizes[~few].tolist(), ends[~few].tolist(), strict=True)
        ]
        beside = np.flatnonzero(np.repeat(few, sizes))
        self._beside = torch.from_numpy(beside).to(device)
        if len(beside):
            place = _count_up(slots[beside])
            self._first, self._end = int(slots[beside].min()), int(slots[beside].max()) + 1
            self._longest = min(-(-int(columns[beside].max() + 1) // _ALIGNED) * _ALIGNED, seen.shape[1])
            self._at = tuple(torch.from_numpy(one).to(device) for one in (slots[beside] - self._first, place))
            mine = seen[beside, : self._longest] & (np.arange(self._longest) <= columns[beside, None])
            self._hidden = torch.from_numpy(~mine).to(device)
            self._queries = int(place.max()) + 1
        self._masks: dict[int, torch.Tensor] = {}

    def attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float) -> torch.Tensor:
        """Attend.

        Args:
            query: (tokens, heads, dim).
            keys, values: kept in all slots, those of this pass among them, (slots, heads that share, columns, dim).
            scale: of the products.

        Returns:
            What each token attended to, (tokens, heads, dim).
        """
        if not self._alone:
            return self._attend_beside(query, keys, values, scale)
        mixed = torch.empty_like(query)
        for tokens, slot, end in self._alone:
            had = end - (tokens.stop - tokens.start)
            mixed[tokens] = F.scaled_dot_product_attention(
                query[None, tokens].transpose(1, 2),
                keys[slot : slot + 1, :, :end],
                values[slot : slot + 1, :, :end],
                attn_mask=self._mask_alone(tokens, end, query.dtype) if had else None,
                is_causal=not had,
                scale=scale,
                enable_gqa=True,
            )[0].transpose(0, 1)
        if len(self._beside):
            mixed[self._beside] = self._attend_beside(query[self._beside], keys, values, scale)
        return mixed

    def _attend_beside(
        self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attend with short chunks; heads that share keys and values are further queries to them, never copied."""
        slots, shared, (slot, place) = slice(self._first, self._end), keys.shape[1], self._at
        split = query.view(len(query), shared, -1, query.shape[2])
        packed = query.new_zeros(self._end - self._first, shared, split.shape[2], self._queries, query.shape[2])
        packed[slot, :, :, place] = split
        mixed = F.scaled_dot_product_attention(
            packed.flatten(2, 3),
            keys[slots, :, : self._longest],
            values[slots, :, : self._longest],
            attn_mask=self._mask_beside(split.shape[2], query.dtype),
            scale=scale,
        )
        return mixed.view(packed.shape)[slot, :, :, place].reshape(query.shape)

    def _mask_beside(self, group: int, dtype: torch.dtype) -> torch.Tensor:
        """Return what is added to the products, the same in all layers, (slots, 1, group x queries, columns)."""
        if -1 not in self._masks:
            shape = self._end - self._first, self._queries, self._longest
            hidden = self._hidden.new_zeros(shape)  # padding sees all: it must see something
            hidden[self._at] = self._hidden
            self._masks[-1] = _minus_infinity(hidden, dtype).repeat(1, group, 1)[:, None]
        return self._masks[-1]

    def _mask_alone(self, tokens: slice, end: int, dtype: torch.dtype) -> torch.Tensor:
        if tokens.start not in self._masks:
            later = torch.arange(end, device=self.columns.device) > self.columns[tokens, None]
            self._masks[tokens.start] = _minus_infinity(later, dtype)
        return self._masks[tokens.start]


@contextmanager
def attention_by_slots(config: Any) -> Iterator[None]:
    """Let a model attend by the `attend` that its `forward` was given, for a while."""
    usual = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = usual


def _attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, _: None, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Attend as the caller of the model wants; (1, heads, tokens, dim) to (1, tokens, heads, dim)."""
    query, key, value = (one[0].transpose(0, 1) for one in (query, key, value))
    return kwargs["attend"](module.layer_idx, query, key, value, kwargs["scaling"])[None], None


_NAME = "rxdraft_slots"
ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)


def _minus_infinity(hidden: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)


def _count_up(slots: Ints) -> Ints:
    """Return each token's place among those of its slot."""
    order = np.argsort(slots, kind="stable")
    begins = np.flatnonzero(np.diff(slots[order], prepend=-1))
    place = np.empty(len(slots), dtype=np.int64)
    place[order] = np.arange(len(slots)) - np.repeat(begins, np.diff(begins, append=len(slots)))
    return place
