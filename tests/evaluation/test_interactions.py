"""Interactions: the source's file, pairs by hand, and the rates of the table."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.drug_vocabulary import read_drug_vocabulary
from etl.errors import ConfigError
from evaluation.interactions import (
    COLUMNS,
    SEVERITIES,
    Interactions,
    interaction_scores,
    rates_by_severity,
    read_interactions,
)

SOURCE = """code_a,code_b,severity,source,version
N02A,n05ba,major,hand,1
paracetamol,Warfarin,Contraindicated,hand,1
warfarin,acetaminophen,moderate,hand,1
C03CA,C03CA,minor,hand,1
zzz,furosemide,,hand,1
"""
NAMES = ("oxycodone", "Lorazepam", "acetaminophen", "warfarin", "furosemide", "Lasix", "torsemide", "zzz", "adde")


def read(folder: Path, text: str) -> Interactions:
    path = folder / "interactions.csv"
    path.write_text(text, encoding="utf-8")
    return read_interactions(read_drug_vocabulary(), path)


@pytest.fixture(scope="module")
def interactions(tmp_path_factory: pytest.TempPathFactory) -> Interactions:
    return read(tmp_path_factory.mktemp("source"), SOURCE)


# --- the source ---------------------------------------------------------------------------------------


def test_atc_codes_stand_for_all_drugs_below_them(interactions):
    assert interactions.severity("oxycodone", "Lorazepam") == "major"
    assert interactions.severity("morphine sulfate", "diazepam") == "major"
    assert interactions.severity("oxycodone", "morphine sulfate") is None


def test_a_pair_listed_twice_has_its_worst_severity_under_any_spelling(interactions):
    assert interactions.severity("warfarin", "Tylenol") == "contraindicated"


def test_two_names_of_one_drug_never_interact(interactions):
    assert interactions.severity("furosemide", "torsemide") == "minor"
    assert interactions.severity("furosemide", "Lasix") is None
    assert interactions.severity("furosemide", "furosemide") is None


def test_a_drug_that_only_the_source_knows_is_found_by_its_name(interactions):
    assert interactions.severity("ZZZ", "furosemide") == "unknown"
    assert interactions.is_mapped("zzz")
    assert not interactions.is_mapped("adde")


def test_a_combination_interacts_as_each_of_its_ingredients(interactions):
    assert interactions.severity("oxycodone-acetaminophen", "warfarin") == "contraindicated"


def test_a_drug_without_a_code_is_unknown_to_a_source_of_codes(tmp_path):
    codes = read(tmp_path, "code_a,code_b,severity,source,version\nN02A,N05BA,major,hand,1\n")
    assert codes.is_mapped("furosemide")
    assert not codes.is_mapped("adde")
    assert codes.severity("n02aa", "n05ba") == "major"  # a cohort called by its codes


def test_the_shipped_source_holds_ingredients_that_the_vocabulary_knows():
    vocabulary = read_drug_vocabulary()
    shipped = read_interactions(vocabulary)
    assert shipped.severity("Simvastatin", "amiodarone") == "contraindicated"
    assert shipped.severity("tizanidine", "ciprofloxacin") == "contraindicated"
    assert shipped.severity("omeprazole", "clopidogrel") is None
    rows = pl.read_csv(Path(__file__).parents[2] / "etl" / "vocabulary" / "interactions.csv")
    assert tuple(rows.columns) == COLUMNS
    names = set(rows["code_a"]) | set(rows["code_b"])
    unknown = {name for name in names if vocabulary.look_up(name).ingredients != (name,)}
    # off the US market, so no order of MIMIC-IV names them
    assert unknown == {"amprenavir", "benzphetamine", "diethylpropion", "moclobamide", "phendimetrazine"}
    assert rows.select("code_a", "code_b").is_duplicated().sum() == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n", "has columns a, b; wanted code_a, code_b, severity, source, version"),
        ("", "has columns none"),
        (SOURCE.splitlines()[0], "no rows"),
        (SOURCE + "a,b,dire,hand,1\n", "line 7 has a severity that is none of contraindicated, major"),
        (SOURCE + "a,,major,,1\n\na,b\n", "line 7 has no code_b; line 7 has no source; line 9 has 2 fields, wanted 5"),
        (SOURCE + ",,,,\n" * 9, "and 22 more; correct the file"),
    ],
)
def test_a_wrong_source_is_refused_with_its_lines(tmp_path, text, message):
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_source_that_is_no_text_or_no_file_is_refused(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "x.csv", tmp_path / "none.csv"):
        with pytest.raises(ConfigError, match=path.name):
            read_interactions(read_drug_vocabulary(), path)


# --- counts -------------------------------------------------------------------------------------------


def test_a_visit_is_counted_as_by_hand(interactions):
    drafted, ordered = ["oxycodone", "Lorazepam", "warfarin", "acetaminophen", "adde"], ["oxycodone", "Lorazepam"]
    assert interactions.columns(drafted, ordered) == {
        "pairs": 10,
        "mapped_pairs": 6,
        "ddi_pairs": 2,
        "pairs_truth": 1,
        "ddi_truth": 1,
        "novel_pairs": 1,
        "ddi_severity": [1, 1, 0, 0, 0],
    }


lists = st.lists(st.sampled_from(NAMES), unique=True)


@given(lists, lists)
def test_counts_are_those_of_all_pairs(interactions, drafted, ordered):
    row = interactions.columns(drafted, ordered)
    found = [pair for pair in combinations(drafted, 2) if interactions.severity(*pair)]
    assert row["ddi_pairs"] == len(found) == sum(row["ddi_severity"])
    assert row["novel_pairs"] == sum(not set(pair) <= set(ordered) for pair in found)
    assert row["ddi_pairs"] <= row["mapped_pairs"] <= row["pairs"] == len(list(combinations(drafted, 2)))
    assert row["ddi_truth"] == interactions.columns(ordered, [])["ddi_pairs"]


@given(lists, lists, st.sampled_from(NAMES))
def test_another_drug_never_lowers_the_count(interactions, drafted, ordered, another):
    longer = list(dict.fromkeys([*drafted, another]))
    assert interactions.columns(longer, ordered)["ddi_pairs"] >= interactions.columns(drafted, ordered)["ddi_pairs"]


# --- rates --------------------------------------------------------------------------------------------


def test_rates_are_over_the_visits_answered_with_a_list(interactions):
    drafts = [["oxycodone", "lorazepam", "adde"], ["warfarin"], []]
    truths = [["oxycodone", "lorazepam"], ["warfarin", "acetaminophen"], ["furosemide", "torsemide"]]
    formed = [True, True, False]
    visits = pl.DataFrame(
        [
            {**interactions.columns(p, t), "well_formed": ok}
            for p, t, ok in zip(drafts, truths, formed, strict=True)
        ]
    )  # fmt: skip
    scores = {name: score.value for name, score in interaction_scores(visits).items()}
    assert scores == {
        "ddi_rate": 1 / 3,
        "ddi_rate_truth": 1.0,
        "ddi_rate_by_visit": 1 / 6,
        "novel_per_100": 0.0,
        "pair_coverage": 1 / 3,
    }
    assert {name: score.value for name, score in rates_by_severity(visits).items()} == {"major": 1 / 3}
    assert SEVERITIES[1] == "major"


def test_without_any_pair_the_rate_is_0_and_the_coverage_unknown(interactions):
    visits = pl.DataFrame([{**interactions.columns(["warfarin"], []), "well_formed": True}])
    assert interaction_scores(visits)["ddi_rate"].value == 0
    assert interaction_scores(visits)["pair_coverage"].value is None
    assert rates_by_severity(visits) == {}
