"""An export loads without rxdraft, answers like the checkpoint, and says where it came from without a path."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from etl import prompts
from etl.artefacts import sha256_tree
from etl.domain import Admission
from etl.errors import ConfigError, ContractError
from training.checkpoint import weights_sha256
from training.export import disagreement as disagreements
from training.export.disagreement import Questions, read_questions
from training.export.export import export_model
from training.export.origin import VLLM_RANKS, is_hub_id, vllm_problems, vllm_rank

Make = Callable[..., Path]
IDS = torch.arange(2, 60).unsqueeze(0)


@pytest.fixture(autouse=True)
def _ask_few(monkeypatch: pytest.MonkeyPatch, tiny_cohort: Path) -> None:
    """Ask the tests' own synthetic hospital, which is made already."""
    monkeypatch.setattr(disagreements, "write_hospital", lambda *args: None)
    monkeypatch.setattr(
        disagreements, "build_cohort", lambda hospital, made: made.symlink_to(tiny_cohort, target_is_directory=True)
    )


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model.eval()(input_ids=IDS).logits.float()
    return found


def text_of(folder: Path) -> str:
    """The card, its lines joined."""
    return " ".join((folder / "README.md").read_text("utf-8").split())


def served(checkpoint: Path, base: Path) -> torch.Tensor:
    """What the checkpoint says as `serve` runs it."""
    if (checkpoint / "model").is_dir():
        return logits(AutoModelForCausalLM.from_pretrained(checkpoint / "model"))
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), checkpoint / "adapter"))


# --- adapters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fa-lora", "lora", "lora-fa", "qlora"])
@pytest.mark.parametrize("scaling", ["alpha", "rslora"])
def test_plain_peft_loads_an_adapter_by_its_folder_alone(
    make_checkpoint: Make, random_base: Path, tmp_path: Path, method: str, scaling: str
) -> None:
    """AutoPeft finds the base by the name in the config: exactly the checkpoint's logits."""
    checkpoint = make_checkpoint(method, scaling)
    export_model(checkpoint, tmp_path / "out")
    model = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(model), served(checkpoint, random_base))
    assert not torch.allclose(logits(model), logits(AutoModelForCausalLM.from_pretrained(random_base)), atol=1e-3)


def test_an_adapter_has_what_vllm_asks_for(make_checkpoint: Make, tmp_path: Path) -> None:
    export_model(make_checkpoint("fa-lora", "rslora"), tmp_path / "out")
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text("utf-8"))
    weights = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert vllm_problems(config, weights) == []
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (4, 16, True)
    assert config["target_modules"] == ["q_proj", "v_proj"]
    assert all(name.startswith("base_model.model.model.layers.") for name in weights)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"r": 1024}, "rank 1024 is above 512"),
        ({"modules_to_save": ["lm_head"]}, "it has modules_to_save"),
        ({"bias": "all"}, "it has biases"),
        ({"use_dora": True}, "it is DoRA"),
    ],
)
def test_what_vllm_refuses_is_named(change: dict[str, Any], problem: str) -> None:
    plain = {"r": 16, "bias": "none", "modules_to_save": None, "use_dora": False}
    assert vllm_problems(plain, ["m.q_proj.lora_A.weight"]) == []
    assert vllm_problems(plain | change, ["m.q_proj.lora_A.weight"]) == [problem]


def test_an_adapter_with_a_foreign_matrix_is_refused(
    make_checkpoint: Make, redescribed: Callable[..., None], tmp_path: Path
) -> None:
    checkpoint = make_checkpoint()
    path = checkpoint / "adapter" / "adapter_model.safetensors"
    save_file(load_file(path) | {"base_model.model.lm_head.weight": torch.zeros(2, 2)}, path)
    redescribed(checkpoint, weights_sha256=weights_sha256(checkpoint / "adapter"))
    with pytest.raises(ContractError, match="holds more than lora_A and lora_B"):
        export_model(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("rank", "allowed"), [(1, 1), (2, 8), (16, 16), (17, 32), (300, 320), (512, 512), (513, None)])
def test_vllm_is_told_the_least_rank_it_takes(rank: int, allowed: int | None) -> None:
    assert vllm_rank(rank) == allowed
    assert allowed is None or allowed in VLLM_RANKS


# --- merged models -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fa-lora", "lora", "lora-fa", "qlora", "full"])
@pytest.mark.parametrize("scaling", ["alpha", "rslora"])
def test_a_merged_model_says_what_the_checkpoint_says(
    make_checkpoint: Make, random_base: Path, tmp_path: Path, method: str, scaling: str
) -> None:
    checkpoint = make_checkpoint(method, scaling)
    exported = export_model(checkpoint, tmp_path / "out", merge=True, dtype="float32")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    torch.testing.assert_close(logits(model), served(checkpoint, random_base), rtol=0, atol=2e-5)
    assert exported.disagreement is not None
    assert exported.disagreement.max_logit_difference < 2e-5
    assert exported.disagreement.argmax_agreement == 1
    assert not list((tmp_path / "out").glob("adapter*"))


