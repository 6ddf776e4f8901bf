"""A site's own table: what it adds, what outranks it, and how its mistakes are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from etl.drug_vocabulary import read_drug_vocabulary
from etl.errors import ConfigError
from serving.screening import Facts, Screener, Screening
from serving.screening.knowledge import read_knowledge
from serving.screening.profiles import Profiler

HEADER = "drug_a,drug_b,severity,message,source\n"
Screen = Callable[..., Screening]


@pytest.fixture
def screen(tmp_path: Path) -> Screen:
    """Screens two drugs with a table of the rows given."""

    def run(drugs: list[str], *rows: str) -> Screening:
        path = tmp_path / "site.csv"
        path.write_text(HEADER + "\n".join(rows), "utf-8")
        return Screener(path).screen(drugs, Facts())

    return run


def tiers(found: Screening) -> list[tuple[str, str]]:
    return [(alert.rule_id, alert.tier) for alert in found.alerts]


def test_a_row_fires_in_any_order_and_spelling(screen: Screen) -> None:
    found = screen(["Coumadin", "Diflucan"], "fluconazole,WARFARIN,warning,INR rises,Handbook 2026")
    assert tiers(found) == [("site-fluconazole-warfarin", "warning")]
    assert found.alerts[0].message.ko == "Coumadin, Diflucan – INR rises"
    assert found.alerts[0].citation == "Handbook 2026"
    assert "site" in found.evaluated


def test_a_rule_of_the_site_is_found_by_its_id(tmp_path: Path) -> None:
    path = tmp_path / "site.csv"
    path.write_text(HEADER + "warfarin,fluconazole,info,INR rises,Handbook", "utf-8")
    screener = Screener(path)
    rule = screener.rule("site-fluconazole-warfarin")
    assert rule is not None
    assert rule.owner == "this site"
    assert screener.version != Screener().version
    assert rule.version in screener.version


def test_a_non_interruptive_pair_is_counted_and_not_shown(screen: Screen) -> None:
    found = screen(["warfarin", "omeprazole"], "warfarin,omeprazole,critical,Bleeding,Vendor")
    assert tiers(found) == []
    assert found.suppressed == 1


def quiet_pairs() -> list[tuple[str, str, str, str | None]]:
    """Return each pair of classes that suppresses: its id, a known systemic drug of each, and what is left of a row."""
    knowledge = read_knowledge()
    profile = Profiler(read_drug_vocabulary(), knowledge.groups, knowledge.synonyms)
    content = json.loads((files("serving.screening") / "knowledge" / "onc_noninterruptive.json").read_text("utf-8"))
    sides = {
        name: [one for one in ones if profile(one).ingredients == {one} and profile(one).dose]
        for name, ones in content["classes"].items()
    }
    return [
        (row["rule_id"], sides[row["object"]][0], sides[row["precipitant"]][0], row.get("show_as"))
        for row in content["pairs"]
        if not row.get("oral_only")
    ]


@pytest.mark.parametrize(("rule_id", "one", "other", "left"), quiet_pairs())
def test_every_pair_of_the_list_lowers_a_row(
    screen: Screen, rule_id: str, one: str, other: str, left: str | None
) -> None:
    found = screen([one, other], f"{one},{other},critical,From a vendor,Vendor")
    assert [alert.tier for alert in found.alerts if alert.check == "site"] == ([left] if left else [])
    assert found.suppressed == 1


def test_a_pair_that_the_list_keeps_as_info_is_shown_as_info(screen: Screen) -> None:
    found = screen(["clopidogrel", "aspirin"], "clopidogrel,aspirin,warning,Bleeding,Vendor")
    assert tiers(found) == [("site-aspirin-clopidogrel", "info")]
    assert found.suppressed == 1


def test_the_list_does_not_lower_sotalol_with_citalopram(screen: Screen) -> None:
    """The QT rule speaks of the pair, and a severer row of the site stays as severe as it is."""
    row = "sotalol,citalopram,{},QT,Vendor"
    assert tiers(screen(["sotalol", "citalopram"], row.format("warning"))) == [("onc-21", "warning")]
    severe = screen(["sotalol", "citalopram"], row.format("critical"))
    assert tiers(severe) == [("site-citalopram-sotalol", "critical"), ("onc-21", "warning")]
    assert screen(["sotalol", "sertraline"], "sotalol,sertraline,critical,Beta blocker,Vendor").suppressed == 1


def test_no_row_lowers_or_repeats_a_rule_of_ours(screen: Screen) -> None:
    found = screen(["simvastatin", "clarithromycin"], "simvastatin,clarithromycin,critical,Myopathy,Vendor")
    assert tiers(found) == [("onc-25", "critical")]
    assert found.suppressed == 1


def test_a_row_says_nothing_without_both_its_drugs(screen: Screen) -> None:
    found = screen(["warfarin", "aspirin"], "warfarin,fluconazole,warning,INR rises,Handbook")
    assert (tiers(found), found.suppressed) == ([], 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("warfarin,foo,warning,m,s", "line 2 column drug_b is no drug that rxdraft knows"),
        ("percocet,warfarin,warning,m,s", "line 2 column drug_a is a combination"),
        ("warfarin,aspirin,severe,m,s", "line 2 column severity is not one of critical, warning, info"),
        ("warfarin,aspirin,info,,s", "line 2 column message has 0 characters"),
        (f"warfarin,aspirin,info,m,{'s' * 501}", "line 2 column source has 501 characters"),
        ("warfarin,coumadin,info,m,s", "line 2 names one ingredient twice"),
        ("warfarin,aspirin,info,m,s\naspirin,warfarin,info,m,s", "line 3 repeats the pair"),
        ("warfarin,aspirin,info,m", "line 2 has 4 fields, wanted 5"),
        ("", "no rows"),
    ],
)
def test_a_mistake_is_told_with_line_and_column(screen: Screen, row: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        screen([], row)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"drug_a,drug_b\n", b"\xff\xfe", b'"'])
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "site.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="--interactions"):
        Screener(path)
    with pytest.raises(ConfigError, match="cannot read"):
        Screener(tmp_path / "absent.csv")


def test_many_mistakes_are_counted(screen: Screen) -> None:
    with pytest.raises(ConfigError, match="and 3 more"):
        screen([], *(f"foo{n},bar{n},info,m,s" for n in range(4)))
