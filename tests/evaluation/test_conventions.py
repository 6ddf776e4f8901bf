"""The five conventions: against the originals' own numbers, the edges of the reference's table, and by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from evaluation.conventions import (
    CONVENTIONS,
    average_precision,
    lamo,
    paper,
    pyhealth,
    pyhealth_by_label,
    safedrug,
    strict,
)
from evaluation.statistics.calibration import classwise_ece

GOLDEN = Path(__file__).parent / "golden"
BOTH_EMPTY = "both empty", "toy of two rows"


def visit(p: int, t: int, tp: int, subject_id: int = 1, formed: bool = True, **other: Any) -> dict[str, Any]:
    """A visit of the table at one rung, with what the conventions read of it."""
    none = {"average_precision": None, "pairs": 0, "ddi_pairs": 0, "mapped_pairs": 0}
    counts = {"items": p, "p_drug": p, "t_drug": t, "tp_drug": tp, "one_drug": tp}
    return {"subject_id": subject_id, "well_formed": formed, **none, **counts, **other}


def table(*visits: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(visits, schema_overrides={"average_precision": pl.Float64})


def values(scores: dict[str, Any]) -> dict[str, float | None]:
    return {name: score.value for name, score in scores.items()}


# --- the originals' own numbers -----------------------------------------------------------------------


def golden(convention: str) -> dict[str, Any]:
    return json.loads((GOLDEN / f"{convention}.json").read_text())


def matrices(vectors: dict[str, Any], case: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, scores and drafts of a case, (visits, labels)."""
    truth = np.zeros((len(case["truth"]), vectors["labels"]), dtype=bool)
    for row, drugs in zip(truth, case["truth"], strict=True):
        row[drugs] = True
    scores = np.array(case["scores"])
    return truth, scores, scores >= vectors["threshold"]


