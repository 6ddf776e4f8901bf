"""Configs: every shipped one loads, and all mistakes come at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.errors import ConfigError
from training.config import MEMORY_SETTINGS, TrainConfig, load_config, shipped_configs


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_loads(name: str) -> None:
    assert isinstance(load_config(name), TrainConfig)


def test_the_reference_config_is_the_published_experiment() -> None:
    config = load_config("reference")
    assert config.ranks == (16, 32)
    assert config.alpha == 16
    assert config.learning_rate == 1e-3
    assert config.max_length == 2048
    assert config.batch_size == 4
    assert config.optimizer == "sgd"
    assert config.checkpoint_epochs == (2, 3, 4, 5)
    assert config.targets == ("q_proj", "v_proj")
    assert config.method == "fa-lora"
    assert config.scaling == "alpha"
    assert config.schedule == "constant"
    assert config.clip_norm is None


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config("smoke", ["learning_rate=-1", "no_such=1", "optimizer=adagrad", "batch_size"])
    for part in ("learning_rate", "no_such is no setting", "optimizer", "--set batch_size: wanted key=value"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["checkpoint_epochs=[1]"], "one of checkpoint_epochs and checkpoint_steps"),
        (["checkpoint_steps=[]"], "one of checkpoint_epochs and checkpoint_steps"),
        (["checkpoint_steps=[20, 10]"], "must rise"),
        (["ranks=[8, 8]"], "differ"),
        (["schedule=cosine"], "cosine takes one checkpoint"),
        (["schedule=linear"], "linear takes one checkpoint"),
        (["patience=4"], "patience 4 never stops a run that looks 4 times"),
        (["optimizer=muon"], "muon is for method full"),
        (["micro_batch_size=16"], "micro_batch_size 16 exceeds batch_size 8"),
        (["method=qlora", "sharding=fsdp"], "cannot spread the 4-bit base"),
        (["optimizer=paged-adamw-8bit", "sharding=fsdp"], "cannot spread optimizer paged-adamw-8bit"),
        (["method=full", "optimizer=muon", "sharding=fsdp"], "cannot spread optimizer muon"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config("smoke", overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        ["schedule=linear", "checkpoint_steps=[240]"],
        ["patience=3"],
        ["patience=4", "validate_every=10"],
        ["method=full", "optimizer=muon"],
        ["method=qlora", "optimizer=paged-adamw-8bit"],
        ["micro_batch_size=8"],
    ],
)
def test_settings_that_go_together_are_taken(overrides: list[str]) -> None:
    load_config("smoke", overrides)


def test_what_changes_memory_alone_is_known_to_the_config() -> None:
    assert set(MEMORY_SETTINGS) <= set(TrainConfig.model_fields)


def test_a_value_is_toml_where_it_can_be_and_a_word_else() -> None:
    config = load_config("smoke", ["optimizer=sgd", 'schedule="constant"', "ranks=[4]", "learning_rate=1e-4"])
    assert (config.optimizer, config.schedule, config.ranks, config.learning_rate) == ("sgd", "constant", (4,), 1e-4)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["method=full"], "keeps its head beside an adapter, and method full has none"),
        (["sharding=fsdp"], "knows the gradients of layers and adapters, and a label head is neither; take ddp"),
        (["packing=on"], "packing on is for objective list"),
        (["loss_on=all"], "loss_on all is for objective list"),
        (["head_learning_rate=0"], "head_learning_rate"),
        (["head_weight_decay=-1"], "head_weight_decay"),
    ],
)
def test_what_a_label_head_cannot_learn_beside_is_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load_config("labels", overrides)


def test_the_settings_of_labels_are_those_of_lists_too() -> None:
    """Both are compared by one word over one config."""
    assert load_config("labels", ["objective=list"]).objective == "list"
    assert load_config("smoke", ["objective=labels"]).head_learning_rate is None


def test_an_unknown_config_names_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="reference, smoke, tiny_base"):
        load_config("no-such")


def test_a_file_that_is_no_toml_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("ranks = [", "utf-8")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(str(path))
