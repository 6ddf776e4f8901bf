"""A table of admissions as a table of drafts. Rows are what the API takes, a column a field; the answers are the API's.

It knows no file: `serving.batch.parts` cuts one into tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import polars as pl
from pydantic import ValidationError

from etl import prompts
from etl.domain import Admission
from etl.errors import ConfigError
from serving.recommendation import Drafter, Recommendation
from serving.schemas import AdmissionFacts, DraftRequest, describe_errors, make_list
from serving.vocabulary import Vocabulary

SCHEMA: dict[str, Any] = {
    "row": pl.Int64,
    "outcome": pl.String,
    "drugs": pl.List(pl.String),
    "probabilities": pl.List(pl.Float64),
    "warnings": pl.List(pl.String),
    "error": pl.String,
}
"""Of the drafts, beside the identifier. row: from 0. outcome: null where nothing was drafted, and error says why, by
place and kind. probabilities: null where nobody knows them. warnings: codes, see `serving.schemas.Warning`."""

CHANCES = {"chances": pl.List(pl.Float32)}
"""The column of every formulary drug's probability, in the formulary's order."""

FACTS = tuple(AdmissionFacts.model_fields)
"""The columns that are read: what is asked of the draft beside them, a file does not ask."""

NO_ANSWER = "no_answer: "
"""Before the reason, where a server that was asked gave none: another run may get one."""

TOO_LONG = "drugs: too_long"
"""That the drugs alone are more than the model's prompt holds."""


@dataclass(frozen=True, slots=True)
class Unanswered:
    """That a server gave no answer, and why: rate_limited, timeout, ..."""

    state: str


@runtime_checkable
class Attempting(Protocol):
    """Who asks elsewhere, and may come back without an answer to some."""

    def attempt(self, admissions: Sequence[Admission]) -> Sequence[Recommendation | Unanswered]:
        """Draft a list for each admission."""
        ...


def draft_rows(recommender: Drafter, facts: pl.DataFrame, start: int, *, chances: bool = False) -> pl.DataFrame:
    """Return a draft for each row, in the same order.

    Args:
        recommender: who drafts.
        facts: columns are `FACTS`; others are not read.
        start: number of the first row.
        chances: whether the table gets `CHANCES`.

    Raises:
        ConfigError: `chances` are wanted of who does not know them.
    """
    requests: dict[int, DraftRequest] = {}
    found: dict[int, dict[str, Any]] = {}
    for place, row in enumerate(facts.iter_rows(named=True)):
        try:
            requests[place] = DraftRequest.model_validate(_request(row))
        except ValidationError as error:
            wrong = describe_errors(error.errors())
            found[place] = {"error": "; ".join(f"{one['at']}: {one['kind']}" for one in wrong)}
    admissions = [request.to_admission(recommender.vocabulary) for request in requests.values()]
    for place, admission, answer in zip(requests, admissions, _answers(recommender, admissions), strict=True):
        found[place] = _line(recommender, admission, answer, chances)
    lines = [{"row": start + place, **found[place]} for place in range(facts.height)]
    return pl.DataFrame(lines, schema={**SCHEMA, **(CHANCES if chances else {})})


def _answers(recommender: Drafter, admissions: Sequence[Admission]) -> Sequence[Recommendation | Unanswered | None]:
    """Return a draft for each admission; None for one that no prompt holds, which is found by halves."""
    ask = recommender.attempt if isinstance(recommender, Attempting) else recommender.recommend
    try:
        return ask(admissions) if admissions else []
    except prompts.TooLongError:
        if len(admissions) == 1:
            return [None]
        half = len(admissions) // 2
        return [*_answers(recommender, admissions[:half]), *_answers(recommender, admissions[half:])]


def _line(
    recommender: Drafter, admission: Admission, answer: Recommendation | Unanswered | None, chances: bool
) -> dict[str, Any]:
    if answer is None:
        return {"error": TOO_LONG}
    if isinstance(answer, Unanswered):
        return {"error": NO_ANSWER + answer.state}
    if chances and answer.chances is None:
        raise ConfigError(
            "the model knows no probabilities; leave --all-probabilities out, or `rxdraft calibrate` it first"
        )
    draft = make_list(admission, answer, recommender, evidence=False)
    codes = [warning.code for warning in draft.warnings]
    return {
        "outcome": answer.answer.outcome.value,
        "drugs": [drug.drug for drug in draft.drugs],
        "probabilities": answer.probabilities,
        "warnings": [*codes, *["not_in_formulary"] * left_out(answer, recommender.vocabulary)],
        **({"chances": answer.chances} if chances else {}),
    }


def left_out(answer: Recommendation, vocabulary: Vocabulary) -> int:
    """Return how many drugs the model wrote that the draft does not list, since no formulary has them."""
    if not answer.answer.outcome.well_formed:
        return 0
    written = prompts.parse_answer(answer.text).drugs
    return len(set(written) - set(answer.answer.drugs) - set(vocabulary.formulary))


def about(recommender: Drafter, *, chances: bool = False) -> dict[str, Any]:
    """Return what drafts say of who drafted them; with `chances`, whose they are."""
    formulary = {"formulary": list(recommender.vocabulary.formulary)} if chances else {}
    return {"model": recommender.identity.model_dump(), **formulary}


def _request(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the API has it; a diagnosis with a code goes by that, one without by its words."""
    fields = {name: value for name, value in row.items() if name in FACTS}
    for name in ("diagnoses", "earlier_diagnoses"):
        if isinstance(fields.get(name), list):
            fields[name] = [_diagnosis(one) for one in fields[name]]
    return fields


def _diagnosis(given: Any) -> Any:
    if not isinstance(given, dict):
        return {"text": given} if isinstance(given, str) else given
    if given.get("icd_code") is not None:
        return {"icd_code": given["icd_code"], "icd_version": given.get("icd_version")}
    return {"text": given.get("text") or given.get("title")}
