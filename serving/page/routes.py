"""The page's addresses. What they show of patients comes from the API, by scripts, under the reader's own rights."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from starlette.responses import RedirectResponse

from serving.access.dependencies import current
from serving.access.principal import Principal, Scope
from serving.page.cards import cards
from serving.page.catalogue import language_of
from serving.page.files import static_digest, static_files
from serving.page.rendering import render, say
from serving.service import Service, service_of

Reader = Annotated[Principal | None, Depends(current)]


def router() -> APIRouter:
    """Return every page and its static files, to be included at the root of the service.

    Pages: /sign-in, /, /drafts, /drafts/{draft_id}, /drafts/{draft_id}/print, /about/model, /about/rules,
    /about/rules/{rule_id}; files: /static/{digest}/{name}. None of them is in /openapi.json.
    """
    pages = APIRouter(include_in_schema=False)
    pages.get("/")(new)
    pages.get("/sign-in")(sign_in)
    pages.get("/drafts")(drafts)
    pages.get("/drafts/{draft_id}")(draft)
    pages.get("/drafts/{draft_id}/print")(paper)
    pages.get("/about/model")(model)
    pages.get("/about/rules")(rules)
    pages.get("/about/rules/{rule_id}")(rule)
    pages.get("/static/{digest}/{name}")(static)
    return pages


def new(request: Request, reader: Reader) -> Response:
    """Show the form for a new draft; who may only read is led to what there is to read."""
    if reader is not None and not reader.may(Scope.DRAFT):
        return RedirectResponse("/drafts", 303)
    return _guarded(request, reader, "new")


def drafts(request: Request, reader: Reader) -> Response:
    """Show one's own drafts."""
    return _guarded(request, reader, "drafts")


def draft(request: Request, reader: Reader, draft_id: str) -> Response:
    """Show a draft, whoever's: the API tells the script whether this reader may see it."""
    return _guarded(request, reader, "draft", draft_id=draft_id, paper=False)


def paper(request: Request, reader: Reader, draft_id: str) -> Response:
    """Show a draft as it is printed."""
    return _guarded(request, reader, "draft", draft_id=draft_id, paper=True)


def sign_in(request: Request, reader: Reader) -> Response:
    """Ask for a key; who has signed in goes on."""
    where = _inside(request.query_params.get("next"))
    if reader is not None:
        return RedirectResponse(where, 303)
    failed = request.query_params.get("failed") is not None
    return _page(request, reader, "sign_in", next=where, failed=failed)


def model(request: Request, reader: Reader) -> Response:
    """Tell what drafts, what it learnt from, and where it ends; open to everybody, as cards of CDS Hooks link to it."""
    service = service_of(request)
    words = partial(say, language_of(request, service.settings.language))
    return _page(request, reader, "model", cards=cards(service.engines, words))


def rules(request: Request, reader: Reader) -> Response:
    """List the rules of the screening; open to everybody."""
    screener = service_of(request).screener
    known = sorted(screener.rules(), key=lambda rule: rule.check)
    checks = [(check, list(members)) for check, members in groupby(known, key=lambda rule: rule.check)]
    return _page(request, reader, "rules", checks=checks, version=screener.version)


def rule(request: Request, reader: Reader, rule_id: str) -> Response:
    """Show one rule."""
    found = service_of(request).screener.rule(rule_id)
    if found is None:
        return _page(request, reader, "missing", 404)
    return _page(request, reader, "rule", rule=found)


def static(digest: str, name: str) -> Response:
    """Send a file; for good where the address holds the digest of what is served now."""
    file = static_files().get(name)
    if file is None:
        return Response(status_code=404)
    kept = "public, max-age=31536000, immutable" if digest == static_digest() else "no-cache"
    return Response(file.content, media_type=file.media_type, headers={"Cache-Control": kept})


def _guarded(request: Request, reader: Principal | None, name: str, **facts: Any) -> Response:
    if reader is None:
        return RedirectResponse(f"/sign-in?next={quote(request.url.path)}", 303)
    return _page(request, reader, name, may_decide=reader.may(Scope.DRAFT), **facts)


def _page(request: Request, reader: Principal | None, name: str, status: int = 200, **facts: Any) -> Response:
    service = service_of(request)
    about = {"demo": service.demo, "dev": service.settings.dev, "providers": list(_providers(service))}
    language = language_of(request, service.settings.language)
    return render(request, name, language, status, service=about, principal=reader, **facts)


def _providers(service: Service) -> Iterator[dict[str, str]]:
    """Yield the identity providers that people can sign in with, by the addresses that begin it."""
    for place, provider in enumerate(service.settings.oidc):
        if provider.client_id is not None:
            yield {"name": provider.name, "address": f"/session/oidc/{place}"}


def _inside(wanted: str | None) -> str:
    """Return an address of this service: another host's would make the sign-in page a springboard.

    >>> _inside("/drafts/1"), _inside("//evil.example"), _inside("/\\\\evil.example"), _inside(None)
    ('/drafts/1', '/', '/', '/')
    """
    if wanted is None or not wanted.startswith("/") or wanted.startswith(("//", "/\\")) or not wanted.isprintable():
        return "/"
    return wanted
