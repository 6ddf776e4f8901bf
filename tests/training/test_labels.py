"""The label head: the plainest loop over rows, drugs and tokens gives its logits and gradients, padded or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.labels import DROPOUT, FILE, LabelHead, draw_seen, load_head, save_head

HIDDEN, LABELS = 12, 7


@pytest.fixture
def head() -> LabelHead:
    """Of which no weight is 0, so that every gradient depends on the others."""
    torch.manual_seed(0)
    head = LabelHead(HIDDEN, LABELS)
    for weight in head.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return head


def plainest(head: LabelHead, states: list[torch.Tensor]) -> torch.Tensor:
    """The logits of rows without padding, one by one, drug by drug and token by token."""
    rows = []
    for row in states:
        seen = [torch.nn.functional.layer_norm(state, (HIDDEN,), head.norm.weight, head.norm.bias) for state in row]
        logits = []
        for drug in range(LABELS):
            looks = [(head.key.weight @ state) @ head.query[drug] / math.sqrt(HIDDEN) for state in seen]
            total = sum(look.exp() for look in looks)
            found = sum(
                look.exp() / total * (state @ head.value[drug]) for look, state in zip(looks, seen, strict=True)
            )
            whole = torch.cat([seen[-1], sum(seen) / len(seen)]) @ head.whole[drug]  # type: ignore[list-item]
            logits.append(found + whole + head.bias[drug])
        rows.append(torch.stack(logits))
    return torch.stack(rows)


def drawn(lengths: list[int]) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return [torch.randn(length, HIDDEN, generator=draw) for length in lengths]


def padded(states: list[torch.Tensor], tokens: int, filler: float) -> torch.Tensor:
    hidden = torch.full((len(states), tokens, HIDDEN), filler)
    for row, state in zip(hidden, states, strict=True):
        row[: len(state)] = state
    return hidden


def learned(head: LabelHead, logits: Callable[[], torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every weight's gradient of a loss that tells the logits apart."""
    head.zero_grad()
    found = logits()
    (found * torch.arange(1.0, found.numel() + 1).reshape(found.shape)).sum().backward()
    return {name: weight.grad.clone() for name, weight in head.named_parameters() if weight.grad is not None}


def test_logits_and_gradients_are_the_plainest_loops(head: LabelHead) -> None:
    lengths = [3, 1, 6]
    states = drawn(lengths)
    hidden, tokens = padded(states, 8, filler=9.0), torch.tensor(lengths)
    torch.testing.assert_close(head(hidden, tokens), plainest(head, states), rtol=1e-5, atol=1e-5)
    ours, theirs = learned(head, lambda: head(hidden, tokens)), learned(head, lambda: plainest(head, states))
    assert ours.keys() == theirs.keys() == {name for name, _ in head.named_parameters()}
    for name, gradient in ours.items():
        assert (gradient - theirs[name]).norm() <= 1e-5 * theirs[name].norm(), name


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 5), st.floats(-5, 5))
def test_a_row_says_the_same_whatever_stands_beside_it(lengths: list[int], more: int, filler: float) -> None:
    torch.manual_seed(0)
    head = LabelHead(HIDDEN, LABELS)
    torch.nn.init.normal_(head.value)
    states = drawn(lengths)
    together = head(padded(states, max(lengths) + more, filler), torch.tensor(lengths))
    for row, state in zip(together, states, strict=True):
        alone = head(state[None], torch.tensor([len(state)]))[0]
        torch.testing.assert_close(row, alone, rtol=1e-5, atol=1e-5)


def test_the_head_begins_at_the_training_rates(head: LabelHead) -> None:
    rates = torch.tensor([0.0, 0.01, 0.2, 0.5, 0.8, 0.99, 1.0])
    fresh = LabelHead(HIDDEN, LABELS)
    fresh.start_at(rates)
    chances = fresh(torch.randn(2, 3, HIDDEN), torch.tensor([3, 2])).sigmoid()
    torch.testing.assert_close(chances, rates.clamp(1e-3, 1 - 1e-3).expand(2, LABELS))


def test_what_dropout_leaves_depends_on_the_rows_own_seed_alone() -> None:
    together = draw_seen([5, None, 6], 40, HIDDEN)
    assert torch.equal(together[0], draw_seen([5], 40, HIDDEN)[0])
    assert torch.equal(together[2, :25], draw_seen([6], 25, HIDDEN)[0])
    assert together[1].all()
    assert not torch.equal(together[0], together[2])


def test_dropout_leaves_what_the_head_expects(head: LabelHead) -> None:
    """The share it says, scaled so that the mean over draws is what is seen without it."""
    seen = draw_seen(list(range(50)), 40, HIDDEN)
    assert float(seen.float().mean()) == pytest.approx(1 - DROPOUT, abs=0.005)
    with torch.no_grad():
        head.query.zero_()  # all tokens alike: then the logits are linear in the states
        hidden, lengths = torch.randn(1, 40, HIDDEN).expand(50, -1, -1), torch.full((50,), 40)
        spread = head(hidden, lengths, seen)
        torch.testing.assert_close(spread.mean(dim=0), head(hidden, lengths)[0], rtol=0, atol=0.5)
    assert spread.std(dim=0).min() > 0


def test_a_head_is_read_back_as_it_was_and_written_with_the_same_bytes(head: LabelHead, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_head(head, tmp_path / name)
    assert (tmp_path / "one" / FILE).read_bytes() == (tmp_path / "two" / FILE).read_bytes()
    read, hidden, lengths = load_head(tmp_path / "one"), torch.randn(2, 5, HIDDEN), torch.tensor([5, 4])
    assert torch.equal(read(hidden, lengths), head(hidden, lengths))
