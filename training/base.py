"""Load a base model and its tokenizer, the same way for training and for serving."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as hf_logging

from etl import artefacts
from etl.errors import ConfigError

log = logging.getLogger(__name__)

PAD_TOKENS = ("<|finetune_right_pad_id|>", "<|reserved_special_token_0|>")
"""Tokens that may pad where the tokenizer names none. Never the end of turn: it would never be learned."""

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_attention(wanted: str, dtype: torch.dtype = torch.bfloat16) -> str:
    """Return the attention to run: what was asked for, or the fastest that is there.

    Args:
        wanted: as the config has it.
        dtype: of the weights; FlashAttention-2 knows no float32.

    Raises:
        ConfigError: flash_attention_2 was asked for by name and cannot run; nothing is put in its place.
    """
    possible = torch.cuda.is_available() and find_spec("flash_attn") is not None
    if wanted == "flash_attention_2" and not possible:
        raise ConfigError(
            "attention flash_attention_2 needs a CUDA GPU and flash-attn: pip install 'rxdraft[gpu]', or attention=auto"
        )
    if wanted == "flash_attention_2" and dtype == torch.float32:
        raise ConfigError("attention flash_attention_2 wants dtype bfloat16, found float32; or take attention=auto")
    fastest = "flash_attention_2" if possible and dtype != torch.float32 else "sdpa"
    chosen = fastest if wanted == "auto" else wanted
    log.info("attention: %s", chosen)
    return chosen


def resolve_dtype(wanted: str) -> torch.dtype:
    """Return the base's dtype: bfloat16 on a GPU and float32 without, unless named."""
    if wanted == "auto":
        wanted = "bfloat16" if torch.cuda.is_available() else "float32"
    return _DTYPES[wanted]


def device() -> torch.device:
    """Return the device to run on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def base_folder(base: str) -> Path:
    """Return the folder that holds a base: itself, or its snapshot in the hub's cache, fetched if need be.

    Raises:
        ConfigError: no such folder, and the hub does not give one.
    """
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(base, allow_patterns=["*.json", "*.jinja", "*.safetensors", "tokenizer*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"base {base}: no such folder, and the hub gave none ({type(error).__name__}); "
            "give a folder, log in with `hf auth login`, or use --base tiny"
        ) from None


def base_revision(folder: Path) -> str | None:
    """Return the hub's commit of a base that lies in the hub's cache; None for a folder of the user's."""
    return folder.name if folder.parent.name == "snapshots" else None


def base_sha256(folder: Path) -> str:
    """Return one digest over what decides a base's output: config, tokenizer, template and weights."""
    kept = [
        p for p in folder.iterdir() if p.suffix in {".json", ".jinja", ".safetensors"} and p.name != "manifest.json"
    ]
    return artefacts.sha256_files(kept)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a base's tokenizer and give it a pad token if it has none.

    Raises:
        ConfigError: no chat template, or no token that may pad.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    problems = []
    if not tokenizer.chat_template:
        problems.append("it has no chat template; take the -Instruct model")
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        tokenizer.pad_token = next((token for token in PAD_TOKENS if token in known), None)
        if tokenizer.pad_token is None:
            problems.append(f"it has no token that may pad; wanted one of {', '.join(PAD_TOKENS)}")
    if tokenizer.pad_token is not None and tokenizer.pad_token_id == end_of_turn(tokenizer):
        problems.append("its pad token is its end of turn, which would then never be learned")
    if problems:
        raise ConfigError(f"base {folder}: {'; '.join(problems)}")
    return tokenizer


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends an answer: <|eot_id|> where there is one, else the tokenizer's eos."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    return vocabulary.get("<|eot_id|>", tokenizer.eos_token_id)


def load_model(
    folder: Path,
    dtype: torch.dtype,
    attention: str,
    quantization: BitsAndBytesConfig | None = None,
    place: torch.device | None = None,
) -> PreTrainedModel:
    """Load a base's weights, in evaluation mode.

    Args:
        folder: of the base.
        dtype: of its weights, and in which 4-bit weights calculate.
        attention: as `resolve_attention` returns it.
        quantization: 4-bit weights, which are made on `device()`; None: as they are.
        place: where to; None: `device()`.
    """
    hf_logging.disable_progress_bar()  # this command shows its own
    settings: dict[str, Any] = {"dtype": dtype, "attn_implementation": attention}
    if quantization is not None:  # packed weights are made where they stay
        settings |= {"quantization_config": quantization, "device_map": {"": device()}}
    model: Any = AutoModelForCausalLM.from_pretrained(folder, **settings)
    return (model if quantization else model.to(place or device())).eval()
