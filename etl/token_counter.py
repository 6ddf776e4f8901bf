"""Count a conversation's tokens: by a base's tokenizer, or by a guess where none is at hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from etl.artefacts import sha256_files
from etl.errors import ConfigError
from etl.prompts import Message, encode

Count = Callable[[list[Message]], int]
"""Tells how many tokens an answered conversation has."""


def estimate_tokens(messages: list[Message]) -> int:
    """Guess a conversation's tokens without a tokenizer: a fourth of its ASCII characters, all others, and marks.

    32 for the template's own words and 8 for each message are more than Llama 3.1 needs.
    """
    texts = [message["content"] for message in messages]
    ascii_characters = sum(character < "\x80" for text in texts for character in text)
    others = sum(map(len, texts)) - ascii_characters
    return 32 + 8 * len(messages) + math.ceil(ascii_characters / 4) + others


def token_counter(folder: Path | None) -> Count:
    """Return what counts a conversation's tokens: the tokenizer of a base's folder, or `estimate_tokens`.

    Raises:
        ConfigError: there is no tokenizer in the folder, or it has no chat template.
    """
    if folder is None:
        return estimate_tokens
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        raise ConfigError(f"--tokenizer {folder} holds no tokenizer; give the folder of the base model") from None
    if not tokenizer.chat_template:
        raise ConfigError(f"--tokenizer {folder} has no chat template; give the folder of an -Instruct model")
    return lambda messages: len(encode(tokenizer, messages, answered=True))


def tokenizer_sha256(folder: Path) -> str:
    """Return one digest of the files that decide what a base's tokens are."""
    parts = ("tokenizer", "special_tokens", "chat_template")
    return sha256_files([path for path in folder.iterdir() if path.name.startswith(parts)])
