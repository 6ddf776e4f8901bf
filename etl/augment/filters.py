"""Which tasks are of no use: said in words that are counted, and hold nothing of the task."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from etl.augment.prompt import Task
from etl.near_duplicates import fold, words
from etl.prompts import Message
from etl.token_counter import Count

FEWEST_WORDS, MOST_WORDS = 3, 150
"""Of an instruction; Self-Instruct's bounds, but that three words are enough ("Define tidal volume.")."""

_MORE_THAN_TEXT = re.compile(
    r"\b(images?|pictures?|photo(s|graphs?)?|graphs?|plots?|diagrams?|videos?|audio|recordings?|screenshots?|attach(ed|ments?)"
    r"|https?)\b",
    re.IGNORECASE,
)
"""Self-Instruct's list less "map", "draw" and "file", which medicine uses: MAP is a pressure, and blood is drawn."""

Filter = Callable[[Task], bool]
"""Tells that a task is of no use for one reason."""


def filters(seeds: Sequence[Task], system: str, count_tokens: Count, max_length: int) -> dict[str, Filter]:
    """Return the filters by their reason, in the order they are asked.

    Args:
        seeds: an instruction may be as long as the longest of theirs.
        system: the text all tasks are read under; "" where there is none.
        count_tokens: of a conversation.
        max_length: tokens of the longest conversation that trains.
    """
    most = max([MOST_WORDS, *(_words(seed.instruction) for seed in seeds)])
    return {
        "an empty instruction or output": lambda task: not (task.instruction and task.output),
        "an instruction too short": lambda task: _words(task.instruction) < FEWEST_WORDS,
        "an instruction too long": lambda task: _words(task.instruction) > most,
        "needs more than text": lambda task: bool(_MORE_THAN_TEXT.search(task.question)),
        "an output that repeats the question": lambda task: fold(task.output) in _parts(task),
        "longer than max_length": lambda task: count_tokens(conversation(task, system)) > max_length,
    }


def conversation(task: Task, system: str) -> list[Message]:
    """Return a task as a model is trained on it."""
    texts = {"system": system, "user": task.question, "assistant": task.output}
    return [{"role": role, "content": text} for role, text in texts.items() if text or role != "system"]


def _words(text: str) -> int:
    return len(words(fold(text)))


def _parts(task: Task) -> set[str]:
    return {fold(part) for part in (task.instruction, task.input, task.question)}
