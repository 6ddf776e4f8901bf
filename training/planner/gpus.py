"""What a card holds and how fast it multiplies, by its datasheet."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from importlib.resources import files

from etl.errors import ConfigError

SIZES_GB = (16, 24, 48, 80, 141)
"""What cards come with."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A card, or any card of a size: then nobody knows its speed."""

    name: str
    memory_gb: int
    """10^9 bytes each, by which a card is sold; it may hold up to 7 % more."""
    bf16_tflops: float | None
    """Dense bfloat16 products with float32 sums, 10^12 operations a second."""

    @property
    def memory_bytes(self) -> int:
        """What the card holds."""
        return self.memory_gb * 10**9


def known_gpus() -> dict[str, Gpu]:
    """Return the cards of gpus.csv, by name."""
    with (files("training.planner") / "gpus.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["gpu"]: Gpu(row["gpu"], int(row["memory_gb"]), float(row["bf16_tflops"])) for row in rows}


def find_gpu(name: str) -> Gpu:
    """Return the card of that name, or any card of that size, such as 24GB.

    Raises:
        ConfigError: it is neither; the known are named.
    """
    gpus = known_gpus()
    if name.lower() in gpus:
        return gpus[name.lower()]
    size = re.fullmatch(r"(\d+) ?GB", name, re.IGNORECASE)
    if size is None or not int(size[1]):
        raise ConfigError(f"gpu {name}: wanted a size such as 24GB, or one of {', '.join(gpus)}")
    return Gpu(f"{size[1]} GB", int(size[1]), None)
