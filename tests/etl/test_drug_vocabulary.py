from __future__ import annotations

import csv
import doctest
import gzip
import re
import time
from collections import Counter, defaultdict
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.drug_vocabulary import (
    CATEGORIES,
    DEFAULT_DROP,
    ROUTES,
    TABLES,
    Drug,
    DrugVocabulary,
    Level,
    read_drug_vocabulary,
)
from etl.drugs import normalise_drug
from etl.synth import read_hospital

ATC = re.compile(r"[A-Z]\d{2}[A-Z]{2}(\d{2})?")
DOCUMENT = Path(__file__).parents[2] / "docs" / "vocabulary.md"


def rows(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader((files("etl") / "vocabulary" / f"{table}.csv").read_text("utf-8").splitlines()))


def parts(cell: str) -> list[str]:
    return [part for part in cell.split("; ") if part]


def by_route(row: dict[str, str]) -> list[str]:
    return [pair.partition("=")[2] for pair in parts(row["atc_by_route"])]


VOCABULARY = read_drug_vocabulary()
INGREDIENTS = [row["ingredient"] for row in rows("ingredients")]
ALIASES = [row["alias"] for row in rows("aliases")]
spellings = st.text() | st.builds(
    " ".join,
    st.lists(
        st.sampled_from([*INGREDIENTS, *ALIASES, *(row["word"] for row in rows("words")), "(", ")", "0.9%", "foo"])
    ),
)


# The tables


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_sorted_and_says_nothing_twice(table):
    lines = [tuple(row.values()) for row in rows(table)]
    assert lines == sorted(set(lines))
    assert all(None not in line for line in lines)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("ingredients", ["ingredient"]),
        ("aliases", ["alias"]),
        ("words", ["word"]),
        ("categories", ["phrase"]),
        ("combinations", ["ingredients", "route"]),
    ],
)
def test_a_key_is_unique_and_spelt_as_the_normaliser_spells(table, key):
    keys = [tuple(row[column] for column in key) for row in rows(table)]
    assert not [one for one, times in Counter(keys).items() if times > 1]
    assert not [one for one in keys if normalise_drug(one[0]) != one[0]]


def test_every_code_is_an_atc_code_of_its_fourth_or_fifth_level():
    codes = [
        code
        for table in ("ingredients", "aliases", "combinations")
        for row in rows(table)
        for code in parts(row["atc"])
    ]
    codes += [code for row in rows("ingredients") for code in by_route(row)]
    assert len(codes) > 1900
    assert not [code for code in codes if not ATC.fullmatch(code)]


def test_every_route_and_category_is_a_known_one():
    named = [pair.partition("=")[0] for row in rows("ingredients") for pair in parts(row["atc_by_route"])]
    named += [row["route"] for table in ("aliases", "combinations", "words") for row in rows(table) if row["route"]]
    assert set(named) <= set(ROUTES)
    assert {row["category"] for row in rows("categories")} == set(CATEGORIES)
    assert {row["kind"] for row in rows("words")} == {"form", "salt", "unit"}


def test_aliases_and_combinations_are_made_of_listed_ingredients():
    used = {one for table in ("aliases", "combinations") for row in rows(table) for one in parts(row["ingredients"])}
    assert not used - set(INGREDIENTS)
    assert all(len(parts(row["ingredients"])) > 1 for row in rows("combinations"))


def test_an_ingredient_means_itself():
    assert not [one for one in INGREDIENTS if VOCABULARY.look_up(one).ingredients != (one,)]


def test_every_alias_means_what_its_row_says():
    for row in rows("aliases"):
        drug = VOCABULARY.look_up(row["alias"])
        assert list(drug.ingredients) == parts(row["ingredients"]), row["alias"]
        assert not row["atc"] or list(drug.atc) == parts(row["atc"])


def test_every_synthetic_drug_is_mapped():
    drugs = {drug for disease in read_hospital(0).diseases for drug, _, _ in disease.treatments}
    assert not [drug for drug in drugs if not VOCABULARY.look_up(drug).atc]


# What a name means


