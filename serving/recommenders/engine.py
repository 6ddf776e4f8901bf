"""Run the language model: token ids in, text, lists, likelihoods or labels' logits out. Knows no patient."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from transformers import LogitsProcessor, LogitsProcessorList

from etl.artefacts import sha256
from etl.errors import ContractError
from serving.decoding.decoder import Ask, Drawn, ListDecoder, draw_lists
from serving.decoding.trie import FormularyTrie
from serving.recommenders.gathering import Gatherer
from serving.recommenders.label_reader import LabelReader, find_opening
from serving.recommenders.scheduler import Scheduler
from training import base as bases
from training.checkpoint import checked_weights
from training.labels import load_head
from training.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generated:
    """One answer: its text without special tokens, and whether the token limit cut it off."""

    text: str
    truncated: bool


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is after its prompt: the sum over its tokens, in nats, and how many those are."""

    total: float
    tokens: int


class Engine:
    """One base model in memory, and the adapters of any number of checkpoints on it.

    Whoever asks names an adapter given to `add_adapter`, or None for the base alone. Safe to call from several
    threads: calls wait for each other.
    """

    def __init__(self, base: str, base_sha256: str | None) -> None:
        """Load the base.

        Args:
            base: folder or hub id.
            base_sha256: what the checkpoints were trained on; None: there are none, any base will do.

        Raises:
            ContractError: the base found is another one.
        """
        folder = bases.base_folder(base)
        if base_sha256 is not None and (found := bases.base_sha256(folder)) != base_sha256:
            raise ContractError(
                f"base {base} has digest {found[:12]}, the checkpoint was trained on {base_sha256[:12]}; "
                "give the same base with --base"
            )
        self.tokenizer: Any = bases.load_tokenizer(folder)
        self._model: Any = bases.load_model(folder, bases.resolve_dtype("auto"), bases.resolve_attention("auto"))
        self.end = bases.end_of_turn(self.tokenizer)
        self._readers: dict[str, LabelReader] = {}
        self._lock = threading.Lock()

    @cached_property
    def gatherer(self) -> Gatherer[list[int], NDArray[np.float64]]:
        """Who reads labels' logits for requests that meet."""
        return Gatherer(self.label_logits)

    @cached_property
    def scheduler(self) -> Scheduler:
        """Who draws lists for requests that meet."""
        return Scheduler(self)

    def add_adapter(self, name: str, checkpoint: Path, manifest: Manifest) -> None:
        """Load a checkpoint's adapter, and its label head where it has one, under a name.

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
            if manifest.objective == "labels":
                head = load_head(weights).to(self._model.device)
                self._readers[name] = LabelReader(self.causal, head, find_opening(self.tokenizer))

    def generate(
        self, prompts: Sequence[list[int]], adapter: str | None, max_new_tokens: int, batch_size: int = 64
    ) -> list[Generated]:
        """Answer prompts greedily, in batches of like length, in the order given.

        Args:
            prompts: token ids, each with its BOS.
            adapter: name given to `add_adapter`; None: the base alone.
            max_new_tokens: an answer that has not ended by then is truncated.
            batch_size: prompts run side by side.
        """
        return self._in_batches(prompts, adapter, max_new_tokens, batch_size)

    def sample(
        self,
        prompts: Sequence[list[int]],
        adapter: str | None,
        max_new_tokens: int,
        *,
        samples: int,
        temperature: float,
        seed: int,
        batch_size: int = 64,
    ) -> list[list[Generated]]:
        """Answer every prompt several times, each token drawn from the tempered distribution.

        On one machine an answer depends on the seed, its prompt and its place among that prompt's samples, and on
        nothing else that is asked.

        Args:
            prompts, adapter, max_new_tokens, batch_size: as for `generate`.
            samples: answers to each prompt; may be 0.
            temperature: above 0; 1 draws from the model's own distribution.
            seed: other seeds give other answers.
        """
        repeated = [ids for ids in prompts for _ in range(samples)]
        seeds = [_seed(seed, place, ids) for ids in prompts for place in range(samples)]

        def draw(batch: list[int]) -> _Draw:
            return _Draw(temperature, [seeds[i] for i in batch], self._model.device)

        answers = self._in_batches(repeated, adapter, max_new_tokens, batch_size, draw)
        return [answers[i * samples : (i + 1) * samples] for i in range(len(prompts))]

    def draw(self, asks: Sequence[Ask], adapter: str | None, trie: FormularyTrie, rows: int = 64) -> list[list[Drawn]]:
        """Return each ask's lists of formulary drugs, in the order given.

        Args:
            asks: prompts and how to draw from them.
            adapter: name given to `add_adapter`; None: the base alone.
            trie: of the formulary, compiled with this engine's tokenizer.
            rows: lists in the making at once.
        """
        decoder = ListDecoder(self.causal, trie, max([rows, *(ask.rows for ask in asks)]))
        with self.turned_to(adapter):
            found = dict(draw_lists(decoder, asks))
        return [found[i] for i in range(len(asks))]

    def count_labels(self, adapter: str) -> int:
        """Return how many labels an adapter's head has."""
        return self._readers[adapter].labels

    def label_logits(self, prompts: Sequence[list[int]], adapter: str) -> NDArray[np.float64]:
        """Return every label's logit for each prompt, (prompts, labels), in the order of the adapter's head.

        Args:
            prompts: token ids, each with its BOS.
            adapter: name given to `add_adapter`, of a checkpoint that learned labels.
        """
        with self.turned_to(adapter):
            return self._readers[adapter].read(prompts)

    @torch.inference_mode()
    def log_likelihoods(
        self,
        prompts: Sequence[list[int]],
        continuations: Sequence[Sequence[list[int]]],
        adapter: str | None,
        batch_size: int = 32,
    ) -> list[list[Likelihood]]:
        """Return how likely each prompt's continuations are; a prompt is read once for all of them.

        Args:
            prompts: token ids, each with its BOS.
            continuations: of each prompt, token ids; none is empty.
            adapter: name given to `add_adapter`; None: the base alone.
            batch_size: prompts read side by side.
        """
        found: dict[int, list[Likelihood]] = {}
        with self.turned_to(adapter):
            for batch in _batches(prompts, batch_size):
                scores = self._score([prompts[i] for i in batch], [continuations[i] for i in batch])
                found.update(zip(batch, scores, strict=True))
        return [found[i] for i in range(len(prompts))]

    @property
    def causal(self) -> Any:
        """The causal language model, whatever adapters stand in its layers; to be run within `turned_to`."""
        return self._model.get_base_model() if isinstance(self._model, PeftModel) else self._model

    @contextmanager
    def turned_to(self, adapter: str | None) -> Iterator[None]:
        """Hold the lock and the model with this adapter on, or with none."""
        with self._lock:
            if adapter is not None:
                if self._model.active_adapters != [adapter]:  # PEFT goes through all layers, as long as a step takes
                    self._model.set_adapter(adapter)
                yield
            elif isinstance(self._model, PeftModel):
                with self._model.disable_adapter():
                    yield
            else:
                yield

    @torch.inference_mode()
    def _in_batches(
        self,
        prompts: Sequence[list[int]],
        adapter: str | None,
        max_new_tokens: int,
        batch_size: int,
        draw: Callable[[list[int]], _Draw | None] = lambda batch: None,
    ) -> list[Generated]:
        answers: dict[int, Generated] = {}
        with self.turned_to(adapter):
            for batch in _batches(prompts, batch_size):
                texts = self._generate([prompts[i] for i in batch], max_new_tokens, draw(batch))
                answers.update(zip(batch, texts, strict=True))
        return [answers[i] for i in range(len(prompts))]

    def _generate(self, prompts: list[list[int]], max_new_tokens: int, drawn: _Draw | None) -> list[Generated]:
        input_ids, mask = self._padded(prompts)
        whole = self._model.generate(
            input_ids=input_ids,
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            logits_processor=LogitsProcessorList([drawn] if drawn else []),
            eos_token_id=self.end,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        answers = []
        for ids in whole[:, input_ids.shape[1] :].tolist():
            ended = self.end in ids
            kept = ids[: ids.index(self.end)] if ended else ids
            answers.append(Generated(self.tokenizer.decode(kept, skip_special_tokens=True), truncated=not ended))
        return answers

    def _score(self, prompts: list[list[int]], continuations: list[Sequence[list[int]]]) -> list[list[Likelihood]]:
        """Read the prompts, then the continuations of all of them on copies of what was read."""
        input_ids, mask = self._padded(prompts)
        read = self._model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=1,
            use_cache=True,
        )
        owner = [row for row, ends in enumerate(continuations) for _ in ends]
        flat = [ids for ends in continuations for ids in ends]
        rows = torch.tensor(owner, device=input_ids.device)
        logits = read.logits[rows].float()  # (continuations, 1, vocab)
        if (longest := max(map(len, flat))) > 1:
            read.past_key_values.batch_select_indices(rows)
            ids, own_mask = self._padded([ids[:-1] for ids in flat], longest - 1, left=False)
            positions = mask.sum(1)[rows, None] + torch.arange(longest - 1, device=ids.device)
            rest = self._model(
                input_ids=ids,
                attention_mask=torch.cat([mask[rows], own_mask], dim=1),
                position_ids=positions,
                past_key_values=read.past_key_values,
                use_cache=True,
            )
            logits = torch.cat([logits, rest.logits.float()], dim=1)  # (continuations, longest, vocab)
        wanted, kept = self._padded(flat, longest, left=False)
        chosen = logits.gather(2, wanted[:, :, None])[:, :, 0] - logits.logsumexp(2)  # (continuations, longest)
        totals = (chosen * kept).sum(1).tolist()
        scores = [Likelihood(total, len(ids)) for total, ids in zip(totals, flat, strict=True)]
        found = iter(scores)
        return [[next(found) for _ in ends] for ends in continuations]

    def _padded(
        self, rows: Sequence[list[int]], length: int | None = None, *, left: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows of one length and the mask of what is no padding, both (rows, tokens), on the model's device."""
        pad, longest = self.tokenizer.pad_token_id, length or max(map(len, rows))
        ids = [_beside(row, [pad] * (longest - len(row)), left) for row in rows]
        mask = [_beside([1] * len(row), [0] * (longest - len(row)), left) for row in rows]
        device = self._model.device
        return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


class _Draw(LogitsProcessor):
    """Make the greedy choice a draw: logits / temperature plus Gumbel noise have their maximum at a sample.

    Every row draws from a generator of its own, so that its text does not hang on what else is in the batch.

    Source: Gumbel, Statistical Theory of Extreme Values, 1954; Maddison et al., arXiv 1411.0030.
    """

    def __init__(self, temperature: float, seeds: Sequence[int], device: torch.device) -> None:
        self._temperature = temperature
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return noisy logits, (batch, vocab)."""
        noise = torch.empty_like(scores, dtype=torch.float32)  # exponential; its negative logarithm is Gumbel
        for row, generator in zip(noise, self._generators, strict=True):
            row.exponential_(generator=generator)
        return scores.float() / self._temperature - noise.log()


def _batches(prompts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    """Yield the places of prompts of like length."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _seed(seed: int, place: int, ids: list[int]) -> int:
    return int(sha256(f"{seed} {place} {ids}".encode())[:15], 16)


def _beside(row: list[int], padding: list[int], left: bool) -> list[int]:
    return padding + row if left else row + padding
