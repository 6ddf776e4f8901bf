"""What does not fit a request, told by place and kind."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from serving.schemas import requests

_MODELS = (
    *(requests.CodedDiagnosis, requests.TextDiagnosis, requests.DraftRequest, requests.GivenAllergy, requests.LabValue),
    *(requests.ScreenRequest, requests.ReviewRequest, requests.FinalizeRequest, requests.SearchRequest),
)
PLACES = frozenset(
    {
        *("body", "query", "path", "CodedDiagnosis", "TextDiagnosis"),
        *(field for model in _MODELS for field in model.model_fields),
    }
)
"""Our own words in a place."""


def describe_errors(errors: Iterable[Any], known: Collection[str] = PLACES) -> list[dict[str, str]]:
    """Name what does not fit a request by place and kind; keys and values the client chose are left out.

    Args:
        errors: pydantic's details, each with `loc` and `type`.
        known: names of fields and models; any other part of a place was the client's.
    """

    def place(part: str | int) -> str:
        return str(part) if isinstance(part, int) or part in known else "<key>"

    return [{"at": "/".join(map(place, error["loc"])) or "body", "kind": error["type"]} for error in errors]
