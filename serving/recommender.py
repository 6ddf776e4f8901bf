"""The recommender: an admission in, a draft list of drugs out. The service and the evaluation both ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cached_property
from math import inf
from pathlib import Path

from etl import prompts
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from serving.decoding.decoder import Ask, Drawn
from serving.decoding.trie import FormularyTrie
from serving.engine import Engine
from serving.recommendation import Recommendation
from serving.schemas import ModelIdentity
from serving.vocabulary import Vocabulary, read_vocabulary
from training.manifest import Manifest, read_manifest


class Recommender:
    """One checkpoint on an engine."""

    def __init__(self, engine: Engine, checkpoint: Path, manifest: Manifest) -> None:
        """Load the checkpoint's adapter and vocabulary.

        Raises:
            ContractError: the checkpoint is damaged, or its prompts are of another version than this code's.
        """
        if manifest.prompt_version != prompts.VERSION:
            raise ContractError(
                f"{checkpoint} was trained with prompt version {manifest.prompt_version}, "
                f"this rxdraft renders {prompts.VERSION}; train again or install the matching version"
            )
        self.manifest = manifest
        self.checkpoint = checkpoint
        self.vocabulary: Vocabulary = read_vocabulary(checkpoint, manifest)
        self.engine = engine
        self.adapter = manifest.weights_sha256[:16]
        engine.add_adapter(self.adapter, checkpoint, manifest)

    @property
    def identity(self) -> ModelIdentity:
        """What each draft names as its model."""
        manifest = self.manifest
        return ModelIdentity(
            base=manifest.base,
            adapter_sha256=manifest.weights_sha256,
            rank=manifest.rank,
            step=manifest.step,
            prompt_version=manifest.prompt_version,
            formulary_sha256=manifest.formulary_sha256,
        )

    @cached_property
    def trie(self) -> FormularyTrie:
        """The formulary in the engine's tokens."""
        return FormularyTrie(self.engine.tokenizer, self.vocabulary.formulary, self.engine.end)

    def recommend(self, admissions: Sequence[Admission], *, raw: bool = False) -> list[Recommendation]:
        """Draft a list of formulary drugs for each admission.

        Args:
            admissions: each with a diagnosis.
            raw: whatever the model writes instead; where that is a list of formulary drugs without a repeat, it is the
                same list.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        encoded, dropped = self._encode(admissions)
        if raw:
            found = self.engine.generate(encoded, self.adapter, self.manifest.max_answer_tokens)
            answers = [(prompts.parse_answer(one.text, truncated=one.truncated), one.text) for one in found]
            return [Recommendation(*answer, left_out) for answer, left_out in zip(answers, dropped, strict=True)]
        lists = self.engine.draw(list(map(self._ask, encoded)), self.adapter, self.trie)
        return [self._recommendation(one, left_out) for [one], left_out in zip(lists, dropped, strict=True)]

    async def draft(self, admission: Admission, seconds: float = inf) -> Recommendation:
        """Draft a list for one admission together with whatever other threads and tasks ask for meanwhile.

        Args:
            admission: with a diagnosis.
            seconds: until `LateError`.

        Raises:
            ConfigError: the admission has no diagnosis to go by.
            BusyError, LateError: too many ask at once.
        """
        ask, dropped, trie = await asyncio.to_thread(self._prepare, admission)
        waited = self.engine.scheduler.submit(ask, self.adapter, trie, seconds)
        [drawn] = await asyncio.wrap_future(waited)
        return self._recommendation(drawn, dropped)

    def _prepare(self, admission: Admission) -> tuple[Ask, int, FormularyTrie]:
        """Do what would hold up an event loop: tokenise and, for the first request, compile the formulary."""
        [ids], [dropped] = self._encode([admission])
        return self._ask(ids), dropped, self.trie

    def _encode(self, admissions: Sequence[Admission]) -> tuple[list[list[int]], list[int]]:
        """Return each prompt's token ids, and how many diagnoses did not fit into it."""
        if any(not admission.diagnoses and admission.earlier_diagnoses is None for admission in admissions):
            raise ConfigError("an admission without a diagnosis; wanted at least one")
        room, tokenizer = self.manifest.max_length - self.manifest.max_answer_tokens, self.engine.tokenizer
        encoded = [prompts.encode_prompt(tokenizer, prompts.render_prompt(one), room) for one in admissions]
        return [ids for ids, _ in encoded], [dropped for _, dropped in encoded]

    def _ask(self, ids: list[int]) -> Ask:
        return Ask(ids, self.manifest.max_answer_tokens)

    def _recommendation(self, drawn: Drawn, dropped: int) -> Recommendation:
        drugs = tuple(self.trie.names[item] for item in drawn.items)
        return Recommendation(prompts.Answer(prompts.Outcome.OK, drugs), prompts.render_answer(drugs), dropped)


def load_recommenders(checkpoints: Sequence[Path], base: str | None = None) -> list[Recommender]:
    """Load checkpoints of one base onto one engine.

    Args:
        checkpoints: folders made by `rxdraft train`, at least one.
        base: where the base lies now; None: where the first manifest says it lay.

    Raises:
        ContractError: the checkpoints were trained on different bases, or one is damaged.
    """
    manifests = [read_manifest(checkpoint) for checkpoint in checkpoints]
    bases = {manifest.base_sha256 for manifest in manifests}
    if len(bases) != 1:
        raise ContractError(f"the checkpoints were trained on {len(bases)} different bases, wanted one")
    if whole := [str(path) for path, m in zip(checkpoints, manifests, strict=True) if m.method == "full"]:
        raise ContractError(f"{', '.join(whole)}: a whole model; give it as --base and serve an adapter trained on it")
    engine = Engine(base or manifests[0].base, manifests[0].base_sha256)
    return [Recommender(engine, path, manifest) for path, manifest in zip(checkpoints, manifests, strict=True)]
