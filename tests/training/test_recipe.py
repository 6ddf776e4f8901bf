"""The recipe's ablation: cohorts with one thing changed, runs made once, the document, and best.toml."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from training.config import load_config

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DRUGS = st.lists(st.sampled_from(["aspirin", "heparin", "insulin", "senna", "zinc"]), unique=True, min_size=1)


@pytest.fixture(scope="module")
def ablate() -> ModuleType:
    """The script, as it finds its neighbours when it is run."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import ablate_recipe
    finally:
        sys.path.remove(str(BENCHMARKS))
    return ablate_recipe


@pytest.fixture(scope="module")
def recipes(ablate: ModuleType) -> ModuleType:
    """The recipes it compares."""
    return sys.modules["recipe_arms"]


def samples(lists: list[list[str]]) -> pl.DataFrame:
    rows = {"hadm_id": range(len(lists)), "drugs": lists, "previous_drugs": lists}
    return pl.DataFrame(rows, schema_overrides={"drugs": pl.List(pl.String), "previous_drugs": pl.List(pl.String)})


# --- cohorts ----------------------------------------------------------------------------------------------


@given(lists=st.lists(DRUGS, max_size=5))
def test_an_order_changes_no_list_but_in_its_order(recipes: ModuleType, lists: list[list[str]]) -> None:
    before = samples(lists)
    for order in (recipes.alphabetical, recipes.commonest_first, recipes.shuffled):
        after = order(before, ["senna", "aspirin", "heparin"])
        assert after.drop("drugs").equals(before.drop("drugs"))
        assert after.schema == before.schema
        assert [sorted(drugs) for drugs in after["drugs"]] == [sorted(drugs) for drugs in lists]


def test_commonest_first_puts_drugs_that_training_never_had_last_by_name(recipes: ModuleType) -> None:
    found = recipes.commonest_first(samples([["zinc", "aspirin", "insulin", "senna"]]), ["senna", "aspirin"])
    assert found["drugs"].to_list() == [["senna", "aspirin", "insulin", "zinc"]]


@given(drugs=DRUGS, seed=st.randoms())
def test_a_random_order_does_not_depend_on_the_order_before(recipes: ModuleType, drugs: list[str], seed) -> None:  # type: ignore[no-untyped-def]
    other = list(drugs)
    seed.shuffle(other)
    assert recipes.shuffled(samples([drugs]), [])["drugs"].equals(recipes.shuffled(samples([other]), [])["drugs"])


def test_without_history_nothing_but_the_previous_drugs_is_gone(recipes: ModuleType) -> None:
    before = samples([["zinc"], ["senna", "aspirin"]])
    after = recipes.blank_history(before, [])
    assert after["previous_drugs"].to_list() == [None, None]
    assert after.schema == before.schema
    assert after.drop("previous_drugs").equals(before.drop("previous_drugs"))


def test_a_changed_cohort_is_told_from_the_one_it_was_made_of(
    recipes: ModuleType, tiny_cohort: Path, tmp_path: Path
) -> None:
    recipes.write_variant(tiny_cohort, "alphabetical", tmp_path / "changed", training=10)
    about = json.loads((tmp_path / "changed" / "cohort.json").read_text())
    assert about["ablated"] == "alphabetical"
    kept = pl.read_parquet(tmp_path / "changed" / "samples.parquet")
    whole = pl.read_parquet(tiny_cohort / "samples.parquet")
    assert (kept["split"] == "train").sum() == 10
    assert kept.filter(pl.col("split") != "train").height == whole.filter(pl.col("split") != "train").height
    assert (kept["drugs"].list.sort() == kept["drugs"]).all()


# --- the experiment ---------------------------------------------------------------------------------------


