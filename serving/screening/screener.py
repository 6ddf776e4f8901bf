"""Screens drugs against the rules: the front of the package."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from etl.drug_vocabulary import DrugVocabulary, read_drug_vocabulary
from serving.screening.allergies import declared, unrecognised
from serving.screening.case import Case, Hit, Named
from serving.screening.checks import all_hits
from serving.screening.coverage import evaluated, not_evaluated
from serving.screening.facts import Facts
from serving.screening.findings import TIERS, Alert, Screening, Text, Tier
from serving.screening.knowledge import read_knowledge
from serving.screening.profiles import Profiler
from serving.screening.rules import Rule
from serving.screening.site import read_site
from serving.screening.summary import summary


class Screener:
    """Rules made ready; pure after it is made, and fit for many threads."""

    version: str
    """Of the rules: their release and a digest of all their files, the site's table among them."""

    def __init__(self, interactions: Path | None = None, drugs: DrugVocabulary | None = None) -> None:
        """Read the rules.

        Args:
            interactions: a site's own table, see `serving.screening.site`.
            drugs: what names mean; None: rxdraft's own vocabulary.

        Raises:
            ConfigError: the site's table cannot be used; the message names line and column.
        """
        self._knowledge = read_knowledge()
        self._profiler = Profiler(drugs or read_drug_vocabulary(), self._knowledge.groups, self._knowledge.synonyms)
        self._site = read_site(interactions, self._knowledge, self._profiler) if interactions else None
        rows = [rule for rule, _ in self._site.rows.values()] if self._site else []
        self._rules = {rule.rule_id: rule for rule in (*self._knowledge.rules, *rows)}
        self.version = self._knowledge.version + (f"+site-{self._site.digest}" if self._site else "")

    def screen(self, proposed: Sequence[str], facts: Facts) -> Screening:
        """Screen proposed drugs against each other, against what is ordered and against the patient.

        Args:
            proposed: in any spelling, each counted once; an empty list is screened too, and gives no alert.
            facts: what is known of the patient.
        """
        case = Case(proposed, facts, self._profiler)
        shown: list[tuple[Hit, Tier]] = [(hit, hit.rule.tier) for hit in all_hits(case, self._knowledge)]
        site = list(self._site.hits(case)) if self._site else []
        shown += [(hit, tier) for hit, tier in site if tier]
        alerts = _alerts(shown)
        unknown = unrecognised(declared(case, self._knowledge), self._knowledge)
        missing = not_evaluated(case, self._knowledge, bool(unknown))
        done = tuple(evaluated(self._knowledge, missing, site=self._site is not None))
        total, screened = len(case.proposed), sum(bool(drug.profile.ingredients) for drug in case.proposed)
        return Screening(
            rules_version=self.version,
            drugs_total=total,
            drugs_screened=screened,
            unscreened=_spellings(drug for drug in case.proposed if not drug.profile.ingredients),
            current_unscreened=_spellings(drug for drug in case.current if not drug.profile.ingredients),
            allergies_unrecognised=unknown,
            evaluated=done,
            not_evaluated=missing,
            alerts=alerts,
            suppressed=sum(tier != hit.rule.tier for hit, tier in site),
            summary=summary(screened, total, done, missing, alerts),
        )

    def rule(self, rule_id: str) -> Rule | None:
        """Return a rule; None: there is none of that id."""
        return self._rules.get(rule_id)

    def rules(self) -> tuple[Rule, ...]:
        """Return all rules in the order in which they are documented, the site's last."""
        return tuple(self._rules.values())


def _alerts(shown: Iterable[tuple[Hit, Tier]]) -> tuple[Alert, ...]:
    """Return hits as alerts, the most severe first; the sort is stable, so that rules keep their order."""
    in_order = sorted(shown, key=lambda pair: TIERS.index(pair[1]))
    return tuple(_alert(f"a{number}", hit, tier) for number, (hit, tier) in enumerate(in_order, start=1))


def _alert(alert_id: str, hit: Hit, tier: Tier) -> Alert:
    rule = hit.rule
    return Alert(
        alert_id=alert_id,
        rule_id=rule.rule_id,
        rule_version=rule.version,
        check=rule.check,
        tier=tier,
        code=rule.code,
        drugs=_spellings(drug for drug in hit.drugs if drug.proposed),
        current=_spellings(drug for drug in hit.drugs if not drug.proposed),
        message=Text(en=_message(hit, "en"), ko=_message(hit, "ko")),
        citation=rule.citation,
        url=rule.url,
    )


def _spellings(drugs: Iterable[Named]) -> tuple[str, ...]:
    return tuple(spelling for drug in drugs for spelling in drug.spellings)


def _message(hit: Hit, language: str) -> str:
    """Say whom the rule speaks of, then what it says."""
    ordered = {"en": " (ordered)", "ko": "(처방 중)"}[language]
    names = ", ".join(drug.spellings[0] + ("" if drug.proposed else ordered) for drug in hit.drugs)
    about = f" [{getattr(hit.about, language)}]" if hit.about else ""
    return f"{names}{about} – {getattr(hit.rule.message, language)}"
