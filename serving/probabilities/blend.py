"""A model's scores blended with logistic regression's: one reads the words, the other counts the codes.

The regression is the baseline `pooled`, fitted on the training admissions of the checkpoint's own cohort by
`rxdraft calibrate` and kept in the checkpoint. The weight is chosen on validation and stands in the calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from etl import artefacts
from etl.domain import Admission
from etl.errors import ContractError
from serving.baselines.pooled import Pooled
from serving.probabilities.calibration import Blended
from serving.probabilities.curves import to_logits, to_probabilities
from serving.probabilities.cut import Floats
from serving.vocabulary import TitleCodes, Vocabulary

FILE = "blend/pooled.safetensors"
"""In a checkpoint's folder."""


class Blend:
    """What a checkpoint's scores are blended with, and how much it weighs."""

    def __init__(self, checkpoint: Path, blended: Blended, vocabulary: Vocabulary) -> None:
        """Read the regression.

        Raises:
            ContractError: it is missing, is not the one that was calibrated, or knows other drugs.
        """
        path = checkpoint / FILE
        if not path.is_file() or artefacts.sha256_file(path) != blended.sha256:
            raise ContractError(f"{path}: missing or not what the calibration was made with; run `rxdraft calibrate`")
        self._regression = Pooled.load(path)
        self._codes = TitleCodes(vocabulary)
        self._weight = blended.weight
        if self._regression.formulary != vocabulary.formulary:
            raise ContractError(f"{path} knows other drugs than the checkpoint; copy the whole checkpoint")

    def __call__(self, scores: Floats, admissions: Sequence[Admission]) -> Floats:
        """Return blended scores, (admissions, formulary), for the model's."""
        return mix(scores, self._regression.scores([self._codes.coded(one) for one in admissions]), self._weight)


def mix(model: Floats, regression: Floats, weight: float) -> Floats:
    """Return the weighted mean in the logit of scores in [0, 1], all of one shape; `weight` is the model's."""
    return to_probabilities(weight * to_logits(model) + (1 - weight) * to_logits(regression))
