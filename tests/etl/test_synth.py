from __future__ import annotations

import csv
import gzip
import itertools
import json
import random
from collections import Counter
from importlib.resources import files
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.drugs import normalise_drug
from etl.errors import ContractError
from etl.files import Files
from etl.source import TABLES
from etl.synth import CONTINUED, HABIT, chances, misspell, read_hospital, write_hospital

HOSPITAL = read_hospital(0)
DISEASES = st.lists(st.sampled_from(HOSPITAL.diseases), max_size=8, unique_by=lambda disease: disease.name)


def header(path: Path) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def table(hospital: Path, name: str) -> pl.DataFrame:
    return pl.read_csv(hospital / "hosp" / f"{name}.csv.gz", infer_schema=False)


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """1,500 patients, about 2,500 stays with orders: enough to see a chance as a share."""
    folder = tmp_path_factory.mktemp("big") / "mimic"
    write_hospital(folder, patients=1500, seed=11)
    return folder


@pytest.fixture(scope="module")
def ordered(big):
    """The distinct canonical drugs of each stay, read from the MAIN orders as written."""
    orders = table(big, "prescriptions").filter(pl.col("drug_type") == "MAIN")
    stays: dict[int, set[str]] = {}
    for hadm_id, drug in orders.select("hadm_id", "drug").iter_rows():
        stays.setdefault(int(hadm_id), set()).add(normalise_drug(drug))
    return stays


@pytest.fixture(scope="module")
def oracle(big):
    frame = pl.read_parquet(big / "oracle.parquet")
    return {row["hadm_id"]: dict(zip(row["drugs"], row["chances"], strict=True)) for row in frame.iter_rows(named=True)}


# --- the files ----------------------------------------------------------------------------------------


def test_one_seed_gives_the_same_bytes_and_another_seed_others(tiny_hospital, tmp_path):
    write_hospital(tmp_path / "same", patients=60, seed=3)
    write_hospital(tmp_path / "other", patients=60, seed=4)
    first, same, other = all_bytes(tiny_hospital), all_bytes(tmp_path / "same"), all_bytes(tmp_path / "other")
    assert first == same
    assert set(first) == set(other)
    assert [name for name in first if first[name] == other[name]] == ["hosp/d_icd_diagnoses.csv.gz"]


def test_a_hospital_is_replaced_as_a_whole(tmp_path):
    write_hospital(tmp_path / "mimic", patients=3, seed=1)
    (tmp_path / "mimic" / "stale").write_text("x")
    told: list[int] = []
    made = write_hospital(tmp_path / "mimic", patients=4, seed=1, overwrite=True, on_patients=told.append)
    assert "stale" not in all_bytes(tmp_path / "mimic")
    assert [path.name for path in tmp_path.iterdir()] == ["mimic"]
    assert told[-1] == made["patients"] == table(tmp_path / "mimic", "patients").height == 4
    assert json.loads((tmp_path / "mimic" / "hospital.json").read_text()) == made


def test_another_hospital_is_refused_until_overwrite_is_said(tmp_path):
    made = write_hospital(tmp_path / "mimic", patients=3, seed=1)
    before = all_bytes(tmp_path / "mimic")
    assert write_hospital(tmp_path / "mimic", patients=3, seed=1) == made
    with pytest.raises(ContractError, match="differs in seed"):
        write_hospital(tmp_path / "mimic", patients=3, seed=2)
    assert all_bytes(tmp_path / "mimic") == before


def test_a_hospital_that_lost_a_file_is_refused_with_the_file_named(tmp_path):
    write_hospital(tmp_path / "mimic", patients=3, seed=1)
    (tmp_path / "mimic" / "oracle.parquet").unlink()
    with pytest.raises(ContractError, match=r"lacks oracle\.parquet; make it again with `rxdraft synth --overwrite`"):
        write_hospital(tmp_path / "mimic", patients=3, seed=1)


