"""docs/robustness.md's bound on what a draft hangs on the order of the diagnoses, on the demo where it was made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl.domain import Admission, Diagnosis
from etl.errors import RxdraftError
from training.manifest import find_checkpoints, read_manifest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "demo"
BOUND = {"median": 0.02, "p95": 0.10}
"""Of the moves of listed drugs' probabilities; docs/robustness.md."""


@pytest.fixture(scope="module", autouse=True)
def order_bound() -> Iterator[Any]:
    """The benchmark, imported as the scripts import each other."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import order_bound

    yield order_bound
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    """The demo's longest trained model of those that regression is blended into."""
    try:
        trained = {path: read_manifest(path) for path in find_checkpoints(DEMO / "runs")}
    except RxdraftError:  # of another version
        trained = {}
    blended = [path for path, manifest in trained.items() if (manifest.calibration or {}).get("blend")]
    if not blended:
        pytest.skip("no blended label model in demo/runs; `make demo` makes what this looks at")
    return max(blended, key=lambda path: (trained[path].step, trained[path].rank))


def test_shuffled_diagnoses_move_probabilities_no_more_than_is_documented(order_bound: Any, checkpoint: Path) -> None:
    served = order_bound.measure(checkpoint, DEMO / "cohort", most=60)["served"]
    assert served["drugs"] > 300
    assert {name: served[name] for name in BOUND if served[name] > BOUND[name]} == {}


def test_the_documents_give_the_bound_that_is_tested() -> None:
    told = (ROOT / "docs" / "robustness.md").read_text("utf-8")
    assert f"{BOUND['median']:.2f} in the median and {BOUND['p95']:.2f}" in told


def test_shuffles_are_seeded_and_lose_no_diagnosis(order_bound: Any) -> None:
    told = [Admission(tuple(Diagnosis(title=f"{i} {place}") for place in range(12)), age=i) for i in range(5)]
    mixed = order_bound.shuffled(told, seed=3)
    assert mixed == order_bound.shuffled(told, seed=3) != order_bound.shuffled(told, seed=4)
    assert all(one.diagnoses != other.diagnoses for one, other in zip(mixed, told, strict=True))
    in_order = [replace(one, diagnoses=tuple(sorted(one.diagnoses, key=str))) for one in mixed]
    assert in_order == [replace(one, diagnoses=tuple(sorted(one.diagnoses, key=str))) for one in told]


def test_moves_are_of_the_drugs_that_the_first_draft_lists(order_bound: Any) -> None:
    import numpy as np

    one = order_bound.Drafts([[0, 1], [2]], np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.7]]))
    other = order_bound.Drafts([[0], [2]], np.array([[0.9, 0.4, 0.9], [0.5, 0.9, 0.6]]))
    found = order_bound.moves(one, other)
    assert (found["drugs"], found["median"], found["max"]) == (3, 0.1, 0.4)
    assert (found["lists_jaccard"], found["lists_equal"]) == (0.75, 0.5)
    assert "max" not in order_bound.moves(order_bound.Drafts([[0]], None), order_bound.Drafts([[0]], None))
