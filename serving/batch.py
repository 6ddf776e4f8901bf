"""Drafts for a Parquet file of admissions: part by part, so that a killed run goes on, and bad rows lose nothing.

Rows are what the API takes, a column a field; what a row's column does not hold is unknown. The answers are the API's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import ValidationError

from etl import artefacts, kept
from etl.errors import ConfigError
from serving.recommendation import Drafter
from serving.schemas import DraftRequest, describe_errors, make_draft

PART = 256
"""Rows drafted between two files: what a kill can cost."""

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


def predict(
    recommender: Drafter, source: Path, out: Path, identifier: str | None, told: Callable[[int, int], None]
) -> tuple[int, int]:
    """Draft a list for every row of a Parquet file.

    Args:
        recommender: who drafts.
        source: columns are fields of `DraftRequest`, and others, which are not read; at least one of diagnoses.
        out: Parquet file to write, a row for each in the same order; made of parts that lie beside it meanwhile.
        identifier: column copied into `out`; None: none.
        told: told (rows done, all).

    Returns:
        Rows drafted, and rows that fit no request.

    Raises:
        ConfigError: the file is no Parquet, or lacks a column.
    """
    rows, columns = _columns(source, identifier)
    origin: dict[str, Any] = {"source_sha256": artefacts.sha256_file(source)}
    origin |= {"model": recommender.identity.model_dump(), "identifier": identifier, "part_rows": PART}
    parts = out.with_name(f".{out.name}.parts")
    paths = []
    for number, start in zip(count(), range(0, max(rows, 1), PART), strict=False):
        paths.append(parts / f"{number:06d}.parquet")
        if kept.read(paths[-1], origin) is None:
            facts = pl.scan_parquet(source).select(columns).slice(start, PART).collect()
            kept.write(paths[-1], _draft(recommender, facts, start, identifier), origin)
        told(min(start + PART, rows), rows)
    with artefacts.whole_or_absent(out) as new:
        pl.scan_parquet(paths).sink_parquet(new, metadata=kept.metadata(origin))
    artefacts.remove(parts)
    refused = pl.scan_parquet(out).select(pl.col("error").count()).collect().item()
    return rows - refused, refused


def _columns(source: Path, identifier: str | None) -> tuple[int, list[str]]:
    """Return how many rows a file has, and its columns that are read."""
    try:
        scanned = pl.scan_parquet(source)
        names = scanned.collect_schema().names()
        rows = int(scanned.select(pl.len()).collect().item())
    except (OSError, pl.exceptions.PolarsError):
        raise ConfigError(f"{source} is no Parquet file of admissions") from None
    if identifier is not None and identifier not in names:
        raise ConfigError(f"{source} has no column {identifier}; --id names one of its columns")
    fields = [name for name in DraftRequest.model_fields if name in names]
    if not {"diagnoses", "earlier_diagnoses"} & set(fields):
        raise ConfigError(f"{source} has neither a column diagnoses nor earlier_diagnoses; see docs/formats.md")
    return rows, list(dict.fromkeys([*fields, *([identifier] if identifier else [])]))


def _draft(recommender: Drafter, facts: pl.DataFrame, start: int, identifier: str | None) -> pl.DataFrame:
    requests, errors = [], dict[int, str]()
    for place, row in enumerate(facts.iter_rows(named=True)):
        try:
            requests.append((place, DraftRequest.model_validate(_request(row))))
        except ValidationError as error:
            wrong = describe_errors(error.errors())
            errors[place] = "; ".join(f"{one['at']}: {one['kind']}" for one in wrong)
    drafted = dict(_answers(recommender, requests))
    lines = [
        {"row": start + place, **drafted.get(place, {"error": errors.get(place)})} for place in range(facts.height)
    ]
    table = pl.DataFrame(lines, schema=SCHEMA)
    return table if identifier is None else table.insert_column(0, facts[identifier])


def _answers(
    recommender: Drafter, requests: Sequence[tuple[int, DraftRequest]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    admissions = [request.to_admission(recommender.vocabulary) for _, request in requests]
    found = zip(requests, admissions, recommender.recommend(admissions), strict=True)
    for (place, _), admission, recommendation in found:
        draft = make_draft("", admission, recommendation, recommender)
        known = all(drug.probability is not None for drug in draft.drugs)
        yield (
            place,
            {
                "outcome": draft.answer.outcome,
                "drugs": [drug.drug for drug in draft.drugs],
                "probabilities": [drug.probability for drug in draft.drugs] if known else None,
                "warnings": [warning.code for warning in draft.warnings],
            },
        )


def _request(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as the API has it; a diagnosis with a code goes by that, one without by its words."""
    fields = {name: value for name, value in row.items() if name in DraftRequest.model_fields}
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
