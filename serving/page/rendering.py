"""Templates, filled in the reader's language."""

from __future__ import annotations

from functools import cache, partial
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from serving.page.catalogue import COOKIE, LANGUAGES, catalogue, check_names, for_scripts
from serving.page.files import static_digest

A_YEAR_SECONDS = 365 * 24 * 3600


def render(request: Request, template: str, language: str, status: int = 200, **facts: Any) -> HTMLResponse:
    """Return a page; a language that its address names is kept in a cookie.

    Args:
        request: who reads, and where.
        template: name of the file, without `.html.jinja`.
        language: of the reader.
        status: of the answer.
        facts: what the template shows.
    """
    page = environment().get_template(f"{template}.html.jinja")
    common = {
        "language": language,
        "languages": LANGUAGES,
        "t": partial(say, language),
        "words": for_scripts(language),
        "check_names": check_names(language),
        "static": f"/static/{static_digest()}",
        "path": request.url.path,
    }
    answer = HTMLResponse(page.render(common | facts), status, headers={"Cache-Control": "no-store"})
    if COOKIE in request.query_params:
        secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, language, A_YEAR_SECONDS, httponly=True, secure=secure, samesite="lax")
    return answer


@cache
def environment() -> jinja2.Environment:
    """Return the templates' environment: everything is escaped, and a missing value is an error."""
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (files(__package__) / "templates" / name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def say(language: str, key: str, **values: Any) -> Markup:
    """Return the words of a key with its values put in; values that are markup stay markup."""
    return escape(catalogue(language)[key]).format_map({name: escape(value) for name, value in values.items()})
