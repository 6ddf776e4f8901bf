"""The drafts of one patient of an EHR: the newest in the store, and the one that is queued from the facts of now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from serving.access.principal import Principal
from serving.cds.prefetch import PatientFacts
from serving.schemas import Draft, DraftRequest
from serving.store.errors import KeyReusedError, KeyRunningError

if TYPE_CHECKING:
    from serving.service import Service

_WAITS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Seconds; the call that queues the same draft at this moment needs milliseconds."""
_LOST = ("failed", "cancelled")
_RETRY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Patient:
    """Whose drafts; the store knows them by a keyed hash only."""

    service: Service
    caller: Principal
    patient_id: str

    @property
    def ref(self) -> str:
        """The keyed hash of EHR and patient."""
        return self.service.store.keyed(f"{self.caller.id} {self.patient_id}")

    async def latest(self) -> Draft | None:
        """Return the newest draft that is made or will be, unless it is older than the settings allow."""
        seconds = self.service.settings.cds_draft_hours * 3600
        return await self.service.drafts.latest_for(self.ref, self.caller.id, seconds)

    async def queued(self, facts: PatientFacts, latest: Draft | None) -> Draft | None:
        """Queue a draft from these facts, or return what was queued from the same before; None: there is none.

        The same facts give the same key within the span that a draft is shown for, so that calls at once queue one
        draft. One that was lost is tried again, once a minute.

        Args:
            facts: with a diagnosis.
            latest: what `latest` gave.

        Raises:
            BusyError, StoreError, RxdraftError: no draft can be queued now.
        """
        try:
            request = DraftRequest.model_validate(facts.to_draft_request())
        except ValidationError:  # a list that is longer, or a name that is odder, than a draft takes
            return None
        span = self.service.settings.cds_draft_hours * 3600
        found = await self._submit(request, facts, span)
        if found is not None and found.state not in _LOST:
            return found
        if latest is not None and (found is None or latest.created_at >= found.created_at):
            return latest
        again = await self._submit(request, facts, _RETRY_SECONDS)
        return None if again is None or again.state in _LOST else again

    async def _submit(self, request: DraftRequest, facts: PatientFacts, seconds: float) -> Draft | None:
        store, submit = self.service.store, self.service.drafts.submit
        turn = int(store.now().timestamp() // seconds)
        key = store.keyed(f"cds {self.ref} {facts.digest()} {seconds} {turn}")
        for wait in _WAITS:
            try:
                return await submit(request, self.caller, source="cds", key=key, patient_ref=self.ref)
            except KeyRunningError:
                await asyncio.sleep(wait)
            except KeyReusedError:  # the same facts, but for the hours since a measurement
                break
        return await self.latest()
