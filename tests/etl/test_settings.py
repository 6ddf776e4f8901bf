from __future__ import annotations

import inspect
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import commands
from etl.cohort import read_cohort
from etl.drug_vocabulary import CATEGORIES, DEFAULT_DROP, Level
from etl.errors import ConfigError
from etl.settings import Codes, CohortSettings, PredictAt, SplitBy

CONTRADICTIONS = {
    "--drop bags, gels is unknown": {"drop": ("gels", "fluids", "bags")},
    "--within-hours counts from the prediction time": {"predict_at": PredictAt.DISCHARGE, "within_hours": 24},
    "--within-hours 0 is below 1": {"within_hours": 0},
    "--folds 2 is below 3": {"folds": 2},
    "--fold -1 is not in 0 to": {"fold": -1},
}

choices = st.builds(
    CohortSettings,
    predict_at=st.sampled_from(PredictAt),
    within_hours=st.none() | st.integers(1, 100),
    codes=st.sampled_from(Codes),
    level=st.sampled_from(Level),
    drop=st.permutations(CATEGORIES).flatmap(lambda names: st.integers(0, 5).map(lambda n: tuple(sorted(names[:n])))),
    split=st.sampled_from(SplitBy),
    folds=st.integers(3, 10),
    fold=st.integers(0, 2),
    seed=st.integers(0, 99),
    labs=st.booleans(),
    open_data=st.booleans(),
)


@pytest.mark.parametrize("number", range(1, len(CONTRADICTIONS) + 1))
def test_all_contradictions_are_named_at_once_and_no_other(number):
    for problems in itertools.combinations(CONTRADICTIONS, number):
        options = {name: value for problem in problems for name, value in CONTRADICTIONS[problem].items()}
        meant = {problem for problem, wrong in CONTRADICTIONS.items() if wrong.items() <= options.items()}
        if not set(problems) <= meant:
            continue  # two that set one option to different values
        with pytest.raises(ConfigError) as refusal:
            CohortSettings(**options).check()
        named = [problem for problem in CONTRADICTIONS if problem in str(refusal.value)]
        if "within_hours" in options and options.get("predict_at") is PredictAt.DISCHARGE:
            meant.add("--within-hours counts from the prediction time")
        assert set(named) == meant
        assert len(str(refusal.value).split("; ")) >= len(named)


@given(choices)
def test_settings_that_fit_together_pass_and_are_described_whole(settings):
    if settings.predict_at is PredictAt.DISCHARGE and settings.within_hours:
        with pytest.raises(ConfigError, match="--within-hours"):
            settings.check()
    else:
        settings.check()
    described = settings.described()
    kinds = {"predict_at": PredictAt, "codes": Codes, "level": Level, "split": SplitBy, "drop": tuple}
    again = CohortSettings(**{n: kinds.get(n, lambda v: v)(v) for n, v in described.items() if v is not None})
    assert again.described() == described
    for name in CohortSettings.__slots__:
        idle = (name in ("folds", "fold") and settings.split is not SplitBy.FOLD) or (
            name == "seed" and settings.split is SplitBy.TIME
        )
        if name != "drug_map" and not idle:
            assert getattr(again, name) == getattr(settings, name), name


def test_the_order_in_which_categories_are_dropped_is_no_setting():
    assert CohortSettings(drop=("fluids", "kits")).described() == CohortSettings(drop=("kits", "fluids")).described()


# --- from the command line to cohort.json -------------------------------------------------------------

OTHER = {
    "predict_at": ("24h",),
    "within_hours": (12,),
    "codes": ("both",),
    "level": ("ingredient",),
    "drop": ("fluids, kits",),
    "drug_map": ("{drug_map}",),
    "split": ("fold",),
    "folds": (4, "--split", "fold"),
    "fold": (2, "--split", "fold"),
    "seed": (9,),
    "labs": (),
    "open_data": (),
}
"""A value of each option that is not its default, and what else must be said for it to count."""