def test_the_measured_disagreement_is_that_of_the_files(
    make_checkpoint: Make, random_base: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    """Rounding to bfloat16 is seen, and seen at the size it has when both are loaded again."""
    checkpoint = make_checkpoint()
    found = export_model(checkpoint, tmp_path / "out", merge=True, dtype="bfloat16").disagreement
    ask = read_questions(AutoTokenizer.from_pretrained(tmp_path / "out"), 1024, tiny_cohort)
    base = AutoModelForCausalLM.from_pretrained(random_base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, checkpoint / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.bfloat16).eval()
    again = ask.compare(ask.logits(adapted), ask.logits(merged))
    assert found is not None
    assert found.max_logit_difference == again.max_logit_difference > 1e-4
    assert found.argmax_agreement == again.argmax_agreement
    assert found.tokens == sum(len(answer) for _, answer in ask.rows)


def test_the_sum_is_rounded_once(make_checkpoint: Make, random_base: Path, tmp_path: Path) -> None:
    """From float32 to bfloat16: every merged weight is the bfloat16 nearest to the exact sum."""
    checkpoint = make_checkpoint("lora")
    export_model(checkpoint, tmp_path / "out", merge=True, dtype="bfloat16")
    base, lora = (
        load_file(random_base / "model.safetensors"),
        load_file(checkpoint / "adapter" / "adapter_model.safetensors"),
    )
    name = "model.layers.0.self_attn.q_proj"
    a, b = (lora[f"base_model.model.{name}.lora_{matrix}.weight"] for matrix in "AB")
    exact = base[f"{name}.weight"] + 16 / 4 * (b @ a)
    merged = load_file(tmp_path / "out" / "model.safetensors")[f"{name}.weight"]
    assert merged.dtype == torch.bfloat16
    torch.testing.assert_close(merged, exact.to(torch.bfloat16), rtol=0, atol=0)


def test_auto_keeps_the_dtype_of_the_base(make_checkpoint: Make, tmp_path: Path) -> None:
    exported = export_model(make_checkpoint(), tmp_path / "out", merge=True)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert exported.dtype == "float32"
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_merged_model_drafts_greedily_and_stops_at_the_end_of_the_turn(make_checkpoint: Make, tmp_path: Path) -> None:
    export_model(make_checkpoint(), tmp_path / "out", merge=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    settings = GenerationConfig.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_tokens_to_ids("<|eot_id|>") in settings.eos_token_id
    assert settings.pad_token_id == tokenizer.pad_token_id not in settings.eos_token_id
    assert not settings.do_sample
    assert settings.max_new_tokens == 64


def test_agreement_and_difference_are_those_of_the_definition() -> None:
    one = [torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 1.0]])]
    other = [torch.tensor([[1.0, 0.5], [2.5, 2.0]]), torch.tensor([[3.0, 1.0]])]
    found = Questions("synthetic", [([1], [2, 3]), ([1], [2])]).compare(one, other)
    assert (found.conversations, found.tokens, found.max_logit_difference) == (2, 3, 2.5)
    assert math.isclose(found.argmax_agreement, 2 / 3)


