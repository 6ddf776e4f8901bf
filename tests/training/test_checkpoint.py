"""Checkpoints: whole or absent, refused where damaged, and read by any loader."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM

from etl.errors import ContractError
from training import base as bases
from training import checkpoint, methods
from training.config import load_config
from training.manifest import read_manifest

IDS = torch.arange(2, 42).reshape(2, 20)


@pytest.fixture
def copied(trained_runs: Path, tmp_path: Path) -> Path:
    """The newest checkpoint of rank 2, to be damaged."""
    return shutil.copytree(trained_runs / "rank-2" / "step-000004", tmp_path / "step-000004")


def fresh(base: Path) -> tuple[Any, list[torch.optim.Optimizer]]:
    model: Any = methods.attach(AutoModelForCausalLM.from_pretrained(base), load_config("smoke"), 2)
    return model, [torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=0.01)]


def step(model: Any, optimizer: torch.optim.Optimizer) -> None:
    model(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def test_the_adapter_names_its_base_and_the_commit_of_it(
    copied: Path, random_base: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    manifest = replace(read_manifest(copied), base="somebody/llama", base_revision="0" * 40)
    model, optimizers = fresh(random_base)
    checkpoint.save(tmp_path / "made", model, bases.load_tokenizer(random_base), optimizers, tiny_cohort, manifest)
    config = PeftConfig.from_pretrained(tmp_path / "made" / "adapter")
    assert (config.base_model_name_or_path, config.revision) == ("somebody/llama", "0" * 40)


@pytest.mark.parametrize(
    ("folder", "revision"),
    [("models--a--b/snapshots/0e9e39f249a16976918f6564b8830bc894c89659", True), ("my/llama", False)],
)
def test_a_base_of_the_hub_has_its_commit(tmp_path: Path, folder: str, revision: bool) -> None:
    assert bases.base_revision(tmp_path / folder) == ("0e9e39f249a16976918f6564b8830bc894c89659" if revision else None)


def test_the_adapters_config_comes_in_one_order(copied: Path) -> None:
    targets = json.loads((copied / "adapter" / "adapter_config.json").read_text("utf-8"))["target_modules"]
    assert targets == sorted(targets)


def test_a_reloaded_adapter_differs_by_nothing(copied: Path, random_base: Path) -> None:
    ours, _ = fresh(random_base)
    checkpoint.load_weights(ours, copied)
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(random_base), copied / "adapter")
    with torch.no_grad():
        assert torch.equal(ours.eval()(input_ids=IDS).logits, theirs.eval()(input_ids=IDS).logits)


def test_weights_and_optimiser_go_on_with_the_same_bits(
    copied: Path, random_base: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    model, [optimizer] = fresh(random_base)
    for _ in range(2):
        step(model, optimizer)
    tokenizer, folder = bases.load_tokenizer(random_base), tmp_path / "half"
    checkpoint.save(folder, model, tokenizer, [optimizer], tiny_cohort, read_manifest(copied))
    resumed, [other] = fresh(random_base)
    checkpoint.load_weights(resumed, folder)
    checkpoint.load_trainer([other], folder)
    for pair in ((model, optimizer), (resumed, other)):
        for _ in range(2):
            step(*pair)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_that_failed_leaves_nothing(
    copied: Path, random_base: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    model, _ = fresh(random_base)
    unsaveable: Any = [None]
    with pytest.raises(AttributeError):
        checkpoint.save(
            *(tmp_path / "made", model, bases.load_tokenizer(random_base), unsaveable, tiny_cohort),
            read_manifest(copied),
        )
    assert [path.name for path in tmp_path.iterdir()] == ["step-000004"]


def test_one_changed_bit_of_the_weights_is_refused(copied: Path, random_base: Path) -> None:
    path = copied / "adapter" / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ContractError, match="adapter is not what its manifest was written for"):
        checkpoint.load_weights(fresh(random_base)[0], copied)


def test_without_trainer_state_nobody_goes_on(copied: Path, random_base: Path) -> None:
    shutil.rmtree(copied / "trainer")
    with pytest.raises(ContractError, match=r"has no trainer/; remove it to go on from an older"):
        checkpoint.load_trainer(fresh(random_base)[1], copied)
