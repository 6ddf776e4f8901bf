"""The knowledge files: every rule is tried on its own cases, and says where it comes from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.resources import files

import pytest

from etl.drug_vocabulary import read_drug_vocabulary
from serving.screening import Rule, Screener
from serving.screening.knowledge import FILES, read_knowledge
from serving.screening.summary import CHECKS, REASONS

RULES = read_knowledge().rules


def texts() -> Iterator[str]:
    for rule in RULES:
        yield from (rule.title.en, rule.title.ko, rule.message.en, rule.message.ko)
    for text in (*CHECKS.values(), *REASONS.values(), *read_knowledge().classes.values()):
        yield from (text.en, text.ko)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule_id)
def test_a_rule_fires_in_its_own_case_and_only_there(rule: Rule, screener: Screener) -> None:
    assert rule.fires
    assert rule.silent
    fired = screener.screen(rule.fires.proposed, rule.fires.facts)
    silent = screener.screen(rule.silent.proposed, rule.silent.facts)
    assert rule.rule_id in {alert.rule_id for alert in fired.alerts}
    assert rule.rule_id not in {alert.rule_id for alert in silent.alerts}
    assert not silent.unscreened  # silence about an unknown drug would prove nothing


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule_id)
def test_a_rule_names_its_source_and_admits_that_no_pharmacist_saw_it(rule: Rule) -> None:
    assert rule.citation
    assert rule.owner
    assert rule.version
    assert re.fullmatch(r"\d{4}-\d\d-\d\d by the authors; not reviewed by a pharmacist", rule.reviewed)
    assert rule.check in CHECKS
    assert re.search("[가-힣]", rule.message.ko)
    assert re.search("[가-힣]", rule.title.ko)
    assert rule.message.en.endswith(".")
    assert rule.message.ko.endswith(".")


def test_rule_ids_are_distinct() -> None:
    assert len({rule.rule_id for rule in RULES}) == len(RULES)


def test_nothing_is_called_safe() -> None:
    assert not [text for text in texts() if re.search(r"\bsafe\b", text, re.IGNORECASE) or "안전" in text]


def test_the_fifteen_high_priority_pairs_are_there_and_only_qt_is_lowered() -> None:
    tiers = {rule.rule_id: rule.tier for rule in RULES if rule.rule_id.startswith("onc-")}
    numbers = (3, 4, 6, 8, 11, 16, 20, 21, 22, 23, 25, 27, 28, 30, 31)
    assert tiers == {f"onc-{number:02}": "warning" if number == 21 else "critical" for number in numbers}


def test_critical_rules_are_allergies_and_high_priority_pairs_alone() -> None:
    assert {rule.check for rule in RULES if rule.tier == "critical"} == {"allergy", "onc-high"}


def test_every_qt_drug_names_its_label_and_section() -> None:
    rows = json.loads((files("serving.screening") / "knowledge" / "qt.json").read_text("utf-8"))["qt_known_risk"]
    assert rows
    assert all(row["label"] and row["section"] for row in rows)
    assert [row["drug"] for row in rows] == sorted({row["drug"] for row in rows})


def test_members_are_spelt_as_the_vocabulary_spells_them() -> None:
    """A member in another spelling would never match a drug, in silence; the ONC lists hold drugs it does not know."""
    look_up, knowledge = read_drug_vocabulary().look_up, read_knowledge()
    lists = {one for pair in knowledge.noninterruptive for one in pair}
    for name, group in knowledge.groups.items():
        if name.startswith("onc-") and not name.startswith("onc-21"):
            lists |= group.ingredients
        else:
            assert {look_up(one).ingredients for one in group.ingredients} == {(one,) for one in group.ingredients}
    others = {one for one in lists if look_up(one).ingredients not in ((), (one,))}
    assert others == {"magnesium salicylate"}  # which the vocabulary reads as magnesium


def test_a_synonym_names_what_the_vocabulary_does_not_know_itself() -> None:
    vocabulary = read_drug_vocabulary()
    assert not [
        other
        for other, name in read_knowledge().synonyms.items()
        if vocabulary.look_up(other).ingredients not in ((), (name,))
    ]


def test_exclude_pairs_are_not_on_the_list_of_non_interruptive_pairs() -> None:
    quiet = read_knowledge().noninterruptive
    assert frozenset(("sotalol", "citalopram")) not in quiet
    assert frozenset(("sotalol", "escitalopram")) not in quiet
    assert quiet[frozenset(("sotalol", "sertraline"))] is None


def test_pairs_that_hold_only_by_mouth_suppress_nothing() -> None:
    quiet = read_knowledge().noninterruptive
    assert frozenset(("metoprolol", "calcium gluconate")) not in quiet
    assert quiet[frozenset(("clopidogrel", "aspirin"))] == "info"


@pytest.mark.parametrize("name", FILES)
def test_a_knowledge_file_says_what_it_is_and_which_release(name: str) -> None:
    content = json.loads((files("serving.screening") / "knowledge" / name).read_text("utf-8"))
    assert content["name"]
    assert content["content_version"] == "2026.11.0"
