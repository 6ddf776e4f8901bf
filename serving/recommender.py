"""The recommender: an admission in, a draft list of drugs out. The service and the evaluation both ask it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etl import prompts
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
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

    def recommend(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        """Draft a list for each admission.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
        """
        if any(not admission.diagnoses and admission.earlier_diagnoses is None for admission in admissions):
            raise ConfigError("an admission without a diagnosis; wanted at least one")
        room = self.manifest.max_length - self.manifest.max_answer_tokens
        encoded = [
            prompts.encode_prompt(self.engine.tokenizer, prompts.render_prompt(admission), room)
            for admission in admissions
        ]
        answers = self.engine.generate([ids for ids, _ in encoded], self.adapter, self.manifest.max_answer_tokens)
        return [
            Recommendation(prompts.parse_answer(answer.text, truncated=answer.truncated), answer.text, dropped)
            for answer, (_, dropped) in zip(answers, encoded, strict=True)
        ]


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