def test_a_folder_that_is_no_hospital_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ContractError, match="was not made by `rxdraft synth`"):
        write_hospital(tmp_path, patients=3, seed=1, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_the_command_writes_what_the_function_does(tmp_path, tiny_hospital, command):
    status, out, err = command("synth", "--out", tmp_path / "mimic", "--patients", 60, "--seed", 3)
    assert status == 0, err
    assert all_bytes(tmp_path / "mimic") == all_bytes(tiny_hospital)
    assert "60 synthetic patients" in out


@pytest.mark.demo_data
@pytest.mark.parametrize("name", sorted(TABLES))
def test_every_table_has_the_columns_of_the_real_one(tiny_hospital, mimic_demo, name):
    assert header(tiny_hospital / "hosp" / f"{name}.csv.gz") == header(mimic_demo / "hosp" / f"{name}.csv.gz")


def test_every_table_that_the_etl_reads_is_there_with_its_columns(tiny_hospital):
    found = Files.find(tiny_hospital, list(TABLES)).paths
    assert set(found) == {path.name.removesuffix(".csv.gz") for path in (tiny_hospital / "hosp").iterdir()}
    assert all(set(TABLES[name]) <= set(header(path)) for name, path in found.items())


def test_the_gz_headers_hold_no_clock_and_no_name(tiny_hospital):
    for path in (tiny_hospital / "hosp").iterdir():
        head = path.read_bytes()[:10]
        assert head[3] == 0, "a file name would be a path of this machine"
        assert head[4:8] == b"\0\0\0\0"


def test_rows_belong_together(big):
    patients, admissions = table(big, "patients"), table(big, "admissions")
    assert patients["subject_id"].is_unique().all()
    assert admissions["hadm_id"].is_unique().all()
    assert set(admissions["subject_id"]) == set(patients["subject_id"])
    stays = set(admissions.select("subject_id", "hadm_id").iter_rows())
    for name in ("diagnoses_icd", "prescriptions"):
        assert set(table(big, name).select("subject_id", "hadm_id").iter_rows()) <= stays
    assert set(table(big, "omr")["subject_id"]) <= set(patients["subject_id"])
    assert (admissions["admittime"] < admissions["dischtime"]).all()
    ages = admissions.join(patients, on="subject_id").select(
        pl.col("anchor_age").cast(int) + pl.col("admittime").str.slice(0, 4).cast(int) - pl.col("anchor_year").cast(int)
    )
    assert ages.min().item() >= 18


def test_the_stays_of_a_patient_do_not_overlap(big):
    stays = table(big, "admissions").sort("subject_id", "admittime")
    gaps = stays.select(
        (pl.col("admittime").shift(-1).over("subject_id") > pl.col("dischtime")).alias("after")
    ).drop_nulls()
    assert gaps["after"].all()
    assert gaps.height > 500


def test_both_icd_versions_occur_never_in_one_stay_and_every_code_has_a_title(big):
    coded, titles = table(big, "diagnoses_icd"), table(big, "d_icd_diagnoses")
    assert set(coded["icd_version"]) == {"9", "10"}
    assert min(Counter(coded["icd_version"]).values()) > 1000
    assert coded.group_by("hadm_id").agg(pl.col("icd_version").n_unique())["icd_version"].max() == 1
    assert coded.join(titles, on=["icd_code", "icd_version"], how="anti").height == 0
    assert titles.select("icd_code", "icd_version").is_unique().all()
    assert titles["long_title"].str.len_chars().min() > 3
    assert set(coded["hadm_id"]) == set(table(big, "admissions")["hadm_id"])


def test_every_code_of_the_model_has_one_title_and_each_disease_a_code_in_both_versions():
    titles: dict[tuple[str, int], set[str]] = {}
    for disease in HOSPITAL.diseases:
        assert set(disease.codes) == {9, 10}, disease.name
        for version, (pairs, weights) in disease.codes.items():
            assert len(pairs) == len(weights) > 0
            assert min(weights) > 0
            for code, title in pairs:
                titles.setdefault((code, version), set()).add(title)
                assert title.strip() == title != ""
    assert {key: found for key, found in titles.items() if len(found) > 1} == {}


@pytest.mark.demo_data
def test_the_models_codes_are_real_ones_with_their_real_titles(mimic_demo):
    real = set(table(mimic_demo, "d_icd_diagnoses").iter_rows())
    written = {
        (code, str(version), title)
        for disease in HOSPITAL.diseases
        for version, (pairs, _) in disease.codes.items()
        for code, title in pairs
    }
    assert written - real == set()


def test_every_spelling_is_a_canonical_drug_of_the_model(big):
    orders = table(big, "prescriptions")
    spellings = set(orders.filter(pl.col("drug_type") == "MAIN")["drug"])
    hospital = read_hospital(11)
    canonical = {drug for disease in hospital.diseases for drug, _, _ in disease.treatments}
    canonical |= {drug for drug, _, _ in hospital.base_orders}
    assert {normalise_drug(spelling) for spelling in spellings} <= canonical
    assert len(spellings) > 3 * len(canonical), "spellings are roughed up"
    assert set(orders["drug_type"]) == {"MAIN", "BASE"}


def test_the_files_are_as_rough_as_the_real_ones(big, ordered):
    omr = table(big, "omr")
    stays = table(big, "admissions")
    assert "5" in set(omr.filter(pl.col("result_name") == "Height (Inches)")["result_value"])
    assert "ERROR" in set(omr["result_value"])
    assert 0.1 < 1 - len(set(omr["subject_id"])) / 1500 < 0.3, "patients without a measurement"
    assert 0.02 < 1 - len(ordered) / stays.height < 0.1, "stays without orders"
    repeated = table(big, "diagnoses_icd").group_by("hadm_id", "icd_code").len()
    assert repeated["len"].max() == 2


# --- the model and its oracle -------------------------------------------------------------------------


@given(DISEASES, st.none() | st.lists(st.sampled_from(["furosemide", "heparin", "aspirin", "not in the model"])))
def test_every_chance_is_a_probability(diseases, previous):
    result = chances(HOSPITAL, diseases, previous)
    assert all(0 < chance <= 1 for chance in result.values())
    assert set(result) >= {drug for disease in diseases for drug, _, _ in disease.treatments}


@given(DISEASES, st.data())
def test_another_disease_makes_no_drug_less_likely(diseases, data):
    fewer = data.draw(st.lists(st.sampled_from(diseases), unique_by=lambda d: d.name) if diseases else st.just([]))
    more, less = chances(HOSPITAL, diseases, None), chances(HOSPITAL, fewer, None)
    assert all(more[drug] >= chance - 1e-12 for drug, chance in less.items())


@given(DISEASES)
def test_what_was_given_before_is_likelier_than_what_was_not(diseases):
    chronic = {drug for disease in diseases if disease.chronic for drug, _, _ in disease.treatments}
    had, had_not = chances(HOSPITAL, diseases, sorted(chronic)), chances(HOSPITAL, diseases, [])
    fresh = chances(HOSPITAL, diseases, None)
    assert all(had[drug] >= CONTINUED > 0.3 >= had_not[drug] / fresh[drug] - 1e-9 for drug in chronic)
    assert all(had[drug] == had_not[drug] == fresh[drug] for drug in set(fresh) - chronic)


def test_two_causes_of_a_drug_are_a_noisy_or():
    heart = next(d for d in HOSPITAL.diseases if d.name == "heart_failure")
    kidney = next(d for d in HOSPITAL.diseases if d.name == "chronic_kidney_disease")
    alone = [chances(HOSPITAL, [disease], None) for disease in (heart, kidney)]
    both = chances(HOSPITAL, [heart, kidney], None)
    base = chances(HOSPITAL, [], None)
    shared = {d for d, _, _ in heart.treatments} & {d for d, _, _ in kidney.treatments} - set(base)
    assert shared
    for drug in shared:
        assert both[drug] == pytest.approx(1 - (1 - alone[0][drug]) * (1 - alone[1][drug]))


def test_the_oracle_lists_each_stay_with_orders_likeliest_first(big, ordered):
    frame = pl.read_parquet(big / "oracle.parquet")
    assert frame["hadm_id"].is_unique().all()
    assert set(ordered) <= set(frame["hadm_id"])
    assert set(frame["hadm_id"]) <= {int(hadm_id) for hadm_id in table(big, "admissions")["hadm_id"]}
    for row in frame.iter_rows(named=True):
        assert row["chances"] == sorted(row["chances"], reverse=True)
        assert 0 < row["chances"][-1] <= row["chances"][0] <= 1
        assert len(set(row["drugs"])) == len(row["drugs"]) == len(row["chances"])


def test_no_drug_is_ordered_that_had_no_chance(ordered, oracle):
    assert {
        hadm_id: drugs - set(oracle[hadm_id]) for hadm_id, drugs in ordered.items() if drugs - set(oracle[hadm_id])
    } == {}


def calibration(pairs: list[tuple[float, bool]], tolerance: float) -> None:
    """Compare mean chance and share ordered, within sampling error; every bin must hold enough to tell."""
    expected, observed = sum(p for p, _ in pairs) / len(pairs), sum(o for _, o in pairs) / len(pairs)
    error = (sum(p * (1 - p) for p, _ in pairs)) ** 0.5 / len(pairs)
    assert abs(expected - observed) < 4 * error, (expected, observed, len(pairs))
    assert 4 * error < tolerance, "too few to tell"


@pytest.mark.parametrize("decile", range(10))
def test_what_the_oracle_says_is_how_often_it_happens(ordered, oracle, decile):
    pairs = [(p, drug in ordered.get(hadm_id, ())) for hadm_id, told in oracle.items() for drug, p in told.items()]
    pairs.sort(key=lambda pair: pair[0])  # by the chance alone: many are equal, and sorting by outcome would cheat
    assert len(pairs) > 50_000
    size = len(pairs) // 10
    calibration(pairs[decile * size : (decile + 1) * size], tolerance=0.03)


@pytest.mark.parametrize("fifth", range(5))
def test_no_range_of_chances_is_told_too_high_or_too_low(ordered, oracle, fifth):
    """Equal ranges beside equal counts: most chances are small, the large ones are what a list is made of."""
    pairs = [
        (chance, drug in ordered.get(hadm_id, ()))
        for hadm_id, told in oracle.items()
        for drug, chance in told.items()
        if fifth / 5 <= chance < (fifth + 1) / 5 + (fifth == 4)
    ]
    calibration(pairs, tolerance=0.08)


# --- habits -------------------------------------------------------------------------------------------


def members() -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for row in csv.DictReader((files("etl") / "synthetic" / "classes.csv").read_text("utf-8").splitlines()):
        result.setdefault(row["drug_class"], []).append(row["drug"])
    return result


@given(st.integers())
def test_every_seed_resolves_each_class_to_one_of_its_members(seed):
    hospital = read_hospital(seed)
    assert set(hospital.habits) == set(members())
    assert all(habit in members()[drug_class] for drug_class, habit in hospital.habits.items())
    drugs = {drug for disease in hospital.diseases for drug, _, _ in disease.treatments}
    assert not any(drug.startswith("class:") for drug in drugs)


def test_hospitals_differ_in_their_habits_and_in_nothing_else():
    hospitals = [read_hospital(seed) for seed in range(12)]
    for drug_class, drugs in members().items():
        assert len(drugs) >= 2
        assert len({hospital.habits[drug_class] for hospital in hospitals}) >= 2
    for one, other in itertools.pairwise(hospitals):
        for a, b in zip(one.diseases, other.diseases, strict=True):
            assert (a.name, a.prevalence, a.codes) == (b.name, b.prevalence, b.codes)
            assert sum(p for _, p, _ in a.treatments) == pytest.approx(sum(p for _, p, _ in b.treatments))


def test_the_preferred_member_gets_its_share_of_the_class():
    written: dict[str, list[str]] = {}
    for row in csv.DictReader((files("etl") / "synthetic" / "treatments.csv").read_text("utf-8").splitlines()):
        written.setdefault(row["disease"], []).append(row["drug"])
    seen = set()
    for disease in HOSPITAL.diseases:
        given_for = [(drug, chance) for drug, chance, _ in disease.treatments]
        for drug_class in (drug.removeprefix("class:") for drug in written.get(disease.name, ()) if ":" in drug):
            drugs = {drug: chance for drug, chance in given_for if drug in members()[drug_class]}
            if sum(drug in drugs for drug, _ in given_for) > len(members()[drug_class]):
                continue  # a member is also ordered by its own name
            assert drugs[HOSPITAL.habits[drug_class]] / sum(drugs.values()) == pytest.approx(HABIT), drug_class
            seen.add(drug_class)
    assert len(seen) > 10


@given(st.integers(), st.sampled_from(sorted({d for x in HOSPITAL.diseases for d, _, _ in x.treatments})))
def test_a_misspelling_is_undone_by_the_normaliser(seed, drug):
    assert normalise_drug(misspell(random.Random(seed), drug)) == drug
