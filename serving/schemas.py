"""What the API takes and gives, field by field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from etl.domain import Admission, Diagnosis
from serving.evidence import Evidence
from serving.explain import Explanation, Reason
from serving.recommendation import Drafter, Recommendation
from serving.vocabulary import Vocabulary

DRUG_TEXT = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Strict(BaseModel):
    # Inputs stay out of every error text pydantic makes.
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class CodedDiagnosis(_Strict):
    """A diagnosis by its ICD code, dotted or not."""

    icd_code: str = Field(min_length=1, max_length=10, pattern=r"^\s*[A-Za-z0-9]+(\.[A-Za-z0-9]*)?\s*$")
    icd_version: Literal[9, 10]


class TextDiagnosis(_Strict):
    """A diagnosis in words."""

    text: str = Field(min_length=1, max_length=500, pattern=r"[^\s\p{Cc}\p{Cf}]")  # something that can be seen


class DraftRequest(_Strict):
    """One admission; what is left out or null is unknown."""

    earlier_diagnoses: list[CodedDiagnosis | TextDiagnosis] | None = Field(None, max_length=300)
    """Of earlier stays, the latest first, for a model that goes by them; a prompt too long loses the last."""
    diagnoses: list[CodedDiagnosis | TextDiagnosis] = Field(max_length=300)
    """In the order of their weight; at least one, unless earlier ones are given."""
    age: int | None = Field(None, ge=0, le=130)
    """Years."""
    sex: Literal["F", "M"] | None = None
    height_cm: float | None = Field(None, ge=50, le=260)
    weight_kg: float | None = Field(None, ge=2, le=600)
    bmi: float | None = Field(None, ge=5, le=150)
    """kg/m²; left out, it follows from height and weight."""
    systolic_mmhg: float | None = Field(None, ge=30, le=350)
    diastolic_mmhg: float | None = Field(None, ge=10, le=250)
    previous_drugs: list[DRUG_TEXT] | None = Field(None, max_length=300)
    """Drugs of the patient's previous admission, in any spelling; null: no such stay is known."""
    current_drugs: list[DRUG_TEXT] | None = Field(None, max_length=300)
    """Drugs ordered in this stay so far, for a model that drafts within the stay."""
    explain: bool = False
    """Tell for each drug what its probability hangs on, and the cohort's evidence; takes a draft per diagnosis more."""

    @field_validator("diagnoses")
    @classmethod
    def _something_to_go_by(cls, diagnoses: list[Any], info: ValidationInfo) -> list[Any]:
        if not diagnoses and info.data.get("earlier_diagnoses") is None:
            raise PydanticCustomError("too_short", "at least one diagnosis, or earlier ones")
        return diagnoses

    def to_admission(self, vocabulary: Vocabulary) -> Admission:
        """Return the facts as every other part of rxdraft has them."""
        named = {"diagnoses", "earlier_diagnoses", "previous_drugs", "current_drugs"}
        facts = self.model_dump(exclude={*named, "explain"})

        def titled(diagnosis: CodedDiagnosis | TextDiagnosis) -> Diagnosis:
            if isinstance(diagnosis, CodedDiagnosis):
                return vocabulary.coded(diagnosis.icd_code, diagnosis.icd_version)
            return Diagnosis(title=diagnosis.text)

        return Admission(
            diagnoses=tuple(map(titled, self.diagnoses)),
            earlier_diagnoses=None if self.earlier_diagnoses is None else tuple(map(titled, self.earlier_diagnoses)),
            previous_drugs=None if self.previous_drugs is None else vocabulary.labels(self.previous_drugs),
            current_drugs=None if self.current_drugs is None else vocabulary.labels(self.current_drugs),
            **facts,
        )


_PLACES = {
    *("body", "CodedDiagnosis", "TextDiagnosis"),
    *(field for model in (CodedDiagnosis, TextDiagnosis, DraftRequest) for field in model.model_fields),
}


def describe_errors(errors: Iterable[Any]) -> list[dict[str, str]]:
    """Name what does not fit a request by place and kind; keys and values the client chose are left out.

    Args:
        errors: pydantic's details, each with `loc` and `type`.
    """

    def place(part: str | int) -> str:
        return str(part) if isinstance(part, int) or part in _PLACES else "<key>"

    return [{"at": "/".join(map(place, error["loc"])) or "body", "kind": error["type"]} for error in errors]


def _unknown(value: Any) -> bool:
    return value is None


class DraftedDrug(BaseModel):
    """A drug of the list; rank 1 came first."""

    rank: int
    drug: str
    probability: float | None = Field(None, exclude_if=_unknown)
    """Of being ordered in the stay, in [0, 1]; only from what knows it."""
    because: tuple[Reason, ...] | None = Field(None, exclude_if=_unknown)
    """What the probability would be lower without, the largest drop first; empty: without nothing by itself."""
    evidence: Evidence | None = Field(None, exclude_if=_unknown)
    """How often it was ordered in training admissions with a principal diagnosis of the same ICD-10 category."""


class AnswerState(BaseModel):
    """Whether the model's answer was a list; the failure class where it was none."""

    well_formed: bool
    outcome: str


