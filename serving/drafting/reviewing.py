"""A draft as its reviews leave it: what stands, what the rules say of that, and how it is shown. No store, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from etl.domain import normalise_icd
from etl.errors import RxdraftError
from serving.drafting.content import facts_of, screened
from serving.schemas import Content, Draft, DraftRequest, ItemAlert, Review, ReviewRequest, Screened
from serving.screening import Facts, Screener
from serving.store.errors import FinalisedError, NotReadyError, VersionConflictError
from serving.store.records import Hit, StoredDraft

FIRST = "first_screening"
"""Beside the content of a draft whose request is not kept: what the rules said when the patient was known."""


class ReasonRequiredError(RxdraftError):
    """A rejection, or a drug kept against a critical alert, came without a reason."""


class UndecidedError(RxdraftError):
    """Some rows of the draft are not decided yet."""


class RepeatedDrugError(RxdraftError):
    """An edit would put a drug onto the list that stands on it already."""


class UnknownItemError(RxdraftError):
    """The draft has no such row."""


class Decided(Protocol):
    """A review, asked for or stored."""

    @property
    def decision(self) -> str:
        """What was decided: accept, edit, reject or undo."""
        ...

    @property
    def edited_drug(self) -> str | None:
        """What stands in the drug's place."""
        ...


Titles = Mapping[tuple[str, int], str]

Decisions = Mapping[str, Decided]
"""The review that counts, by item_id."""


def reviewed(
    stored: StoredDraft, review: ReviewRequest, screener: Screener, now: datetime
) -> tuple[dict[str, Any], Decisions]:
    """Return a draft's content as it reads after one more review, and all decisions that count then.

    Args:
        stored: the draft.
        review: the decision.
        screener: of the list as it then stands.
        now: laboratory values have grown older since the draft was asked for.

    Raises:
        NotReadyError, FinalisedError, VersionConflictError: the draft does not take it.
        UnknownItemError, RepeatedDrugError, ReasonRequiredError: the review cannot stand.
    """
    content = _open_content(stored)
    if stored.version != review.if_version:
        raise VersionConflictError(f"the draft has version {stored.version}; read it again")
    if review.item_id not in {item.item_id for item in content.drugs}:
        raise UnknownItemError("the draft has no such row; item_id is one of its drugs'")
    decisions: dict[str, Decided] = {**stored.decisions(), review.item_id: review}
    if review.decision == "undo":
        del decisions[review.item_id]
    drugs = [drug.casefold().strip() for drug in standing(content, decisions).values()]
    if review.edited_drug is not None and drugs.count(review.edited_drug.casefold().strip()) > 1:
        raise RepeatedDrugError("the list holds this drug already; reject the row instead")
    content.screening = _screened(stored, content, decisions, screener, now)
    if _needs_reason(review, content.screening) and review.reason_code is None and review.reason_text is None:
        raise ReasonRequiredError("a rejection, or a drug kept against a critical alert, needs a reason")
    return _dumped(stored, content), decisions


def finished(stored: StoredDraft, screener: Screener, now: datetime) -> dict[str, Any]:
    """Return a draft's content as it is frozen, screened once more; arguments as of `reviewed`.

    Raises:
        NotReadyError, FinalisedError: the draft does not take it.
        UndecidedError: some rows are not decided.
    """
    content, decisions = _open_content(stored), stored.decisions()
    if undecided := len(content.drugs) - len(decisions):
        raise UndecidedError(f"{undecided} drugs are not decided; accept, edit or reject each")
    content.screening = _screened(stored, content, decisions, screener, now)
    return _dumped(stored, content)


def hits(content: Content, decisions: Decisions) -> tuple[Hit, ...]:
    """Return which rules fired on which rows, and which were decided against."""
    kept = {item_id for item_id, review in decisions.items() if review.decision in ("accept", "edit")}
    alerts = content.screening.alerts if content.screening else ()
    return tuple(
        Hit(alert.rule_id, alert.rule_version, alert.tier, alert.items, overridden=not kept.isdisjoint(alert.items))
        for alert in alerts
    )


