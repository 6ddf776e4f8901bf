"""Talk to an identity provider: small JSON over https, to addresses from settings, following nobody elsewhere."""

from __future__ import annotations

import json
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPRedirectHandler, Request, build_opener

MAX_ANSWER_BYTES = 1024 * 1024
TIMEOUT_SECONDS = 5


class FetchError(Exception):
    """The provider cannot be reached, redirects, or does not answer with a JSON object; tells no more."""


class _Stay(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        """Follow no redirect: the answer to it is an error."""


def fetch_json(url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON object at a URL of the settings; `form` is posted where given.

    Raises:
        FetchError: there is none.
    """
    body = None if form is None else urlencode(form).encode()
    request = Request(url, body, {"Accept": "application/json"})  # noqa: S310 - https or loopback, see settings
    try:
        with build_opener(_Stay).open(request, timeout=TIMEOUT_SECONDS) as answer:
            content = json.loads(answer.read(MAX_ANSWER_BYTES + 1))
    except (URLError, HTTPException, OSError, ValueError, RecursionError):
        raise FetchError from None
    if not isinstance(content, dict):
        raise FetchError
    return content
