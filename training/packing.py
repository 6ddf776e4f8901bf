"""Conversations end to end in one row, without padding, for attention that knows where each begins.

Only varlen FlashAttention-2 does. Other attention turns the positions into a dense mask: exact, but slower than
padding (measured on a CPU, 10 conversations: 8.9 seconds packed, 4.0 padded, 2.7 one by one), so it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch

from etl.errors import ConfigError
from training.config import TrainConfig
from training.data import IGNORED, Encoded


def packs(config: TrainConfig, attention: str) -> bool:
    """Return whether conversations are packed; questions for the label head never are, each is looked at by itself.

    Args:
        config: of the run.
        attention: what runs, as `base.resolve_attention` returns it.

    Raises:
        ConfigError: packing was asked for by name and the attention is another.
    """
    possible = attention == "flash_attention_2"
    if config.packing == "on" and not possible:
        raise ConfigError(
            f"packing on needs flash_attention_2 and {attention} runs, through which it is slower than padding; "
            "packing=auto packs where it pays"
        )
    return possible and config.packing != "off" and config.objective == "list"


def pack(rows: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    """Return input_ids and labels, both (1, tokens), and where each conversation begins.

    The last holds position_ids, (1, tokens), from 0 in each conversation, and what transformers hands to the
    varlen kernel: cumulated lengths, int32 (conversations + 1), and the longest. Without these it would work them
    out from the positions in every layer.
    """
    ids = [torch.tensor(row.input_ids) for row in rows]
    labels = torch.cat(ids)
    ends = list(accumulate(map(len, ids), initial=0))
    for row, start in zip(rows, ends, strict=False):
        # At least the first: the last token of the conversation before must not learn to predict it.
        labels[start : start + max(1, row.prompt_tokens)] = IGNORED
    bounds, longest = torch.tensor(ends, dtype=torch.int32), max(map(len, ids))
    where = {
        "position_ids": torch.cat([torch.arange(len(part)) for part in ids]).unsqueeze(0),
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": longest,
        "max_length_k": longest,
    }
    return torch.cat(ids).unsqueeze(0), labels.unsqueeze(0), where
