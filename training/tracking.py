"""What a run tells of itself while it learns: `log.jsonl` always, TensorBoard and MLflow where asked.

`log.jsonl` is what counts; a tracker is a copy of its numbers for other eyes. It gets no text, no prompt and no row.
When a run goes on from a checkpoint, the log drops the steps that were lost and every copy is brought to what the
log has kept, also one that was not asked for before.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from etl import artefacts
from training.trackers import MLflow, TensorBoard

Tracker = Literal["tensorboard", "mlflow"]


class Log(Protocol):
    """Takes entries: `step`, from 1, and numbers by name."""

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add an entry."""


_TRACKERS: dict[Tracker, Callable[[Path, Sequence[Mapping[str, Any]]], AbstractContextManager[Log]]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
}


@contextmanager
def open_log(folder: Path, keep: int, trackers: Sequence[Tracker] = ()) -> Iterator[Log]:
    """Lend the log of a run, and of its trackers, open for the steps after `keep`.

    With several processes, one of them opens it.

    Args:
        folder: of the run.
        keep: step of the checkpoint that the run goes on from; 0 at its start. Later entries are of a lost run.
        trackers: who gets a copy.

    Raises:
        ConfigError: a tracker's package is missing, or its server does not answer.
    """
    with ExitStack() as stack:
        steps = stack.enter_context(StepLog(folder / "log.jsonl", keep))
        copies = [stack.enter_context(_TRACKERS[name](folder, steps.kept)) for name in dict.fromkeys(trackers)]
        yield _All([steps, *copies])


class _All:
    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def write(self, entry: Mapping[str, Any]) -> None:
        for one in self._logs:
            one.write(entry)


class StepLog:
    """`log.jsonl`: a line per entry, without any of a sample's text; lines after `keep` are of a lost run.

    Attributes:
        kept: the entries that stood there and stay.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.kept = [entry for entry in read_log(path) if entry["step"] <= keep]
        with artefacts.whole_or_absent(path) as new:
            new.write_text("".join(map(_line, self.kept)), "utf-8")
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, entry: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(_line(entry))

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return a run's entries, up to a line that a kill cut short; none where no log is."""
    entries: list[dict[str, Any]] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"
