"""The loss of either objective: a sum over what is to be learned, whose logits alone are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F  # noqa: N812

from training.data import IGNORED
from training.labels import LabelHead, draw_seen


class ResponseLoss(nn.Module):
    """Summed cross-entropy over labelled tokens; the logits of all others are never made.

    Exact, and on a real vocabulary most of what memory is needed for: responses are few among the tokens.
    With several processes it is this module that is wrapped, not the model in it: what calls a model inside a
    wrapper goes round the wrapper, and the gradients are then of one process each, without an error.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor, **packed: Any) -> torch.Tensor:
        """Return the sum, float32; 0 where no token is labelled.

        Args:
            input_ids: (batch, tokens), right-padded, without a mask; or (1, tokens), packed.
            labels: as input_ids, `IGNORED` where nothing is to be learned.
            packed: where each conversation begins, as `packing.pack` gives it.
        """
        causal_lm = causal_model(self.model)
        # A cache would have the positions of packed conversations taken for those of one, without a word.
        hidden = causal_lm.model(input_ids=input_ids, use_cache=False, **packed).last_hidden_state[:, :-1]
        target = labels[:, 1:]  # (batch, tokens - 1)
        kept = target != IGNORED
        return F.cross_entropy(causal_lm.lm_head(hidden[kept]).float(), target[kept], reduction="sum")


class LabelLoss(nn.Module):
    """Summed binary cross-entropy of every drug, as a head reads them off the hidden states of the question.

    The base's own head makes no logits at all.
    """

    def __init__(self, model: nn.Module, head: LabelHead) -> None:
        super().__init__()
        self.model, self.head = model, head

    def forward(
        self,
        input_ids: torch.Tensor,
        targets: torch.Tensor,
        lengths: torch.Tensor,
        dropout_seeds: Sequence[int | None],
    ) -> torch.Tensor:
        """Return the sum, float32; 0 where no row is to be learned.

        Args:
            input_ids: (rows, tokens), right-padded, without a mask: a token never sees the padding to its right.
            targets: 0 or 1, (rows, labels); a row of `IGNORED` is left out.
            lengths: tokens of each row without padding, (rows,).
            dropout_seeds: of each row; None where its head sees all.
        """
        hidden = causal_model(self.model).model(input_ids=input_ids, use_cache=False).last_hidden_state
        seen = None
        if any(seed is not None for seed in dropout_seeds):
            seen = draw_seen(dropout_seeds, *hidden.shape[1:]).to(hidden.device, non_blocking=True)
        learned = targets[:, 0] != IGNORED
        logits = self.head(hidden, lengths, seen)[learned]
        return F.binary_cross_entropy_with_logits(logits, targets[learned], reduction="sum")


def causal_model(model: nn.Module) -> Any:
    """Return the causal language model itself, without PEFT's wrapper; its adapted layers stay adapted."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
