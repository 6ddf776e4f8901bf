"""What all cards share: their source, reasons to put them aside, and how findings and gaps are worded."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from serving.cds.models import Card, Coding, Indicator, Source
from serving.cds.prefetch import PatientFacts
from serving.cds.words import Words, escape, fitted
from serving.screening import Alert, Screening

REASON_SYSTEM = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes"
REASONS = {
    "patient-contraindication": ("Patient has contraindication to recommended action", "환자에게 금기임"),
    "risk-benefit-ratio": ("Unfavorable risk-benefit ratio", "위험 대비 이득이 크지 않음"),
    "does-not-align-latest-evidence": ("Does not align with the latest evidence", "최신 근거와 맞지 않음"),
    "policy-contradicts": ("Contradicts local policy", "기관 지침과 맞지 않음"),
    "expert-contradicts": ("Contradicts expert opinion", "전문가 의견과 맞지 않음"),
    "indication-order-exists": ("Already ordered for this indication", "같은 적응증으로 이미 처방됨"),
    "patient-refuses": ("Patient refuses", "환자가 거부함"),
    "need-more-info": ("More information is needed", "추가 정보가 필요함"),
}
"""Why a card may be put aside, in English and Korean; those codes of REASON_SYSTEM that fit a drug."""


@dataclass(frozen=True, slots=True)
class CardWriter:
    """Writes the cards of one call.

    Attributes:
        public_url: of this service; links and sources hang on it.
        say: the words of the caller's language.
    """

    public_url: str
    say: Words

    def card(self, indicator: Indicator, summary: str, **fields: Any) -> Card:
        """Return a card under a new uuid, without which no feedback could name it; the summary is cut to fit."""
        return Card(uuid=new_id(), indicator=indicator, summary=fitted(summary), **fields)

    def reasons(self) -> tuple[Coding, ...]:
        """Return the reasons to put a card of advice aside."""
        korean = self.say.language == "ko"
        return tuple(
            Coding(system=REASON_SYSTEM, code=code, display=display[korean]) for code, display in REASONS.items()
        )

    def source(self, kind: Literal["model", "rules"], version: str) -> Source:
        """Name what a card comes from, with the page about it."""
        topic = Coding(
            system=f"{self.public_url}/cds/topics",
            code={"model": "draft-rx", "rules": "screening"}[kind],
            display=self.say(f"{kind}_topic"),
        )
        label = fitted(self.say(f"{kind}_source", version=version))
        return Source(label=label, url=f"{self.public_url}/about/{kind}", topic=topic)

    def finding(self, alert: Alert) -> str:
        """Return an alert as an item of a list, with its rule and where that comes from."""
        cited = self.say("cited", rule_id=alert.rule_id, version=alert.rule_version, citation=alert.citation)
        return f"- **{escape(self.message(alert))}** {escape(cited)}"

    def findings(self, alerts: list[Alert]) -> list[str]:
        """Return alerts as one paragraph, or none."""
        return ["\n".join(map(self.finding, alerts))] if alerts else []

    def message(self, alert: Alert) -> str:
        """Return what an alert says."""
        return str(getattr(alert.message, self.say.language))

    def unseen(self, screening: Screening, facts: PatientFacts, unnamed: int = 0) -> list[str]:
        """Return the paragraphs on what was not screened, and how far screening went."""
        nameless = [self.say.counted("unnamed", unnamed)] if unnamed else []
        names = self.say.listed([*screening.unscreened, *nameless])
        unknown = self.say.listed(screening.allergies_unrecognised)
        return [
            *([self.say("not_screened", names=names)] if names else []),
            *([self.say("unrecognised", names=unknown)] if unknown else []),
            *self.gaps(facts),
            escape(getattr(screening.summary, self.say.language)),
        ]

    def gaps(self, facts: PatientFacts) -> list[str]:
        """Return the paragraphs on what the caller did not send, or only in part."""
        gaps = [self.say("gap", name=self.say(key)) for key in facts.gaps]
        none = [self.say("none_recorded")] if facts.allergies == () else []
        return [*([self.say("not_evaluated", names=", ".join(gaps))] if gaps else []), *none]


def new_id() -> str:
    """Return an id for a card or a suggestion; it tells of nothing."""
    return str(uuid.uuid4())
