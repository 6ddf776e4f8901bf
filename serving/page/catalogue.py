"""The page's words in each language; scripts hold none and get theirs from here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from starlette.requests import Request

from serving.screening.summary import CHECKS, REASONS

LANGUAGES = ("en", "ko")
COOKIE = "lang"
FOR_SCRIPTS = "js."
"""What begins so is handed to the scripts."""


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Return a language's words by their keys; `{name}` stands for a value."""
    words: dict[str, str] = json.loads((files(__package__) / "catalogues" / f"{language}.json").read_text("utf-8"))
    return words


def for_scripts(language: str) -> dict[str, str]:
    """Return the words that scripts use, their keys without the prefix, and the screening's own for its checks."""
    words = catalogue(language).items()
    own = {key.removeprefix(FOR_SCRIPTS): text for key, text in words if key.startswith(FOR_SCRIPTS)}
    return (
        own | check_names(language, "check_") | {f"why_{key}": getattr(text, language) for key, text in REASONS.items()}
    )


def check_names(language: str, prefix: str = "") -> dict[str, str]:
    """Return the names of the screening's checks by their ids."""
    return {prefix + check: getattr(text, language) for check, text in CHECKS.items()}


def language_of(request: Request, default: str) -> str:
    """Return what the address asks for, else the cookie, else the browser, else the default."""
    wishes = (request.query_params.get(COOKIE), request.cookies.get(COOKIE), _browsers(request))
    return next((wish for wish in wishes if wish in LANGUAGES), default)


def _browsers(request: Request) -> str | None:
    """Return the first language of Accept-Language that the page speaks; browsers send them in order of liking."""
    header = request.headers.get("accept-language", "")
    tags = (part.partition(";")[0].strip().partition("-")[0].lower() for part in header.split(","))
    return next((tag for tag in tags if tag in LANGUAGES), None)
