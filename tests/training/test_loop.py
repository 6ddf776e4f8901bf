"""The loop: nothing but B moves, a killed run ends like an undisturbed one, and nothing is half-written."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from etl.artefacts import sha256_file
from etl.errors import ConfigError
from tests.training.runs import quiet
from training import loop
from training.base import load_tokenizer, resolve_attention
from training.config import TrainConfig, load_config
from training.manifest import find_checkpoints, read_manifest
from training.optimisers import learning_rate

SETTINGS = ["batch_size=4", "warmup_steps=2", "learning_rate=5e-3"]


def small(*overrides: str) -> TrainConfig:
    return load_config("smoke", [*SETTINGS, "ranks=[2]", "checkpoint_steps=[3, 6]", *overrides])


def adapter(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "adapter" / "adapter_model.safetensors")


def log_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_a_checkpoint_says_where_it_came_from(trained_runs: Path) -> None:
    found = [read_manifest(path) for path in find_checkpoints(trained_runs)]
    assert [(m.rank, m.step) for m in found] == [(2, 2), (2, 4), (4, 2), (4, 4)]
    for manifest in found:
        assert manifest.frozen == ["lora_A"]
        assert manifest.scaling == 16 / manifest.rank
        assert manifest.losses["train"] is not None
        assert manifest.losses["validation"] is not None
        assert manifest.trainable_parameters == manifest.rank * 2 * (64 + 32)


def test_only_b_moves_and_a_stays_bit_for_bit(trained_runs: Path) -> None:
    early, late = adapter(trained_runs / "rank-4" / "step-000002"), adapter(trained_runs / "rank-4" / "step-000004")
    for name, weight in early.items():
        assert torch.equal(weight, late[name]) is ("lora_A" in name), name


def test_the_adapter_file_holds_nothing_but_a_and_b(trained_runs: Path) -> None:
    names = adapter(trained_runs / "rank-2" / "step-000004")
    assert {name.split(".")[-2] for name in names} == {"lora_A", "lora_B"}


def test_the_adapter_loads_as_plain_lora_anywhere(trained_runs: Path, random_base: Path) -> None:
    """Also merged: the logits of the merged model are the adapter model's."""
    folder = trained_runs / "rank-4" / "step-000004" / "adapter"
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == str(random_base)
    ids = torch.arange(2, 40).unsqueeze(0)
    base = AutoModelForCausalLM.from_pretrained(random_base).eval()
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        model = PeftModel.from_pretrained(base, folder).eval()
        adapted = model(input_ids=ids).logits
        merged = model.merge_and_unload()(input_ids=ids).logits
    torch.testing.assert_close(adapted, merged, rtol=0, atol=1e-5)
    assert (adapted - plain).abs().max() > 1e-4


