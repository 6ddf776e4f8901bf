"""Draw lists from the model, many at once; each may join when it comes and leaves when it is done.

Of a name's tokens only those are the model's choice at which the formulary has a choice left; the others are written
without asking and run together with the next that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from etl.artefacts import sha256
from serving.decoding.slots import Slots
from serving.decoding.trie import FormularyTrie, Ints, Lists


@dataclass(frozen=True, slots=True)
class Ask:
    """Lists wanted for one prompt.

    Attributes:
        prompt: token ids, with the BOS.
        most_tokens: a list ends before it is longer.
        most_items: drugs in a list, at most.
        forbidden: places in the formulary that no list may name.
        samples: lists, drawn at `temperature`; 0: one, the most likely drug each time.
        temperature: above 0; 1 draws from the model's own distribution.
        seed: other seeds draw other lists.
    """

    prompt: Sequence[int]
    most_tokens: int
    most_items: int = 1_000_000
    forbidden: frozenset[int] = frozenset()
    samples: int = 0
    temperature: float = 1.0
    seed: int = 0

    @property
    def rows(self) -> int:
        """Lists side by side."""
        return max(1, self.samples)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A finished list.

    Attributes:
        items: places in the formulary, in the order chosen.
        removed: the most probability that the formulary took from the model at any one choice; near 1, the model
            wanted to say something else.
    """

    items: tuple[int, ...]
    removed: float


@dataclass(slots=True)
class _Row:
    ask: int
    sample: int
    temperature: float
    generator: torch.Generator | None
    chunk: list[int]
    removed: float = 0.0


