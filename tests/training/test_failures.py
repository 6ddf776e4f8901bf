"""The failures that users of trainers report most, a test each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerBase
from transformers.models.llama.modeling_llama import LlamaMLP

from etl import prompts
from etl.build import build_cohort
from etl.cohort import read_training_prompts
from etl.errors import ConfigError, ContractError, RxdraftError
from etl.settings import CohortSettings
from tests.training.runs import quiet
from training import loop
from training import loss as losses
from training.base import end_of_turn, load_tokenizer
from training.config import TrainConfig, load_config
from training.data import IGNORED, collate, encode_split
from training.manifest import find_checkpoints, read_manifest

SETTINGS = ["ranks=[2]", "batch_size=4", "warmup_steps=0", "checkpoint_steps=[3]"]


def small(*overrides: str) -> TrainConfig:
    return load_config("smoke", [*SETTINGS, *overrides])


@pytest.fixture
def tokenizer(random_base: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(random_base)


@pytest.fixture(scope="module")
def conversations(tiny_cohort: Path) -> list[dict[str, Any]]:
    return list(read_training_prompts(tiny_cohort, "train"))[:6]


def refusal(config: TrainConfig, cohort: Path, base: Path, out: Path) -> str:
    """Train, which must fail as a user's mistake, and return the line."""
    with pytest.raises(RxdraftError) as error:
        loop.train(config, cohort, str(base), out, quiet)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_pad_is_eos_so_the_model_never_stops(random_base: Path, tmp_path: Path) -> None:
    """Refused: the end of turn would be padding, and padding is never learned."""
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"pad_token": "<|eot_id|>"}), "utf-8")
    with pytest.raises(ConfigError, match="pad token is its end of turn, which would then never be learned"):
        load_tokenizer(base)


def test_the_end_of_turn_is_the_last_label_of_every_row(
    tokenizer: PreTrainedTokenizerBase, conversations: list[dict[str, Any]]
) -> None:
    _, labels = collate(encode_split(conversations, tokenizer, 2048).rows, tokenizer.pad_token_id)
    for row in labels.tolist():
        assert [label for label in row if label != IGNORED][-1] == end_of_turn(tokenizer)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_side_of_the_tokenizer_changes_no_batch(
    tokenizer: PreTrainedTokenizerBase, conversations: list[dict[str, Any]], side: str
) -> None:
    tokenizer.padding_side = side
    rows = encode_split(conversations, tokenizer, 2048).rows
    input_ids, _ = collate(rows, tokenizer.pad_token_id)
    for row, ids in zip(rows, input_ids.tolist(), strict=True):
        assert ids[: len(row.input_ids)] == row.input_ids
        assert set(ids[len(row.input_ids) :]) <= {tokenizer.pad_token_id}


def test_doubled_bos_is_refused_with_the_count(
    tokenizer: PreTrainedTokenizerBase, conversations: list[dict[str, Any]]
) -> None:
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ConfigError, match=r"^6 samples without exactly one BOS$"):
        encode_split(conversations, tokenizer, 2048)


def test_template_date_does_not_drift(tokenizer: PreTrainedTokenizerBase, conversations: list[dict[str, Any]]) -> None:
    """A template that prints today's date prints the pinned one."""
    today = "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}{%- endif %}"
    tokenizer.chat_template = today + tokenizer.chat_template
    for row in encode_split(conversations, tokenizer, 2048).rows:
        assert f"Today Date: {prompts.TEMPLATE_DATE}" in tokenizer.decode(row.input_ids)


