"""Plans as their readers meet them: parts, fits, times, presets, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

from etl.errors import ConfigError
from training.config import load_config
from training.plan_commands import plan as command
from training.planner import four_bit
from training.planner.gpus import SIZES_GB, find_gpu, known_gpus
from training.planner.lengths import measured, stated
from training.planner.plan import Assumptions, largest, presets, rule_of_thumb, smallest_card
from training.planner.plan import plan as plan_run
from training.planner.planner import Planner, Work
from training.planner.shapes import base_config, shipped_shapes

LENGTHS = stated(length=128, response=20, samples=1000)
ANY = Assumptions(None, mfu=0.4, reserve_gib=2)


def tiny(method: str = "fa-lora", *more: str, rank: int = 8) -> Planner:
    return Planner(base_config("tiny"), load_config("smoke", [f"method={method}", *more]), rank)


@pytest.mark.parametrize("name", sorted(shipped_shapes()))
def test_a_shipped_shape_counts_what_its_model_card_does(name: str) -> None:
    planner = Planner(base_config(name), load_config("reference"), 16)
    adapters = sum(w.numel() for n, w in planner.model.named_parameters() if ".lora_" in n)
    assert planner.parameters - adapters == shipped_shapes()[name]["parameters"]


@pytest.mark.parametrize(("rank", "trainable"), [(8, 1_310_720), (16, 2_621_440), (32, 5_242_880), (64, 10_485_760)])
def test_half_of_an_adapter_learns_and_is_counted(rank: int, trainable: int) -> None:
    assert Planner(base_config("llama-3.1-8b"), load_config("reference"), rank).trainable == trainable


def test_adam_keeps_two_floats_a_weight_and_sgd_nothing() -> None:
    adam, sgd = (tiny("fa-lora", f"optimizer={name}") for name in ("adamw", "sgd"))
    work = Work(8, 128, 20, checkpointing=False)
    # A counter of 4 bytes stands beside each of the matrices.
    matrices = sum(1 for weight in adam.model.parameters() if weight.requires_grad)
    assert adam.memory(work).optimiser == 2 * 4 * adam.trainable + 4 * matrices
    assert sgd.memory(work).optimiser == 0


def test_training_every_weight_peaks_where_the_optimiser_moves_them() -> None:
    memory = tiny("full", "optimizer=adamw", "dtype=float32").memory(Work(1, 16, 4, checkpointing=True))
    assert memory.activations == 0
    assert memory.gradients == 4 * tiny("full").trainable
    assert memory.optimiser >= 3 * memory.gradients  # two averages, and one temporary of all at once


def test_a_four_bit_base_takes_four_bits_and_an_eighth_a_weight() -> None:
    layer = nn.Linear(4096, 1024, bias=False, device="meta", dtype=torch.bfloat16)
    packed = four_bit.FourBitLinear(layer)
    stored = sum(tensor.nbytes for tensor in (*packed.parameters(), *packed.buffers()))
    # 4 + 8 / 64 + 32 / (64 * 256) bits a weight: QLoRA's own figure is 4.127
    assert stored * 8 / layer.weight.numel() == pytest.approx(4.127, abs=0.001)


def test_a_packed_base_counts_the_parameters_it_was_made_of() -> None:
    assert tiny("qlora").parameters == tiny("lora").parameters


@given(total=st.integers(0, 160 * 10**9))
def test_the_smallest_card_holds_the_peak_and_no_smaller_one_does(total: int) -> None:
    smallest = smallest_card(total, ANY)
    fitting = [size for size in SIZES_GB if total + 2 * 2**30 <= size * 10**9]
    assert smallest == (fitting[0] if fitting else None)


def test_the_rule_of_thumb_is_the_published_one() -> None:
    assert rule_of_thumb(70 * 10**9, 16) == 168 * 10**9
    assert rule_of_thumb(8 * 10**9, 4) == 4_800_000_000


def test_the_largest_that_fits_has_most_rows_and_then_recomputes_nothing() -> None:
    cells = [(1, False, 5), (2, False, 9), (4, False, 17), (1, True, 4), (2, True, 6), (4, True, 11)]
    grid = [{"batch": b, "checkpointing": c, "head": "response", "bytes": n * 10**9} for b, c, n in cells]
    grid.append({"batch": 4, "checkpointing": False, "head": "all", "bytes": 1})
    none_reserved = Assumptions(None, mfu=0.4, reserve_gib=0)
    chosen = [largest(grid, "response", none_reserved, size) for size in (3, 5, 9, 16, 17)]
    assert [cell and (cell["batch"], cell["checkpointing"]) for cell in chosen] == [
        *(None, (1, False), (2, False), (4, True), (4, False)),
    ]


def test_an_epoch_takes_its_flops_at_the_assumed_share_of_the_card() -> None:
    card = find_gpu("h100")
    found = plan_run(tiny(), LENGTHS, Assumptions(card, mfu=0.5, reserve_gib=2))["time"]
    assert found["epoch_seconds"] == pytest.approx(found["flops_per_row"] * 1000 / (989.4e12 * 0.5))


def test_time_is_unknown_for_a_size_and_for_float32() -> None:
    size = Assumptions(find_gpu("24GB"), mfu=0.4, reserve_gib=2)
    card = Assumptions(find_gpu("h100"), mfu=0.4, reserve_gib=2)
    assert plan_run(tiny(), LENGTHS, size)["time"]["epoch_seconds"] is None
    assert plan_run(tiny("fa-lora", "dtype=float32"), LENGTHS, card)["time"]["epoch_seconds"] is None


def test_every_preset_is_planned_and_more_memory_never_holds_less() -> None:
    rows = presets(base_config("tiny"), lambda config: LENGTHS, ANY, lambda done, total: None)
    assert {"reference", "smoke"} <= {row["preset"] for row in rows}
    for row in rows:
        held = [row["fits"][str(size)] or 0 for size in SIZES_GB]
        assert held == sorted(held)
        assert max(held) <= row["batch"]


def test_cards_of_the_table_name_their_source_and_are_found_in_any_case() -> None:
    assert all(gpu.memory_gb and gpu.bf16_tflops for gpu in known_gpus().values())
    assert find_gpu("RTX-4090") == known_gpus()["rtx-4090"]
    assert find_gpu("48gb").memory_bytes == 48 * 10**9


@pytest.mark.parametrize("name", ["voodoo2", "24", "0GB"])
def test_an_unknown_card_is_refused_with_the_known_named(name: str) -> None:
    with pytest.raises(ConfigError, match=r"rtx-4090.*h100"):
        find_gpu(name)


def test_an_answer_that_fills_the_row_is_refused() -> None:
    with pytest.raises(ConfigError, match="200"):
        stated(length=200, response=200, samples=1)


def test_a_cohort_is_measured_with_its_bases_tokenizer(tiny_cohort: Path, random_base: Path) -> None:
    lengths = measured(tiny_cohort, str(random_base), load_config("smoke"))
    assert 0 < lengths.response < lengths.mean <= lengths.longest <= 512
    with pytest.raises(ConfigError, match="no tokenizer"):
        measured(tiny_cohort, "llama-3.1-8b", load_config("smoke"))


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    found = CliRunner().invoke(app, ["--base", "tiny", "--config", "smoke", *arguments], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def test_the_command_prints_parts_that_add_up() -> None:
    found = json.loads(run("--json", "--no-presets", "--gpu", "h100"))
    parts = found["peak_bytes"]
    assert parts.pop("total") == sum(parts.values())
    assert found["rule_of_thumb"]["bytes"] == rule_of_thumb(found["parameters"], 16)
    assert found["presets"] == []


def test_the_command_tells_people_what_it_tells_programs() -> None:
    read, told = json.loads(run("--json", "--gpu", "24GB")), run("--gpu", "24GB")
    for part in (f"{read['parameters']:,}", f"{read['trainable']:,}", "This run needs a card of 16 GB", "qlora-16gb"):
        assert part in told


def test_label_heads_are_not_counted_and_that_is_said() -> None:
    with pytest.raises(ConfigError, match="plan counts runs of objective list; take --set objective=list"):
        tiny("fa-lora", "objective=labels")
    assert Planner(base_config("tiny"), load_config("labels", ["objective=list"]), 8).trainable
