"""How long a conversation is, with the base's tokenizer and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigError
from etl.token_counter import estimate_tokens, token_counter, tokenizer_sha256


def test_without_a_tokenizer_a_character_outside_ascii_counts_as_a_token() -> None:
    plain = [{"role": "user", "content": "abcdefgh"}, {"role": "assistant", "content": "药物"}]
    assert estimate_tokens(plain) == 32 + 2 * 8 + 8 // 4 + 2


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tokenizer; give the folder of the base model"):
        token_counter(tmp_path)


def test_what_changes_tokens_changes_the_digest_and_weights_do_not(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    before = tokenizer_sha256(tmp_path)
    (tmp_path / "model.safetensors").write_text("weights")
    assert tokenizer_sha256(tmp_path) == before
    (tmp_path / "chat_template.jinja").write_text("template")
    assert tokenizer_sha256(tmp_path) != before
