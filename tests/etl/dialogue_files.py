"""Dialogues as tests write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from etl.chat_files import Dialogue


def item_of(number: int, *turns: tuple[str, str], system: str = "") -> Dialogue:
    """Return the dialogue of some turns."""
    return Dialogue(number, system, turns)


def write(path: Path, items: list[Any], *, lines: bool = False) -> Path:
    """Write items as a JSON array, or one a line."""
    text = "".join(json.dumps(item) + "\n" for item in items) if lines else json.dumps(items)
    path.write_text(text, encoding="utf-8")
    return path
