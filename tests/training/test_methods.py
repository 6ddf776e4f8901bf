"""Methods: exactly what each trains learns, through every call that could undo it, and the frozen never moves."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from etl.errors import ConfigError
from training import base as bases
from training import methods
from training.config import TrainConfig, load_config
from training.fa_lora import lora_a, lora_layers
from training.optimisers import make_optimizers

LEARNS = {
    "fa-lora": {"lora_B"},
    "lora": {"lora_A", "lora_B"},
    "lora-fa": {"lora_B"},
    "full": {"embed_tokens", "proj", "norm"},
}
ADAPTERS = [method for method in LEARNS if method != "full"]
IDS = torch.arange(2, 42).reshape(2, 20)


def config(method: str, *overrides: str) -> TrainConfig:
    return load_config("smoke", [f"method={method}", *overrides])


def built(base: Path, settings: TrainConfig, rank: int = 4) -> Any:
    rank = 0 if settings.method == "full" else rank
    return methods.attach(AutoModelForCausalLM.from_pretrained(base), settings, rank)


def learning(model: torch.nn.Module) -> set[str]:
    """Return what kinds of matrices learn."""
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    kinds = ("lora_A", "lora_B", "embed_tokens", "proj", "norm", "lm_head")
    return {next(kind for kind in kinds if kind in name) for name in names}


def step(model: Any, settings: TrainConfig) -> None:
    """Take one step as the loop does."""
    optimizers, correction = make_optimizers(settings, model), methods.GradientCorrection(model, settings)
    model(input_ids=IDS, labels=IDS).loss.backward()
    correction.apply()
    for optimizer in optimizers:
        optimizer.step()


# --- what learns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", LEARNS)
def test_exactly_what_the_method_trains_learns(random_base: Path, method: str) -> None:
    assert learning(built(random_base, config(method))) == LEARNS[method]


@pytest.mark.parametrize("method", LEARNS)
def test_a_step_moves_what_learns_and_nothing_else(random_base: Path, method: str) -> None:
    settings = config(method, "optimizer=sgd", "learning_rate=0.1")
    model = built(random_base, settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:  # at zero, B would leave A without a gradient
            torch.nn.init.normal_(weight, std=0.1)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    step(model, settings)
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved == {name for name, weight in model.named_parameters() if weight.requires_grad}


def switch(model: PeftModel) -> None:
    model.add_adapter("other", LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    model.set_adapter("other")
    model.set_adapter("default")


def evaluate_the_base(model: PeftModel) -> None:
    with model.disable_adapter(), torch.no_grad():
        model(input_ids=IDS)


def layers_off_and_on(model: PeftModel) -> None:
    model.base_model.disable_adapter_layers()
    model.base_model.enable_adapter_layers()


def go_on_from_saved_weights(model: PeftModel) -> None:
    set_peft_model_state_dict(model, get_peft_model_state_dict(model))


@pytest.mark.parametrize("call", [switch, evaluate_the_base, layers_off_and_on, go_on_from_saved_weights])
@pytest.mark.parametrize("method", ADAPTERS)
def test_no_call_changes_what_learns(random_base: Path, method: str, call: Callable[[PeftModel], None]) -> None:
    model = built(random_base, config(method))
    call(model)
    methods.check_learning(model, config(method))
    assert learning(model) == LEARNS[method]


@pytest.mark.parametrize("method", ADAPTERS)
def test_a_reloaded_adapter_learns_as_before_once_it_is_settled(random_base: Path, tmp_path: Path, method: str) -> None:
    """Nothing of the freeze stands in adapter_config.json: PEFT lets A and B learn."""
    built(random_base, config(method)).save_pretrained(tmp_path)
    base = AutoModelForCausalLM.from_pretrained(random_base)
    model = PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    assert learning(model) == {"lora_A", "lora_B"}
    methods.settle(model, config(method))
    assert learning(model) == LEARNS[method]


@pytest.mark.parametrize("method", LEARNS)
@pytest.mark.parametrize("other", LEARNS)
def test_a_model_of_another_method_is_refused_unless_the_same_learns(
    random_base: Path, method: str, other: str
) -> None:
    model = built(random_base, config(other))
    if LEARNS[method] == LEARNS[other]:
        methods.check_learning(model, config(method))
    else:
        with pytest.raises(methods.TrainingStateError, match=r"learn that should not|no B matrix"):
            methods.check_learning(model, config(method))


@pytest.mark.parametrize("method", LEARNS)
def test_one_matrix_that_learns_the_wrong_way_is_refused(random_base: Path, method: str) -> None:
    model = built(random_base, config(method))
    for weight in list(model.parameters())[:3]:
        weight.requires_grad_(not weight.requires_grad)
        with pytest.raises(methods.TrainingStateError, match="1 parameters learn that should not"):
            methods.check_learning(model, config(method))
        weight.requires_grad_(not weight.requires_grad)


def test_targets_that_name_no_layer_are_one_clear_error(random_base: Path) -> None:
    with pytest.raises(ConfigError, match="targets no_such_proj name no layer"):
        built(random_base, config("lora", 'targets=["no_such_proj"]'))


# --- what never moves -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["fa-lora", "lora-fa"])
def test_a_bit_of_a_that_moved_is_found(random_base: Path, method: str) -> None:
    model = built(random_base, config(method))
    frozen = methods.Frozen(model, config(method))
    frozen.check()
    _, layer = list(lora_layers(model))[-1]
    with torch.no_grad():
        value = layer.lora_A["default"].weight[0, 0]
        value.copy_(torch.nextafter(value, torch.tensor(1.0)))
    with pytest.raises(methods.TrainingStateError, match="A changed in 1 layers"):
        frozen.check()


def test_where_a_learns_it_may_move(random_base: Path) -> None:
    model = built(random_base, config("lora"))
    frozen = methods.Frozen(model, config("lora"))
    with torch.no_grad():
        next(lora_layers(model))[1].lora_A["default"].weight.add_(1)
    frozen.check()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("method", ["fa-lora", "lora-fa"])
def test_five_steps_leave_a_bit_for_bit(random_base: Path, method: str, optimizer: str) -> None:
    settings = config(method, f"optimizer={optimizer}", "weight_decay=0.1")
    model = built(random_base, settings)
    frozen = methods.Frozen(model, settings)
    for _ in range(5):
        step(model, settings)
    frozen.check()
    assert methods.update_norm(model) > 0


def test_the_same_seed_draws_the_same_a_under_every_method(random_base: Path) -> None:
    drawn = [lora_a(built(random_base, config(method, "a_seed=5"))) for method in ADAPTERS]
    assert all(torch.equal(first[name], drawn[0][name]) for first in drawn for name in first)


# --- scaling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "scaling"), [("alpha", 16 / 4), ("rslora", 16 / math.sqrt(4))])
def test_the_layer_scales_as_the_manifest_will_say(random_base: Path, kind: str, scaling: float) -> None:
    settings = config("fa-lora", f"scaling={kind}")
    model = built(random_base, settings)
    assert {layer.scaling["default"] for _, layer in lora_layers(model)} == {scaling}
    assert methods.scaling(settings, 4) == scaling
    assert methods.scaling(config("full"), 0) == 0


@pytest.mark.parametrize(("kind", "power"), [("alpha", 1.5), ("rslora", 0.5)])
def test_the_first_step_of_sgd_shrinks_with_the_rank_as_predicted(random_base: Path, kind: str, power: float) -> None:
    """|ΔW| goes as scaling² · sqrt(rank): the step in function space as alpha²/rank, or not at all under rslora."""
    norms = {}
    for rank in (2, 32):
        settings = config("fa-lora", "optimizer=sgd", f"scaling={kind}")
        model = built(random_base, settings, rank)
        step(model, settings)
        norms[rank] = methods.update_norm(model)
    assert math.log(norms[2] / norms[32], 16) == pytest.approx(power, abs=0.15)


def test_the_update_norm_is_that_of_the_merged_difference(random_base: Path) -> None:
    model = built(random_base, config("fa-lora", "scaling=rslora"))
    assert methods.update_norm(model) == 0
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    before = {name: layer.get_base_layer().weight.clone() for name, layer in lora_layers(model)}
    model.merge_adapter()
    moved = [(layer.get_base_layer().weight - before[name]).norm() for name, layer in lora_layers(model)]
    assert methods.update_norm(model) == pytest.approx(float(torch.stack(moved).norm()), rel=1e-4)


# --- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "rank", "trainable"),
    [
        ("fa-lora", 16, 2_621_440),
        ("fa-lora", 32, 5_242_880),
        ("lora-fa", 32, 5_242_880),
        ("lora", 32, 13_631_488),
        ("full", 0, 8_030_261_248),
    ],
)
def test_llama_3_1_8b_has_the_published_number_of_trainable_parameters(method: str, rank: int, trainable: int) -> None:
    """On the meta device, where the planner counts too."""
    shape = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        model = methods.attach(LlamaForCausalLM(shape), config(method), rank)
    assert methods.count_trainable(model) == trainable


# --- qlora ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there, so it may run")
@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["method=qlora"], "method qlora cannot run here without a CUDA GPU"),
        (["optimizer=paged-adamw-8bit"], "optimizer paged-adamw-8bit cannot run here without a CUDA GPU"),
        (["method=qlora", "optimizer=paged-adamw-8bit"], "qlora and optimizer paged-adamw-8bit cannot run here"),
    ],
)
def test_without_a_gpu_four_bits_are_refused_in_one_line(overrides: list[str], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) as caught:
        methods.refuse_impossible(load_config("smoke", overrides))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", LEARNS)
def test_what_runs_anywhere_is_not_refused(method: str) -> None:
    methods.refuse_impossible(config(method))
    assert methods.quantization(config(method), torch.bfloat16) is None


def test_qlora_asks_for_nf4_with_double_quantisation() -> None:
    asked = methods.quantization(config("qlora"), torch.bfloat16)
    assert asked is not None
    assert asked.load_in_4bit
    assert asked.bnb_4bit_quant_type == "nf4"
    assert asked.bnb_4bit_use_double_quant
    assert asked.bnb_4bit_compute_dtype == torch.bfloat16


@pytest.mark.skipif(not find_spec("bitsandbytes"), reason="bitsandbytes is not installed")
def test_an_adapter_learns_on_a_base_in_four_bits(random_base: Path) -> None:
    """On the CPU too, where bitsandbytes is slow but right."""
    settings = config("qlora", "learning_rate=1e-2")
    dtype = bases.resolve_dtype("auto")
    base = bases.load_model(random_base, dtype, "sdpa", methods.quantization(settings, dtype))
    model: Any = methods.attach(base, settings, 4)
    assert learning(model) == {"lora_A", "lora_B"}
    ids = IDS.to(bases.device())
    before = float(model(input_ids=ids, labels=ids).loss)
    for _ in range(5):
        step(model, settings)
    assert float(model(input_ids=ids, labels=ids).loss) < before