def test_every_factor_is_changed_alone(recipes: ModuleType) -> None:
    ours = recipes.ARMS[0].config(0)
    for arm in recipes.ARMS[1:]:
        if arm.start is not recipes.OURS:
            continue
        other = arm.config(0)
        changed = {key for key in type(ours).model_fields if getattr(ours, key) != getattr(other, key)}
        together = [{"batch_size", "checkpoint_steps"}, {"alpha", "ranks", "scaling"}]
        together += [{"checkpoint_epochs", "checkpoint_steps"}, {"optimizer", "learning_rate"}]
        together += [{"method", "learning_rate"}]  # what suits B alone is too fast for A
        assert len(changed) + (arm.cohort != "as it is") == 1 or changed in together, arm.name


def test_both_recipes_see_as_many_samples(recipes: ModuleType) -> None:
    for arm in recipes.ARMS:
        config = arm.config(0)
        if config.checkpoint_steps and arm.name != "base":
            assert config.checkpoint_steps[-1] * config.batch_size == recipes.SAMPLES, arm.name


def test_the_reference_is_the_shipped_one(recipes: ModuleType) -> None:
    shipped, ours = load_config("reference"), recipes.ARMS[-1].config(0)
    for key in ("method", "alpha", "scaling", "targets", "optimizer", "learning_rate", "batch_size", "schedule"):
        assert getattr(ours, key) == getattr(shipped, key)
    assert (ours.warmup_steps, ours.clip_norm, ours.loss_on) == (0, None, "response")
    assert ours.checkpoint_epochs[-1] == shipped.checkpoint_epochs[-1]


def test_a_seed_is_that_of_a_and_of_the_order(recipes: ModuleType) -> None:
    config = recipes.ARMS[0].config(7)
    assert (config.seed, config.a_seed) == (7, 7)


