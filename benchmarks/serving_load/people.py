"""Clinicians and EHRs at work: what each does next, and what it was promised by whom.

A clinician searches, asks for a draft, reads it, decides about drugs, and finishes some. Every call that changes
something carries an Idempotency-Key and is sent again with it until it is answered, as a careful client would.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from serving_load.wire import Answer, NoAnswerError, Wire

DELIBERATE = frozenset({"busy", "draining", "not_ready", "store_unavailable", "engine_unavailable"})
"""Codes of a 503 that says: not now, nothing happened, ask again."""
ASYNC_SHARE, DECIDE_ALL_SHARE, HOOK_SHARE = 0.1, 0.1, 0.1
REVIEWS = 2
"""Drugs decided about in a draft that is not finished."""
LONGEST_WAIT_SECONDS = 1.0


class GaveUpError(Exception):
    """A call was not answered as hoped, however often it was sent."""


@dataclass
class Book:
    """What all clients saw: one for a process of load.

    Attributes:
        seconds: of every answer that did what was asked, by route.
        answers: how often, by route, status and code; "none" where the connection ended.
        promised: acknowledgements, to be found in the store.
        unsure: calls that would have changed something and were given up: done or not, but not twice.
        wrong: answers that nobody should get.
    """

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: Counter[str] = field(default_factory=Counter)
    promised: list[dict[str, Any]] = field(default_factory=list)
    unsure: list[dict[str, Any]] = field(default_factory=list)
    wrong: Counter[str] = field(default_factory=Counter)

    def note(self, route: str, answer: Answer, seconds: float) -> None:
        """Keep what came back for one call."""
        self.answers[f"{route} {answer.status} {answer.code or ''}".rstrip()] += 1
        if answer.status < 400:
            self.seconds[route].append(seconds)
        elif answer.status >= 500 and not is_deliberate(answer):
            self.wrong[f"{route} {answer.status} {answer.code}"] += 1


def is_deliberate(answer: Answer) -> bool:
    """Tell a 503 that was meant, and says when to ask again; a hook's has no code, but says what it is in FHIR."""
    meant = answer.code in DELIBERATE or b'"OperationOutcome"' in answer.body
    return answer.status == 503 and meant and "retry-after" in answer.headers