def test_questions_are_asked_at_the_answer_and_nowhere_else(random_base: Path, tiny_cohort: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(random_base)
    ask = read_questions(tokenizer, 1024, tiny_cohort)
    model = AutoModelForCausalLM.from_pretrained(random_base).eval()
    prompt, answer = ask.rows[0]
    with torch.no_grad():
        whole = model(input_ids=torch.tensor([prompt + answer])).logits[0]
    assert answer[-1] == tokenizer.convert_tokens_to_ids("<|eot_id|>")
    torch.testing.assert_close(ask.logits(model)[0], whole[len(prompt) - 1 : -1], rtol=0, atol=1e-5)


def test_the_synthetic_questions_are_the_same_every_time(random_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    tokenizer = AutoTokenizer.from_pretrained(random_base)
    one, two = (read_questions(tokenizer, 1024, None) for _ in range(2))
    assert one == two
    assert len(one.rows) >= 8


def test_conversations_that_are_all_too_long_are_one_line(random_base: Path, tiny_cohort: Path) -> None:
    with pytest.raises(ConfigError, match="no validation conversation has at most 8 tokens"):
        read_questions(AutoTokenizer.from_pretrained(random_base), 8, tiny_cohort)


# --- the folder ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("merge", [False, True])
def test_the_tokenizer_renders_what_the_checkpoint_was_trained_on(
    make_checkpoint: Make, random_base: Path, tmp_path: Path, merge: bool
) -> None:
    export_model(make_checkpoint(), tmp_path / "out", merge=merge)
    question = prompts.render_prompt(Admission((), age=67, sex="M"))
    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (tmp_path / "out", random_base))
    assert prompts.encode(ours, question) == prompts.encode(theirs, question)
    assert ours.pad_token != ours.eos_token


@pytest.mark.parametrize("merge", [False, True])
def test_the_same_checkpoint_is_the_same_bytes(make_checkpoint: Make, tmp_path: Path, merge: bool) -> None:
    checkpoint = make_checkpoint()
    for name in ("one", "two"):
        export_model(checkpoint, tmp_path / name, merge=merge)
    assert sha256_tree(tmp_path / "one") == sha256_tree(tmp_path / "two")


@pytest.mark.parametrize(("method", "merge"), [("lora", True), ("full", False)])
def test_no_file_of_a_whole_model_names_a_path_of_this_machine(
    make_checkpoint: Make, tmp_path: Path, method: str, merge: bool
) -> None:
    export_model(make_checkpoint(method), tmp_path / "out", merge=merge)
    for path in (tmp_path / "out").iterdir():
        assert str(tmp_path.parent).encode() not in path.read_bytes(), path.name


def test_the_card_of_an_adapter_says_how_it_was_made_and_whose_terms_hold(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    export_model(make_checkpoint(), tmp_path / "out")
    card = text_of(tmp_path / "out")
    for words in (
        "library_name: peft",
        "nobody gets them who has not signed",
        "fa-lora, rank 4 on q_proj and v_proj, lora_A frozen as drawn from seed 0",
        "multiplied by 4",
        "cohort c0ffeec0ffee, 100 samples",
        "train 1.2500",
        "--max-lora-rank 8",
        "was not run here",
        f'date_string="{prompts.TEMPLATE_DATE}"',
    ):
        assert words in card
    assert "license:" not in card
    assert str(tmp_path.parent) not in card


def test_the_card_of_a_merged_model_has_the_measured_disagreement(make_checkpoint: Make, tmp_path: Path) -> None:
    found = export_model(make_checkpoint("qlora", open_data=True), tmp_path / "out", merge=True, dtype="bfloat16")
    assert found.disagreement is not None
    card = text_of(tmp_path / "out")
    assert f"at {found.disagreement.argmax_agreement:.2%} of {found.disagreement.tokens:,} answer tokens" in card
    assert f"two logits is {found.disagreement.max_logit_difference:.2g}" in card
    assert "trained over the base in 4 bits" in card
    assert "declared open" in card
    assert "library_name: transformers" in card


def test_the_origin_names_the_checkpoint_and_its_terms(make_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    export_model(checkpoint, tmp_path / "out")
    origin = json.loads((tmp_path / "out" / "rxdraft.json").read_text("utf-8"))
    manifest = json.loads((checkpoint / "manifest.json").read_text("utf-8"))
    assert origin["checkpoint"]["weights_sha256"] == manifest["weights_sha256"]
    assert origin["data_terms"] == "credentialed"
    assert origin["disagreement"] is None


def test_a_card_is_yaml_that_the_hub_reads(make_checkpoint: Make, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    export_model(make_checkpoint(), tmp_path / "out")
    data = ModelCard.load(tmp_path / "out" / "README.md").data
    assert data.tags == ["medical", "prescription", "lora"]
    assert data.base_model is None, "a folder's name is no model of the hub"


# --- refusals ------------------------------------------------------------------------------------------


def test_another_base_is_refused(make_checkpoint: Make, random_base: Path, tmp_path: Path) -> None:
    other = shutil.copytree(random_base, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(ContractError, match=r"was trained on .*; give the same base with --base"):
        export_model(make_checkpoint(), tmp_path / "out", base=str(other))


def test_a_folder_of_something_else_is_not_replaced(make_checkpoint: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").touch()
    with pytest.raises(ContractError, match="was not made by `rxdraft export-model`"):
        export_model(make_checkpoint(), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_an_export_replaces_an_earlier_one_whole(make_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    export_model(checkpoint, tmp_path / "out", merge=True)
    export_model(checkpoint, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_a_changed_checkpoint_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    (checkpoint / "adapter" / "adapter_config.json").write_text("{}", "utf-8")
    with pytest.raises(ContractError, match="not what its manifest was written for"):
        export_model(checkpoint, tmp_path / "out")


@pytest.mark.parametrize(
    ("base", "is_one"), [("meta-llama/Llama-3.1-8B", True), ("/models/llama", False), ("llama", False), ("./a", False)]
)
def test_a_hub_id_is_told_from_a_folder(base: str, is_one: bool) -> None:
    assert is_hub_id(base) is is_one


@pytest.mark.parametrize("merge", [False, True])
def test_a_label_head_is_not_left_behind_in_silence(make_checkpoint: Make, tmp_path: Path, merge: bool) -> None:
    with pytest.raises(ConfigError, match="has a label head, which no loader of adapters or models knows"):
        export_model(make_checkpoint(objective="labels"), tmp_path / "out", merge=merge)
    assert not (tmp_path / "out").exists()