def shown(stored: StoredDraft, titles: Titles, position: int | None = None) -> Draft:
    """Return a draft as the API gives it.

    Args:
        stored: the draft.
        titles: of each (icd_code, icd_version), for the facts.
        position: of a queued one; 1 is next.
    """
    draft = Draft.model_validate(
        {
            **(stored.content or {}),
            "draft_id": stored.draft_id,
            "state": stored.state,
            "version": stored.version,
            "created_at": stored.created_at,
            "position": position,
            "failure": stored.failure,
            "facts": _facts(stored.request, titles) if stored.request else None,
        }
    )
    decisions = stored.decisions()
    for item in draft.drugs:
        if review := decisions.get(item.item_id):
            item.review = Review(
                decision=review.decision,  # type: ignore[arg-type]  # an undo never counts
                edited_drug=review.edited_drug,
                reason_code=review.reason_code,
                reason_text=review.reason_text,
                reviewed_at=review.created_at,
            )
    return draft


def _facts(request: dict[str, Any], titles: Titles) -> dict[str, Any]:
    """Return a request with the title of each coded diagnosis."""

    def titled(diagnosis: dict[str, Any]) -> dict[str, Any]:
        if "icd_code" not in diagnosis:
            return diagnosis
        return {**diagnosis, "title": titles.get((normalise_icd(diagnosis["icd_code"]), diagnosis["icd_version"]))}

    lists = {name: request.get(name) for name in ("diagnoses", "earlier_diagnoses")}
    return {**request, **{name: found and list(map(titled, found)) for name, found in lists.items()}}


def standing(content: Content, decisions: Decisions) -> dict[str, str]:
    """Return the drugs that are not rejected, as edited, by item_id."""
    drugs: dict[str, str] = {}
    for item in content.drugs:
        review = decisions.get(item.item_id)
        if review is None or review.decision != "reject":
            drugs[item.item_id] = (review and review.edited_drug) or item.drug
    return drugs


def _open_content(stored: StoredDraft) -> Content:
    if stored.state == "final":
        raise FinalisedError("the draft is final; make a new one")
    if stored.content is None:
        raise NotReadyError("the draft has no list to review")
    return Content.model_validate(stored.content)


def _dumped(stored: StoredDraft, content: Content) -> dict[str, Any]:
    kept = {FIRST: stored.content[FIRST]} if stored.content and FIRST in stored.content else {}
    return {**content.model_dump(mode="json"), **kept}


def _needs_reason(review: ReviewRequest, screening: Screened) -> bool:
    if review.decision in ("accept", "edit"):
        return any(alert.tier == "critical" and review.item_id in alert.items for alert in screening.alerts)
    return review.decision == "reject"


def _screened(
    stored: StoredDraft, content: Content, decisions: Decisions, screener: Screener, now: datetime
) -> Screened:
    drugs = standing(content, decisions)
    if stored.request is not None:
        later_hours = max(0.0, (now - stored.created_at) / timedelta(hours=1))
        return screened(screener, drugs, facts_of(DraftRequest.model_validate(stored.request), later_hours))
    first = Screened.model_validate((stored.content or {})[FIRST])
    return _with_earlier(screened(screener, drugs, Facts()), first, drugs)


def _with_earlier(now: Screened, first: Screened, drugs: Mapping[str, str]) -> Screened:
    """Keep the alerts that only a known patient can raise, of drugs that still stand; that nobody knows now is ours."""
    kept = [
        alert.model_copy(update={"items": items})
        for alert in first.alerts
        if (alert.current or alert.check not in now.evaluated)
        and (items := tuple(item for item in alert.items if drugs.get(item) in alert.drugs))
    ]
    tiers = ("critical", "warning", "info")
    alerts = sorted([*kept, *now.alerts], key=lambda alert: tiers.index(alert.tier))
    return now.model_copy(update={"alerts": _numbered(alerts)})


def _numbered(alerts: list[ItemAlert]) -> tuple[ItemAlert, ...]:
    return tuple(alert.model_copy(update={"alert_id": f"a{place}"}) for place, alert in enumerate(alerts, 1))
