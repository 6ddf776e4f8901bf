"""Which checkpoint validation chose: by lists where all are calibrated, by losses of one kind else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.selection import Checkpoint, choose, describe, takes_votes
from serving.probabilities.calibration import Calibration, Figures, Fitted, Votes
from serving.probabilities.cut import Cut
from training.manifest import Manifest, find_checkpoints, read_manifest


@pytest.fixture(scope="module")
def manifest(trained_runs: Path) -> Manifest:
    return read_manifest(find_checkpoints(trained_runs)[0])


def calibration(f1: float, votes: Votes | None = None) -> dict[str, Any]:
    figures = Figures(log_loss=0.1, brier=0.1, ece=0.01, f1=f1)
    worse = replace(figures, f1=1 - f1)
    return Calibration(cut=Cut(), votes=votes, fitted=Fitted("c", "validation", 9, 9, worse, figures)).to_json()


@pytest.fixture
def checkpoints(manifest: Manifest) -> list[Checkpoint]:
    """Labels whose losses are small numbers, and lists whose are large ones."""
    found = [("labels", 1, 0.30), ("labels", 2, 0.20), ("list", 3, 0.10), ("list", 4, 0.15)]
    return [
        (Path(f"step-{step}"), replace(manifest, objective=kind, step=step, losses={"validation": loss}))
        for kind, step, loss in found
    ]


def calibrated(checkpoints: list[Checkpoint], *f1: float) -> list[Checkpoint]:
    return [(path, replace(m, calibration=calibration(f))) for (path, m), f in zip(checkpoints, f1, strict=True)]


def test_losses_decide_within_the_first_objective_alone(checkpoints):
    assert choose(checkpoints)[1].step == 2
    assert choose(checkpoints[2:])[1].step == 3


def test_the_f1_of_the_lists_as_they_are_served_decides_once_all_are_calibrated(checkpoints):
    assert choose(calibrated(checkpoints, 0.1, 0.2, 0.3, 0.4))[1].step == 4
    some = [*calibrated(checkpoints, 0.1, 0.2, 0.3, 0.4)[:3], checkpoints[3]]
    assert choose(some)[1].step == 2


@pytest.mark.parametrize("by", ["f1", "loss"])
def test_of_equals_the_one_trained_longest_is_chosen(checkpoints, by):
    equal = [(path, replace(m, losses={"validation": 0.5})) for path, m in checkpoints[:2]]
    assert choose(calibrated(equal, 0.3, 0.3) if by == "f1" else equal)[1].step == 2


def test_a_checkpoint_without_a_validation_loss_is_chosen_last(checkpoints):
    (path, manifest), *others = checkpoints[:2]
    unknown = (path, replace(manifest, losses={"validation": None}))
    assert choose([unknown, *others])[1].step == 2


def test_votes_are_known_from_the_calibration(manifest):
    assert not takes_votes(manifest)
    assert not takes_votes(replace(manifest, calibration=calibration(0.5)))
    assert takes_votes(replace(manifest, calibration=calibration(0.5, Votes(4, 1.0, 1.0))))


def test_what_is_said_of_a_checkpoint_holds_no_curve(manifest):
    known = describe(Path("x"), replace(manifest, objective="labels", calibration=calibration(0.5)))
    assert (known["objective"], known["calibrated"]) == ("labels", True)
    assert "calibration" not in known
