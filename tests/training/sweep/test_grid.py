"""Which trainings a sweep is made of: each once, under its own name, with the seed for order and A alike."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ConfigError
from training.config import load_config
from training.sweep.grid import Grid, Trial, step_size, step_sizes

HERE = Path("sweep")


def trials(grid: Grid) -> list[Trial]:
    return grid.trials(HERE, Path("cohort"), "some/base")


@given(
    ranks=st.lists(st.integers(1, 64), min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    steps=st.lists(st.integers(1, 500), min_size=1, max_size=4),
    methods=st.lists(st.sampled_from(["fa-lora", "lora"]), min_size=1, max_size=2),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
)
def test_every_rank_seed_and_method_is_trained_once_and_has_a_folder_of_its_own(ranks, seeds, steps, methods, schedule):
    made = trials(Grid("smoke", [f"schedule={schedule}"], ranks, steps, seeds, methods))
    times = 1 if schedule == "constant" else len(set(steps))
    assert len(made) == len(set(ranks)) * len(set(seeds)) * len(set(methods)) * times
    assert len({trial.folder for trial in made}) == len(made)
    cells = {(t.config.method, t.rank, t.config.seed, step): t for t in made for step in t.config.checkpoint_steps}
    assert len(cells) == len(set(ranks)) * len(set(seeds)) * len(set(methods)) * len(set(steps))


def test_a_schedule_that_looks_at_the_total_trains_every_step_by_itself():
    made = trials(Grid("smoke", ["schedule=linear"], [2], [60, 120], [0]))
    assert [trial.config.checkpoint_steps for trial in made] == [(60,), (120,)]
    assert [trial.name for trial in made] == ["fa-lora-seed-0-step-60/rank-2", "fa-lora-seed-0-step-120/rank-2"]


def test_epochs_of_a_config_are_kept_as_they_are():
    assert {trial.config.checkpoint_epochs for trial in trials(Grid("reference", seeds=[0]))} == {(2, 3, 4, 5)}


def test_steps_take_the_place_of_a_configs_epochs():
    [trial] = trials(Grid("reference", ranks=[16], steps=[1950, 2925], seeds=[0]))
    assert (trial.config.checkpoint_steps, trial.config.checkpoint_epochs) == ((1950, 2925), ())


def test_a_seed_is_that_of_the_order_and_of_a():
    assert [(t.config.seed, t.config.a_seed) for t in trials(Grid("smoke", ranks=[2], seeds=[3, 5]))] == [
        (3, 3),
        (5, 5),
    ]


def test_the_command_of_a_trial_says_all_of_its_config():
    for trial in trials(Grid("smoke", ["learning_rate=0.5", "scaling=rslora"], [2], [7], [4], ["lora"])):
        words = shlex.split(trial.command_line)
        settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        assert load_config(words[words.index("--config") + 1], settings) == trial.config
        assert Path(words[words.index("--out") + 1]) == trial.folder.parent


@pytest.mark.parametrize(
    ("settings", "methods", "said"),
    [
        (["seed=3"], None, "--set seed is the sweep's own"),
        (["ranks=[2]"], None, "--set ranks"),
        (["patience=2", "validate_every=20"], None, "patience ends a run"),
        ([], ["full"], "method full has no rank"),
    ],
)
def test_what_cannot_be_compared_is_refused(settings, methods, said):
    with pytest.raises(ConfigError, match=said):
        trials(Grid("smoke", settings, [2], [200], [0], methods))


@given(alpha=st.floats(1, 64), rank=st.integers(1, 256))
def test_the_step_size_is_alpha_squared_over_rank_or_alpha_squared(alpha, rank):
    plain = load_config("smoke", [f"alpha={alpha}"])
    assert math.isclose(step_size(plain, rank), alpha**2 / rank)
    assert math.isclose(step_size(load_config("smoke", [f"alpha={alpha}", "scaling=rslora"]), rank), alpha**2)


def test_a_fixed_alpha_over_two_ranks_is_warned_of_and_rslora_is_not():
    said = step_sizes(trials(Grid("reference", ranks=[16, 32], seeds=[0])))
    assert said[:2] == ["rank 16: s = 1, s²r = 16", "rank 32: s = 0.5, s²r = 8"]
    assert "2 times as far at rank 16 as at rank 32" in said[2]
    assert len(step_sizes(trials(Grid("reference", ["scaling=rslora"], ranks=[16, 32], seeds=[0])))) == 2


def test_an_optimiser_that_sets_the_size_of_a_step_itself_is_not_warned_of():
    assert len(step_sizes(trials(Grid("smoke", ranks=[16, 32], seeds=[0])))) == 2