def test_loss_on_the_prompt_only_where_it_was_asked_for(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    logged = {}
    for loss_on in ("response", "all"):
        loop.train(small(f"loss_on={loss_on}"), tiny_cohort, str(random_base), tmp_path / loss_on, quiet)
        lines = (tmp_path / loss_on / "rank-2" / "log.jsonl").read_text("utf-8").splitlines()
        logged[loss_on] = json.loads(lines[0])
    rows = encode_split(read_training_prompts(tiny_cohort, "train"), tokenizer, 512).rows
    answers = {row.response_tokens for row in rows}
    assert logged["response"]["response_tokens"] <= 4 * max(answers)
    assert logged["all"]["response_tokens"] == logged["all"]["tokens"] - 4  # but for the first of each row
    assert logged["response"]["tokens"] == logged["all"]["tokens"]


def test_fully_masked_rows_are_refused_with_the_count(
    tokenizer: PreTrainedTokenizerBase, conversations: list[dict[str, Any]]
) -> None:
    """A template that leaves the answer out would give rows without a label, and a loss that is no number."""
    question = "{{ bos_token }}{% for m in messages if m.role != 'assistant' %}{{ m.content }}{% endfor %}"
    tokenizer.chat_template = question
    with pytest.raises(ConfigError, match=r"^6 samples whose answer does not end with the end of turn$"):
        encode_split(conversations, tokenizer, 2048)


def test_truncation_never_eats_the_answer_and_is_counted(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, tokenizer: PreTrainedTokenizerBase
) -> None:
    whole = encode_split(read_training_prompts(tiny_cohort, "train"), tokenizer, 4096).rows
    shortest = max(len(row.input_ids) for row in whole) - 20
    [made] = loop.train(small(f"max_length={shortest}"), tiny_cohort, str(random_base), tmp_path, quiet)
    assert read_manifest(made).shortened == sum(len(row.input_ids) > shortest for row in whole) > 0
    assert read_manifest(made).samples == len(whole)
    cut = encode_split(read_training_prompts(tiny_cohort, "train"), tokenizer, shortest).rows
    for short, row in zip(cut, whole, strict=True):
        assert short.input_ids[short.prompt_tokens :] == row.input_ids[row.prompt_tokens :]


def test_out_of_memory_names_the_settings_that_need_less(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run goes on from where it was when one of them is set."""
    real, calls = LlamaMLP.forward, []

    def full(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        calls.append(hidden.shape[0])
        if hidden.shape[0] > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, hidden)

    monkeypatch.setattr(LlamaMLP, "forward", full)
    line = refusal(small("micro_batch_size=4"), tiny_cohort, random_base, tmp_path)
    assert line == (
        "out of memory in step 1: lower micro_batch_size (now 4), or set gradient_checkpointing=true, "
        "and the run goes on; or begin another with a lower max_length (now 512)"
    )
    [made] = loop.train(small("micro_batch_size=1"), tiny_cohort, str(random_base), tmp_path, quiet)
    assert read_manifest(made).step == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so they may run")
@pytest.mark.parametrize("wanted", ["compile", "fused_kernels"])
def test_kernels_that_cannot_run_are_refused_before_the_data_are_read(tmp_path: Path, wanted: str) -> None:
    line = refusal(small(f"{wanted}=true"), tmp_path / "no-cohort", tmp_path / "no-base", tmp_path / "runs")
    assert line.startswith(f"{wanted} cannot run here without a CUDA GPU")


def test_nan_loss_stops_and_keeps_the_rows_local(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, conversations: list[dict[str, Any]]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(random_base, base)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = torch.nan
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    line = refusal(small(), tiny_cohort, base, tmp_path / "runs")
    run = tmp_path / "runs" / "rank-2"
    assert line.startswith("step 1: the loss is not finite; lower learning_rate or set clip_norm")
    assert str(run / "not-finite.json") in line
    kept = json.loads((run / "not-finite.json").read_text("utf-8"))
    rows = list(read_training_prompts(tiny_cohort, "train"))
    assert len(kept["rows"]) == 4
    assert all(rows[found["row"]]["hadm_id"] == found["hadm_id"] for found in kept["rows"])
    assert not any(str(found["hadm_id"]) in line for found in kept["rows"])
    assert (run / "log.jsonl").read_text("utf-8") == ""
    assert not find_checkpoints(run)


def test_nan_gradient_of_a_finite_loss_moves_no_weight(
    tiny_cohort: Path, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = losses.F.cross_entropy

    def broken(logits: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return real(logits, *args, **kwargs) + (logits * 0).sum().sqrt()

    monkeypatch.setattr(losses.F, "cross_entropy", broken)
    line = refusal(small(), tiny_cohort, random_base, tmp_path)
    assert line.startswith("step 1: the gradient is not finite")


def test_another_config_in_the_same_folder_is_refused(tiny_cohort: Path, random_base: Path, trained_runs: Path) -> None:
    with pytest.raises(ContractError, match=r"differs in .*learning_rate"):
        loop.train(
            load_config("smoke", ["ranks=[2]", "learning_rate=0.5"]), tiny_cohort, str(random_base), trained_runs, quiet
        )


def test_another_cohort_in_the_same_folder_is_refused(
    tiny_hospital: Path, random_base: Path, trained_runs: Path, tmp_path: Path
) -> None:
    build_cohort(tiny_hospital, tmp_path / "other", CohortSettings(seed=1))
    config = load_config("smoke", ["ranks=[2]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"])
    with pytest.raises(ContractError, match="differs in cohort_sha256"):
        loop.train(config, tmp_path / "other", str(random_base), trained_runs, quiet)