@dataclass
class Caller:
    """Who asks, and how long.

    Attributes:
        token: makes what is shown for one call to a path: an API key, or a JSON Web Token for once.
        until: tells whether nothing new is to be begun.
        patience_seconds: after which a call is given up.
    """

    wire: Wire
    token: Callable[[str], str]
    book: Book
    until: Callable[[], bool]
    patience_seconds: float = 60

    @property
    def over(self) -> bool:
        """Whether to begin nothing new."""
        return self.until()

    async def ask(self, route: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Make one call until it is answered with a success or a refusal that is final.

        Args:
            route: method and template, for the figures.
            path: of the call.
            body: as JSON.
            headers: with _ for -.

        Raises:
            GaveUpError: patience ended, or the time of the load, or the answer is a refusal.
        """
        told = {name.replace("_", "-"): it for name, it in headers.items()}
        ends = time.monotonic() + self.patience_seconds
        while True:
            began = time.monotonic()
            try:
                shown = {"Authorization": f"Bearer {self.token(path)}", **told}
                answer = await self.wire.ask(route.split()[0], path, shown, body)
            except NoAnswerError:
                self.book.answers[f"{route} none"] += 1
                wait = 0.2
            else:
                self.book.note(route, answer, time.monotonic() - began)
                if answer.status < 400:
                    return answer
                if not (is_deliberate(answer) or answer.code in ("key_running", "rate_limited")):
                    raise GaveUpError(f"{answer.status} {answer.code}")
                wait = min(float(answer.headers.get("retry-after", 1)), LONGEST_WAIT_SECONDS)
            if self.over or time.monotonic() + wait > ends:
                raise GaveUpError("patience")
            await asyncio.sleep(wait * random.uniform(0.5, 1.5))


class Clinician:
    """One person with a key: works until the time is over, one thing after another."""

    def __init__(self, caller: Caller, admissions: list[dict[str, Any]], only: str | None = None) -> None:
        """Prepare.

        Args:
            caller: who asks.
            admissions: bodies of POST /v1/drafts, taken in turn from anywhere.
            only: "drafts": nothing but new drafts.
        """
        self._caller, self._admissions, self._only = caller, admissions, only

    async def work(self) -> None:
        """Go from patient to patient."""
        while not self._caller.over:
            try:
                await self._one_patient()
            except GaveUpError as reason:
                self._caller.book.answers[f"gave up: {reason}"] += 1
                await asyncio.sleep(0.05)

    async def _one_patient(self) -> None:
        if self._only is None:
            await self._caller.ask("POST /v1/icd", "/v1/icd", {"q": random.choice(("heart", "I50", "pneu", "diab"))})
        draft = await self._draft()
        if self._only is not None or draft["state"] != "ready":
            return
        await self._caller.ask("GET /v1/drafts/{id}", f"/v1/drafts/{draft['draft_id']}")
        whole = random.random() < DECIDE_ALL_SHARE
        for row in draft["drugs"][: None if whole else REVIEWS]:
            draft = await self._review(draft, row)
        if whole and draft["drugs"]:
            await self._finalise(draft)
            await self._caller.ask("GET /v1/drafts", "/v1/drafts?limit=20")

    async def _draft(self) -> dict[str, Any]:
        key, body = str(uuid.uuid4()), random.choice(self._admissions)
        later = self._only is None and random.random() < ASYNC_SHARE
        asked = {"Idempotency_Key": key} | ({"Prefer": "respond-async"} if later else {})
        route = "POST /v1/drafts async" if later else "POST /v1/drafts"
        try:
            answer = await self._caller.ask(route, "/v1/drafts", body, **asked)
        except GaveUpError:
            self._caller.book.unsure.append({"what": "draft", "key": key})
            raise
        draft: dict[str, Any] = answer.json()
        self._promise("draft", draft, key=key)
        return await self._ready(draft) if later else draft

    async def _ready(self, draft: dict[str, Any]) -> dict[str, Any]:
        ends = time.monotonic() + self._caller.patience_seconds
        while draft["state"] in ("queued", "running") and time.monotonic() < ends:
            await asyncio.sleep(0.5)
            answer = await self._caller.ask("GET /v1/drafts/{id}", f"/v1/drafts/{draft['draft_id']}")
            draft = answer.json()
        return draft

    async def _review(self, draft: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        decision = random.choice(("accept", "accept", "reject"))
        body = {"item_id": row["item_id"], "decision": decision, "if_version": draft["version"]}
        body["reason_code"] = "risk-benefit-ratio"  # a rejection needs one, and so does an overridden alert
        place = f"/v1/drafts/{draft['draft_id']}"
        told = {"draft_id": draft["draft_id"], "item_id": row["item_id"], "decision": decision}
        try:
            answer = await self._caller.ask(
                "POST /v1/drafts/{id}/reviews", f"{place}/reviews", body, Idempotency_Key=str(uuid.uuid4())
            )
        except GaveUpError:
            self._caller.book.unsure.append({"what": "review", **told})
            raise
        after: dict[str, Any] = answer.json()
        self._promise("review", after, item_id=row["item_id"], decision=decision)
        return after

    async def _finalise(self, draft: dict[str, Any]) -> None:
        place, version = f"/v1/drafts/{draft['draft_id']}/finalize", draft["version"]
        answer = await self._caller.ask("POST /v1/drafts/{id}/finalize", place, {"if_version": version})
        self._promise("final", answer.json())

    def _promise(self, what: str, draft: dict[str, Any], **more: str) -> None:
        told = {name: draft[name] for name in ("draft_id", "version", "state")}
        self._caller.book.promised.append({"what": what, **told, **more})
