"""Seed tasks: a file's, a cohort's training samples, or the ones shipped here, which nobody's data are in.

What a seed says is nobody's business here: errors count and name places, and quote nothing.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from etl.artefacts import sha256, sha256_file
from etl.augment.prompt import Task
from etl.chat_files import WANTED, read_dialogues
from etl.cleaning import clean
from etl.cohort import read_training_prompts
from etl.errors import ConfigError, SourceDataError
from etl.outside.firewall import Provenance, read_provenance

MOST_OF_A_COHORT = 1000
"""Training samples that are drawn as seeds; new tasks are compared with all of them."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """What grows.

    Attributes:
        tasks: cleaned, in order; at least one.
        system: the text all of them are read under; "" where there is none.
        left_out: seeds of several turns, or without an instruction or an output.
        data: the file or the cohort's folder; its digest names it.
    """

    tasks: tuple[Task, ...]
    system: str
    left_out: int
    provenance: Provenance
    data: Path
    data_sha256: str


def read_seeds(source: Path | None, cohort: Path | None, *, open_data: bool = False, seed: int = 0) -> Seeds:
    """Read seed tasks.

    Args:
        source: a file as `rxdraft import` takes it; of its terms nothing is known.
        cohort: made by `rxdraft etl`, `import` or `augment`; its training split alone. None with None: the shipped.
        open_data: the file's user says that no terms hold it.
        seed: of the draw from a cohort.

    Raises:
        ConfigError: both are given, or `open_data` for a cohort, which says so itself.
        SourceDataError: the file is none, no seed is left, or seeds stand under different system texts.
    """
    if source and cohort:
        raise ConfigError("seeds come from --seeds or from --data; give one of them")
    if open_data and not source:
        raise ConfigError("--open-data is said of --seeds FILE; a cohort says itself whose data it holds")
    if cohort:
        provenance, digest = read_provenance(cohort), sha256_file(cohort / "cohort.json")
        rows = read_training_prompts(cohort, "train")
        drawn = heapq.nsmallest(MOST_OF_A_COHORT, rows, key=lambda row: _place(row, seed))
        return _seeds(map(_of_messages, drawn), provenance, cohort, digest)
    if source:
        if not source.is_file():
            raise SourceDataError(f"{source} is no file; {WANTED}")
        provenance = Provenance.DEMO if open_data else Provenance.CREDENTIALED
        return _seeds(_read_file(source), provenance, source, sha256_file(source))
    with as_file(files("etl.augment") / "seeds" / "medicine.jsonl") as shipped:
        return _seeds(_read_file(shipped), Provenance.SYNTHETIC, shipped, sha256_file(shipped))


def _place(row: dict[str, Any], seed: int) -> str:
    return sha256(f"{seed}:{row['subject_id']}:{row['hadm_id']}".encode())


Read = tuple[str, Task | None]
"""A system text, and the task under it; None for what has several turns."""


def _of_messages(row: dict[str, Any]) -> Read:
    texts = {message["role"]: message["content"] for message in row["messages"]}
    several = len(texts) != len(row["messages"])
    return texts.get("system", ""), None if several else Task(texts["user"], "", texts["assistant"])


def _read_file(source: Path) -> list[Read]:
    """Read a file that `read_dialogues` finds without fault, keeping an instruction apart from its input."""
    dialogues = read_dialogues(source)
    text = source.read_text("utf-8-sig")
    array = text.lstrip().startswith("[")
    items = json.loads(text) if array else [json.loads(line) for line in text.split("\n") if line.strip()]
    found: list[Read] = []
    for dialogue, item in zip(dialogues, items, strict=True):
        question, answer = dialogue.turns[-1]
        parts = (question, "") if "messages" in item else (item["instruction"] or "", item.get("input") or "")
        found.append((dialogue.system, Task(*parts, answer) if len(dialogue.turns) == 1 else None))
    return found


def _seeds(read: Iterable[Read], provenance: Provenance, data: Path, digest: str) -> Seeds:
    found = list(read)
    cleaned = [(clean(system), task.cleaned()) for system, task in found if task]
    whole = [(system, task) for system, task in cleaned if task.instruction and task.output]
    systems = {system for system, _ in whole}
    if not whole:
        raise SourceDataError(f"{data} holds no seed of one question and one answer; {WANTED}")
    if len(systems) > 1:
        raise SourceDataError(
            f"{data} holds seeds under {len(systems)} different system texts; grow those of each on their own"
        )
    return Seeds(tuple(task for _, task in whole), systems.pop(), len(found) - len(whole), provenance, data, digest)
