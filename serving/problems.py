"""How every error is told: RFC 9457 problems, OperationOutcomes below /cds-services; nothing of the request in them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from etl.errors import RxdraftError
from serving.operation.logs import event
from serving.operation.metrics import store_failed
from serving.operation.request_id import request_id
from serving.problem_codes import BY_ERROR, BY_STATUS, CODES, RETRY_AFTER
from serving.schemas.errors import describe_errors

MOST_TOLD = 100
"""Places that do not fit, named in one answer: a body may hold tens of thousands."""

_KINDS_OF_PLACE = frozenset({"body", "query", "path", "header", "cookie"})


class Problem(BaseModel):
    """An error as RFC 9457 has it; further members depend on the code."""

    type: str
    title: str
    status: int
    code: str
    request_id: str | None
    errors: list[dict[str, str]] | None = None


class ProblemError(Exception):
    """An answer that is an error; raise it anywhere below a route.

    >>> ProblemError("busy", retry_after=2).status
    503
    """

    def __init__(
        self,
        code: str,
        title: str | None = None,
        *,
        retry_after: float | None = None,
        errors: list[dict[str, str]] | None = None,
        **members: Any,
    ) -> None:
        """Name the problem; its status and usual title follow from `CODES`.

        Args:
            code: of `CODES`.
            title: for people, our own words only; None: the usual one.
            retry_after: seconds; None: the code's usual, where it has one.
            errors: what does not fit, as `describe_errors` tells it.
            members: further members of the answer, ours only.
        """
        super().__init__(code)
        self.code = code
        self.status, usual, self.issue = CODES[code]
        self.title = title or usual
        self.retry_after = RETRY_AFTER.get(code) if retry_after is None else retry_after
        self.members = members if errors is None else {"errors": errors, **members}

    def headers(self) -> dict[str, str]:
        """Return what belongs to the answer beside its body."""
        headers = {} if self.retry_after is None else {"Retry-After": str(math.ceil(self.retry_after))}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def problem(path: str, error: ProblemError) -> JSONResponse:
    """Return the answer for an error on a route below `path`: a problem, or an OperationOutcome for CDS Hooks."""
    if path.startswith("/cds-services"):
        return JSONResponse(_outcome(error), error.status, error.headers())
    content = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "code": error.code,
        "request_id": request_id(),
        **error.members,
    }
    return JSONResponse(content, error.status, error.headers(), media_type="application/problem+json")


def _outcome(error: ProblemError) -> dict[str, Any]:
    issue = {
        "severity": "error",
        "code": error.issue,
        "details": {"text": error.title},
        "diagnostics": f"request_id={request_id()}",
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def add_problem_handlers(app: FastAPI) -> None:
    """Let every error of a route become such an answer: ours, the store's, the recommender's, FastAPI's."""
    app.add_exception_handler(ProblemError, _ours)
    app.add_exception_handler(RequestValidationError, _misfit)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RxdraftError, _of_a_part)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101
    event("refused", level="debug", code=error.code)
    return problem(request.url.path, error)


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101
    answer = problem(request.url.path, ProblemError(BY_STATUS.get(error.status_code, "internal_error")))
    if "Allow" in (error.headers or {}):
        answer.headers["Allow"] = (error.headers or {})["Allow"]
    return answer


async def _of_a_part(request: Request, error: Exception) -> JSONResponse:
    """Tell what the store or the recommender raised; an error that no route should let pass is one of ours."""
    told = problem_of(error)
    if told.code == "internal_error":
        raise error
    if told.code == "store_unavailable":
        store_failed()
        event("store_failed", level="error", exc_type=type(error).__name__)
    return problem(request.url.path, told)


def problem_of(error: Exception) -> ProblemError:
    """Return how an error of any part is told; internal_error for one that nobody foresaw."""
    if isinstance(error, ProblemError):
        return error
    names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in BY_ERROR]
    code, title = BY_ERROR[names[0]] if names else ("internal_error", None)
    return ProblemError(code, title, retry_after=getattr(error, "retry_after", None))


def code_of(error: Exception) -> str:
    """Return the code of `CODES` that an error becomes."""
    return problem_of(error).code


async def _misfit(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    details = error.errors()
    if any(detail["type"] == "json_invalid" for detail in details):
        return problem(request.url.path, ProblemError("unreadable"))
    if any(detail["loc"] == ("body",) for detail in details) and not has_json(request):
        return problem(request.url.path, ProblemError("not_json"))
    if not hasattr(request.app.state, "places"):
        request.app.state.places = places(request.app.openapi())
    known = request.app.state.places
    return problem(request.url.path, ProblemError("invalid", errors=describe_errors(details[:MOST_TOLD], known)))


def has_json(request: Request) -> bool:
    """Tell whether the body is JSON by its content type; a request without a body counts as such."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    empty = request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers
    return given == "application/json" or (given.startswith("application/") and given.endswith("+json")) or empty


async def read_json(request: Request) -> Any:
    """Read a body that no model describes.

    Raises:
        ProblemError: not_json by its content type, or unreadable: no JSON, no UTF-8, nested too deeply.
    """
    if not has_json(request):
        raise ProblemError("not_json")
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        raise ProblemError("unreadable") from None


def places(schema: Any) -> frozenset[str]:
    """Return the names that a JSON schema or OpenAPI document gives to fields, parameters and models."""
    return frozenset(_names(schema)) | _KINDS_OF_PLACE


def _names(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _names(item)
    if not isinstance(schema, dict):
        return
    for holder in ("properties", "$defs", "schemas"):
        yield from schema.get(holder, ())
    if isinstance(schema.get("name"), str) and "in" in schema:
        yield schema["name"]
    for item in schema.values():
        yield from _names(item)


def declared(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses=` for a route that may answer so; by status, since codes share statuses."""
    statuses = sorted({CODES[code][0] for code in codes})
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}
