"""Read dialogues as others' files spell them: Alpaca-style items or chats, as a JSON array or one item a line.

What an item says is nobody's business here: errors name positions and keys, never values.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl.errors import SourceDataError
from etl.prompts import Message


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One item, or a part of it.

    Attributes:
        number: the item's line, or its place in the array; from 1.
        system: what the turns are to be read under; "" where there is nothing.
        turns: question and answer, in order.
    """

    number: int
    system: str
    turns: tuple[tuple[str, str], ...]

    @property
    def messages(self) -> list[Message]:
        """The dialogue as chat messages."""
        texts = [("system", self.system)] if self.system else []
        for question, answer in self.turns:
            texts += [("user", question), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in texts]

    @property
    def texts(self) -> list[str]:
        """What the turns say, one after another."""
        return [text for turn in self.turns for text in turn]


WANTED = (
    "wanted is a JSON array, or one object a line, of {instruction, input?, output, history?, system?} "
    "or {messages: [system?, user, assistant, ...]}"
)
"""What a file is to hold, as errors tell it."""
_SHOWN = 5


def read_dialogues(source: Path) -> list[Dialogue]:
    """Read a file's items as they are written.

    Raises:
        SourceDataError: the file is no UTF-8 or no JSON, or items lack keys; all problems are named, each with its
            first positions.
    """
    problems = defaultdict[str, list[int]](list)
    items = []
    try:
        for number, item in _numbered(source):
            fault = "no JSON" if item is _NO_JSON else _fault(item)
            if fault:
                problems[fault].append(number)
            else:
                items.append(_to_dialogue(number, item))
    except UnicodeDecodeError:
        raise SourceDataError(f"{source} is not UTF-8; convert it to UTF-8") from None
    if problems:
        told = "; ".join(f"item {_positions(numbers)}: {fault}" for fault, numbers in problems.items())
        raise SourceDataError(f"{source}: {told}; {WANTED}")
    if not items:
        raise SourceDataError(f"{source} holds no items; {WANTED}")
    return items


_NO_JSON = object()


def _numbered(source: Path) -> Iterator[tuple[int, Any]]:
    """Yield each item with its line or its place in the array; `_NO_JSON` for a line that is none."""
    with source.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("["):
            yield from enumerate(_array(source, file.read()), 1)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, _NO_JSON


def _array(source: Path, text: str) -> list[Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
    except RecursionError:
        where = "some item, which is nested too deeply"
    raise SourceDataError(f"{source} is no JSON from {where} on; {WANTED}")


def _positions(numbers: list[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more


def _fault(item: Any) -> str | None:
    """Say what is wrong with an item's form, in keys and never in values."""
    if not isinstance(item, dict):
        return "no object"
    if "messages" in item:
        return None if _is_chat(item["messages"]) else "messages are not texts of system?, user and assistant in turn"
    if missing := [key for key in ("instruction", "output") if key not in item]:
        return f"lacks {', '.join(missing)}"
    if wrong := [key for key in ("instruction", "input", "output", "system") if not _is_text(item.get(key))]:
        return f"{', '.join(wrong)} is no text"
    pairs = item.get("history") or []
    if not isinstance(pairs, list) or not all(_is_list(pair) and len(pair) == 2 for pair in pairs):
        return "history is no list of [question, answer]"
    return None


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_chat(messages: Any) -> bool:
    """Tell whether messages are a system text or none, then questions and answers in turn."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return False
    roles = [message.get("role") for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    return (
        bool(turns)
        and turns == ["user", "assistant"] * (len(turns) // 2)
        and all(isinstance(message.get("content"), str) for message in messages)
    )


def _to_dialogue(number: int, item: dict[str, Any]) -> Dialogue:
    """Return an item without fault; instruction and input together are its last question."""
    if "messages" in item:
        first, *others = item["messages"]
        system, rest = (first["content"], others) if first["role"] == "system" else ("", [first, *others])
        texts = [message["content"] for message in rest]
        return Dialogue(number, system, tuple(zip(texts[::2], texts[1::2], strict=True)))
    question = f"{item['instruction'] or ''}\n{item.get('input') or ''}"
    pairs = [*(item.get("history") or []), (question, item["output"])]
    return Dialogue(number, item.get("system") or "", tuple((asked or "", answer or "") for asked, answer in pairs))
