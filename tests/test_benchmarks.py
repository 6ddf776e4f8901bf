"""What a benchmark's figures rest on: equal work, formulas that count the real model, failures that stay visible."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from etl.errors import ConfigError

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_path() -> Iterator[None]:
    """Import as the scripts do, from their own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def llama() -> ModuleType:
    from engines import random_llama

    return random_llama


@pytest.fixture
def small(llama: ModuleType) -> Any:
    return llama.Size(32, 64, 2, 4, 2, 128, rows=2, tokens=64, response_tokens=5)


def test_needed_operations_count_the_matrices_of_the_real_model(llama: ModuleType) -> None:
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        real = LlamaForCausalLM(llama.LLAMA_8B.config())
    matrices = sum(module.weight.numel() for module in real.modules() if isinstance(module, torch.nn.Linear))
    assert llama.LLAMA_8B.weights() == matrices
    assert sum(weight.numel() for weight in real.parameters()) == 8_030_261_248


def test_needed_operations_are_those_that_torch_counts(llama: ModuleType, small: Any) -> None:
    """But for the masked half of attention, and the first layer: what lies below its adapters needs no gradient."""
    from torch.utils.flop_counter import FlopCounterMode

    loss = llama.ResponseLoss(llama.learner(llama.train_config(small), small, "eager"))
    [rows] = llama.batches(small, 1)
    input_ids, labels, _ = next(llama.Feed(0, small.rows, False, llama.device())(rows))
    with FlopCounterMode(display=False) as counter:
        loss(input_ids, labels).backward()
    hidden, kv = small.hidden, small.hidden * small.kv_heads // small.heads
    below = hidden * (hidden + 2 * kv) + llama.RANK * (2 * hidden + hidden + kv)  # q, k, v; A, and into A
    keys = 2 * small.rows * small.tokens**2 * hidden  # k has no adapter
    spared = 2 * small.rows * small.tokens * below + keys
    assert counter.get_total_flops() == small.flops() + small.flops_of_attention() - spared


