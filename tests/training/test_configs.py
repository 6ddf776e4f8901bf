"""The shipped presets: each is what its first lines say, and each really trains, a few steps on the random base."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import rxdraft
from etl.errors import ConfigError
from training.config import load_config, shipped_configs
from training.manifest import Manifest, read_manifest

PRESETS = [name for name in shipped_configs() if name != "tiny_base"]
SHORT = ["ranks=[2]", "checkpoint_epochs=[]", "checkpoint_steps=[2]", "warmup_steps=0", "batch_size=4"]
ANYWHERE = ["method=lora", "optimizer=adamw"]
"""Over a preset for CUDA."""


def trained(preset: str, base: Path, cohort: Path, out: Path, *overrides: str) -> Manifest:
    """Train a preset for two steps by the command, and return what its checkpoint says."""
    settings = [part for setting in (*SHORT, *overrides) for part in ("--set", setting)]
    command = ["train", "--config", preset, "--data", str(cohort), "--base", str(base), "--out", str(out), *settings]
    result = CliRunner().invoke(rxdraft.app, command)
    if result.exception:
        raise result.exception
    return read_manifest(Path(result.stdout.split()[-1]))


def test_the_presets_that_are_promised_are_shipped() -> None:
    assert {"reference", "best", "labels", "qlora-16gb", "instruct-lora", "full", "smoke"} <= set(PRESETS)


def test_every_shipped_config_says_what_it_is_for() -> None:
    for name in shipped_configs():
        text = (files("training") / "configs" / f"{name}.toml").read_text("utf-8")
        assert text.startswith("# "), name


@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "qlora-16gb"])
def test_every_preset_trains(preset: str, tiny_cohort: Path, random_base: Path, tmp_path: Path) -> None:
    made = trained(preset, random_base, tiny_cohort, tmp_path)
    wanted = load_config(preset)
    assert (made.method, made.step) == (wanted.method, 2)
    assert made.config["optimizer"] == wanted.optimizer
    assert made.losses["validation"] is not None
    assert math.isfinite(made.losses["validation"])


def test_the_preset_in_four_bits_trains_where_they_are_left_out(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    made = trained("qlora-16gb", random_base, tiny_cohort, tmp_path, *ANYWHERE)
    assert made.targets == list(load_config("qlora-16gb").targets)
    assert math.isfinite(made.losses["train"] or math.nan)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so it may run")
def test_the_preset_in_four_bits_is_refused_without_a_gpu_before_anything_is_written(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="cannot run here without a CUDA GPU"):
        trained("qlora-16gb", random_base, tiny_cohort, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_instruction_preset_is_the_recipe_it_names() -> None:
    config = load_config("instruct-lora")
    assert (config.micro_batch_size, config.batch_size) == (4, 16)
    assert (config.optimizer, config.weight_decay, config.learning_rate) == ("adamw", 0, 2e-4)
    assert config.clip_norm == 0.3
    assert config.checkpoint_steps[-1] == 26_000
    assert config.warmup_steps == 0.03 * 26_000
    assert config.schedule == "constant"


def test_the_full_preset_learns_every_parameter_from_answers_alone() -> None:
    config = load_config("full")
    assert (config.method, config.loss_on, config.max_length) == ("full", "response", 3072)
    assert config.gradient_checkpointing


def test_the_preset_for_16_gb_is_qlora() -> None:
    config = load_config("qlora-16gb")
    assert (config.method, config.optimizer, config.micro_batch_size) == ("qlora", "paged-adamw-8bit", 1)
    assert config.gradient_checkpointing
