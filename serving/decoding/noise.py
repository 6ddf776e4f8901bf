"""Random numbers without a state: each is a function of whose it is and what it is for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from etl.artefacts import sha256

Seeds = npt.NDArray[np.uint64]

_GOLDEN, _FIRST, _SECOND = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def seeds(seed: int, samples: int, prompt: Sequence[int]) -> Seeds:
    """Return a seed for each sample of a prompt; other prompts and other seeds give others."""
    digest = sha256(f"{seed} {list(prompt)}".encode())
    return _mixed(np.uint64(int(digest[:16], 16)) + np.arange(samples, dtype=np.uint64) * _GOLDEN)


def gumbel(seeds: Seeds, steps: Seeds, choices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return noise for choices, each at a step of a sample; independent where any of the three differs.

    Source: Gumbel, Statistical Theory of Extreme Values, 1954; the mixing is SplitMix64's (Steele et al., Fast
    Splittable Pseudorandom Number Generators, OOPSLA 2014).
    """
    at_step = _mixed(seeds + steps * _GOLDEN)
    bits = _mixed(at_step + choices.astype(np.uint64) * _GOLDEN)
    uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53  # in (0, 1)
    return -np.log(-np.log(uniform))


def _mixed(bits: Seeds) -> Seeds:
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