def test_full_and_response_head_have_one_loss_and_one_gradient(llama: ModuleType, small: Any) -> None:
    import torch

    [rows] = llama.batches(small, 1)
    found = []
    for head in (llama.ResponseLoss, llama.FullHeadLoss):
        torch.manual_seed(0)
        loss = head(llama.learner(llama.train_config(small), small, "sdpa"))
        value = loss(*next(llama.Feed(0, small.rows, False, llama.device())(rows))[:2])
        value.backward()
        found.append((value.item(), [w.grad for w in loss.parameters() if w.requires_grad]))
    (mine, my_gradients), (full, full_gradients) = found
    assert mine == pytest.approx(full, rel=1e-6)
    for a, b in zip(my_gradients, full_gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_ours_and_the_peer_lose_the_same_on_the_same_rows(llama: ModuleType, small: Any) -> None:
    ours = llama.measure("response head", small, steps=2, warm_up=1)
    peer = llama.measure("Trainer", small, steps=2, warm_up=1)
    assert len(ours["seconds"]) == len(peer["seconds"]) == 2
    assert ours["losses"] == pytest.approx(peer["losses"], abs=1e-4)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory."), ConfigError("out of memory in step 1: lower")])
def test_a_setting_that_does_not_fit_is_a_result(
    llama: ModuleType, small: Any, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_out(*_: Any) -> None:
        raise error

    monkeypatch.setattr(llama, "ours", runs_out)
    assert llama.measure("full head", small, steps=1, warm_up=1) == {"out_of_memory": True}


def test_any_other_failure_is_not_taken_for_a_lack_of_memory(
    llama: ModuleType, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(llama, "ours", fails)
    with pytest.raises(RuntimeError, match="shapes differ"):
        llama.measure("full head", small, steps=1, warm_up=1)


def _figures(speed: float, growth: float, losses: list[float]) -> dict[str, Any]:
    return {
        "cpu_seconds": 1.0,
        "tokens_per_cpu_second": speed,
        "growth_mib": growth,
        "peak_mib": growth + 500,
        "losses": losses,
        "failures": [],
    }


def test_the_best_of_the_peers_is_what_ours_is_held_against() -> None:
    import bench_train

    settings = {
        "rxdraft": _figures(2100, 400, [7.0, 6.0]),
        "TRL, padded": _figures(1000, 2000, [7.0, 6.5]),
        "Trainer, grouped by length": _figures(1400, 900, [7.0, 6.5]),
        "TRL, our batches": _figures(9000, 1, [7.0, 6.1]),
    }
    result = {
        "settings": settings,
        "targets": bench_train.targets(settings),
        "loss_differences": bench_train.loss_differences(settings),
    }
    assert result["targets"] == {
        "times TRL, padded": 2.1,
        "times the fastest peer": 1.5,
        "of the leanest peer's memory": 0.64,
    }
    assert bench_train.missed(result) == ["TRL, our batches: losses differ by 1.0e-01"]


def test_a_setting_that_failed_has_no_figures_and_is_told() -> None:
    import bench_train

    row = bench_train.figures([{"failure": "killed: over 1 GiB"}], tokens=100)
    assert row["tokens_per_cpu_second"] is None
    assert bench_train.missed({"settings": {"TRL, packed": row}, "targets": {}, "loss_differences": {}}) == [
        "TRL, packed failed: killed: over 1 GiB"
    ]


def test_every_trainer_gets_the_same_rows(tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from engines import peers, workload

    workload.make(tmp_path / "job", rows=8, vocabulary=2048)
    rows = workload.read_rows(tmp_path / "job")
    for name in ("TRL, padded", "TRL, our batches"):
        data = peers.rows(tmp_path / "job", name)
        theirs = sorted((row["input_ids"], sum(label == -100 for label in row["labels"])) for row in data)
        assert theirs == sorted((row.input_ids, row.prompt_tokens) for row in rows)
    assert all(230 <= len(row.input_ids) <= workload.MAX_LENGTH for row in rows)


def test_losses_that_no_setting_has_are_not_taken_for_equal(llama: ModuleType) -> None:
    assert math.isnan(llama.relative_difference([[], []]))


def test_a_yes_or_no_behind_facts_read_once_is_that_of_the_whole_question(tiny_cohort: Path, random_base: Path) -> None:
    import numpy as np
    import torch
    from formulations_asked import read_formulary, read_split
    from formulations_yes_no import YesNo, ask

    from etl import prompts
    from serving.recommenders.engine import Engine

    engine, formulary = Engine(str(random_base), None), read_formulary(tiny_cohort)[:9]
    admissions, popularity = read_split(tiny_cohort, "test").admissions[:2], np.linspace(0.9, 0.1, 9)
    scores = YesNo(engine, None, formulary, popularity).scores(admissions)
    for row, admission in zip(scores, admissions, strict=True):
        for score, drug, share in zip(row, formulary, popularity, strict=True):
            ids = prompts.encode(engine.tokenizer, ask(admission, drug))
            with torch.inference_mode():
                logits = engine.causal(torch.tensor([ids])).logits[0, -1].tolist()
            yes = engine.tokenizer.encode(drug, add_special_tokens=False)[0]
            odds = share * math.exp(logits[yes] - logits[engine.end])
            assert score == pytest.approx(odds / (1 + odds), rel=1e-4)


def test_each_admission_is_asked_about_a_drug_it_had_and_one_it_had_not(tiny_cohort: Path, tmp_path: Path) -> None:
    from formulations_yes_no import write_corpus

    from etl.cohort import read_prompts, read_samples

    write_corpus(tiny_cohort, tmp_path / "questions", seed=0)
    had = dict(read_samples(tiny_cohort, "train").select("hadm_id", "drugs").iter_rows())
    asked: dict[int, list[bool]] = {}
    for row in read_prompts(tmp_path / "questions", "train"):
        *_, question, answer = row["messages"]
        drug = question["content"].rpartition("Ordered: ")[2].removesuffix("?")
        asked.setdefault(row["hadm_id"], []).append(drug in had[row["hadm_id"]])
        assert answer["content"] == (drug if asked[row["hadm_id"]][-1] else "")
    assert asked == {hadm_id: [True, False] for hadm_id in had}


def test_an_answer_that_is_no_list_counts_nothing() -> None:
    import numpy as np
    import polars as pl
    from formulations_asked import Split
    from formulations_judged import SCORES, judge_lists

    test = Split(pl.DataFrame(), [], np.array([[1.0, 1, 0], [1, 0, 0]]), np.array([2, 1]))
    answers = {
        "listed": np.array([[1.0, 0, 1], [0, 0, 0]]),
        "length": np.array([2, 0]),
        "formed": np.array([True, False]),
    }
    found = dict(zip(SCORES, judge_lists(answers, test).scores.T.tolist(), strict=True))
    assert found["f1"] == [0.5, 0]
    assert found["jaccard"] == [pytest.approx(1 / 3), 0]
    assert found["output_rate"] == [1, 0]
