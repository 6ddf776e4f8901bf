"""Lists as numbers: all visits at once count what one visit at a time counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.drug_vocabulary import read_drug_vocabulary
from evaluation.ladder import RUNGS, Projection
from evaluation.lists import Lists, Names, compare, drugs_of
from tests.evaluation.matching import match

NAMES = (
    *("acetaminophen", "acetaminophen iv", "sulfameth/trimethoprim ds", "trimethoprim", "furosemide", "torsemide"),
    *("metoprolol tartrate", "metoprolol succinate xl", "insulin", "adde", "n02aa", "c03c"),
)
drug_lists = st.lists(st.sampled_from(NAMES), unique=True, max_size=8)
pairs_of_lists = st.lists(st.tuples(drug_lists, drug_lists), max_size=5)


@pytest.fixture(scope="module")
def projection() -> Projection:
    return Projection(read_drug_vocabulary())


@given(pairs_of_lists, st.lists(st.sampled_from(RUNGS), min_size=1, max_size=3), st.permutations(NAMES))
def test_all_visits_at_once_are_matched_as_each_alone(projection, visits, rungs, numbered):
    names = Names(projection)
    for drug in numbered[:4]:  # numbers are given in any order, before the lists and by them
        names.number(drug)
    predicted, truth = (Lists([visit[side] for visit in visits], names) for side in (0, 1))
    for rung in rungs:  # one list is asked again and again
        counts = compare(predicted, truth, rung)
        for visit, (drafted, ordered) in enumerate(visits):
            alone = match(projection.rungs(drafted)[rung], projection.rungs(ordered)[rung])
            assert {name: n[visit] for name, n in counts.items()} == alone._asdict()


@given(pairs_of_lists)
def test_a_drug_named_twice_is_one_drug_and_no_list_is_an_empty_one(projection, visits):
    names = Names(projection)
    once = Lists([drugs for drugs, _ in visits], names)
    twice = Lists([[*drugs, *drugs] or None for drugs, _ in visits], names)
    assert once.each().tolist() == twice.each().tolist()
    assert once.lengths().tolist() == [len(drugs) for drugs, _ in visits]


def test_counts_have_a_number_for_every_visit_even_if_no_list_names_a_drug(projection):
    none = Lists([None, [], None], Names(projection))
    assert {name: n.tolist() for name, n in compare(none, none, "atc3").items()} == {
        name: [0, 0, 0] for name in ("p", "t", "tp", "one")
    }


def test_a_drug_is_understood_if_the_vocabulary_has_an_ingredient_or_it_is_a_code(projection):
    names = Names(projection)
    numbers = [names.number(drug) for drug in ("furosemide", "adde", "c03c")]
    assert names.understood()[numbers].tolist() == [True, False, True]


def test_keys_tell_visits_and_drugs_apart(projection):
    names = Names(projection)
    lists = Lists([["furosemide", "insulin"], [], ["insulin"]], names)
    numbers = [names.number(drug) for drug in ("furosemide", "insulin", "insulin")]
    assert drugs_of(lists.each()).tolist() == numbers
    assert lists.count(lists.each()).tolist() == [2, 0, 1]
    assert lists.count(lists.each(), np.array([5, 6, 7])).tolist() == [11, 0, 7]
