"""The label head: every drug's probability, read off the hidden states of the question in one forward pass.

Each drug looks at the question by an attention of its own: at the diagnosis that calls for it, at its own name among
the previous drugs. What it sees there, and the question as a whole, speak for it or against it.

Source: label attention is Mullenbach et al., Explainable Prediction of Medical Codes from Clinical Text (CAML), NAACL
2018; the linear part beside it is the usual head on the last hidden state.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

FILE = "label_head.safetensors"
"""In a checkpoint's adapter folder: what a loader of adapters does not know, it leaves alone."""

DROPOUT = 0.1
"""Share of what the hidden states say that the head does not see of a question in training."""


class LabelHead(nn.Module):
    """Logits of all drugs from a question's hidden states; float32 whatever the base calculates in.

    Attributes:
        query: what each drug looks for, (labels, hidden).
        value: what that says of the drug, (labels, hidden).
        whole: what the last and the mean state say of it, (labels, 2 * hidden).
        bias: (labels,).
    """

    def __init__(self, hidden_size: int, labels: int) -> None:
        """Begin with every probability at a half; `start_at` knows better."""
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.query = nn.Parameter(0.02 * torch.randn(labels, hidden_size))
        self.value = nn.Parameter(torch.zeros(labels, hidden_size))
        self.whole = nn.Parameter(torch.zeros(labels, 2 * hidden_size))
        self.bias = nn.Parameter(torch.zeros(labels))

    @torch.no_grad()
    def start_at(self, rates: torch.Tensor) -> None:
        """Begin with the share of training admissions that had each drug, (labels,)."""
        self.bias.copy_(torch.logit(rates.float().clamp(1e-3, 1 - 1e-3)))

    def forward(self, hidden: torch.Tensor, lengths: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """Return logits, (rows, labels).

        Args:
            hidden: of the base's last layer, (rows, tokens, hidden), padded on the right.
            lengths: tokens of each row without padding, (rows,).
            seen: as `draw_seen` gives it, in training; None: all is seen.
        """
        states = self.norm(hidden.float())
        states = states if seen is None else states * seen / (1 - DROPOUT)
        rows = torch.arange(len(states), device=states.device)
        there = torch.arange(states.shape[1], device=states.device) < lengths[:, None]  # (rows, tokens)
        looks = self.key(states) @ self.query.T / states.shape[2] ** 0.5  # (rows, tokens, labels)
        looks = looks.masked_fill(~there[:, :, None], float("-inf")).softmax(dim=1)
        found = (looks * (states @ self.value.T)).sum(dim=1)
        mean = (states * there[:, :, None]).sum(dim=1) / lengths[:, None]
        logits: torch.Tensor = found + torch.cat([states[rows, lengths - 1], mean], dim=1) @ self.whole.T + self.bias
        return logits


def draw_seen(seeds: Sequence[int | None], tokens: int, hidden_size: int) -> torch.Tensor:
    """Return what dropout leaves of each row, bool (rows, tokens, hidden), on the CPU.

    A pure function of its arguments, and a row's part of its own seed: so not of its company, nor of the padding
    beside it, nor of the device.

    Args:
        seeds: of each row; None: all is seen.
        tokens: of the longest row.
        hidden_size: of the base.
    """
    seen = torch.ones(len(seeds), tokens, hidden_size, dtype=torch.bool)
    for row, seed in zip(seen, seeds, strict=True):
        if seed is not None:
            row.bernoulli_(1 - DROPOUT, generator=torch.Generator().manual_seed(seed))
    return seen


def save_head(head: LabelHead, folder: Path) -> None:
    """Write `folder/label_head.safetensors`."""
    save_file({name: weight.detach().cpu().contiguous() for name, weight in head.state_dict().items()}, folder / FILE)


def load_head(folder: Path) -> LabelHead:
    """Read a head back, in evaluation mode on the CPU."""
    weights = load_file(folder / FILE)
    labels, hidden_size = weights["query"].shape
    head = LabelHead(hidden_size, labels)
    head.load_state_dict(weights)
    return head.eval()