@pytest.mark.parametrize(
    ("spelling", "ingredients", "atc"),
    [
        ("HYDROmorphone (Dilaudid)", ["hydromorphone"], ["N02AA03"]),
        ("Acetaminophen IV", ["acetaminophen"], ["N02BE01"]),
        ("Albuterol 0.083% Neb Soln", ["albuterol"], ["R03AC02"]),
        ("Piperacillin-Tazobactam", ["piperacillin", "tazobactam"], ["J01CR05"]),
        ("*NF* Ertapenem Sodium", ["ertapenem"], ["J01DH03"]),
        ("Losartan Potassium", ["losartan"], ["C09CA01"]),
        ("Calcium-Magnesium", ["calcium", "magnesium"], ["A12AA20", "A12CC"]),
        ("Heparin in D5W", ["heparin"], ["B01AB01"]),
        ("Lenalidomide (Revlimide)15mg", ["lenalidomide"], ["L04AX04"]),
        ("Revatio (sildenafil)", ["sildenafil"], ["G04BE03"]),
        ("Fleet Enema (Mineral Oil)", ["mineral oil"], ["A06AG06"]),
        ("Maalox/Lidocaine", ["aluminum hydroxide", "lidocaine", "magnesium hydroxide", "simethicone"], None),
        ("Vancomycin Oral Liquid", ["vancomycin"], ["A07AA09"]),
        ("Erythromycin 0.5% Ophth Oint", ["erythromycin"], ["S01AA17"]),
        ("Multivitamins", ["multivitamin"], ["A11BA"]),
        ("Aspirin Foobar", [], []),
        ("Piperacillin-Foobar", [], []),
        ("adde", [], []),
    ],
)
def test_a_spelling_means_its_ingredients_and_their_code(spelling, ingredients, atc):
    drug = VOCABULARY.look_up(spelling)
    assert list(drug.ingredients) == ingredients
    assert atc is None or list(drug.atc) == atc


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("hydrOXYzine", "hydrALAzine"),
        ("Vitamin B-12", "Vitamin B-6"),
        ("Vitamin B Complex", "Vitamin B Complex w/C"),
        ("Insulin Glargine", "Insulin Lispro"),
        ("Insulin 70/30", "Insulin Regular"),
        ("HumaLOG", "HumaLOG Mix 75/25"),
        ("Amphotericin B", "Polymyxin B"),
        ("Calcium Carbonate", "Calcium Gluconate"),
        ("Potassium Phosphate", "Sodium Phosphate"),
        ("Tenofovir Disoproxil", "Tenofovir Alafenamide"),
        ("Hepatitis B Vaccine", "Hepatitis B Immune Globulin"),
        ("Factor VIII", "Factor IX"),
        ("Amoxicillin", "Amoxicillin-Clavulanic Acid"),
        ("Alprostadil", "Alprazolam"),
        ("Paclitaxel", "Docetaxel"),
    ],
)
def test_these_names_never_merge(one, other):
    assert VOCABULARY.look_up(one).ingredients
    assert VOCABULARY.labels(one, Level.INGREDIENT) != VOCABULARY.labels(other, Level.INGREDIENT)


@pytest.mark.parametrize(
    "names",
    [
        ["Metoprolol Tartrate", "Metoprolol Succinate XL", "Lopressor", "Toprol XL"],
        ["OxycoDONE (Immediate Release) ", "OxyCODONE SR (OxyconTIN)", "OxycoDONE Liquid"],
        ["Oxycodone-Acetaminophen (5mg-325mg)", "OxyCODONE--Acetaminophen (5mg-325mg)", "Percocet"],
        ["Sulfameth/Trimethoprim DS", "Sulfamethoxazole-Trimethoprim", "Bactrim DS"],
        ["Albuterol-Ipratropium", "Ipratropium-Albuterol Neb", "DuoNeb"],
        ["Divalproex (EXTended Release)", "Valproic Acid", "Depakote ER"],
        ["Vitamin B-12", "vitamin b12", "Cyanocobalamin 1000 mcg"],
        ["Sodium Chloride 0.9%", "NS", "0.9 % NaCl", "Sodium Chloride 23.4%", "23.4% Sodium Chloride"],
        ["Insulin Human Regular", "Humulin R", "Insulin (Regular) Human"],
    ],
)
def test_these_names_mean_one_list_of_ingredients(names):
    assert len({VOCABULARY.labels(name, Level.INGREDIENT) for name in names}) == 1
    assert VOCABULARY.look_up(names[0]).ingredients
    assert len({VOCABULARY.labels(name, Level.DRUG) for name in names}) == len(names)


