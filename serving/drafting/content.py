"""What a draft says: a recommendation, screened, with where it came from; for the service and `rxdraft recommend`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version

from etl.domain import Admission, Diagnosis, normalise_icd
from serving.explain import Explanation
from serving.recommendation import Drafter, Recommendation
from serving.schemas import (
    BaselineIdentity,
    CodedDiagnosis,
    Content,
    DraftRequest,
    Inputs,
    ItemAlert,
    ModelIdentity,
    SafetyFacts,
    Screened,
    ScreenRequest,
    Versions,
    make_list,
)
from serving.schemas.requests import LabValue
from serving.screening import Allergy, Facts, Lab, Screener, Screening


def make_content(
    request: DraftRequest,
    name: str,
    drafter: Drafter,
    screener: Screener,
    admission: Admission,
    recommendation: Recommendation,
    explanation: Explanation | None = None,
) -> Content:
    """Put a recommendation into the API's words, and screen it.

    Args:
        request: what was asked.
        name: of the model, as clients call it.
        drafter: it.
        screener: of the list.
        admission: the request, as the drafter has it.
        recommendation: what it drafted.
        explanation: why; None: nobody asked.
    """
    listed = make_list(admission, recommendation, drafter, explanation)
    return Content(
        **dict(listed),
        versions=versions(name, drafter.identity, screener),
        inputs=inputs(request),
        screening=screened(screener, {item.item_id: item.drug for item in listed.drugs}, facts_of(request)),
    )


def versions(name: str, identity: ModelIdentity | BaselineIdentity, screener: Screener) -> Versions:
    """Return the versions of everything that has a part in a model's drafts."""
    return Versions(
        rxdraft=_own_version(),
        model=name,
        adapter_sha256=getattr(identity, "adapter_sha256", None),
        prompt=getattr(identity, "prompt_version", None),
        formulary_sha256=identity.formulary_sha256,
        calibration_sha256=getattr(identity, "calibration_sha256", None),
        rules=screener.version,
    )


@cache
def _own_version() -> str:
    return version("rxdraft")


def inputs(request: DraftRequest) -> Inputs:
    """Tell which facts were given; an empty list is one."""
    names = [name for name in DraftRequest.model_fields if name not in ("explain", "model")]
    given = {name for name in names if getattr(request, name) is not None}
    return Inputs(used=[name for name in names if name in given], missing=[name for name in names if name not in given])


def screened(screener: Screener, drugs: Mapping[str, str], facts: Facts) -> Screened:
    """Screen a list and say of each alert which rows it speaks of.

    Args:
        screener: the rules.
        drugs: by item_id.
        facts: of the patient.
    """
    return with_items(screener.screen(list(drugs.values()), facts), drugs)


def with_items(screening: Screening, drugs: Mapping[str, str]) -> Screened:
    """Name the rows beside the drugs of each alert; `drugs` is by item_id."""
    alerts = [
        ItemAlert(**dict(alert), items=tuple(item_id for item_id, drug in drugs.items() if drug in alert.drugs))
        for alert in screening.alerts
    ]
    return Screened(**{**dict(screening), "alerts": alerts})


def facts_of(request: DraftRequest | ScreenRequest, later_hours: float = 0) -> Facts:
    """Return what screening may look at.

    Args:
        request: what was asked.
        later_hours: since then; a laboratory value is older by them.
    """
    allergies, current = request.allergies, request.current_drugs
    return Facts(
        current_drugs=None if current is None else tuple(current),
        allergies=None if allergies is None else tuple(Allergy(one.substance) for one in allergies),
        diagnoses=tuple(
            Diagnosis(normalise_icd(one.icd_code), one.icd_version)
            if isinstance(one, CodedDiagnosis)
            else Diagnosis(title=one.text)
            for one in request.diagnoses
        ),
        age=request.age,
        sex=request.sex,
        pregnant=request.pregnant,
        lactating=request.lactating,
        **{name: _lab(getattr(request, name), later_hours) for name in SafetyFacts.model_fields if name in _LABS},
    )


_LABS = ("creatinine_mg_dl", "egfr", "potassium_mmol_l")


def _lab(given: LabValue | None, later_hours: float) -> Lab | None:
    return None if given is None else Lab(given.value, given.hours_ago + later_hours)
