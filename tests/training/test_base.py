"""The base: a tokenizer that could not learn to stop is refused, and nothing asked for by name is replaced."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from etl.errors import ConfigError
from training import base as bases

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so it may run")


def changed(base: Path, to: Path, **fields: Any) -> Path:
    """Copy a base with other fields of its tokenizer."""
    shutil.copytree(base, to)
    tokenizer = AutoTokenizer.from_pretrained(to)
    for name, value in fields.items():
        setattr(tokenizer, name, value)
    (to / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(to)
    return to


def test_a_base_without_pad_token_gets_the_one_reserved_for_it(random_base: Path, tmp_path: Path) -> None:
    """As Llama 3.1 ships; the end of turn would be the usual choice, and the model would never stop."""
    tokenizer = bases.load_tokenizer(changed(random_base, tmp_path / "base", pad_token=None))
    assert tokenizer.pad_token == bases.PAD_TOKENS[0]
    assert tokenizer.pad_token_id != bases.end_of_turn(tokenizer)


def test_a_pad_token_that_ends_the_turn_is_refused(random_base: Path, tmp_path: Path) -> None:
    base = changed(random_base, tmp_path / "base", pad_token="<|eot_id|>")
    with pytest.raises(ConfigError, match="pad token is its end of turn, which would then never be learned"):
        bases.load_tokenizer(base)


def test_a_base_that_cannot_chat_is_refused(random_base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no chat template; take the -Instruct model"):
        bases.load_tokenizer(changed(random_base, tmp_path / "base", chat_template=None))


def test_a_base_that_is_nowhere_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder, and the hub gave none") as caught:
        bases.base_folder(str(tmp_path / "nowhere"))
    assert "\n" not in str(caught.value)


@needs_no_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_flash_attention_by_name_is_never_replaced_in_silence(dtype: torch.dtype) -> None:
    with pytest.raises(ConfigError, match="needs a CUDA GPU and flash-attn"):
        bases.resolve_attention("flash_attention_2", dtype)
    assert bases.resolve_attention("auto", dtype) == "sdpa"


def test_flash_attention_is_not_taken_where_it_knows_no_such_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(bases, "find_spec", lambda name: name)
    assert bases.resolve_attention("auto", torch.bfloat16) == "flash_attention_2"
    assert bases.resolve_attention("auto", torch.float32) == "sdpa"
    with pytest.raises(ConfigError, match="wants dtype bfloat16"):
        bases.resolve_attention("flash_attention_2", torch.float32)
