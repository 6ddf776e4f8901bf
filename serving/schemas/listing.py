"""A recommendation in the API's words."""

from __future__ import annotations

from collections.abc import Sequence

from etl.domain import Admission
from serving.evidence import Evidence
from serving.explain import Explanation
from serving.recommendation import Drafter, Recommendation
from serving.schemas.draft import AnswerState, DraftedDrug, DraftedList, Warning  # noqa: A004
from serving.schemas.identity import BaselineIdentity, ModelIdentity
from serving.vocabulary import Vocabulary

_DIGITS = 4
"""Of a probability: what stands behind it was hardly ever counted on more than 10,000 admissions."""


def make_list(
    admission: Admission,
    recommendation: Recommendation,
    recommender: Drafter,
    explanation: Explanation | None = None,
    *,
    evidence: bool = True,
) -> DraftedList:
    """Put a recommendation into the API's words.

    Args:
        admission: for whom.
        recommendation: what.
        recommender: by whom.
        explanation: why; None: nobody asked.
        evidence: whether to say how often each drug was ordered in admissions of the same kind.
    """
    answer, vocabulary = recommendation.answer, recommender.vocabulary
    counts = vocabulary.evidence.of(admission, answer.drugs) if evidence and vocabulary.evidence else None
    return DraftedList(
        drugs=_drugs(recommendation, vocabulary, explanation, counts),
        probabilities=_told(recommendation, recommender.identity),
        answer=AnswerState(well_formed=answer.outcome.well_formed, outcome=answer.outcome),
        model=recommender.identity,
        warnings=_warnings(admission, recommendation, vocabulary) + _gaps(explanation),
    )


def _drugs(
    recommendation: Recommendation,
    vocabulary: Vocabulary,
    explanation: Explanation | None,
    evidence: Sequence[Evidence | None] | None,
) -> list[DraftedDrug]:
    drugs = recommendation.answer.drugs
    unknown = (None,) * len(drugs)
    reasons = explanation.reasons if explanation else None
    columns = zip(drugs, recommendation.probabilities or unknown, reasons or unknown, evidence or unknown, strict=True)
    return [
        DraftedDrug(
            item_id=f"i{rank}",
            rank=rank,
            drug=drug,
            ingredients=vocabulary.drugs.look_up(drug).ingredients,
            atc=vocabulary.drugs.look_up(drug).atc,
            probability=None if probability is None else round(probability, _DIGITS),
            because=because,
            evidence=counted,
            review=None,
        )
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