def per_visit(vectors: dict[str, Any], case: dict[str, Any]) -> pl.DataFrame:
    truth, scores, drafted = matrices(vectors, case)
    interacts = np.zeros((vectors["labels"],) * 2)
    interacts[tuple(np.array(vectors["interactions"]).T)] = 1
    ap = average_precision(truth, scores)
    return table(
        *(
            visit(
                *(int(p.sum()), int(t.sum()), int((p & t).sum()), patient),
                average_precision=precision,
                pairs=int(p.sum() * (p.sum() - 1) // 2),
                ddi_pairs=int(p @ interacts @ p),
            )
            for p, t, precision, patient in zip(drafted, truth, ap, case["patients"], strict=True)
        )
    )


@pytest.mark.parametrize("case", golden("safedrug")["cases"], ids=lambda case: case["name"])
def test_safedrug_is_safedrugs_own_number(case):
    scores = values(safedrug(per_visit(golden("safedrug"), case)))
    if case["name"] in BOTH_EMPTY:
        assert case["expected"] == "ZeroDivisionError"
        assert all(value is not None for value in scores.values())
    else:
        assert scores.keys() == case["expected"].keys()
        for name, value in case["expected"].items():
            assert_allclose(scores[name], value, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", golden("pyhealth")["cases"], ids=lambda case: case["name"])
def test_pyhealth_is_pyhealths_own_number(case):
    vectors = golden("pyhealth")
    truth, scores, drafted = matrices(vectors, case)
    by_visit = values(pyhealth(per_visit(vectors, case), labels=vectors["labels"]))
    found = {
        **{f"{name}_samples": by_visit.pop(name) for name in ("precision", "recall", "f1", "jaccard")},
        "pr_auc_samples": by_visit.pop("prauc"),
        "ddi_score": by_visit.pop("ddi_rate"),
        "cwECE": classwise_ece(scores, truth),
        **pyhealth_by_label(drafted.sum(0), truth.sum(0), (drafted & truth).sum(0)),
        **by_visit,
    }
    del found["drugs"]
    assert found.keys() == case["expected"].keys()
    for name, value in case["expected"].items():
        assert_allclose(found[name], value, rtol=0, atol=1e-12, err_msg=name)


# --- the edges, by hand -------------------------------------------------------------------------------

EDGES = {
    "nothing drafted": visit(0, 4, 0),
    "nothing to draft": visit(3, 0, 0),
    "both empty": visit(0, 0, 0),
    "no list": visit(0, 4, 0, formed=False),
}
NOTHING = (None, None, None, None)
ZERO = (0, 0, 0, 0)
EXPECTED = {
    # precision, recall, F1, Jaccard
    ("paper", "nothing drafted"): (None, 0, 0, 0),
    ("paper", "nothing to draft"): (0, None, 0, 0),
    ("paper", "both empty"): NOTHING,
    ("paper", "no list"): NOTHING,
    **{(name, edge): ZERO for name in ("safedrug", "pyhealth", "lamo") for edge in EDGES},
    **{("strict", edge): ZERO for edge in EDGES},
    ("strict", "both empty"): (1, 1, 1, 1),
}


@pytest.mark.parametrize(("convention", "edge"), EXPECTED)
def test_empty_lists_count_as_each_convention_says(convention, edge):
    scores = values(CONVENTIONS[convention](table(EDGES[edge]), "drug"))
    assert tuple(scores[name] for name in ("precision", "recall", "f1", "jaccard")) == EXPECTED[convention, edge]


def test_a_failed_answer_is_not_rightly_empty():
    assert strict(table(visit(0, 0, 0, formed=False)))["f1"].value == 0


def test_the_papers_mean_is_over_its_well_formed_answers():
    scores = values(paper(table(visit(4, 4, 2), visit(0, 4, 0, formed=False), visit(2, 4, 2))))
    assert scores["precision"] == 0.75
    assert scores["output_rate"] == 2 / 3
    assert scores["drugs"] == 3


def test_safedrug_weighs_patients_and_pyhealth_visits():
    visits = table(visit(1, 1, 1, subject_id=1), *[visit(1, 1, 0, subject_id=2)] * 3)
    assert safedrug(visits)["f1"].value == pytest.approx(0.5)
    assert pyhealth(visits)["f1"].value == 0.25


@pytest.mark.parametrize(("zero_division", "jaccard"), [(0, 0.25), (1, 0.75)])
def test_pyhealths_toy_of_two_rows_moves_by_zero_division_alone(zero_division, jaccard):
    assert pyhealth(table(visit(0, 0, 0), visit(1, 2, 1)), zero_division=zero_division)["jaccard"].value == jaccard


def test_elementwise_accuracy_praises_a_useless_list():
    scores = values(pyhealth(table(visit(5, 5, 0)), labels=1000))
    assert scores["accuracy"] == pytest.approx(0.99)
    assert scores["f1"] == 0


def test_macro_f1_over_absence_and_presence_is_not_the_set_f1():
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, drafted = np.eye(1, 20)[0] + np.eye(1, 20, 1)[0], np.eye(1, 20)[0] + np.eye(1, 20, 2)[0]
    assert lamo(table(visit(2, 2, 1)))["f1"].value == 0.5
    assert sklearn.f1_score(truth, drafted, average="macro") == pytest.approx(0.722, abs=1e-3)


def test_lamos_ddi_rate_is_per_visit_and_forgets_unknown_drugs():
    visits = table(
        visit(3, 3, 0, pairs=3, mapped_pairs=1, ddi_pairs=1), visit(1, 3, 0), visit(3, 3, 0, pairs=3, mapped_pairs=3)
    )
    assert lamo(visits)["ddi_rate"].value == 1 / 3
    assert safedrug(visits)["ddi_rate"].value == 1 / 6
    assert strict(visits)["ddi_coverage"].value == 4 / 6


def test_repeats_and_unknown_names_are_false_positives_of_strict_alone():
    repeated = table(visit(2, 2, 2, items=4))
    assert strict(repeated)["precision"].value == 0.5
    assert strict(repeated)["drugs"].value == 4
    assert safedrug(repeated)["precision"].value == 1


def test_strict_pairs_classes_one_to_one_and_keeps_the_lists_lengths():
    coarse = visit(4, 2, 0, p_atc3=1, t_atc3=1, tp_atc3=1, one_atc3=2)
    assert strict(table(coarse), "atc3")["precision"].value == 0.5
    assert lamo(table(coarse), "atc3")["precision"].value == 1


def test_a_row_of_lists_alone_has_no_prauc():
    lists = table(visit(2, 2, 1))
    ranked = table(visit(2, 2, 1, average_precision=0.6), visit(2, 0, 0, average_precision=None))
    assert "prauc" not in safedrug(lists)
    assert "prauc" not in pyhealth(lists)
    assert pyhealth(ranked)["prauc"].value == 0.3


# --- properties ---------------------------------------------------------------------------------------


@st.composite
def visits_of_patients(draw: st.DrawFn) -> pl.DataFrame:
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        t, tp = draw(st.integers(0, 6)), 0
        formed = draw(st.booleans())
        p = draw(st.integers(0, 6)) if formed else 0
        tp = draw(st.integers(0, min(p, t)))
        rows.append(visit(p, t, tp, draw(st.integers(1, 3)), formed, items=p + draw(st.integers(0, 2)) * (p > 0)))
    return table(*rows)


@given(visits_of_patients())
def test_every_score_lies_between_0_and_1(visits):
    for convention in CONVENTIONS.values():
        scores = values(convention(visits, "drug"))
        del scores["drugs"]
        assert all(value is None or -1e-12 <= value <= 1 + 1e-12 for value in scores.values())


@given(visits_of_patients(), st.randoms())
def test_the_order_of_visits_does_not_matter(visits, random):
    rows = visits.to_dicts()
    random.shuffle(rows)
    for convention in CONVENTIONS.values():
        before, after = values(convention(visits, "drug")), values(convention(table(*rows), "drug"))
        assert before.keys() == after.keys()
        assert all(before[name] == pytest.approx(after[name]) for name in before)


@given(visits_of_patients())
def test_strict_is_never_above_lamo_but_for_rightly_empty_lists(visits):
    kept = visits.filter(pl.col("t_drug") > 0)
    for name in ("precision", "recall", "f1", "jaccard"):
        ours, theirs = strict(kept)[name].value, lamo(kept)[name].value
        assert ours is theirs is None or ours <= theirs + 1e-12


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=12))
def test_average_precision_is_scikit_learns(drugs):
    sklearn = pytest.importorskip("sklearn.metrics")
    truth, scores = np.array([one for one, _ in drugs]), np.array([score for _, score in drugs], dtype=float)
    expected = sklearn.average_precision_score(truth, scores) if truth.any() else 0.0
    assert average_precision(truth[None], scores[None]) == pytest.approx([expected], abs=1e-12)
