"""A key-value cache for lists in the making: a slot holds a prompt once, and behind it the tokens of all its lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from serving.decoding.attention import Reading, attention_by_slots

_STEP = 256
"""Columns by which slots are lengthened: seldom copied, little left empty."""
_KEPT = 0
"""The slot of the prompt that others may begin like."""

Ints = npt.NDArray[np.int64]


class Slots:
    """Keys and values of many sequences, each a row that stands in a slot.

    Rows of one slot began with the same tokens, which are there once. What each wrote since then lies in columns of its
    own, in the order in which it came; a row sees its own columns and no other. So nothing is padded, nothing moves
    when rows part or leave, and a row's numbers do not hang on its neighbours.
    """

    def __init__(self, model: Any, rows: int) -> None:
        """Make room for so many rows; none is there yet.

        Args:
            model: causal language model of Hugging Face's Llama kind, adapters injected.
            rows: sequences at once, at most.
        """
        self._model = model
        self._slot: Ints = np.zeros(rows, dtype=np.int64)  # of each row
        self._length: Ints = np.zeros(rows, dtype=np.int64)  # tokens of each row
        self._seen = np.zeros((rows, 0), dtype=np.bool_)  # (rows, columns)
        self._owners: Ints = np.zeros(rows + 1, dtype=np.int64)  # rows in each slot
        self._used: Ints = np.zeros(rows + 1, dtype=np.int64)  # columns taken in each slot
        self._first_prompt: list[int] = []
        self._kept = _nothing(model)  # (layers, 2, slots, heads, columns, dim)

    @property
    def has_prompt(self) -> bool:
        """Whether a prompt is kept that others may begin like."""
        return bool(self._first_prompt)

    def length(self, row: int) -> int:
        """Return how many tokens a row has."""
        return int(self._length[row])

    def open(self, row: int) -> None:
        """Give a new row a slot of its own."""
        slot = _KEPT + 1 + int(np.argmin(self._owners[_KEPT + 1 :] > 0))  # the first that is free
        self._slot[row], self._length[row] = slot, 0
        self._owners[slot], self._used[slot] = 1, 0
        self._seen[row] = False

    @torch.no_grad()
    def begin_like_kept(self, row: int, prompt: Sequence[int]) -> int:
        """Take over what an open row's prompt has in common with the kept one; return how many tokens that is.

        At least one is left to read, for whoever asks wants to know what follows.
        """
        same = _in_common(self._first_prompt, prompt[:-1])
        if same:
            slot = self._slot[row]
            self._make_room()
            self._kept[:, :, slot, :, :same] = self._kept[:, :, _KEPT, :, :same]
            self._length[row] = self._used[slot] = same
            self._seen[row, :same] = True
        return same

    @torch.no_grad()
    def keep(self, row: int, prompt: Sequence[int]) -> None:
        """Keep a row that has read this prompt, and nothing else yet, for others to begin like it."""
        self._kept[:, :, _KEPT, :, : len(prompt)] = self._kept[:, :, self._slot[row], :, : len(prompt)]
        self._first_prompt = list(prompt)

    def fork(self, row: int, to: int) -> None:
        """Make a new row what this one is, in the same slot."""
        self._move(row, to)
        self._owners[self._slot[row]] += 1

    def remove(self, row: int, last: int) -> None:
        """Take a row out; the last row takes its place. A slot that no row is left in is free."""
        self._owners[self._slot[row]] -= 1
        self._move(last, row)

    @torch.no_grad()
    def feed(self, chunks: Mapping[int, Sequence[int]]) -> torch.Tensor:
        """Run rows' next tokens in one pass, and return the logits behind the last of each, (chunks, vocabulary).

        Args:
            chunks: token ids of each row that has any, a prompt or a few; a prompt only in a slot of its own.
        """
        device, rows = self._model.device, np.fromiter(chunks, dtype=np.int64)
        sizes = np.array([len(chunk) for chunk in chunks.values()])
        owner = np.repeat(rows, sizes)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        columns = np.repeat(self._take_columns(rows, sizes), sizes) + within
        places = torch.from_numpy(self._length[owner] + within).to(device)
        self._length[rows] += sizes
        self._seen[owner, columns] = True
        self._make_room()
        reading = Reading(self._slot[owner], columns, sizes, self._seen[owner], device)

        def attend(
            layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
        ) -> torch.Tensor:
            kept = self._kept[layer]
            for which, new in enumerate((key, value)):
                kept[which][reading.slots, :, reading.columns] = new
            return reading.attend(query, kept[0], kept[1], scale)

        with attention_by_slots(self._model.config):
            hidden = self._model.model(
                input_ids=torch.tensor([[token for chunk in chunks.values() for token in chunk]], device=device),
                position_ids=places[None],
                use_cache=False,
                attend=attend,
            ).last_hidden_state
        last = torch.from_numpy(np.cumsum(sizes) - 1).to(device)
        logits: torch.Tensor = self._model.lm_head(hidden[0, last]).float()
        return logits

    def _take_columns(self, rows: Ints, sizes: Ints) -> Ints:
        """Return the first of each chunk's columns in its row's slot, and see that there are so many."""
        first = []
        for slot, size in zip(self._slot[rows].tolist(), sizes.tolist(), strict=True):
            first.append(self._used[slot])
            self._used[slot] += size
        if (more := int(self._used.max()) - self._seen.shape[1]) > 0:
            self._seen = np.pad(self._seen, ((0, 0), (0, -(-more // _STEP) * _STEP)))
        return np.array(first)

    def _make_room(self) -> None:
        """Grow where slots or columns are missing; zeros, for what nobody sees must be finite."""
        layers, both, slots, heads, columns, dim = self._kept.shape
        wanted = max(slots, int(self._owners.nonzero()[0].max()) + 1), max(columns, self._seen.shape[1])
        if wanted != (slots, columns):
            grown = self._kept.new_zeros(layers, both, wanted[0], heads, wanted[1], dim)
            grown[:, :, :slots, :, :columns] = self._kept
            self._kept = grown

    def _move(self, row: int, to: int) -> None:
        for facts in (self._slot, self._length, self._seen):
            facts[to] = facts[row]


def _nothing(model: Any) -> torch.Tensor:
    config = model.config
    dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = config.num_hidden_layers, 2, 0, config.num_key_value_heads, 0, dim
    return torch.empty(shape, dtype=model.dtype, device=model.device)


def _in_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two have in common."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