def test_the_norm_of_the_update_is_that_of_the_product(ablate: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = [(torch.randn(3, 5), torch.randn(7, 3)), (torch.randn(3, 4), torch.randn(2, 3))]
    weights: dict[str, torch.Tensor] = {}
    for number, (a, b) in enumerate(layers):
        weights |= {f"l.{number}.lora_A.weight": a, f"l.{number}.lora_B.weight": b}
    save_file(weights, tmp_path / "adapter.safetensors")
    whole = math.sqrt(sum(float((2.0 * b @ a).square().sum()) for a, b in layers))
    assert ablate.update_norm(tmp_path / "adapter.safetensors", 2.0) == pytest.approx(whole)


@pytest.fixture(scope="module")
def arms(recipes: ModuleType) -> list[Any]:
    """The winner, another order of the list, and the reference; two steps each."""
    chosen = [arm for arm in recipes.ARMS if arm.name in (recipes.WINNER, "random-order", recipes.REFERENCE)]
    short = {"ranks": (2,), "batch_size": 4, "warmup_steps": 0, "checkpoint_epochs": (), "checkpoint_steps": (2,)}
    return [replace(arm, changed=short) for arm in chosen]


@pytest.fixture(scope="module")
def place(
    ablate: ModuleType,
    recipes: ModuleType,
    arms: list[Any],
    tiny_cohort: Path,
    tiny_hospital: Path,
    random_base: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """These arms, trained with two seeds and drafted."""
    work = tmp_path_factory.mktemp("recipe")
    (work / "hospital").symlink_to(tiny_hospital)
    (work / "cohort").symlink_to(tiny_cohort)
    place = ablate.Place(work, str(random_base))
    for name in recipes.COHORTS:
        recipes.write_variant(work / "cohort", name, work / "cohorts" / name.replace(" ", "-"), training=20)
    ablate.run(place, arms, [0, 1], admissions=3)
    return place


def test_what_is_whole_is_not_made_again(
    ablate: ModuleType, arms: list[Any], place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr(ablate, "train", never)
    ablate.run(place, arms, [0, 1], admissions=3)


def test_only_the_reference_and_the_winner_see_test_admissions(place: Any) -> None:
    drafted = {path.parts[-3] for path in (place.work / "runs").glob("*/*/drafts-test")}
    assert drafted == {"winner", "reference"}


def test_seeds_and_recipes_end_in_different_weights(place: Any) -> None:
    files = sorted((place.work / "runs").rglob("adapter_model.safetensors"))
    assert len({path.read_bytes() for path in files}) == len(files) == 6


def test_the_summary_compares_with_the_winner_over_all_seeds(ablate: ModuleType, arms: list[Any], place: Any) -> None:
    found = ablate.summarise(place, arms, [0, 1], 3)
    winner, other, reference = found["arms"]
    assert "difference" not in winner["validation"]
    assert len(other["validation"]["difference"]["seeds"]) == len(other["runs"]) == 2
    assert reference["config"]["optimizer"] == "sgd"
    assert set(found["test"]) == {"winner", "reference", "oracle"}
    assert found["test"]["oracle"]["jaccard"]["value"] > found["test"]["winner"]["jaccard"]["value"]


# --- the document -----------------------------------------------------------------------------------------


def made_up(ablate: ModuleType, recipes: ModuleType) -> dict[str, Any]:
    """What a run of all arms might have found."""

    def scores(shift: float) -> dict[str, Any]:
        interval = {"value": shift, "lo": shift - 0.01, "hi": shift + 0.01}
        return {**dict.fromkeys(ablate.SCORES, interval), "difference": {**interval, "seeds": [shift, shift]}}

    arms = []
    for number, arm in enumerate(recipes.ARMS):
        measured = {"validation_loss": 0.5 - number / 1e3, "update_norm": 1.0 + number, "scaling": 1.0}
        measured |= {"steps": 60, "samples": 480, "cpu_seconds": 10.0 + number}
        validation = scores(number / 100)
        if arm.name == recipes.WINNER:
            del validation["difference"]
        about = {"name": arm.name, "factor": arm.factor, "level": arm.level, "drafted": arm.drafted}
        config = arm.config(0).model_dump(mode="json")
        arms.append(
            {
                **about,
                "config": config,
                "runs": [{"seed": 0, **measured}],
                "validation": validation if arm.drafted else None,
            }
        )
    test = {"winner": scores(0.4), "reference": scores(0.3), "oracle": scores(0.6)}
    split = {"validation": 200, "test": 200}
    about = {"command": ["python", "x.py"], "seeds": [0], "formulary": 140, "layers": 3, "training_samples": 600}
    machine = {"cpus": 2, "versions": {"torch": "2.13"}}
    return {**about, "admissions": split, "patients": split, "arms": arms, "test": test, "machine": machine}


def test_the_document_tells_every_recipe_and_is_the_same_for_the_same_figures(
    ablate: ModuleType, recipes: ModuleType, tmp_path: Path
) -> None:
    found = made_up(ablate, recipes)
    ablate.write_document(found, tmp_path / "a" / "recipe.md")
    ablate.write_document(json.loads(json.dumps(found)), tmp_path / "b" / "recipe.md")
    for name in ("recipe.md", "images/recipe.svg"):
        text = (tmp_path / "a" / name).read_text("utf-8")
        assert text == (tmp_path / "b" / name).read_text("utf-8")
        for arm in recipes.ARMS:
            assert arm.level in text or arm.name == "winner" or not arm.drafted
    ElementTree.parse(tmp_path / "a" / "images" / "recipe.svg")  # noqa: S314  our own, just written


def test_a_difference_is_even_while_its_interval_holds_0(ablate: ModuleType) -> None:
    verdict = sys.modules["recipe_document"].verdict
    assert verdict({"lo": -0.01, "hi": 0.01}) == "even"
    assert verdict({"lo": 0.001, "hi": 0.01}) == "better"
    assert verdict({"lo": -0.02, "hi": -0.01}) == "worse"


# --- what ships -------------------------------------------------------------------------------------------


def test_best_toml_is_what_won(recipes: ModuleType) -> None:
    best, won = load_config("best"), recipes.ARMS[0].config(0)
    for key in ("method", "optimizer", "schedule", "scaling", "loss_on", "clip_norm", "targets"):
        assert getattr(best, key) == getattr(won, key), key
