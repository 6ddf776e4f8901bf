"""Drafts from request to final: made, queued, cancelled, reviewed, screened, and recorded before they are answered.

It knows no HTTP. Whatever meets the store runs in a thread, and is not broken off once it has begun.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from etl.errors import RxdraftError
from serving.access.principal import Principal, Scope
from serving.drafting import reviewing
from serving.drafting.breaker import EngineDownError
from serving.drafting.content import facts_of, make_content, with_items
from serving.drafting.once import Once, key_of
from serving.explain import explain_in_time
from serving.operation import metrics
from serving.problems import code_of
from serving.recommendation import BusyError
from serving.schemas import Content, Draft, DraftRequest, DraftSummary, ReviewRequest, Screened, ScreenRequest
from serving.store.drafts import Drafts
from serving.store.errors import NotReadyError, UnknownDraftError
from serving.store.records import IdempotencyKey, NewDraft, NewReview, Source, StoredDraft

if TYPE_CHECKING:
    from serving.drafting.engines import Engines
    from serving.screening import Screener
    from serving.settings import Settings
    from serving.store.engine import Store

MOST_AT_ONCE = 256
"""Drafts that one process makes at once while their clients wait."""
AGAIN_SECONDS = 1.0
"""Between two times that a busy or silent engine is asked for the same draft."""


class GoneError(RxdraftError):
    """The client has gone; nothing was recorded."""


class DraftingOffError(RxdraftError):
    """The settings say that no drafts are made here."""


class DraftService:
    """One for a process.

    Attributes:
        cancelled: told which draft was taken back, for whoever works on it in this process.
        submitted: told that there is a new one to work on.
    """

    def __init__(self, settings: Settings, store: Store, engines: Engines, screener: Screener) -> None:
        self._settings, self._engines, self._screener = settings, engines, screener
        self.records = Drafts(store, keep_requests=settings.store_inputs)
        self._once = Once(store, settings.deadline_seconds + 10)
        self._now = store.now
        self._under_way = 0
        self.submitted: Callable[[], None] = lambda: None
        self.cancelled: Callable[[str], None] = lambda draft_id: None

    async def make(
        self,
        request: DraftRequest,
        principal: Principal,
        *,
        source: Source = "api",
        key: str | None = None,
        patient_ref: str | None = None,
        gone: Callable[[], Awaitable[None]] | None = None,
    ) -> Draft:
        """Draft a list now, record it, and return it.

        Args:
            request: the admission.
            principal: who asks, and owns the draft.
            source: where from.
            key: the Idempotency-Key: asked again with the same, the same draft is returned.
            patient_ref: keyed hash of the patient, for `latest_for`.
            gone: ends when the client has gone; then nothing is recorded and the key is free again.

        Raises:
            KeyReusedError, KeyRunningError: the key is another request's, or its request runs.
            BusyError, LateError, TooLongError, EngineDownError, UnknownModelError, ModelNotReadyError: no list.
            GoneError, DraftingOffError, StoreError.
        """
        self._refuse_if_off()

        async def work(key: IdempotencyKey | None) -> StoredDraft:
            content = await self._in_time(lambda: self.draft(request), gone)
            new = NewDraft(
                *(_new_id(), principal.id, source, request.model_dump(mode="json"), self.kept(content)),
                hits=reviewing.hits(content, {}),
                patient_ref=patient_ref,
            )
            return await run_in_threadpool(self.records.record, new, idempotency=key)

        called = key_of(principal.id, key, "POST /v1/drafts", request)
        return self._shown(await self._once.do(called, work, self._stored))

    async def submit(
        self,
        request: DraftRequest,
        principal: Principal,
        *,
        source: Source = "api",
        key: str | None = None,
        patient_ref: str | None = None,
    ) -> Draft:
        """Queue a draft and return it; arguments and errors as of `make`."""
        self._refuse_if_off()
        self._engines.find(request.model)

        async def work(key: IdempotencyKey | None) -> StoredDraft:
            if await run_in_threadpool(self.records.waiting) >= self._settings.queue_limit:
                raise BusyError("as many drafts are queued as may; ask again in a moment")
            new = NewDraft(_new_id(), principal.id, source, request.model_dump(mode="json"), patient_ref=patient_ref)
            stored = await run_in_threadpool(self.records.submit, new, idempotency=key)
            self.submitted()
            return stored

        called = key_of(principal.id, key, "POST /v1/drafts async", request)
        return await self._placed(await self._once.do(called, work, self._stored))

    def _refuse_if_off(self) -> None:
        if not self._settings.drafting:
            raise DraftingOffError("the setting `drafting` is off")

    async def draft(self, request: DraftRequest, *, patiently: bool = False) -> Content:
        """Draft a list and screen it; nothing is recorded. Errors as of `make`.

        Args:
            request: the admission.
            patiently: ask a busy or silent engine again until the deadline.
        """
        began = time.monotonic()
        draft = self._draft_patiently if patiently else self._draft
        try:
            content = await draft(request, began + self._settings.deadline_seconds)
        except Exception as error:
            metrics.draft_made(code_of(error), time.monotonic() - began)
            raise
        metrics.draft_made("ready", time.monotonic() - began)
        for alert in content.screening.alerts if content.screening else ():
            metrics.alert_shown(alert.rule_id, alert.tier)
        return content

    async def _draft_patiently(self, request: DraftRequest, ends: float) -> Content:
        while True:
            try:
                return await self._draft(request, ends)
            except (BusyError, EngineDownError):
                if time.monotonic() + AGAIN_SECONDS > ends:
                    raise
                await asyncio.sleep(AGAIN_SECONDS)

    async def _draft(self, request: DraftRequest, ends: float) -> Content:
        drafter = self._engines.drafter(request.model)
        admission = request.to_admission(drafter.vocabulary)
        recommendation = await self._engines.draft(request.model, admission, ends - time.monotonic())
        explanation = None
        if request.explain:
            left = ends - time.monotonic()
            explanation = await explain_in_time(drafter, admission, recommendation, left)
        name = request.model or self._engines.default
        # Milliseconds, in which no other call would be answered.
        return await run_in_threadpool(
            make_content, request, name, drafter, self._screener, admission, recommendation, explanation
        )

    def kept(self, content: Content) -> dict[str, Any]:
        """Return what the store keeps of a draft; without its request, what the rules said when they knew it."""
        kept = content.model_dump(mode="json")
        return kept if self._settings.store_inputs else {**kept, reviewing.FIRST: kept["screening"]}

    async def get(self, draft_id: str, principal: Principal) -> Draft:
        """Return a draft as it reads now.

        Raises:
            UnknownDraftError: there is none that this principal may read.
        """
        stored = await self._readable(draft_id, principal)
        if stored.content is not None:
            await run_in_threadpool(self.records.opened, draft_id, principal.id)
        return await self._placed(stored)

    async def list(self, principal: Principal, before: str | None = None, most: int = 20) -> list[DraftSummary]:
        """Return a principal's own drafts, the newest first; everybody's to who may read them.

        Args:
            principal: who asks.
            before: draft_id of the last one seen; None: from the newest.
            most: how many.
        """
        owner = None if _reads_all(principal) else principal.id
        return [_summary(one) for one in await run_in_threadpool(self.records.list, owner, before, most)]

    async def export(self, draft_id: str, principal: Principal, format: str) -> Draft:  # noqa: A002
        """Return a draft to take out of the service; who did is recorded.

        Raises:
            UnknownDraftError, NotReadyError: there is none that this principal may read, or no list in it.
        """
        stored = await self._readable(draft_id, principal)
        if stored.content is None:
            raise NotReadyError("the draft has no list to export")
        await run_in_threadpool(self.records.exported, draft_id, principal.id, format)
        return self._shown(stored)

    async def latest_for(self, patient_ref: str, owner: str, seconds: float) -> Draft | None:
        """Return the newest draft of a patient not older than so many seconds, be it queued or ready."""
        stored = await run_in_threadpool(self.records.latest_for, patient_ref, owner, seconds)
        return None if stored is None else await self._placed(stored)

    async def cancel(self, draft_id: str, principal: Principal) -> Draft:
        """Take a queued or running draft back.

        Raises:
            UnknownDraftError, NotReadyError, FinalisedError: there is none, or none that still can be.
        """
        await self._changeable(draft_id, principal)
        stored = await run_in_threadpool(self.records.cancel, draft_id, principal.id)
        self.cancelled(draft_id)
        return self._shown(stored)

    async def review(
        self, draft_id: str, review: ReviewRequest, principal: Principal, *, key: str | None = None
    ) -> Draft:
        """Record a decision about one drug and return the draft, screened again.

        Raises:
            UnknownDraftError, NotReadyError, FinalisedError, VersionConflictError: the draft does not take it.
            ReasonRequiredError: it needs a reason.
            UnknownItemError: the draft has no such row.
        """

        async def work(key: IdempotencyKey | None) -> StoredDraft:
            stored = await self._changeable(draft_id, principal)
            return await run_in_threadpool(self._review, stored, review, principal, key)

        called = key_of(principal.id, key, f"POST /v1/drafts/{draft_id}/reviews", review)
        draft = self._shown(await self._once.do(called, work, self._stored))
        metrics.review_made(review.decision)
        for alert in draft.screening.alerts if draft.screening and review.decision in ("accept", "edit") else ():
            if review.item_id in alert.items:
                metrics.alert_overridden(alert.rule_id)
        return draft

    async def finalise(self, draft_id: str, if_version: int, principal: Principal) -> Draft:
        """Freeze a draft of which all is decided, screened with the rules of this moment.

        Raises:
            UndecidedError: some rows are not decided.
            UnknownDraftError, NotReadyError, FinalisedError, VersionConflictError: as of `review`.
        """
        stored = await self._changeable(draft_id, principal)
        return self._shown(await run_in_threadpool(self._finalise, stored, if_version, principal))

    def screen(self, request: ScreenRequest) -> Screened:
        """Screen drugs; nothing is recorded. Items are the drugs' places: i1, i2, ..."""
        drugs = {f"i{place}": drug for place, drug in enumerate(request.drugs, 1)}
        return with_items(self._screener.screen(request.drugs, facts_of(request)), drugs)

    def _review(
        self, stored: StoredDraft, review: ReviewRequest, principal: Principal, key: IdempotencyKey | None
    ) -> StoredDraft:
        content, decisions = reviewing.reviewed(stored, review, self._screener, self._now())
        new = NewReview(
            *(review.item_id, review.decision, principal.id),
            *(review.edited_drug, review.reason_code, review.reason_text),
        )
        return self.records.review(
            stored.draft_id,
            new,
            if_version=review.if_version,
            content=content,
            hits=reviewing.hits(Content.model_validate(content), decisions),
            idempotency=key,
        )

    def _finalise(self, stored: StoredDraft, if_version: int, principal: Principal) -> StoredDraft:
        content = reviewing.finished(stored, self._screener, self._now())
        return self.records.finalise(stored.draft_id, principal.id, if_version=if_version, content=content)

    async def _in_time(
        self, work: Callable[[], Awaitable[Content]], gone: Callable[[], Awaitable[None]] | None
    ) -> Content:
        """Wait for a draft unless too many are waited for already, or its client goes."""
        if self._under_way >= MOST_AT_ONCE:
            raise BusyError(f"{self._under_way} drafts are under way; ask again in a moment")
        self._under_way += 1
        try:
            return await (work() if gone is None else unless(gone(), work()))
        finally:
            self._under_way -= 1

    async def _stored(self, draft_id: str) -> StoredDraft:
        stored = await run_in_threadpool(self.records.get, draft_id)
        if stored is None:
            raise UnknownDraftError("no draft has this id")
        return stored

    async def _readable(self, draft_id: str, principal: Principal) -> StoredDraft:
        stored = await self._stored(draft_id)
        if not self._is_theirs(stored, principal) and not _reads_all(principal):
            raise UnknownDraftError("no draft has this id")
        return stored

    async def _changeable(self, draft_id: str, principal: Principal) -> StoredDraft:
        """Return a draft that this principal may decide about; to read everybody's is not enough."""
        stored = await self._stored(draft_id)
        if not self._is_theirs(stored, principal):
            raise UnknownDraftError("no draft has this id")
        return stored

    def _is_theirs(self, stored: StoredDraft, principal: Principal) -> bool:
        shared = stored.source == "cds" and self._settings.cds_drafts_shared and _reviews(principal)
        return stored.owner == principal.id or shared

    async def _placed(self, stored: StoredDraft) -> Draft:
        if stored.state != "queued":
            return self._shown(stored)
        return self._shown(stored, 1 + await run_in_threadpool(self.records.ahead_of, stored.draft_id))

    def _shown(self, stored: StoredDraft, position: int | None = None) -> Draft:
        return reviewing.shown(stored, self._engines.titles, position)


async def unless(gone: Awaitable[None], work: Awaitable[Content]) -> Content:
    """Wait for work unless something happens first; then it is cancelled.

    Raises:
        GoneError: that happened.
    """
    working, going = asyncio.ensure_future(work), asyncio.ensure_future(gone)
    try:
        await asyncio.wait({working, going}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise GoneError("the client has gone")
        return working.result()
    finally:
        working.cancel()
        going.cancel()


def _new_id() -> str:
    return str(uuid.uuid4())


def _reads_all(principal: Principal) -> bool:
    return principal.may(Scope.READ_ALL)


def _reviews(principal: Principal) -> bool:
    return principal.may(Scope.DRAFT)


def _summary(stored: StoredDraft) -> DraftSummary:
    drugs = (stored.content or {}).get("drugs", [])
    return DraftSummary(
        draft_id=stored.draft_id,
        state=stored.state,
        created_at=stored.created_at,
        version=stored.version,
        drugs=len(drugs),
        decided=len(stored.decisions()),
    )