class ModelIdentity(BaseModel):
    """What drafted the list."""

    base: str
    adapter_sha256: str
    rank: int
    step: int
    prompt_version: str
    formulary_sha256: str
    objective: str = "list"
    """list: it writes its drugs; labels: it scores every drug of the formulary."""
    calibration_sha256: str | None = None
    """Of what made its scores probabilities; null: nothing did."""
    calibrated_on: int | None = None
    """Validation admissions behind that."""
    model_weight: float | None = None
    """What the language model weighs in the scores; logistic regression on the codes has the rest. Null: all."""


class BaselineIdentity(BaseModel):
    """The baseline that drafted the list, and the cohort it learnt from."""

    name: str
    cohort_sha256: str
    formulary_sha256: str


class Warning(BaseModel):  # noqa: A001
    """Something the reader of the list must know.

    Codes: unknown_icd_code (the dictionary has no title; a model saw the bare code), diagnosis_left_out
    (the prompt was too long), diagnosis_not_used (it has no code, or one of a kind that no training admission had),
    not_in_formulary (no training admission had this drug), not_well_formed, not_explained (what `because` lacks).
    """

    code: Literal[
        "unknown_icd_code",
        "diagnosis_left_out",
        "diagnosis_not_used",
        "not_in_formulary",
        "not_well_formed",
        "not_explained",
    ]
    position: int | None = None
    """Which diagnosis (from 1, as sent) or drug (its rank) is meant."""
    detail: str


class Draft(BaseModel):
    """A draft for a clinician to accept, edit or reject; no prescription."""

    draft_id: str
    status: Literal["draft"] = "draft"
    drugs: list[DraftedDrug]
    probabilities: str | None = Field(None, exclude_if=_unknown)
    """What they are: calibrated on so many validation admissions, or uncalibrated."""
    answer: AnswerState
    model: ModelIdentity | BaselineIdentity
    warnings: list[Warning]


def make_draft(
    draft_id: str,
    admission: Admission,
    recommendation: Recommendation,
    recommender: Drafter,
    explanation: Explanation | None = None,
) -> Draft:
    """Put a recommendation into the API's words.

    Args:
        draft_id: names it.
        admission: for whom.
        recommendation: what.
        recommender: by whom.
        explanation: why; None: nobody asked, and there is no evidence either.
    """
    answer = recommendation.answer
    return Draft(
        draft_id=draft_id,
        drugs=_drugs(admission, recommendation, recommender.vocabulary, explanation),
        probabilities=_told(recommendation, recommender.identity),
        answer=AnswerState(well_formed=answer.outcome.well_formed, outcome=answer.outcome.value),
        model=recommender.identity,
        warnings=_warnings(admission, recommendation, recommender.vocabulary) + _gaps(explanation),
    )


def _drugs(
    admission: Admission, recommendation: Recommendation, vocabulary: Vocabulary, explanation: Explanation | None
) -> list[DraftedDrug]:
    drugs = recommendation.answer.drugs
    unknown = (None,) * len(drugs)
    reasons = explanation.reasons if explanation else None
    evidence = vocabulary.evidence.of(admission, drugs) if explanation and vocabulary.evidence else unknown
    columns = zip(drugs, recommendation.probabilities or unknown, reasons or unknown, evidence, strict=True)
    return [
        DraftedDrug(rank=rank, drug=drug, probability=probability, because=because, evidence=counted)
        for rank, (drug, probability, because, counted) in enumerate(columns, 1)
    ]


def _told(recommendation: Recommendation, identity: ModelIdentity | BaselineIdentity) -> str | None:
    if recommendation.probabilities is None:
        return None
    on = identity.calibrated_on if isinstance(identity, ModelIdentity) else None
    return "uncalibrated" if on is None else f"calibrated on {on} validation admissions"


def _gaps(explanation: Explanation | None) -> list[Warning]:
    gaps = explanation.gaps if explanation else ()
    return [Warning(code="not_explained", position=position, detail=detail) for position, detail in gaps]


def _warnings(admission: Admission, recommendation: Recommendation, vocabulary: Vocabulary) -> list[Warning]:
    known, diagnoses = set(vocabulary.formulary), len(admission.diagnoses)
    dropped = max(0, recommendation.dropped_diagnoses - len(admission.earlier_diagnoses or ()))
    found = [
        Warning(code="unknown_icd_code", position=place, detail="the dictionary of codes has no title for it")
        for place, diagnosis in enumerate(admission.diagnoses, 1)
        if diagnosis.title is None
    ]
    found += [
        Warning(code="diagnosis_left_out", position=place, detail="the prompt was too long")
        for place in range(diagnoses - dropped + 1, diagnoses + 1)
    ]
    found += [
        Warning(code="diagnosis_not_used", position=place, detail="no training admission had a code of its kind")
        for place in recommendation.unused_diagnoses
        if place <= diagnoses
    ]
    found += [
        Warning(code="not_in_formulary", position=rank, detail="no training admission had this drug")
        for rank, drug in enumerate(recommendation.answer.drugs, 1)
        if drug not in known
    ]
    if not recommendation.answer.outcome.well_formed:
        found.append(Warning(code="not_well_formed", detail="the model's answer was no list of drugs; none is shown"))
    return found
