"""What each hook does with a call: a draft from the store or one queued now, or the rules on its orders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from etl.errors import RxdraftError
from serving.access.principal import Principal
from serving.cds import safety
from serving.cds.cards import CardWriter
from serving.cds.discovery import ORDER_SELECT, ORDER_SIGN, PATIENT_VIEW, SERVICES
from serving.cds.draft_cards import draft_card, standing_rows, waiting_card
from serving.cds.models import Call, Card, Cards
from serving.cds.orders import read_orders
from serving.cds.prefetch import PatientFacts, missing_keys, read_facts
from serving.cds.queued import Patient
from serving.cds.safety_cards import Screened, safety_cards
from serving.operation import metrics
from serving.problems import ProblemError
from serving.screening import Alert
from serving.store.cds import Cds
from serving.store.records import NewCard

if TYPE_CHECKING:
    from serving.schemas import Draft
    from serving.service import Service

_MADE = ("ready", "final")


@dataclass(frozen=True, slots=True)
class _Told:
    """A card with what the store remembers of it."""

    card: Card
    draft_id: str | None = None
    alerts: Sequence[Alert] = ()


async def answer(service: Service, service_id: str, call: Call, caller: Principal, write: CardWriter) -> Cards:
    """Answer a call; its cards are recorded before they are returned.

    Args:
        service: the parts of the running service.
        service_id: of SERVICES.
        call: of any hook.
        caller: the EHR.
        write: in the caller's language.

    Raises:
        ProblemError: wrong_hook, prefetch_missing, or invalid where the context lacks its orders.
        StoreError: the cards cannot be recorded.
    """
    facts = await run_in_threadpool(_read, service, service_id, call)
    if service_id == PATIENT_VIEW:
        told = await _patient_view(service, call, facts, caller, write)
    else:
        told = await run_in_threadpool(_orders, service, service_id, call, facts, write)
    await run_in_threadpool(_record, service, service_id, caller, told)
    return Cards(cards=tuple(one.card for one in told))


def _read(service: Service, service_id: str, call: Call) -> PatientFacts:
    """Read the patient's facts, or say what is wrong with the call."""
    hooked = SERVICES[service_id]
    if call.hook != hooked.wire.hook:
        raise ProblemError("wrong_hook", f"The service answers {hooked.wire.hook}, not this hook.")
    prefetch = call.prefetch or {}
    if missing_keys(prefetch, hooked.required, call.context.patient_id):
        raise ProblemError("prefetch_missing", f"Prefetch keys required: {', '.join(hooked.required)}.")
    return read_facts(prefetch, call.context.patient_id, service.store.now(), _knows(service))


def _knows(service: Service) -> Callable[[str], bool]:
    return lru_cache(1000)(partial(safety.knows, service.screener))


def _orders(service: Service, service_id: str, call: Call, facts: PatientFacts, write: CardWriter) -> list[_Told]:
    """Screen the selected orders, or all; no model, no draft."""
    selections = call.context.selections if service_id == ORDER_SELECT else None
    if call.context.draft_orders is None or (service_id == ORDER_SELECT and selections is None):
        raise ProblemError("invalid", "The context needs draftOrders, and for order-select also selections.")
    orders = read_orders(call.context.draft_orders, selections, facts, _knows(service))
    if orders.total == 0:
        return []
    screening = safety.screen(service.screener, orders.proposed, orders.current, facts)
    screened = Screened(orders, facts, screening, signed=service_id == ORDER_SIGN)
    return [_Told(card, alerts=alerts) for card, alerts in safety_cards(write, screened)]


async def _patient_view(
    service: Service, call: Call, facts: PatientFacts, caller: Principal, write: CardWriter
) -> list[_Told]:
    """Show the newest draft of the patient, or a link to the one that is being made."""
    if not facts.diagnoses:
        return []
    patient = Patient(service, caller, call.context.patient_id)
    latest = await patient.latest()
    made = latest if latest is not None and latest.state in _MADE else None
    newest = await _newest(patient, facts, latest, made)
    if made is None:
        if newest is None:
            return []
        return [_Told(waiting_card(write, newest.draft_id, service.engines.default, facts), newest.draft_id)]
    newer = newest.draft_id if newest and newest.draft_id != made.draft_id else None
    return await run_in_threadpool(_shown, service, call, facts, write, made, newer)


async def _newest(patient: Patient, facts: PatientFacts, latest: Draft | None, made: Draft | None) -> Draft | None:
    """Queue a draft if these facts have none; that it cannot be queued is no matter where one can be shown."""
    try:
        return await patient.queued(facts, latest)
    except (RxdraftError, ProblemError):
        if made is None:
            raise
        return None


def _shown(
    service: Service, call: Call, facts: PatientFacts, write: CardWriter, draft: Draft, newer: str | None
) -> list[_Told]:
    """Return the card of a draft, its drugs screened by what is known now."""
    drugs = [drug for _, drug in standing_rows(draft)]
    if not drugs:
        return []
    current = None if facts.drugs is None else [name for _, name in facts.drugs if name]
    screening = safety.screen(service.screener, drugs, current, facts)
    card = draft_card(write, draft, call.context, facts, screening, newer)
    return [_Told(card, draft.draft_id, [alert for alert in screening.alerts if alert.tier != "info"])]


def _record(service: Service, service_id: str, caller: Principal, told: list[_Told]) -> None:
    Cds(service.store).add_cards(
        [
            NewCard(
                card_id=one.card.uuid,
                client=caller.id,
                service_id=service_id,
                indicator=one.card.indicator,
                draft_id=one.draft_id,
                rule_ids=tuple(dict.fromkeys(alert.rule_id for alert in one.alerts)),
                suggestion_ids=tuple(suggestion.uuid for suggestion in one.card.suggestions or ()),
            )
            for one in told
        ]
    )
    for alert in (alert for one in told for alert in one.alerts):
        metrics.alert_shown(alert.rule_id, alert.tier)
