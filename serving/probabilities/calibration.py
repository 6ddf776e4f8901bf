"""What makes a checkpoint's scores probabilities, and its lists end: kept in its manifest, written by `calibrate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from etl.errors import ContractError
from serving.probabilities.curves import Curve
from serving.probabilities.cut import Cut, Floats

_STRICT = ConfigDict(extra="forbid", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Votes:
    """How a model that writes lists is asked for scores: by how many of its lists name a drug.

    Attributes:
        samples: lists drawn for an admission.
        temperature: they are drawn at.
        prior_weight: lists' worth of a drug's share of the training admissions that is added; above 0, so that of
            drugs without a vote the popular ones come first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    samples: Annotated[int, Field(ge=2)]
    temperature: Annotated[FiniteFloat, Field(gt=0)]
    prior_weight: Annotated[FiniteFloat, Field(gt=0)]

    def scores(self, votes: Floats, popularity: Floats) -> Floats:
        """Return (votes + m * popularity) / (K + m), in [0, 1].

        Args:
            votes: lists that name each drug, (.., formulary).
            popularity: share of the training admissions that had it, (formulary,).
        """
        return (votes + self.prior_weight * popularity) / (self.samples + self.prior_weight)


@dataclass(frozen=True, slots=True)
class Blended:
    """The scores are a mean of two, in the logit: the model's, and logistic regression's on the codes.

    Attributes:
        weight: of the model; the regression has the rest.
        sha256: of the regression's file, see `serving.probabilities.blend`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    weight: Annotated[FiniteFloat, Field(ge=0, lt=1)]
    sha256: str


@dataclass(frozen=True, slots=True)
class Figures:
    """What probabilities are worth, over all drugs of the formulary, and their lists.

    Attributes:
        log_loss: nats per drug.
        brier: mean of (p - y)² per drug.
        ece: expected calibration error, ten bins of equal mass.
        f1: mean of the admissions' lists as they are cut.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    log_loss: FiniteFloat
    brier: FiniteFloat
    ece: FiniteFloat
    f1: FiniteFloat


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a calibration was fitted on, and what it changed there.

    Attributes:
        cohort_sha256: of the cohort.json.
        split: validation.
        admissions, patients: of that split.
        before: of the scores as they come, cut where expected F1 is highest.
        alone: as after, of the model without what it is blended with; None: no blend was tried.
        after: of the probabilities of patients that the curve had not seen, cut by the rule that had not either.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    cohort_sha256: str
    split: str
    admissions: int
    patients: int
    before: Figures
    after: Figures
    alone: Figures | None = None


@dataclass(frozen=True, slots=True)
class Calibration:
    """From scores to a list with probabilities; without arguments, scores are taken for probabilities.

    Attributes:
        curve: from score to probability, one for all drugs.
        cut: where lists end.
        votes: how scores come about; None: the model gives them.
        blend: what is mixed into them; None: nothing.
        fitted: None: on nothing.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    curve: Curve = field(default_factory=Curve)
    cut: Cut = field(default_factory=Cut)
    votes: Votes | None = None
    blend: Blended | None = None
    fitted: Fitted | None = None

    def apply(self, scores: Floats) -> Floats:
        """Return probabilities, above 0 and below 1, for scores in [0, 1]; a higher score never gets a lower one."""
        return self.curve(scores)

    def to_json(self) -> dict[str, Any]:
        """Return what a manifest keeps."""
        return dict(_ADAPTER.dump_python(self, mode="json"))

    @classmethod
    def from_json(cls, content: Any) -> Calibration:
        """Return what `to_json` was called on.

        Raises:
            ContractError: fields are missing, unknown or out of range; they are named.
        """
        try:
            found = _ADAPTER.validate_python(content)
        except ValidationError as error:
            wrong = sorted({".".join(map(str, one["loc"])) or "the whole" for one in error.errors()})
        else:
            if found.to_json() == content:
                return found
            wrong = ["fields are missing"]
        raise ContractError(
            f"the calibration in manifest.json does not fit this version ({', '.join(wrong)}); run `rxdraft calibrate`"
        )


_ADAPTER = TypeAdapter(Calibration)
