"""Looks at the validation loss: which step is the best so far, and when to stop waiting for a better one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etl import artefacts

FILE = "validation.json"
"""In a run's folder: every look, the best step, and the step at which waiting ended."""


class Looks:
    """A run's looks, kept in a file that is whole at any moment, so that a killed run waits on where it was."""

    def __init__(self, folder: Path, keep: int, patience: int | None) -> None:
        """Read the looks up to step `keep`; later ones are of a lost run."""
        self._path, self._patience = folder / FILE, patience
        self._looks = [look for look in _read(folder).get("looks", []) if look["step"] <= keep]

    @property
    def best_step(self) -> int | None:
        """The first step with the lowest loss; None before the first look."""
        return min(self._looks, key=lambda look: look["loss"])["step"] if self._looks else None

    @property
    def exhausted(self) -> bool:
        """Whether more looks than patience allows have passed without a lower loss."""
        since = [look for look in self._looks if look["step"] > (self.best_step or 0)]
        return self._patience is not None and len(since) >= self._patience

    def add(self, step: int, loss: float) -> None:
        """Keep a look."""
        self._looks.append({"step": step, "loss": loss})

    def write(self, *, ended: bool = False) -> None:
        """Write the file; one process does.

        Args:
            ended: the run has done all it does after its last look.
        """
        stopped = self._looks[-1]["step"] if ended and self.exhausted else None
        content = {"best_step": self.best_step, "looks": self._looks, "stopped_at": stopped}
        with artefacts.whole_or_absent(self._path) as new:
            artefacts.write_json(new, content)


def stopped_at(run: Path) -> int | None:
    """Return the step at which a run ended early; None for one that goes on, or went to its end."""
    step: int | None = _read(run).get("stopped_at")
    return step


def _read(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = artefacts.read_json(run / FILE, "rxdraft train") if (run / FILE).exists() else {}
    return content