ELSEWHERE = {"mimic", "out", "memory_limit", "overwrite"}
"""Options that say where and how, never what."""

RECORDED = {
    "within_hours": 12,
    "drop": ["fluids", "kits"],
    "predict_at": "24h",
    "codes": "both",
    "level": "ingredient",
    "split": "fold",
    "folds": 4,
    "fold": 2,
    "seed": 9,
    "labs": True,
    "open_data": True,
}


@pytest.fixture(scope="module")
def mimic(tmp_path_factory: pytest.TempPathFactory, fresh_tables, write_tables) -> Path:
    folder = write_tables(tmp_path_factory.mktemp("settings") / "mimic", fresh_tables())
    header = "subject_id,itemid,charttime,storetime,valuenum\n"
    (folder / "hosp" / "labevents.csv").write_text(f"{header}101,50912,2150-03-01 09:00:00,2150-03-01 09:30:00,1.0\n")
    return folder


def test_every_option_that_says_what_a_cohort_is_is_tested_here_and_stands_in_the_settings():
    options = set(inspect.signature(commands.etl).parameters) - ELSEWHERE
    assert options == set(OTHER)
    assert options == set(CohortSettings.__slots__)
    assert set(CohortSettings().described()) == set(RECORDED)


@pytest.mark.parametrize("option", list(OTHER))
def test_every_option_reaches_cohort_json(mimic, tmp_path, command, option):
    (tmp_path / "map.csv").write_text("drug,name\nsenna,sennosides\n")
    values = [str(value).format(drug_map=tmp_path / "map.csv") for value in OTHER[option]]
    run = tmp_path / "run"
    status, _, err = command("etl", "--mimic", mimic, "--out", run, f"--{option.replace('_', '-')}", *values)
    assert status == 0, err
    cohort = read_cohort(run)
    if option == "drug_map":
        assert (run / "drug_map.csv").read_bytes() == (tmp_path / "map.csv").read_bytes()
        assert "drug_map.csv" in cohort["outputs"]
        return
    assert cohort["settings"][option] == RECORDED[option]
    status, _, err = command("etl", "--mimic", mimic, "--out", run)
    assert status == 2
    assert re.search(rf"differs in (.*, )?{option}\b", err), err


def test_another_drug_map_is_another_cohort(mimic, tmp_path, command):
    for number, name in enumerate(["sennosides", "other"]):
        (tmp_path / f"{number}.csv").write_text(f"drug,name\nsenna,{name}\n")
    given_first = ("etl", "--mimic", mimic, "--out", tmp_path / "run", "--drug-map", tmp_path / "0.csv")
    assert command(*given_first)[0] == 0
    assert command(*given_first)[0] == 0
    for other in ([], ["--drug-map", tmp_path / "1.csv"]):
        status, _, err = command("etl", "--mimic", mimic, "--out", tmp_path / "run", *other)
        assert status == 2
        assert "differs in vocabulary;" in err


def test_what_is_dropped_by_default_is_what_the_help_says(mimic, tmp_path, command):
    status, out, _ = command("etl", "--mimic", mimic, "--out", tmp_path / "run")
    assert status == 0
    assert f"dropped: {','.join(DEFAULT_DROP)}" in out
    assert read_cohort(tmp_path / "run")["settings"]["drop"] == sorted(DEFAULT_DROP)


def test_contradictions_on_the_command_line_are_one_line_before_anything_is_read(tmp_path, command):
    status, out, err = command(
        *("etl", "--mimic", tmp_path / "nowhere", "--out", tmp_path / "run"),
        *("--drop", "bags", "--predict-at", "discharge", "--within-hours", 0, "--folds", 2, "--fold", 7),
    )
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    for option in ("--drop bags", "--within-hours counts", "--within-hours 0", "--folds 2", "--fold 7"):
        assert option in err
