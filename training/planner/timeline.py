"""What a step does, operation by operation: bytes that come and go, and FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

KINDS = ("activations", "logits", "gradients")


@dataclass(frozen=True, slots=True)
class Timeline:
    """One row an event: a tensor's storage is born or freed, or an operation computes."""

    bytes: np.ndarray
    """(events,), int64: born positive, freed negative, else 0."""
    kinds: np.ndarray
    """(events,): of the storage, as an index into KINDS."""
    flops: np.ndarray
    """(events,), int64: a multiplication and an addition are two."""

    def __len__(self) -> int:
        return len(self.bytes)

    def __getitem__(self, part: slice) -> Timeline:
        return Timeline(self.bytes[part], self.kinds[part], self.flops[part])

    def same(self, other: Timeline) -> bool:
        """Return whether the other does exactly the same in the same order."""
        return (
            np.array_equal(self.bytes, other.bytes)
            and np.array_equal(self.kinds, other.kinds)
            and np.array_equal(self.flops, other.flops)
        )

    def peak(self) -> dict[str, int]:
        """Return the bytes alive at the highest moment, by kind."""
        if not len(self):
            return dict.fromkeys(KINDS, 0)
        until = int(np.argmax(np.cumsum(self.bytes))) + 1
        return {name: int(self.bytes[:until][self.kinds[:until] == kind].sum()) for kind, name in enumerate(KINDS)}


def concatenate(parts: Sequence[Timeline]) -> Timeline:
    """Return timelines one after another."""
    return Timeline(*(np.concatenate([getattr(part, name) for part in parts]) for name in Timeline.__slots__))


def for_batch(of_two: Timeline, of_three: Timeline, batch: int) -> Timeline:
    """Return the timeline of a batch of any size from those of two and three rows.

    The operations are the same ones in the same order, and each tensor's size is a constant plus a share a row.
    """
    return Timeline(
        of_two.bytes + (of_three.bytes - of_two.bytes) * (batch - 2),
        of_two.kinds,
        of_two.flops + (of_three.flops - of_two.flops) * (batch - 2),
    )


def stretch(shallow: Timeline, marks: Sequence[tuple[int, int]], layers: int, depth: int) -> Timeline | None:
    """Return the timeline of a model of `depth` layers from that of one with fewer: what is between first and last
    repeats.

    Args:
        shallow: of the model with fewer layers.
        marks: where a layer begins, forward or backward: (event, layer), in the order of events.
        layers: of the shallow model; four or more, so that it has two inner ones to compare.
        depth: of the model wanted.

    Returns:
        None where two inner layers do not do the same, so that nothing is known of the others.
    """
    ends = [event for event, _ in marks[1:]] + [len(shallow)]
    segments = [(layer, shallow[start:end]) for (start, layer), end in zip(marks, ends, strict=True)]
    first, second = ([part for layer, part in segments if layer == inner] for inner in (1, 2))
    alike = len(first) == len(second) and all(a.same(b) for a, b in zip(first, second, strict=True))
    if not first or not alike:
        return None
    parts = [shallow[: marks[0][0]]]
    for layer, part in segments:
        parts += [part] * (depth - layers + 1 if layer == 1 else 1)
    return concatenate(parts)
