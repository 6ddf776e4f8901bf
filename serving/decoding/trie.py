"""The formulary as a trie of token ids, and where each of many lists stands in it.

Every name is in the trie twice: followed by a line break, after which another drug follows, and followed by the end of
turn. Both are needed because tokenizers merge what meets: the `)` of `(HumaLOG)` and the break behind it are one token.
No key begins another, so a leaf always says which drug it was and whether the list goes on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from etl.errors import ConfigError

SEPARATOR = "\n"
ROOT = 0
NOTHING_LEFT = "every drug of the formulary is forbidden; nothing can be drafted"

Ints = npt.NDArray[np.int64]


class FormularyTrie:
    """All names of a formulary as token ids; immutable, shared by all lists.

    Attributes:
        names: of the formulary; a list's items are places in it.
        end: id that ends an answer.
        longest: tokens of the longest key.
        tokens, targets: of each edge, those of one node side by side; `first`, `count`: a node's edges.
        item: drug of a leaf, -1 elsewhere; more: whether the leaf's list goes on.
        ways: (2, nodes), keys below each node that end the list, and that go on.
    """

    def __init__(self, tokenizer: Any, names: Sequence[str], end: int) -> None:
        """Compile a formulary.

        Args:
            tokenizer: of the base model.
            names: distinct, canonical, on one line each, at least one.
            end: id of the end of turn.

        Raises:
            ConfigError: names that this tokenizer spells the same or cannot spell piece by piece.
        """
        self.names, self.end = tuple(names), end
        more = _encode(tokenizer, [name + SEPARATOR for name in names])
        last = [[*ids, end] for ids in _encode(tokenizer, names)]
        _check_pieces(tokenizer, names, more, last)
        self.longest = max(map(len, [*more, *last]))
        children: list[dict[int, int]] = [{}]
        leaves: list[tuple[int, bool]] = [(-1, False)]
        paths: list[tuple[list[int], list[int]]] = []
        for item, (ends, goes_on) in enumerate(zip(last, more, strict=True)):
            paths.append(
                (_insert(children, leaves, ends, (item, False)), _insert(children, leaves, goes_on, (item, True)))
            )
        self.item = np.array([item for item, _ in leaves])
        self.more = np.array([goes_on for _, goes_on in leaves])
        self.count = np.array([len(edges) for edges in children])
        self.first = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.tokens = np.array([token for edges in children for token in edges])
        self.targets = np.array([target for edges in children for target in edges.values()])
        self.paths = [(np.array(ends), np.array(goes)) for ends, goes in paths]
        self.ways: npt.NDArray[np.int32] = np.zeros((2, len(children)), dtype=np.int32)
        for both in self.paths:
            for form, path in enumerate(both):
                self.ways[form, path] += 1

    def edges(self, nodes: Ints) -> tuple[Ints, Ints]:
        """Return the edges of all nodes, each with the place of its node."""
        counts = self.count[nodes]
        places = np.repeat(np.arange(len(nodes)), counts)
        within = np.arange(len(places)) - np.repeat(np.cumsum(counts) - counts, counts)
        return places, self.first[nodes][places] + within


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    # Its Rust core itself: the wrapper takes several times as long over ten thousand short texts.
    return [found.ids for found in tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def _insert(
    children: list[dict[int, int]], leaves: list[tuple[int, bool]], ids: Sequence[int], leaf: tuple[int, bool]
) -> list[int]:
    """Add a key and return its nodes, the root first.

    Raises:
        ConfigError: its tokens are another key's, or begin one, or one begins them.
    """
    path = [ROOT]
    for token in ids:
        node = children[path[-1]].get(token)
        if node is None:
            node = children[path[-1]][token] = len(children)
            children.append({})
            leaves.append((-1, False))
        path.append(node)
    if children[path[-1]] or any(leaves[node][0] >= 0 for node in path):
        raise ConfigError(
            f"this tokenizer spells name {leaf[0] + 1} of the formulary with the tokens of another; "
            "leave one of the two out of the cohort"
        )
    leaves[path[-1]] = leaf
    return path


def _check_pieces(tokenizer: Any, names: Sequence[str], more: Sequence[list[int]], last: Sequence[list[int]]) -> None:
    """See that a list's tokens are its names' tokens one after the other, as training saw them.

    Raises:
        ConfigError: this tokenizer spells a name differently behind another.
    """
    pairs = [names[i - 1] + SEPARATOR + name for i, name in enumerate(names)]
    joined = _encode(tokenizer, pairs)
    wrong = sum(ids != [*more[i - 1], *last[i][:-1]] for i, ids in enumerate(joined))
    if wrong:
        raise ConfigError(
            f"{wrong} of {len(names)} formulary names are spelt differently behind another name by this tokenizer; "
            "draft without the formulary, or take a base with a byte-level tokenizer"
        )


class Lists:
    """Lists that grow side by side, each a walk through the trie that never meets a drug twice.

    Rows are kept without gaps: removing one moves the last into its place.

    Attributes:
        items: of each row, places in the formulary, in the order chosen.
    """

    def __init__(self, trie: FormularyTrie, rows: int) -> None:
        """Make room for so many rows; none is there yet."""
        self.trie = trie
        self.items: list[list[int]] = []
        self._node: Ints = np.zeros(rows, dtype=np.int64)
        self._ways = np.zeros((rows, *trie.ways.shape), dtype=np.int32)
        self._tokens: Ints = np.zeros(rows, dtype=np.int64)
        self._most_tokens: Ints = np.zeros(rows, dtype=np.int64)
        self._most_items: Ints = np.zeros(rows, dtype=np.int64)
        self._last = np.zeros(rows, dtype=np.bool_)
        self._kept = self._node, self._ways, self._tokens, self._most_tokens, self._most_items, self._last

    def __len__(self) -> int:
        return len(self.items)

    def add(self, forbidden: Collection[int], most_items: int, most_tokens: int) -> None:
        """Begin a list.

        Args:
            forbidden: drugs that it must not name.
            most_items: drugs after which it ends; at least 1.
            most_tokens: it ends before it is longer, unless its first drug alone is.

        Raises:
            ConfigError: no drug is left to name.
        """
        row, left = len(self), len(self.trie.names) - len(set(forbidden))
        if left < 1:
            raise ConfigError(NOTHING_LEFT)
        self.items.append([])
        self._tokens[row], self._most_tokens[row], self._most_items[row] = 0, most_tokens, min(most_items, left)
        self._ways[row] = self.trie.ways
        for item in set(forbidden):
            self._use_up(row, item)
        self._begin_item(row)

    def remove(self, row: int) -> None:
        """Take a row out; the last row takes its place."""
        last = len(self) - 1
        self.items[row] = self.items[last]
        self.items.pop()
        for kept in self._kept:
            kept[row] = kept[last]

    def copy(self, row: int) -> int:
        """Add a row that has gone the same way as this one so far, and return which it is."""
        new = len(self)
        self.items.append(list(self.items[row]))
        for kept in self._kept:
            kept[new] = kept[row]
        return new

    def allowed(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return the possible next tokens of rows, flat.

        Returns:
            Of each the place in `rows`, the token, and the edge that it is.
        """
        places, edges = self.trie.edges(self._node[rows])
        owner = rows[places]
        ways = self._ways[owner, :, self.trie.targets[edges]]  # (edges, 2)
        possible = (ways[:, 0] > 0) | ((ways[:, 1] > 0) & ~self._last[owner])
        return places[possible], self.trie.tokens[edges[possible]], edges[possible]

    def push(self, row: int, edge: int) -> tuple[list[int], bool]:
        """Follow an edge, and then what has no alternative within the name.

        Returns:
            The tokens walked, without the end of turn, and whether the list is finished.
        """
        trie, walked, next_edge = self.trie, list[int](), int(edge)
        while True:
            node = self._node[row] = trie.targets[next_edge]
            walked.append(int(trie.tokens[next_edge]))
            if trie.count[node] == 0 or (forced := self._forced(row)) is None:
                break
            next_edge = forced
        if (item := int(trie.item[node])) >= 0:
            self.items[row].append(item)
            if not trie.more[node]:
                return walked[:-1], True
        self._tokens[row] += len(walked)
        if item >= 0:
            self._use_up(row, item)
            self._begin_item(row)
        return walked, False

    def _forced(self, row: int) -> int | None:
        """Return the one edge that is open to a row within a name; None where there is a choice."""
        first, count = self.trie.first[self._node[row]], self.trie.count[self._node[row]]
        if count == 1:
            return int(first)
        ways = self._ways[row][:, self.trie.targets[first : first + count]]
        possible = ways[0] > 0 if self._last[row] else ways.any(axis=0)
        return int(first + possible.argmax()) if possible.sum() == 1 else None

    def _begin_item(self, row: int) -> None:
        """Go to the root; whether the next drug is the last is settled here, before a path that goes on is taken."""
        self._node[row] = ROOT
        self._last[row] = (
            len(self.items[row]) + 1 >= self._most_items[row]
            or self._tokens[row] + 2 * self.trie.longest > self._most_tokens[row]
        )

    def _use_up(self, row: int, item: int) -> None:
        for goes_on, path in enumerate(self.trie.paths[item]):
            self._ways[row, goes_on, path] -= 1
