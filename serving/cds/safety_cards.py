"""What the rules found on orders, as cards; few of them, so that they are read."""

from __future__ import annotations

from dataclasses import dataclass

from serving.cds.cards import CardWriter
from serving.cds.models import Card, Indicator, Link
from serving.cds.orders import Orders
from serving.cds.prefetch import PatientFacts
from serving.screening import Alert, Screening

_LINKED_RULES = 5


@dataclass(frozen=True, slots=True)
class Screened:
    """Orders, and what screening them gave.

    Attributes:
        signed: whether this is the last look at them, at which gaps are told of even where no rule fired.
    """

    orders: Orders
    facts: PatientFacts
    screening: Screening
    signed: bool

    def alerts(self, tier: Indicator) -> list[Alert]:
        """Return those of one tier."""
        return [alert for alert in self.screening.alerts if alert.tier == tier]

    @property
    def unseen(self) -> int:
        """Orders that were not screened."""
        return len(self.screening.unscreened) + self.orders.unnamed

    @property
    def has_gaps(self) -> bool:
        """Whether what is missing is worth a card; a laboratory value never measured is no news."""
        known = not (self.screening.allergies_unrecognised or self.facts.gaps)
        return bool(self.unseen) or (self.signed and not known)


def safety_cards(write: CardWriter, screened: Screened) -> list[tuple[Card, list[Alert]]]:
    """Return the cards, each with the alerts in it; [] where there is nothing to tell.

    Critical findings make one card, warnings another. Notes and what was not screened stand in the last of them,
    and get a card of their own only where there is none.
    """
    tiers: list[Indicator] = [tier for tier in ("critical", "warning") if screened.alerts(tier)]
    if not tiers and (screened.alerts("info") or screened.has_gaps):
        tiers = ["info"]
    return [_card(write, screened, tier, last=tier == tiers[-1]) for tier in tiers]


def _card(write: CardWriter, screened: Screened, tier: Indicator, last: bool) -> tuple[Card, list[Alert]]:
    notes = screened.alerts("info") if last and tier != "info" else []
    alerts = screened.alerts(tier) + notes
    rules = tuple(dict.fromkeys(alert.rule_id for alert in alerts))
    unseen = write.unseen(screened.screening, screened.facts, screened.orders.unnamed) if last else []
    card = write.card(
        tier,
        summary=_summary(write, screened, tier),
        detail="\n\n".join([*write.findings(alerts), *unseen]),
        source=write.source("rules", screened.screening.rules_version),
        override_reasons=write.reasons(),
        links=tuple(_rule_link(write, rule) for rule in rules[:_LINKED_RULES]) or None,
    )
    return card, alerts


def _summary(write: CardWriter, screened: Screened, tier: Indicator) -> str:
    alerts = screened.alerts(tier)
    if tier != "info":
        return write.say.counted(tier, len(alerts), message=write.message(alerts[0]))
    if screened.unseen:
        return write.say("note_unscreened", count=screened.unseen, total=screened.orders.total)
    if alerts:
        return write.say.counted("info", len(alerts), message=write.message(alerts[0]))
    gaps = [*map(write.say, screened.facts.gaps), *screened.screening.allergies_unrecognised]
    return write.say("note_gaps", names=", ".join(gaps))


def _rule_link(write: CardWriter, rule_id: str) -> Link:
    return Link(label=write.say("about_rule", rule_id=rule_id), url=f"{write.public_url}/about/rules/{rule_id}")