class ListDecoder:
    """Lists in the making on one model, one formulary and one adapter.

    On one machine a list depends on its `Ask` alone, but for the rounding of sums: no draw and no choice looks at
    another row.
    """

    def __init__(self, model: Any, trie: FormularyTrie, rows: int) -> None:
        """Begin with no list; `rows` is how many there may be at once."""
        self._model, self._trie = model, trie
        self._slots = Slots(model, rows)
        self._lists = Lists(trie, rows)
        self._rows: list[_Row] = []
        self._most_rows = rows
        self._asks = 0
        self._waiting: dict[int, dict[int, Drawn]] = {}
        self._wanted: dict[int, int] = {}

    def renewed(self) -> ListDecoder:
        """Return another without any list."""
        return ListDecoder(self._model, self._trie, self._most_rows)

    @property
    def free(self) -> int:
        """Rows without a list."""
        return self._most_rows - len(self._rows)

    @property
    def busy(self) -> bool:
        """Whether a list is in the making."""
        return bool(self._rows)

    def admit(self, asks: Sequence[Ask]) -> tuple[list[int], dict[int, list[Drawn]]]:
        """Begin lists; a prompt is read once for all its samples.

        Args:
            asks: their rows must be free.

        Returns:
            A number for each ask, and those that are finished already.
        """
        first = len(self._rows)
        logits = self._slots.feed(first, [ask.prompt for ask in asks])
        owner = self._spread(first, [ask.rows for ask in asks])
        numbers = []
        for ask in asks:
            numbers.append(self._asks)
            self._wanted[self._asks] = ask.rows
            for sample in range(ask.rows):
                self._lists.add(ask.forbidden, ask.most_items, ask.most_tokens)
                generator = torch.Generator().manual_seed(_seed(ask, sample)) if ask.samples else None
                self._rows.append(_Row(self._asks, sample, ask.temperature, generator, []))
            self._asks += 1
        return numbers, self._choose(first, logits[torch.tensor(owner, device=logits.device)])

    def step(self) -> dict[int, list[Drawn]]:
        """Carry every list on to its next choice, and return the asks that this finished, by number."""
        return self._choose(0, self._slots.feed(0, [row.chunk for row in self._rows]))

    def cancel(self, number: int) -> None:
        """Forget an ask; its rows are free again."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].ask == number:
                self._remove(place)
        self._wanted.pop(number, None)
        self._waiting.pop(number, None)

    def _spread(self, first: int, counts: Sequence[int]) -> list[int]:
        """Copy prompts that were read into as many rows as they need; return each row's prompt, from 0."""
        owner = [i for i, count in enumerate(counts) for _ in range(count)]
        for place in reversed(range(len(owner))):  # from behind, so that no row is overwritten before it was copied
            if owner[place] != place:
                self._slots.copy(first + owner[place], first + place)
        return owner

    def _choose(self, first: int, logits: torch.Tensor) -> dict[int, list[Drawn]]:
        rows, tokens, edges = self._lists.allowed(first)
        flat = torch.from_numpy(rows).to(logits.device), torch.from_numpy(tokens).to(logits.device)
        scores = logits[flat].cpu().numpy()
        whole = logits.logsumexp(1).cpu().numpy()
        begins = np.flatnonzero(np.diff(rows, prepend=-1))
        kept = np.add.reduceat(np.exp(scores - whole[rows]), begins)
        chosen = edges[_argmax(self._noisy(first, scores, begins), rows, begins)]
        finished = []
        for place, edge in enumerate(chosen, first):
            row = self._rows[place]
            row.removed = max(row.removed, 1 - float(kept[place - first]))
            row.chunk, done = self._lists.push(place, int(edge))
            if done:
                finished.append(place)
        return self._collect(finished)

    def _noisy(self, first: int, scores: Any, begins: Ints) -> Any:
        """Return scores whose highest is a draw for rows that are sampled: Gumbel's trick, a generator a row.

        Source: Gumbel, Statistical Theory of Extreme Values, 1954; Maddison et al., arXiv 1411.0030.
        """
        if all(row.generator is None for row in self._rows[first:]):
            return scores
        noisy = scores.copy()
        for row, begin, end in zip(self._rows[first:], begins, [*begins[1:], len(scores)], strict=True):
            if row.generator is not None:
                noise = torch.empty(int(end - begin)).exponential_(generator=row.generator)
                noisy[begin:end] = noisy[begin:end] / row.temperature - noise.log().numpy()
        return noisy

    def _collect(self, finished: Sequence[int]) -> dict[int, list[Drawn]]:
        done: dict[int, list[Drawn]] = {}
        for place in reversed(finished):  # from behind: a removed row's place is taken by the last
            row = self._rows[place]
            drawn = self._waiting.setdefault(row.ask, {})
            drawn[row.sample] = Drawn(tuple(self._lists.items[place]), row.removed)
            self._remove(place)
            if len(drawn) == self._wanted[row.ask]:
                done[row.ask] = [drawn[sample] for sample in range(len(drawn))]
                del self._waiting[row.ask], self._wanted[row.ask]
        return done

    def _remove(self, place: int) -> None:
        last = len(self._rows) - 1
        if place != last:
            self._slots.copy(last, place)
            self._rows[place] = self._rows[last]
        self._slots.clear(last)
        self._rows.pop()
        self._lists.remove(place)


def draw_lists(decoder: ListDecoder, asks: Sequence[Ask]) -> Iterator[tuple[int, list[Drawn]]]:
    """Yield every ask's place and lists, as they are finished; asks of like length are begun together.

    Args:
        decoder: with no list in the making.
        asks: none with more samples than the decoder has rows.
    """
    order = sorted(range(len(asks)), key=lambda i: len(asks[i].prompt), reverse=True)
    places: dict[int, int] = {}
    while order or decoder.busy:
        beginning: list[int] = []
        room = decoder.free
        while order and asks[order[-1]].rows <= room:
            beginning.append(order.pop())
            room -= asks[beginning[-1]].rows
        found: dict[int, list[Drawn]] = {}
        if beginning:
            numbers, found = decoder.admit([asks[i] for i in beginning])
            places.update(zip(numbers, beginning, strict=True))
        if decoder.busy:
            found |= decoder.step()
        for number, drawn in found.items():
            yield places.pop(number), drawn


def _argmax(scores: Any, rows: Ints, begins: Ints) -> Ints:
    """Return each row's place of its highest score, the first of equals."""
    highest = np.maximum.reduceat(scores, begins)
    best = np.flatnonzero(scores == highest[rows])
    return best[np.flatnonzero(np.diff(rows[best], prepend=-1))]


def _seed(ask: Ask, sample: int) -> int:
    return int(sha256(f"{ask.seed} {sample} {list(ask.prompt)}".encode())[:15], 16)
