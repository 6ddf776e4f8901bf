"""Which addresses the page makes a browser ask for: they stand in histories and in proxies' logs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from tests.serving.page.running import Running
from tests.serving.page.states import choose, new_draft

WORDS = ("CANARY Hong Gildong", "CANARYDX", "CANARYDRUG", "CANARYREASON")


def test_no_address_holds_what_a_reader_typed(visit: Callable[..., Any], service: Running) -> None:
    page, asked = visit(), []
    page.on("request", lambda sent: asked.append(sent.url))
    page.on("framenavigated", lambda frame: asked.append(frame.url))
    new_draft(page, service)
    with page.expect_request("**/v1/icd"):  # the search waits for a pause in the typing
        page.fill("#diagnoses-input", WORDS[1])
    choose(page, "diagnoses", f"{WORDS[1]} of {WORDS[0]}")
    choose(page, "current_drugs", WORDS[2])
    page.fill("#age", "71")
    page.click("#facts button[type=submit]")
    page.wait_for_selector("#review:visible")
    page.check("#row-i1 input[value=reject]")
    page.select_option("#row-i1 .reasons select", index=1)
    page.fill("#row-i1 .reasons input[type=text]", WORDS[3])
    page.click("#row-i1 .more button[type=submit]")
    page.wait_for_selector("#row-i1[data-decision=reject]")
    for place in ("/drafts", page.url.removeprefix(service.address) + "/print"):
        page.goto(service.address + place)
        page.wait_for_selector("#review:visible, #history:visible")
    addresses = [unquote(address) for address in asked]
    assert any(address.endswith("/v1/icd") for address in addresses)
    assert not [address for address in addresses if "CANARY" in address]
    assert all(re.fullmatch(r"|limit=\d+", address.partition("?")[2]) for address in addresses)
