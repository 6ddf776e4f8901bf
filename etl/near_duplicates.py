"""Find texts that say what an earlier one says, to the letter or nearly.

Texts come in and places go out, from 0: whose the texts are and what becomes of them is nobody's business here.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np

SIMILAR_PERCENT = 85
"""Jaccard index of two texts' shingles, in percent, from which the later one is left out."""

SHINGLE_WORDS = 5

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
"""A word; where Chinese, Japanese or Korean is written without spaces, a character."""

_WEIGHTS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
_TABLE_BITS = 25


def fold(text: str) -> str:
    """Return a text without case, compatibility characters and runs of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Return a text's words, in order, as `_WORD` has them.

    Args:
        text: folded.
    """
    return _WORD.findall(text)


def distinct(keys: Sequence[Hashable]) -> list[int]:
    """Return the places of the keys that no earlier one equals, in order."""
    first: dict[Hashable, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    return list(first.values())


def dissimilar(texts: Sequence[str]) -> list[int]:
    """Return the places of the texts, in order, without those that are nearly an earlier one that stays.

    Nearly is a Jaccard index of `SIMILAR_PERCENT` or more between their sets of shingles. The join is exact: sorted
    by one order, sets so similar share an element among the first n - ⌈0.85 n⌉ + 1. Rare shingles come first, so
    that a template's words, which all texts have, are hardly ever looked up.

    Source: Bayardo, Ma and Srikant, Scaling up all pairs similarity search, WWW 2007.
    """
    sets = [shingles(fold(text)) for text in texts]
    texts_with = np.zeros(1 << _TABLE_BITS, np.uint32)  # by hash: two shingles in one place only look less rare
    for found in sets:
        texts_with[_place(found)] += 1
    holders = defaultdict[int, list[int]](list)
    kept = []
    for i, found in enumerate(sets):
        frequency = texts_with[_place(found)]
        prefix = np.lexsort((found, frequency))[: len(found) - _least_common(len(found)) + 1]
        looked_up = found[prefix[frequency[prefix] > 1]].tolist()  # what one text alone has joins it to none
        if any(_similar(found, sets[j]) for j in {j for shingle in looked_up for j in holders.get(shingle, ())}):
            continue
        kept.append(i)
        for shingle in looked_up:
            holders[shingle].append(i)
    return kept


def shingles(text: str) -> np.ndarray:
    """Return the hashes of all runs of `SHINGLE_WORDS` words, sorted, each once; of a shorter text the whole.

    Args:
        text: folded.
    """
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in words(text)), np.uint64)
    if not len(hashes):
        return hashes
    width = min(SHINGLE_WORDS, len(hashes))
    runs = np.lib.stride_tricks.sliding_window_view(hashes, width)  # (words - width + 1, width)
    return np.unique((runs * _WEIGHTS[:width]).sum(axis=1, dtype=np.uint64))


def _place(found: np.ndarray) -> np.ndarray:
    return found >> np.uint64(64 - _TABLE_BITS)


def _least_common(size: int) -> int:
    """Return how many of a set's elements any set so similar must have: ⌈0.85 size⌉, without rounding errors."""
    return -(-size * SIMILAR_PERCENT // 100)


def _similar(a: np.ndarray, b: np.ndarray) -> bool:
    if min(len(a), len(b)) < _least_common(max(len(a), len(b))):
        return False
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common * 100 >= SIMILAR_PERCENT * (len(a) + len(b) - common)
