"""Draw lists from the model, many at once; each may join when it comes and leaves when it is done.

Of a name's tokens only those are the model's choice at which the formulary has a choice left; the others are written
without asking and run together with the next that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from serving.decoding.noise import Seeds, gumbel, seeds
from serving.decoding.slots import Slots
from serving.decoding.trie import FormularyTrie, Ints, Lists

MOST_READ = 1024
"""Tokens of prompts in one step; lists in the making wait for them."""


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
    """A list in the making, of all samples that wrote the same so far."""

    ask: int
    samples: list[int]
    chunk: list[int]  # what the model has not read yet
    choices: int = 0
    removed: float = 0.0


@dataclass(slots=True)
class _Asked:
    ask: Ask
    seeds: Seeds
    drawn: dict[int, Drawn]


class ListDecoder:
    """Lists in the making on one model, one formulary and one adapter.

    On one machine a list depends on its `Ask` alone, but for the rounding of sums: no draw and no choice looks at
    another row. Samples of an ask are one row until they differ, and prompts begin behind what they have in common with
    the first that was read.
    """

    def __init__(self, model: Any, trie: FormularyTrie, rows: int) -> None:
        """Begin with no list; `rows` is how many there may be at once."""
        self._model, self._trie = model, trie
        self._slots = Slots(model, rows)
        self._lists = Lists(trie, rows)
        self._rows: list[_Row] = []
        self._most_rows = rows
        self._asked: dict[int, _Asked] = {}
        self._asks = 0

    def renewed(self) -> ListDecoder:
        """Return another without any list."""
        return ListDecoder(self._model, self._trie, self._most_rows)

    @property
    def free(self) -> int:
        """Lists that may be begun."""
        return self._most_rows - sum(len(row.samples) for row in self._rows)

    @property
    def busy(self) -> bool:
        """Whether a list is in the making."""
        return bool(self._rows)

    def admit(self, asks: Sequence[Ask]) -> list[int]:
        """Begin lists, which the next steps carry on.

        Args:
            asks: together no more lists than are free.

        Returns:
            A number for each ask.
        """
        numbers = list(range(self._asks, self._asks + len(asks)))
        for number, ask in zip(numbers, asks, strict=True):
            self._asked[number] = _Asked(ask, seeds(ask.seed, ask.rows, ask.prompt), {})
            self._lists.add(ask.forbidden, ask.most_items, ask.most_tokens)
            self._slots.open(len(self._rows))
            self._rows.append(_Row(number, list(range(ask.rows)), list(ask.prompt)))
        self._asks += len(asks)
        return numbers

    def step(self) -> dict[int, list[Drawn]]:
        """Carry lists on to their next choice; return those asks by number that this finished.

        Prompts are read beside them, so many tokens at a time that nobody's next choice waits for long.
        """
        chunks = self._next()
        logits = self._slots.feed(chunks)
        for place, chunk in chunks.items():
            del self._rows[place].chunk[: len(chunk)]
        read = [place for place in chunks if not self._rows[place].chunk]
        if read and not self._slots.has_prompt:
            self._slots.keep(read[0], self._asked[self._rows[read[0]].ask].ask.prompt)
        ready = torch.tensor([not self._rows[place].chunk for place in chunks], device=logits.device)
        return self._choose(np.array(read, dtype=np.int64), logits[ready]) if read else {}

    def cancel(self, number: int) -> None:
        """Forget an ask; its rows are free again."""
        for place in reversed(range(len(self._rows))):
            if self._rows[place].ask == number:
                self._remove(place)
        self._asked.pop(number, None)

    def _next(self) -> dict[int, list[int]]:
        """Return what each row reads next, by place; rows that wait for a prompt's reading are left out."""
        chunks, room = {}, MOST_READ
        for place, row in enumerate(self._rows):
            if row.choices:
                chunks[place] = row.chunk
                continue
            if self._slots.length(place) == 0:
                del row.chunk[: self._slots.begin_like_kept(place, row.chunk)]
            if room > 0 and (self._slots.has_prompt or room == MOST_READ):  # the first is read before its likes
                chunks[place] = row.chunk[:room]
                room -= len(chunks[place])
        return chunks

    def _choose(self, places: Ints, logits: torch.Tensor) -> dict[int, list[Drawn]]:
        """Let every sample of these rows take its next token; (rows, vocabulary)."""
        counts = np.array([len(self._rows[place].samples) for place in places])
        owner = np.repeat(np.arange(len(places)), counts)  # row of each sample, counted among `places`
        samples, tokens, edges = self._lists.allowed(places[owner])
        flat = torch.from_numpy(np.stack([owner[samples], tokens])).to(logits.device)
        scores = logits[flat[0], flat[1]].cpu().numpy()
        whole = logits.logsumexp(1).cpu().numpy()
        begins = np.flatnonzero(np.diff(samples, prepend=-1))
        kept = np.add.reduceat(np.exp(scores - whole[owner[samples]]), begins)
        chosen = edges[_argmax(self._noisy(places, scores, samples, edges), samples, begins)]
        finished: list[int] = []
        starts = np.cumsum(counts) - counts
        for place, start, count in zip(places.tolist(), starts.tolist(), counts.tolist(), strict=True):
            row = self._rows[place]
            row.choices += 1
            row.removed = max(row.removed, 1 - float(kept[start]))
            finished += self._follow(place, chosen[start : start + count].tolist())
        return self._collect(sorted(finished))

    def _noisy(self, places: Ints, scores: Any, samples: Ints, edges: Ints) -> Any:
        """Return scores whose highest is a draw from the tempered distribution for samples, and as it was for others.

        Source: Gumbel, Statistical Theory of Extreme Values, 1954; Maddison et al., arXiv 1411.0030.
        """
        rows = [self._rows[place] for place in places]
        each = [(self._asked[row.ask], sample, row.choices) for row in rows for sample in row.samples]
        heat = np.array([asked.ask.temperature if asked.ask.samples else 0.0 for asked, _, _ in each])
        if not heat.any():
            return scores
        own = np.array([asked.seeds[sample] for asked, sample, _ in each], dtype=np.uint64)
        step = np.array([choices for _, _, choices in each], dtype=np.uint64)
        return scores + heat[samples] * gumbel(own[samples], step[samples], edges)

    def _follow(self, place: int, chosen: Sequence[int]) -> list[int]:
        """Take the edges that a row's samples chose, each distinct one in a row of its own; return finished places."""
        row = self._rows[place]
        ways: dict[int, list[int]] = {}
        for sample, edge in zip(row.samples, chosen, strict=True):
            ways.setdefault(edge, []).append(sample)
        places = [place, *(self._split(place) for _ in range(len(ways) - 1))]
        finished = []
        for where, (edge, samples) in zip(places, ways.items(), strict=True):
            self._rows[where].samples = samples
            self._rows[where].chunk, done = self._lists.push(where, edge)
            if done:
                finished.append(where)
        return finished

    def _split(self, place: int) -> int:
        new = self._lists.copy(place)
        self._slots.fork(place, new)
        self._rows.append(replace(self._rows[place]))
        return new

    def _collect(self, finished: Sequence[int]) -> dict[int, list[Drawn]]:
        done: dict[int, list[Drawn]] = {}
        for place in reversed(finished):  # from behind: a removed row's place is taken by the last
            row = self._rows[place]
            asked = self._asked[row.ask]
            asked.drawn |= dict.fromkeys(row.samples, Drawn(tuple(self._lists.items[place]), row.removed))
            self._remove(place)
            if len(asked.drawn) == asked.ask.rows:
                done[row.ask] = [asked.drawn[sample] for sample in range(asked.ask.rows)]
                del self._asked[row.ask]
        return done

    def _remove(self, place: int) -> None:
        last = len(self._rows) - 1
        self._rows[place] = self._rows[last]
        self._rows.pop()
        self._slots.remove(place, last)
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
        places.update(zip(decoder.admit([asks[i] for i in beginning]), beginning, strict=True))
        for number, drawn in decoder.step().items():
            yield places.pop(number), drawn


def _argmax(scores: Any, rows: Ints, begins: Ints) -> Ints:
    """Return each row's place of its highest score, the first of equals."""
    highest = np.maximum.reduceat(scores, begins)
    best = np.flatnonzero(scores == highest[rows])
    return best[np.flatnonzero(np.diff(rows[best], prepend=-1))]
