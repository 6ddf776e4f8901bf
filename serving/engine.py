"""Run the language model: prompts as token ids in, answers as text out. Knows no drug and no patient."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from etl.errors import ContractError
from training import base as bases
from training.checkpoint import checked_weights
from training.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer: its text without special tokens, and whether the token limit cut it off."""

    text: str
    truncated: bool


class Engine:
    """One base model in memory, and the adapters of any number of checkpoints on it.

    Safe to call from several threads: calls wait for each other.
    """

    def __init__(self, base: str, base_sha256: str) -> None:
        """Load the base.

        Args:
            base: folder or hub id.
            base_sha256: what the checkpoints were trained on.

        Raises:
            ContractError: the base found is another one.
        """
        folder = bases.base_folder(base)
        found = bases.base_sha256(folder)
        if found != base_sha256:
            raise ContractError(
                f"base {base} has digest {found[:12]}, the checkpoint was trained on {base_sha256[:12]}; "
                "give the same base with --base"
            )
        self.tokenizer: Any = bases.load_tokenizer(folder)
        self._model: Any = bases.load_model(folder, bases.resolve_dtype("auto"), bases.resolve_attention("auto"))
        self._end = bases.end_of_turn(self.tokenizer)
        self._lock = threading.Lock()

    def add_adapter(self, name: str, checkpoint: Path, manifest: Manifest) -> None:
        """Load a checkpoint's adapter under a name.

        Raises:
            ContractError: its files are not those the manifest was written for.
        """
        weights = checked_weights(checkpoint, manifest)
        with self._lock:
            if isinstance(self._model, PeftModel):
                self._model.load_adapter(weights, adapter_name=name)
            else:
                self._model = PeftModel.from_pretrained(self._model, weights, adapter_name=name)
            self._model.eval()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[list[int]], adapter: str, max_new_tokens: int, batch_size: int = 64
    ) -> list[Generated]:
        """Answer prompts greedily, in batches of like length, in the order given.

        Args:
            prompts: token ids, each with its BOS.
            adapter: name given to `add_adapter`.
            max_new_tokens: an answer that has not ended by then is truncated.
            batch_size: prompts run side by side.
        """
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        answers: dict[int, Generated] = {}
        with self._lock:
            self._model.set_adapter(adapter)
            for start in range(0, len(order), batch_size):
                batch = order[start : start + batch_size]
                answers.update(zip(batch, self._generate([prompts[i] for i in batch], max_new_tokens), strict=True))
        return [answers[i] for i in range(len(prompts))]

    def _generate(self, prompts: list[list[int]], max_new_tokens: int) -> list[Generated]:
        pad, longest = self.tokenizer.pad_token_id, max(map(len, prompts))
        input_ids = torch.tensor([[pad] * (longest - len(ids)) + ids for ids in prompts])  # (batch, tokens)
        mask = torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        whole = self._model.generate(
            input_ids=input_ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            eos_token_id=self._end,
            pad_token_id=pad,
        )
        answers = []
        for ids in whole[:, longest:].tolist():
            ended = self._end in ids
            kept = ids[: ids.index(self._end)] if ended else ids
            answers.append(Generated(self.tokenizer.decode(kept, skip_special_tokens=True), truncated=not ended))
        return answers
