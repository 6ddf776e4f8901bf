"""The words of cards in English and Korean, and how foreign text stands among them: short, on one line, escaped."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

Language = Literal["en", "ko"]

SUMMARY_CHARACTERS = 139
"""CDS Hooks wants fewer than 140."""

WORD_JOINER = "\u2060"
"""Takes no room, and no line breaks there."""

_MARKDOWN = re.compile(r"([\\`*_\[\]|<>~&]|^[#+\-=]|(?<=^\d)[.)])")
"""What means something inside a line, or at its beginning."""

_LINK = re.compile(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)")
"""Where a bare address is told from other text."""


class Words:
    """One language's."""

    def __init__(self, language: Language) -> None:
        self.language = language
        self._texts = _read(language)

    def __call__(self, name: str, /, **values: object) -> str:
        """Return a text with its places filled; the values are put in as they are."""
        return self._texts[name].format_map(values)

    def counted(self, name: str, count: int, /, **values: object) -> str:
        """Return the text for one, or the one for many."""
        return self(f"{name}_{'one' if count == 1 else 'many'}", count=count, **values)

    def listed(self, names: Sequence[str], most: int = 20) -> str:
        """Return names in a row, escaped for Markdown; of many, the first ones."""
        rest = [self("more", count=len(names) - most)] if len(names) > most else []
        return ", ".join([*(escape(name) for name in names[:most]), *rest])


def words(accept_language: str | None, usual: Language) -> Words:
    """Return the words that a caller asks for, else the site's usual ones.

    >>> words("ko-KR,ko;q=0.9,en;q=0.8", "en").language
    'ko'
    """
    best, best_quality = usual, 0.0
    for part in (accept_language or "")[:500].split(","):
        tag, _, quality = part.partition(";q=")
        name = tag.strip().lower().partition("-")[0]
        if name in ("en", "ko") and _number(quality) > best_quality:
            best, best_quality = ("ko" if name == "ko" else "en"), _number(quality)
    return _words(best)


def escape(text: str) -> str:
    r"""Return a text that means itself in GitHub Flavored Markdown, inside a table too; no address in it is a link.

    >>> escape("a|b <i>")
    'a\\|b \\<i\\>'
    """
    return _LINK.sub(WORD_JOINER, _MARKDOWN.sub(r"\\\1", " ".join(text.split())))


def fitted(text: str, most: int = SUMMARY_CHARACTERS) -> str:
    """Cut a text on one line to so many characters, with an ellipsis."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"


def _number(quality: str) -> float:
    try:
        return float(quality) if quality.strip() else 1.0
    except ValueError:
        return 0.0


@cache
def _words(language: Language) -> Words:
    return Words(language)


@cache
def _read(language: Language) -> dict[str, str]:
    texts: dict[str, str] = json.loads((files("serving.cds") / "texts" / f"{language}.json").read_text("utf-8"))
    return texts
