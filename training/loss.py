"""The loss: cross-entropy over the tokens to learn, whose logits alone are made."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn import functional as F  # noqa: N812

from training.data import IGNORED


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


def causal_model(model: nn.Module) -> Any:
    """Return the causal language model itself, without PEFT's wrapper; its adapted layers stay adapted."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