def test_training_lowers_the_loss(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> None:
    config = small("ranks=[8]", "checkpoint_steps=[40]", "learning_rate=2e-2")
    [checkpoint] = loop.train(config, tiny_cohort, str(random_base), tmp_path, quiet)
    losses = [entry["loss"] for entry in log_of(checkpoint.parent)]
    assert sum(losses[-5:]) < sum(losses[:5])


def test_the_log_counts_real_and_padded_tokens_and_holds_no_text(trained_runs: Path) -> None:
    for entry in log_of(trained_runs / "rank-2"):
        assert entry["response_tokens"] < entry["tokens"] <= entry["padded_tokens"]
        assert all(isinstance(value, int | float) for value in entry.values())


def test_another_process_writes_the_same_bytes(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> None:
    """Python's hash seed orders sets differently in every process; no file may show it."""
    digests = set()
    for seed in ("1", "2"):
        settings = [part for pair in (*SETTINGS, "checkpoint_steps=[1]") for part in ("--set", pair)]
        command = ["train", "--data", str(tiny_cohort), "--base", str(random_base), "--out", str(tmp_path / seed)]
        made = subprocess.run(
            [sys.executable, "-m", "rxdraft", *command, "--config", "smoke", "--rank", "2", *settings],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        digests.add(tuple(sha256_file(path) for path in sorted(Path(made[0], "adapter").iterdir())))
    assert len(digests) == 1


def test_a_rank_trained_after_another_equals_the_rank_trained_alone(
    tiny_cohort: Path, random_base: Path, trained_runs: Path, tmp_path: Path
) -> None:
    alone = load_config("smoke", ["ranks=[4]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"])
    loop.train(alone, tiny_cohort, str(random_base), tmp_path, quiet)
    for name, weight in adapter(tmp_path / "rank-4" / "step-000004").items():
        assert torch.equal(weight, adapter(trained_runs / "rank-4" / "step-000004")[name])


def test_what_is_whole_is_not_trained_again(
    tiny_cohort: Path, random_base: Path, trained_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(loop, "build", never)
    config = load_config("smoke", ["ranks=[2, 4]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"])
    assert len(loop.train(config, tiny_cohort, str(random_base), trained_runs, quiet)) == 4


def test_only_the_newest_checkpoint_keeps_its_trainer_state(trained_runs: Path) -> None:
    kept = [path.parent.name for path in trained_runs.rglob("trainer")]
    assert kept == ["step-000004", "step-000004"]


def test_full_training_moves_every_matrix_and_saves_a_whole_model(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    config = small("method=full", "checkpoint_steps=[2]")
    [checkpoint] = loop.train(config, tiny_cohort, str(random_base), tmp_path, quiet)
    before = AutoModelForCausalLM.from_pretrained(random_base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(checkpoint / "model").state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before if "norm" not in name)
    assert load_tokenizer(checkpoint / "model").chat_template


def test_the_reference_config_runs_and_counts_its_checkpoints_in_epochs(
    tiny_cohort: Path, random_base: Path, tmp_path: Path
) -> None:
    config = load_config("reference", ["ranks=[2]", "checkpoint_epochs=[1, 2]", "batch_size=16"])
    made = loop.train(config, tiny_cohort, str(random_base), tmp_path, quiet)
    epoch = math.ceil(read_manifest(made[0]).samples / 16)
    assert [read_manifest(path).step for path in made] == [epoch, 2 * epoch]


def test_recomputed_activations_change_no_weight(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> None:
    weights = {}
    for recompute in ("true", "false"):
        config = small("checkpoint_steps=[3]", f"gradient_checkpointing={recompute}")
        [made] = loop.train(config, tiny_cohort, str(random_base), tmp_path / recompute, quiet)
        weights[recompute] = adapter(made)
    for name, weight in weights["true"].items():
        torch.testing.assert_close(weight, weights["false"][name], rtol=1e-4, atol=1e-6)
    assert any(weight.abs().max() > 0 for name, weight in weights["true"].items() if "lora_B" in name)


def test_sgd_at_the_reference_rate_is_warned_of(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = small("ranks=[32]", "optimizer=sgd", "learning_rate=1e-3", "checkpoint_steps=[2]")
    loop.train(config, tiny_cohort, str(random_base), tmp_path, quiet)
    assert "hardly differs from its base" in caplog.text


def test_flash_attention_by_name_is_never_replaced_in_silence() -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there, so it may run")
    with pytest.raises(ConfigError, match="needs a CUDA GPU and flash-attn"):
        resolve_attention("flash_attention_2")
    assert resolve_attention("auto") == "sdpa"


def test_learning_rates_follow_the_schedule() -> None:
    constant = small("warmup_steps=4")
    assert [learning_rate(constant, step, 8) for step in (1, 2, 4, 8)] == [
        pytest.approx(constant.learning_rate * share) for share in (0.25, 0.5, 1, 1)
    ]
    cosine = small("schedule=cosine", "checkpoint_steps=[8]", "warmup_steps=0")
    assert learning_rate(cosine, 4, 8) == pytest.approx(cosine.learning_rate / 2)
    assert learning_rate(cosine, 8, 8) == pytest.approx(0)
