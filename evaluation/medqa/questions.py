"""How a multiple-choice question reads to the model, and which option its answer names, if it is plain about it."""

from __future__ import annotations

import re

from etl.prompts import Message
from evaluation.medqa.items import LETTERS, Item

VERSION = "1"
"""Version of everything below that changes a rendered or parsed character."""

SYSTEM = "You answer questions of a medical licensing examination."
REQUEST = "Answer with the letter of the one best option and nothing else."

_DECLARED = re.compile(rf"(?i:\banswer\s*(?:is\s*:?|:)\s*(?:option\s+|choice\s+)?)[*_(\[\"'“]*([{LETTERS}])(?![\w'’-])")
_ALONE = re.compile(rf"\W*([{LETTERS}])(?:\W*|[*_)]*[.):][*_)]*\s.*)")


def render_question(item: Item) -> list[Message]:
    """Render a question as the system and the user message."""
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, item.options, strict=False)]
    content = "\n".join([item.question, "", *options, "", REQUEST]).replace("<|", "< |")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def read_choice(text: str, item: Item) -> int | None:
    r"""Return the place of the option an answer names; None where it names none, or several.

    What counts, the first that is there: "answer is B" or "Answer: B" anywhere; lines that are a letter or begin
    with one and a mark, as "(B)" or "B. Aspirin"; an option's own words and nothing else. A letter in a sentence
    does not: "A patient of 40 ..." chooses nothing.

    >>> item = Item("1", "Which thins the blood?", ("Heparin", "Iron"), 0)
    >>> [read_choice(text, item) for text in ("A", "The answer is (B).", "iron", "A patient", "A.\nB.")]
    [0, 1, 1, None, None]
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = set(_DECLARED.findall(text)) or {found[1] for line in lines if (found := _ALONE.fullmatch(line))}
    places = {LETTERS.index(letter) for letter in named}
    if not named:
        words = _words(text)
        places = {place for place, option in enumerate(item.options) if _words(option) == words}
    return places.pop() if len(places) == 1 and max(places) < len(item.options) else None


def _words(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .*\"'")
