"""What every native route refuses of a query."""

from __future__ import annotations

from fastapi import Depends, Request

from serving.problems import ProblemError


async def _each_once(request: Request) -> None:
    """Refuse a parameter that is given twice: two parsers on the way may take different ones."""
    if len(request.query_params.multi_items()) > len(request.query_params):
        raise ProblemError("invalid", errors=[{"at": "query", "kind": "repeated"}])


EACH_ONCE = Depends(_each_once)