@pytest.mark.parametrize(
    ("spelling", "category"),
    [
        ("Bag", "devices"),
        ("Syringe", "devices"),
        ("Insulin Syringe U-500", "devices"),
        ("SW", "diluents"),
        ("Soln.", "diluents"),
        ("Sterile Water", "diluents"),
        ("0.9% Sodium Chloride (Mini Bag Plus)", "diluents"),
        ("0.9% Sodium Chloride", "fluids"),
        ("D5 1/2NS", "fluids"),
        ("Prismasate (B32 K2)", "fluids"),
        ("Sodium Chloride 0.9%  Flush", "flushes"),
        ("Heparin Dwell (1000 Units/mL)", "flushes"),
        ("Alteplase (Catheter Clearance)", "flushes"),
        ("Naloxone Kit", "kits"),
        ("Sodium Chloride 23.4%", None),
        ("Sodium Chloride 0.9% Nasal", None),
        ("Dextrose 50%", None),
        ("Heparin in D5W", None),
        ("Insulin Pump (Self Administering Medication)", None),
        ("Vancomycin (Mini Bag Plus)", None),
        ("Hydrocortisone", None),
        ("adde", None),
    ],
)
def test_what_is_no_drug_proper_has_a_category(spelling, category):
    assert VOCABULARY.look_up(spelling).category == category


def test_devices_and_diluents_are_dropped_by_default_and_nothing_a_patient_is_treated_with():
    assert DEFAULT_DROP == ("devices", "diluents")
    assert set(DEFAULT_DROP) <= set(CATEGORIES)


# Labels


@given(spellings, st.sampled_from(Level))
def test_every_label_is_a_fixed_point_of_the_normaliser(spelling, level):
    labels = VOCABULARY.labels(spelling, level)
    assert labels == tuple(sorted(set(labels)))
    assert [normalise_drug(label) for label in labels] == list(labels)
    assert bool(labels) == bool(normalise_drug(spelling))


@given(spellings)
def test_a_coarser_level_only_cuts(spelling):
    at = {level: VOCABULARY.labels(spelling, level) for level in Level}
    if VOCABULARY.look_up(spelling).atc:
        assert at[Level.ATC4] == tuple(sorted({label[:5] for label in at[Level.ATC5]}))
        assert at[Level.ATC3] == tuple(sorted({label[:4] for label in at[Level.ATC4]}))
    else:
        assert at[Level.ATC5] == at[Level.ATC4] == at[Level.ATC3] == at[Level.DRUG]


@given(spellings.filter(str.isascii))
def test_case_and_space_never_change_what_a_name_means(spelling):
    meant = VOCABULARY.look_up(spelling)
    for other in (spelling.upper(), spelling.title(), f"  {spelling.replace(' ', '   ')}\t", f"*NF* {spelling}"):
        assert VOCABULARY.look_up(other) == meant


def test_an_unmapped_name_is_its_own_label_and_nothing_has_none():
    assert {VOCABULARY.labels(" Adde", level) for level in Level} == {("adde",)}
    assert {VOCABULARY.labels("*NF*", level) for level in Level} == {()}


def test_ten_thousand_spellings_take_well_under_a_second():
    fresh = [f"{name} {number} mg" for number in range(6) for name in ALIASES][:10_000]
    start = time.process_time()
    for spelling in fresh:
        VOCABULARY.labels(spelling, Level.ATC4)
    assert time.process_time() - start < 2  # measured 0.2 s; busy cores are slow


# A user's map


def with_map(tmp_path: Path, text: str) -> DrugVocabulary:
    (tmp_path / "map.csv").write_text(text, encoding="utf-8")
    return read_drug_vocabulary(tmp_path / "map.csv")


def test_a_users_name_wins_over_ours(tmp_path):
    mapped = with_map(tmp_path, "drug,name\nADDE,Adderall\nSenna ,Docusate Sodium\n")
    assert mapped.look_up("adde") == VOCABULARY.look_up("adderall")
    assert mapped.look_up(" SENNA").ingredients == ("docusate",)
    assert mapped.look_up("docusate") == VOCABULARY.look_up("docusate")
    assert mapped.digest != VOCABULARY.digest


def test_a_users_ingredients_and_codes_win_and_what_is_left_out_comes_from_ours(tmp_path):
    text = (
        "drug,name,ingredients,atc\n"
        "x,Foo,Foocillin; Aspirin,j01ca99; A11BA\n"
        "y,Aspirin 81,metformin,\n"
        "z,Aspirin EC,,N02BA01\n"
    )
    mapped = with_map(tmp_path, text)
    assert mapped.look_up("X") == Drug("foo", None, ("aspirin", "foocillin"), ("A11BA", "J01CA99"))
    assert mapped.look_up("y") == Drug("aspirin 81", None, ("metformin",), ("A10BA02",))
    assert mapped.look_up("z") == Drug("aspirin ec", None, ("aspirin",), ("N02BA01",))


def test_a_map_by_gsn_says_what_its_names_mean_and_nothing_of_its_numbers(tmp_path):
    mapped = with_map(tmp_path, "name,gsn,atc\nFoo,15,C01AA05\n")
    assert mapped.look_up("foo").atc == ("C01AA05",)
    assert mapped.look_up("000015").atc == ()


