"""What the API takes, field by field. Inputs stay out of every error text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from etl.domain import Admission, Diagnosis
from serving.vocabulary import Vocabulary

VISIBLE = (
    r"[^\s\x00-\x1f\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e"
    r"\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
"""That a text holds something that can be seen; ranges, since not every reader of the schema knows classes."""

DRUG_TEXT = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Strict(BaseModel):
    """A body that holds what is named here and nothing else."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class CodedDiagnosis(Strict):
    """A diagnosis by its ICD code, dotted or not."""

    icd_code: str = Field(min_length=1, max_length=10, pattern=r"^\s*[A-Za-z0-9]+(\.[A-Za-z0-9]*)?\s*$")
    icd_version: Literal[9, 10]


class TextDiagnosis(Strict):
    """A diagnosis in words."""

    text: str = Field(min_length=1, max_length=500, pattern=VISIBLE)


_DIAGNOSES_OR_EARLIER: JsonDict = {
    "anyOf": [
        {"properties": {"diagnoses": {"minItems": 1}}},
        {"properties": {"earlier_diagnoses": {"type": "array"}}, "required": ["earlier_diagnoses"]},
    ]
}
_EDITED_WITH_EDIT: JsonDict = {
    "if": {"properties": {"decision": {"const": "edit"}}},
    "then": {"properties": {"edited_drug": {"type": "string"}}, "required": ["edited_drug"]},
    "else": {"properties": {"edited_drug": {"type": "null"}}},
}


_NUMBERS = ("age", "height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg")


def _no_word(given: Any) -> Any:
    """Refuse what pydantic would read as a number: "7" is a mistake somewhere, and so is false for 0."""
    if isinstance(given, bool | str):
        raise PydanticCustomError("number_type", "a number")
    return given


class AdmissionFacts(Strict):
    """One admission, as a model reads it; what is left out or null is unknown."""

    model_config = ConfigDict(json_schema_extra=_DIAGNOSES_OR_EARLIER)

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
    """Drugs ordered in this stay so far: screened against, and read by a model that drafts within the stay."""

    @field_validator(*_NUMBERS, mode="before")
    @classmethod
    def _are_numbers(cls, given: Any) -> Any:
        return _no_word(given)

    @field_validator("diagnoses")
    @classmethod
    def _something_to_go_by(cls, diagnoses: list[Any], info: ValidationInfo) -> list[Any]:
        if not diagnoses and info.data.get("earlier_diagnoses") is None:
            raise PydanticCustomError("too_short", "at least one diagnosis, or earlier ones")
        return diagnoses

    def to_admission(self, vocabulary: Vocabulary) -> Admission:
        """Return the facts as every other part of rxdraft has them."""
        named = {"diagnoses", "earlier_diagnoses", "previous_drugs", "current_drugs"}
        facts = {name: getattr(self, name) for name in AdmissionFacts.model_fields if name not in named}

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


class GivenAllergy(Strict):
    """What the patient is allergic to: an ingredient, a product or a class, in words."""

    substance: DRUG_TEXT


class LabValue(Strict):
    """The last value of a laboratory test, and its age: an old one counts as none."""

    value: float = Field(ge=0, le=10_000, allow_inf_nan=False, strict=True)
    hours_ago: float = Field(ge=0, le=1_000_000, allow_inf_nan=False, strict=True)


class SafetyFacts(Strict):
    """What only the screening goes by; null: not given, so that a check that needs it is not evaluated."""

    allergies: list[GivenAllergy] | None = Field(None, max_length=100)
    """An empty list: none recorded."""
    pregnant: StrictBool | None = None
    lactating: StrictBool | None = None
    creatinine_mg_dl: LabValue | None = None
    egfr: LabValue | None = None
    """mL/min/1.73 m²; left out, it follows from creatinine, age and sex."""
    potassium_mmol_l: LabValue | None = None


class DraftRequest(SafetyFacts, AdmissionFacts):
    """One admission to draft a list for."""

    explain: StrictBool = False
    """Tell for each drug what its probability hangs on; takes a draft per diagnosis more."""
    model: str | None = Field(None, min_length=1, max_length=200)
    """A name of GET /v1/models; null: the default."""


class ScreenRequest(SafetyFacts):
    """Drugs to screen against each other and against what is known of the patient."""

    drugs: list[DRUG_TEXT] = Field(max_length=300)
    """Proposed, in any spelling."""
    current_drugs: list[DRUG_TEXT] | None = Field(None, max_length=300)
    """Already ordered."""
    diagnoses: list[CodedDiagnosis | TextDiagnosis] = Field(default_factory=list, max_length=300)
    age: Annotated[int, Field(ge=0, le=130), BeforeValidator(_no_word)] | None = None
    sex: Literal["F", "M"] | None = None


ReasonCode = Literal[
    "patient-contraindication",
    "risk-benefit-ratio",
    "does-not-align-latest-evidence",
    "recipient-does-not-trust",
    "policy-contradicts",
    "expert-contradicts",
    "action-completed",
    "indication-order-exists",
    "patient-refuses",
    "patient-ineligible",
    "need-more-info",
]
"""Of http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes."""


class ReviewRequest(Strict):
    """A clinician's decision about one drug of a draft."""

    model_config = ConfigDict(json_schema_extra=_EDITED_WITH_EDIT)

    item_id: str = Field(pattern=r"^i[1-9][0-9]{0,3}$")
    decision: Literal["accept", "edit", "reject", "undo"]
    edited_drug: DRUG_TEXT | None = Field(None, validate_default=True)
    """What stands in the drug's place; with edit, and only then."""
    reason_code: ReasonCode | None = None
    reason_text: str | None = Field(None, min_length=1, max_length=500, pattern=VISIBLE)
    if_version: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_no_word)]
    """The draft's version that the decision is about."""

    @field_validator("edited_drug")
    @classmethod
    def _what_is_edited(cls, edited: str | None, info: ValidationInfo) -> str | None:
        if edited is not None and info.data.get("decision") != "edit":
            raise PydanticCustomError("extra_forbidden", "edited_drug goes with edit only")
        if edited is None and info.data.get("decision") == "edit":
            raise PydanticCustomError("missing", "an edit needs edited_drug")
        return edited


class FinalizeRequest(Strict):
    """That all is decided, and nothing changes any more."""

    if_version: Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_no_word)]


class SearchRequest(Strict):
    """What to look for, in a body: no text that may be about a patient stands in a URL."""

    q: str = Field(max_length=64)
    version: Literal[9, 10] | None = None
    """Of the ICD; null: both."""
    limit: Annotated[int, Field(ge=1, le=50), BeforeValidator(_no_word)] = 20
