"""Multiple-choice questions from JSON lines: MedQA-USMLE in both its layouts, MedMCQA, and a plain one of our own.

    MedQA     question, options {A: ...}, answer_idx      as its authors wrote it
    MedQA     sent1, ending0 ..., label                   as multiple-choice benchmarks ship it; 0-based
    MedMCQA   question, opa ... opd, cop                  0-based; the test file has no answers and is refused
    plain     stem, A, B, ..., key                        for questions of your own

Files are read where they lie; nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from etl import artefacts
from etl.errors import ConfigError, ContractError

LETTERS = ascii_uppercase[:10]
"""What options are called, by place."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Item:
    """One question: two options or more, of which the one at place `answer` is right."""

    id: str
    question: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True, slots=True)
class ItemSet:
    """One file's questions: its name without ending, the digest of its bytes, and what it asks."""

    name: str
    sha256: str
    items: tuple[Item, ...]


class _WrongRowError(Exception):
    """A line is no usable question; the reason is told with the line's number."""


def read_item_sets(paths: Iterable[Path], limit: int | None = None) -> list[ItemSet]:
    """Read files of questions.

    Args:
        paths: JSON lines; each file is a set of its own.
        limit: only the first so many of each file; None: all.

    Raises:
        ContractError: a file is not what is described above; reasons are named with their lines.
        ConfigError: a file is missing, or two have the same name.
    """
    sets = [_read(path, limit) for path in paths]
    names = [items.name for items in sets]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--items: several files are called {', '.join(twins)}; rename all but one")
    return sets


def _read(path: Path, limit: int | None) -> ItemSet:
    if not path.is_file():
        raise ConfigError(f"{path} is no file; give JSON lines of MedQA or MedMCQA")
    content = path.read_bytes()
    items: dict[str, Item] = {}
    wrong: dict[str, list[int]] = {}
    for number, line in enumerate(content.decode("utf-8-sig", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = _item(line, number)
            if item.id in items:
                raise _WrongRowError("the id of an earlier line")
            items[item.id] = item
        except _WrongRowError as reason:
            wrong.setdefault(str(reason), []).append(number)
    if wrong or not items:
        problems = [f"{reason} ({_lines(numbers)})" for reason, numbers in wrong.items()] or ["it holds no question"]
        raise ContractError(f"{path}: {'; '.join(problems)}")
    return ItemSet(path.stem, artefacts.sha256(content), tuple(items.values())[:limit])


def _lines(numbers: list[int]) -> str:
    first = ", ".join(map(str, numbers[:3]))
    more = f" and {len(numbers) - 3} more" if len(numbers) > 3 else ""
    return f"line{'s' if len(numbers) > 1 else ''} {first}{more}"


def _item(line: str, number: int) -> Item:
    try:
        row = json.loads(line)
    except ValueError:
        raise _WrongRowError("no JSON; wanted one object a line") from None
    if not isinstance(row, dict):
        raise _WrongRowError("no JSON object")
    layout = next((read for key, read in _LAYOUTS.items() if key in row), None)
    if layout is None:
        raise _WrongRowError(f"of no known layout; wanted {', '.join(_LAYOUTS)} or the like among its keys")
    question, options, answer = layout(row)
    texts = [text.strip() if isinstance(text, str) else "" for text in (question, *options)]
    if not all(texts):
        raise _WrongRowError("a question or an option that is no text or empty")
    if not 2 <= len(options) <= len(LETTERS):
        raise _WrongRowError(f"{len(options)} options; wanted 2 to {len(LETTERS)}")
    if type(answer) is not int or not 0 <= answer < len(options):
        raise _WrongRowError(f"an answer that is none of the {len(options)} options")
    return Item(str(row.get("id", number)), texts[0], tuple(texts[1:]), answer)


def _medqa(row: Row) -> tuple[Any, list[Any], Any]:
    options = row["options"]
    if not isinstance(options, dict) or list(options) != list(LETTERS[: len(options)]):
        raise _WrongRowError("options that are not called A, B, ... in this order")
    return row.get("question"), list(options.values()), _place(row.get("answer_idx"))


def _endings(row: Row) -> tuple[Any, list[Any], Any]:
    names = [f"ending{place}" for place in range(sum(key.startswith("ending") for key in row))]
    question = f"{row.get('sent1', '')} {row.get('sent2') or ''}"
    return question, [row.get(name) for name in names], row.get("label")


def _medmcqa(row: Row) -> tuple[Any, list[Any], Any]:
    answer = row.get("cop")
    if answer in (None, -1):
        raise _WrongRowError("no answer: MedMCQA's test questions have none; give its validation file")
    if answer == 4:
        raise _WrongRowError("cop 4: this file counts options from 1; wanted 0 to 3, as in the Hugging Face release")
    return row.get("question"), [row.get(f"op{letter}") for letter in "abcd"], answer


def _plain(row: Row) -> tuple[Any, list[Any], Any]:
    return row["stem"], [row[letter] for letter in LETTERS if letter in row], _place(row.get("key"))


def _place(letter: Any) -> int | None:
    return LETTERS.index(letter) if isinstance(letter, str) and len(letter) == 1 and letter in LETTERS else None


_LAYOUTS: dict[str, Callable[[Row], tuple[Any, list[Any], Any]]] = {
    "options": _medqa,
    "ending0": _endings,
    "opa": _medmcqa,
    "stem": _plain,
}
"""How a row is read, by the key that tells its layout."""
