"""Tell an instruction from all there are: ROUGE-L, exact, and fast enough for many thousands.

    ROUGE-L F1 of a and b = 2 |LCS(a, b)| / (|a| + |b|),  words counted, LCS their longest common subsequence

Source: Lin, ROUGE, ACL 2004; the threshold is Self-Instruct's, Wang et al., arXiv 2212.10560.
"""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from etl.near_duplicates import fold, words

SIMILAR_PERCENT = 70
"""ROUGE-L F1, in percent, from which an instruction is no new one."""


def common_words(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence.

    >>> common_words("the cat sat here".split(), "the dog sat".split())
    2

    The table is worked out a row at a time, in the bits of one number.

    Source: Hyyrö, Bit-parallel LCS-length computation revisited, AWOCA 2004.
    """
    places = dict[Hashable, int]()
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(a)) - 1
    row = whole
    for word in b:
        if met := row & places.get(word, 0):
            row = (row + met) | (row - met)
    return len(a) - (row & whole).bit_count()


def rouge_l(a: Sequence[Hashable], b: Sequence[Hashable]) -> Fraction:
    """Return ROUGE-L F1 of two texts as words; 0 where neither has one."""
    return Fraction(2 * common_words(a, b), max(len(a) + len(b), 1))


class Instructions:
    """Instructions so far, and whether another is new among them.

    Texts a and b with ROUGE-L ≥ p differ in at most (1 - p) (|a| + |b|) words, repeats counted. Every text keeps a
    signature, in which each of its words flips a bit: signatures differ in no more bits than texts in words. So one
    pass over the signatures leaves few texts to compare, and misses none.

    Source: Sandes, Teodoro and Melo, Bitmap filter, Information Systems 2020;88:101449.
    """

    def __init__(self) -> None:
        self._texts: list[list[str]] = []
        self._signatures = np.zeros((_SIGNATURE_BITS // 64, 1024), np.uint64)  # (64 bits each, room for texts)
        self._lengths = np.zeros(1024, np.int64)

    def add(self, text: str) -> None:
        """Take a text in."""
        place, found = len(self._texts), words(fold(text))
        if place == len(self._lengths):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)], axis=1)
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        self._signatures[:, place], self._lengths[place] = _signature(found), len(found)
        self._texts.append(found)

    def has_like(self, text: str) -> bool:
        """Tell whether ROUGE-L of the text and any so far reaches `SIMILAR_PERCENT`."""
        found, size = words(fold(text)), len(self._texts)
        bits = np.bitwise_count(self._signatures[:, :size] ^ _signature(found)[:, None]).sum(axis=0, dtype=np.int64)
        lengths = self._lengths[:size]
        fewest = np.maximum(bits, np.abs(lengths - len(found)))  # words that differ, at least
        near = np.flatnonzero(100 * fewest <= (100 - SIMILAR_PERCENT) * (lengths + len(found)))
        return any(_alike(found, self._texts[place]) for place in near.tolist())


_SIGNATURE_BITS = 512


def _signature(text: Sequence[str]) -> npt.NDArray[np.uint64]:
    """Return a text's signature, (8,)."""
    signature = 0
    for word in text:
        signature ^= 1 << zlib.crc32(word.encode()) % _SIGNATURE_BITS
    return np.frombuffer(signature.to_bytes(_SIGNATURE_BITS // 8, "little"), np.uint64)


def _alike(a: Sequence[str], b: Sequence[str]) -> bool:
    return 100 * rouge_l(a, b) >= SIMILAR_PERCENT
