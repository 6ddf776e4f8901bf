"""What the API takes and gives.

requests.py  bodies
draft.py     drafts
answers.py   everything else that is answered
identity.py  what drafted a list
listing.py   from a recommendation to the API's words
errors.py    what does not fit a body
"""

from serving.schemas.answers import (
    FoundCode,
    FoundCodes,
    FoundDrug,
    FoundDrugs,
    Health,
    ServedModel,
    ServedModels,
)
from serving.schemas.draft import (
    AnswerState,
    Content,
    Draft,
    DraftedDrug,
    DraftedList,
    Drafts,
    DraftSummary,
    Inputs,
    ItemAlert,
    Review,
    Screened,
    Versions,
    Warning,  # noqa: A004
)
from serving.schemas.errors import describe_errors
from serving.schemas.identity import BaselineIdentity, Identity, ModelIdentity, RemoteIdentity
from serving.schemas.listing import make_list
from serving.schemas.requests import (
    AdmissionFacts,
    CodedDiagnosis,
    DraftRequest,
    FinalizeRequest,
    GivenAllergy,
    LabValue,
    ReviewRequest,
    SafetyFacts,
    ScreenRequest,
    SearchRequest,
    TextDiagnosis,
)

__all__ = [
    "AdmissionFacts",
    "AnswerState",
    "BaselineIdentity",
    "CodedDiagnosis",
    "Content",
    "Draft",
    "DraftRequest",
    "DraftSummary",
    "DraftedDrug",
    "DraftedList",
    "Drafts",
    "FinalizeRequest",
    "FoundCode",
    "FoundCodes",
    "FoundDrug",
    "FoundDrugs",
    "GivenAllergy",
    "Health",
    "Identity",
    "Inputs",
    "ItemAlert",
    "LabValue",
    "ModelIdentity",
    "RemoteIdentity",
    "Review",
    "ReviewRequest",
    "SafetyFacts",
    "ScreenRequest",
    "Screened",
    "SearchRequest",
    "ServedModel",
    "ServedModels",
    "TextDiagnosis",
    "Versions",
    "Warning",
    "describe_errors",
    "make_list",
]