def test_the_same_tables_have_the_same_digest():
    assert read_drug_vocabulary().digest == VOCABULARY.digest
    assert re.fullmatch("[0-9a-f]{64}", VOCABULARY.digest)


def test_the_documents_examples_are_true():
    assert DOCUMENT.is_file()
    failed, tried = doctest.testfile(str(DOCUMENT), module_relative=False)
    assert tried > 4
    assert not failed


# The demo, and another hand's maps


@pytest.fixture(scope="module")
def demo_orders(mimic_demo: Path) -> Counter[str]:
    """Spelling -> MAIN orders."""
    with gzip.open(mimic_demo / "hosp" / "prescriptions.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return Counter(row["drug"] for row in csv.DictReader(file) if row["drug_type"] == "MAIN")


def drug_map(mimic_demo: Path, name: str) -> list[dict[str, str]]:
    path = mimic_demo.parent / "drug-maps" / f"{name}.csv.gz"
    if not path.is_file():
        pytest.skip(f"the reference maps are not at {path.parent}")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def their_codes(mimic_demo: Path) -> dict[str, set[str]]:
    """Name -> the codes that the reference map gives it, those of the 4th or 5th level."""
    codes: dict[str, set[str]] = defaultdict(set)
    for row in drug_map(mimic_demo, "mimic_drug_to_atc"):
        if len(row["atc_code"]) >= 5:
            codes[normalise_drug(row["drug"])].add(row["atc_code"])
    return codes


@pytest.fixture(scope="module")
def substances(mimic_demo: Path) -> dict[str, set[str]]:
    """ATC code -> what the index calls it."""
    names: dict[str, set[str]] = defaultdict(set)
    for row in drug_map(mimic_demo, "atc_coding"):
        names[row["atc_code"]].add(row["atc_name"])
    return names


@pytest.mark.demo_data
def test_99_percent_of_the_demos_orders_have_an_ingredient_and_an_atc_4_code(demo_orders):
    orders = demo_orders.total()
    meant = {spelling: VOCABULARY.look_up(spelling) for spelling in demo_orders}
    assert sum(n for spelling, n in demo_orders.items() if meant[spelling].ingredients) / orders > 0.99
    assert sum(n for spelling, n in demo_orders.items() if meant[spelling].atc) / orders > 0.99
    assert {drug.name for drug in meant.values() if not drug.ingredients} == {"adde", "digox", "orthopedic solution"}


def disagreements(orders: Counter[str], theirs: dict[str, set[str]]) -> dict[str, int]:
    """Return the names whose ATC-4 codes share none with the reference's, and their orders."""
    apart: Counter[str] = Counter()
    for spelling, n in orders.items():
        drug = VOCABULARY.look_up(spelling)
        codes = theirs.get(drug.name)
        if codes and drug.atc and not {c[:5] for c in codes} & {c[:5] for c in drug.atc}:
            apart[drug.name] += n
    return apart


@pytest.mark.demo_data
def test_every_disagreement_with_the_reference_is_explained(demo_orders, their_codes):
    table = re.findall(
        r"^\| (.+?) \| ([A-Z0-9, ]+) \| ([A-Z0-9, ]+) \| (\d+) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.M
    )
    explained = {name: int(orders) for name, _, _, orders, why in table if why}
    assert disagreements(demo_orders, their_codes) == explained
    for name, ours, _, _, _ in table:
        assert ours == ", ".join(VOCABULARY.look_up(name).atc), name


@pytest.mark.demo_data
def test_97_percent_of_the_orders_both_map_are_the_same_substance(demo_orders, their_codes, substances):
    """The reference often has another route's code; the index's names tell that from another drug."""

    def named(codes: set[str]) -> set[str]:
        names = {name for code in codes if len(code) == 7 for name in substances.get(code, ())}
        return {re.sub(r"[,(].*", "", name).strip() for name in names} - {"combinations", "various", "electrolytes"}

    codes_of = {row["ingredient"]: {row["atc"], *by_route(row)} for row in rows("ingredients")}
    other = 0
    for name, n in disagreements(demo_orders, their_codes).items():
        drug = VOCABULARY.look_up(name)
        ours = named(set(drug.atc).union(*(codes_of[one] for one in drug.ingredients))) | set(drug.ingredients)
        other += n * (not ours & named(their_codes[name]))
    both = sum(n for s, n in demo_orders.items() if VOCABULARY.look_up(s).atc and their_codes.get(normalise_drug(s)))
    assert other / both < 0.03
