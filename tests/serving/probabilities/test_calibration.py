"""A calibration as a manifest keeps it: read back whole, or refused in one line."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ContractError
from serving.probabilities.calibration import Blended, Calibration, Figures, Fitted, Votes
from serving.probabilities.curves import Curve, Kind
from serving.probabilities.cut import Cut, Rule

FIGURES = Figures(0.3, 0.1, 0.02, 0.45)
WHOLE = Calibration(
    Curve(Kind.ISOTONIC, knots=((-3.0, 0.01), (1.5, 0.8))),
    Cut(Rule.THRESHOLD, 0.31),
    Votes(10, 1.0, 2.0),
    Blended(0.6, "cd" * 32),
    Fitted("ab" * 32, "validation", 296, 168, FIGURES, FIGURES, FIGURES),
)
NUMBERS = st.floats(0.01, 5)
CALIBRATIONS = st.builds(
    Calibration,
    st.builds(Curve, st.just(Kind.PLATT), NUMBERS, NUMBERS),
    st.builds(Cut, st.sampled_from(Rule), NUMBERS),
    st.none() | st.builds(Votes, st.integers(2, 64), NUMBERS, NUMBERS),
    st.none() | st.builds(Blended, st.floats(0, 0.99), st.text()),
    st.none()
    | st.builds(Fitted, st.text(), st.text(), st.integers(), st.integers(), st.just(FIGURES), st.just(FIGURES)),
)


@given(CALIBRATIONS | st.just(WHOLE) | st.just(Calibration()))
def test_what_a_manifest_keeps_is_read_back_the_same(calibration):
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def changed(*path: str, value: Any) -> dict[str, Any]:
    content = WHOLE.to_json()
    place = content
    for name in path[:-1]:
        place = place[name]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return content


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (changed("colour", value="blue"), "colour"),
        (changed("curve", "kind", value="spline"), "curve.kind"),
        (changed("curve", "slope", value=-1.0), "curve"),
        (changed("curve", "knots", value=[[1.0, 0.5], [0.0, 0.6]]), "curve"),
        (changed("cut", "at", value="high"), "cut.at"),
        (changed("cut", "at", value=None), "missing"),
        (changed("votes", "samples", value=1), "votes.samples"),
        (changed("votes", "prior_weight", value=0.0), "votes.prior_weight"),
        (changed("fitted", "before", "f1", value=None), "fitted.before.f1"),
        ({}, "missing"),
        (None, "the whole"),
        ([], "the whole"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_with_the_way_out(content, named):
    with pytest.raises(ContractError, match=rf"{named}.*rxdraft calibrate") as refusal:
        Calibration.from_json(content)
    assert "\n" not in str(refusal.value)


@given(st.lists(st.integers(0, 10), min_size=3, max_size=3), st.floats(0.01, 20))
def test_votes_come_before_popularity_only_as_far_as_the_prior_lets_them(votes, prior_weight):
    popularity = np.array([0.5, 0.1, 0.02])
    scores = Votes(10, 1.0, prior_weight).scores(np.array(votes, dtype=float), popularity)
    assert ((scores > 0) & (scores <= 1)).all()
    if votes[0] >= votes[1]:
        assert scores[0] > scores[1]
    if prior_weight < 1 and votes[2] > votes[0]:
        assert scores[2] > scores[0]
