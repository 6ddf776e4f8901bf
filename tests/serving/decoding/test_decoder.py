"""The decoder: what the model writes where that is a list, a list where it is none, whoever else is answered."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from etl import prompts
from etl.cohort import read_samples, to_admission
from serving.decoding import attention, decoder
from serving.decoding.decoder import Ask, Drawn, ListDecoder, draw_lists
from serving.decoding.trie import FormularyTrie
from serving.recommenders.lists import Recommender, load_recommenders
from training.manifest import find_checkpoints


@pytest.fixture(scope="module")
def recommender(trained_runs: Path) -> Recommender:
    return load_recommenders([find_checkpoints(trained_runs)[-1]])[0]


@pytest.fixture(scope="module")
def encoded(recommender: Recommender, tiny_cohort: Path) -> list[list[int]]:
    admissions = [to_admission(facts) for facts in read_samples(tiny_cohort, "train").head(12).iter_rows(named=True)]
    return [prompts.encode(recommender.engine.tokenizer, prompts.render_prompt(one)) for one in admissions]


@pytest.fixture(scope="module")
def model(recommender: Recommender) -> Any:
    with recommender.engine.turned_to(recommender.adapter):
        return recommender.engine.causal


def by_steps(model: Any, trie: FormularyTrie, ask: Ask) -> list[int]:
    """Decode as plainly as can be: the sequence anew for each token, one row, no cache, a mask over the logits."""
    names, written = {name: i for i, name in enumerate(trie.names)}, list[int]()
    keys: dict[int, list[list[int]]] = {}
    for item, (ends, goes_on) in enumerate(trie.paths):
        keys[item] = [
            [int(trie.tokens[(trie.targets == node).argmax()]) for node in path[1:]] for path in (ends, goes_on)
        ]
    items: list[int] = []
    while True:
        open_ = [i for i in names.values() if i not in items and i not in ask.forbidden]
        last = len(items) + 1 >= ask.most_items or len(open_) == 1
        current: list[int] = []
        candidates = [(i, more, keys[i][more]) for i in open_ for more in ((0,) if last else (0, 1))]
        while not any(key == current for _, _, key in candidates):
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([[*ask.prompt, *written, *current]])).logits[0, -1].float()
            allowed = {key[len(current)] for _, _, key in candidates}
            masked = torch.full_like(logits, -torch.inf)
            masked[list(allowed)] = logits[list(allowed)]
            current.append(int(masked.argmax()))
            candidates = [found for found in candidates if found[2][: len(current)] == current]
        item, more, key = candidates[0]
        items.append(item)
        if not more:
            return items
        written += key


def drawn(model: Any, trie: FormularyTrie, asks: list[Ask], rows: int = 8) -> list[list[Drawn]]:
    found = dict(draw_lists(ListDecoder(model, trie, rows), asks))
    return [found[i] for i in range(len(asks))]


def test_a_greedy_list_is_what_token_by_token_decoding_under_a_mask_gives(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    asks = [Ask(ids, 10_000, most_items=5, forbidden=frozenset({i})) for i, ids in enumerate(encoded[:4])]
    plain = [by_steps(model, recommender.trie, ask) for ask in asks]
    assert [list(one.items) for [one] in drawn(model, recommender.trie, asks)] == plain


def test_a_list_is_the_same_whoever_is_answered_beside_it(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    """Rows join while others are half way, and take the places of those that left."""
    asks = [Ask(ids, 150, most_items=3 + i % 5, samples=i % 3, seed=i) for i, ids in enumerate(encoded)]
    alone = [drawn(model, recommender.trie, [ask], rows=2)[0] for ask in asks]
    together = drawn(model, recommender.trie, asks, rows=5)
    random.Random(1).shuffle(order := list(range(len(asks))))
    shuffled = drawn(model, recommender.trie, [asks[i] for i in order], rows=12)
    items = [[one.items for one in lists] for lists in alone]
    assert [[one.items for one in lists] for lists in together] == items
    assert [[one.items for one in shuffled[order.index(i)]] for i in range(len(asks))] == items


@pytest.mark.parametrize(("few", "most_read"), [(1, 1024), (16, 7), (1000, 200)])
def test_a_list_is_the_same_however_prompts_are_cut_and_attended(
    model: Any, recommender: Recommender, encoded: list[list[int]], few: int, most_read: int, monkeypatch: Any
) -> None:
    """The few tokens that attend together, and the most of prompts in one pass, are matters of speed."""
    asks = [Ask(ids, 100, most_items=4, samples=3 * (i % 2), seed=i) for i, ids in enumerate(encoded[:6])]
    usual = drawn(model, recommender.trie, asks, rows=9)
    monkeypatch.setattr(attention, "FEW", few)
    monkeypatch.setattr(decoder, "MOST_READ", most_read)
    found = drawn(model, recommender.trie, asks, rows=9)
    assert [[one.items for one in lists] for lists in found] == [[one.items for one in lists] for lists in usual]


def test_the_samples_of_an_ask_differ_and_those_of_the_same_seed_do_not(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    ask = Ask(encoded[0], 150, most_items=6, samples=8, seed=1)
    [first], [again], [other] = (
        drawn(model, recommender.trie, [one]) for one in (ask, ask, replace(ask, seed=2, samples=3))
    )
    assert first == again
    assert len({one.items for one in first}) > 4
    assert not {one.items for one in first} & {one.items for one in other}


def test_a_list_does_not_hang_on_how_many_samples_are_drawn_beside_it(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    ask = Ask(encoded[0], 150, most_items=6, samples=2, seed=1)
    [two], [eight] = (drawn(model, recommender.trie, [one]) for one in (ask, replace(ask, samples=8)))
    assert [one.items for one in two] == [one.items for one in eight[:2]]


def test_lists_at_temperatures_near_zero_are_the_greedy_one(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    [[greedy]] = drawn(model, recommender.trie, [Ask(encoded[0], 150, most_items=6)])
    [cold] = drawn(model, recommender.trie, [Ask(encoded[0], 150, most_items=6, samples=4, temperature=1e-6)])
    assert {one.items for one in cold} == {greedy.items}


def test_removed_probability_does_not_hang_on_the_batch_beyond_rounding(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    asks = [Ask(ids, 100, most_items=4) for ids in encoded]
    together = [one.removed for [one] in drawn(model, recommender.trie, asks, rows=12)]
    alone = [drawn(model, recommender.trie, [ask])[0][0].removed for ask in asks]
    assert together == pytest.approx(alone, abs=1e-5)
    assert all(0 <= removed <= 1 for removed in together)


def test_samples_follow_the_models_own_probabilities(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    """Of one-drug lists, over three drugs, drawn two thousand times."""
    trie, ids = recommender.trie, encoded[0]
    allowed = frozenset(range(len(trie.names))) - {0, 1, 2}
    [lists] = drawn(model, trie, [Ask(ids, 100, most_items=1, forbidden=allowed, samples=2000)], rows=2000)
    counts = Counter(one.items[0] for one in lists)
    ends = [[int(trie.tokens[(trie.targets == node).argmax()]) for node in trie.paths[i][0][1:]] for i in range(3)]
    # The chance of a name under the mask: at each token, its share among the tokens that lead to an open name.
    chances = [_chance(model, ids, end, ends) for end in ends]
    assert sum(chances) == pytest.approx(1, abs=1e-4)
    for i, chance in enumerate(chances):
        assert counts[i] / 2000 == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 2000) ** 0.5 + 1e-3)


def _chance(model: Any, ids: list[int], end: list[int], ends: list[list[int]]) -> float:
    chance = 1.0
    for place, token in enumerate(end):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([[*ids, *end[:place]]])).logits[0, -1].float()
        open_ = sorted({other[place] for other in ends if other[:place] == end[:place]})
        chance *= float(logits[open_].softmax(0)[open_.index(token)])
    return chance


def test_a_cancelled_ask_frees_its_rows_and_disturbs_nobody(
    model: Any, recommender: Recommender, encoded: list[list[int]]
) -> None:
    kept, other = Ask(encoded[0], 150, most_items=6), Ask(encoded[1], 150, most_items=6, samples=3)
    [alone] = drawn(model, recommender.trie, [kept])
    running = ListDecoder(model, recommender.trie, 4)
    [_, cancelled] = running.admit([kept, other])
    done: dict[int, list[Drawn]] = {}
    for _ in range(4):  # by now the samples have parted
        done |= running.step()
    running.cancel(cancelled)
    assert running.free == 3
    while running.busy:
        done |= running.step()
    assert [list(found) for found in done.values()] == [alone]


def test_a_draft_is_what_the_model_writes_where_that_is_a_list_of_formulary_drugs(
    taught_runs: Path, tiny_cohort: Path
) -> None:
    """And a list of formulary drugs where it is none."""
    [recommender] = load_recommenders([find_checkpoints(taught_runs)[-1]])
    admissions = [to_admission(facts) for facts in read_samples(tiny_cohort, "train").iter_rows(named=True)]
    known, lists = set(recommender.vocabulary.formulary), 0
    for draft, raw in zip(recommender.recommend(admissions), recommender.recommend(admissions, raw=True), strict=True):
        drugs = draft.answer.drugs
        assert draft.answer.outcome is prompts.Outcome.OK
        assert len(set(drugs)) == len(drugs) > 0
        assert set(drugs) <= known
        if raw.answer.outcome is prompts.Outcome.OK and set(raw.answer.drugs) <= known:
            lists += 1
            assert drugs == raw.answer.drugs
    assert lists > 0
