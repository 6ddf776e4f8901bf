"""What recommenders of checkpoints share: the way from an admission to a prompt, and from scores to a draft."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from etl import artefacts, prompts
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from serving.probabilities.blend import Blend
from serving.probabilities.calibration import Calibration
from serving.probabilities.cut import Floats
from serving.recommendation import Recommendation
from serving.recommenders.engine import Engine
from serving.schemas import ModelIdentity
from serving.vocabulary import Vocabulary, read_vocabulary
from training.manifest import Manifest


class CheckpointRecommender:
    """One checkpoint on an engine, whatever it learned to say.

    Attributes:
        calibration: of `rxdraft calibrate`; None: the checkpoint has none, or it is not used.
        adapter: what the engine knows the checkpoint by.
    """

    def __init__(self, engine: Engine, checkpoint: Path, manifest: Manifest) -> None:
        """Load the checkpoint's adapter, with its head where it has one, and its vocabulary.

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
        self.calibration = None if manifest.calibration is None else Calibration.from_json(manifest.calibration)
        blended = self.calibration.blend if self.calibration else None
        self._blend = None if blended is None else Blend(checkpoint, blended, self.vocabulary)
        self.engine = engine
        self.adapter = manifest.weights_sha256[:16]
        engine.add_adapter(self.adapter, checkpoint, manifest)

    @cached_property
    def identity(self) -> ModelIdentity:
        """What each draft names as its model."""
        manifest, calibration = self.manifest, self.calibration
        return ModelIdentity(
            base=manifest.base,
            adapter_sha256=manifest.weights_sha256,
            rank=manifest.rank,
            step=manifest.step,
            prompt_version=manifest.prompt_version,
            formulary_sha256=manifest.formulary_sha256,
            objective=manifest.objective,
            calibration_sha256=_digest(calibration) if calibration else None,
            model_weight=calibration.blend.weight if calibration and calibration.blend else None,
            calibrated_on=calibration.fitted.admissions if calibration and calibration.fitted else None,
        )

    def encode(self, admissions: Sequence[Admission]) -> tuple[list[list[int]], list[int]]:
        """Return each prompt's token ids, and how many diagnoses did not fit into it.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
            TooLongError: one has too many drugs for the prompt.
        """
        if any(not admission.diagnoses and admission.earlier_diagnoses is None for admission in admissions):
            raise ConfigError("an admission without a diagnosis; wanted at least one")
        room, tokenizer = self.manifest.max_length - self.manifest.max_answer_tokens, self.engine.tokenizer
        encoded = [prompts.encode_prompt(tokenizer, prompts.render_prompt(one), room) for one in admissions]
        return [ids for ids, _ in encoded], [dropped for _, dropped in encoded]

    def _recommendations(
        self, scores: Floats, admissions: Sequence[Admission], dropped: Sequence[int]
    ) -> list[Recommendation]:
        """Return the drafts that the model's scores amount to: blended, calibrated and cut here.

        Args:
            scores: of every drug of the formulary, (admissions, formulary), in [0, 1]: sigmoids or shares of votes.
            admissions: whose they are.
            dropped: diagnoses that did not fit into each prompt.
        """
        blended = scores if self._blend is None else self._blend(scores, admissions)
        return [self._recommendation(row, left_out) for row, left_out in zip(blended, dropped, strict=True)]

    def _recommendation(self, scores: Floats, dropped: int) -> Recommendation:
        """Return the draft of one admission, the most probable drug first; `scores` is (formulary,)."""
        calibration = self.calibration or Calibration()
        chances = calibration.apply(scores)
        # Where probabilities tie, as on a step of the isotonic curve, the score knows more.
        ranking = np.lexsort((-scores, -chances))[: calibration.cut.length(chances)]
        drugs = tuple(self.vocabulary.formulary[place] for place in ranking)
        return Recommendation(
            prompts.Answer(prompts.Outcome.OK, drugs),
            prompts.render_answer(drugs),
            dropped,
            probabilities=tuple(chances[ranking].tolist()),
            chances=tuple(chances.tolist()),
        )


def _digest(calibration: Calibration) -> str:
    return artefacts.sha256(json.dumps(calibration.to_json(), sort_keys=True).encode())
