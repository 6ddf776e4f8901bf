"""What a run would send, and what it would cost at the user's prices. Prices change; none stand in this code."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl.errors import ConfigError
from etl.outside.ask import Price, count_tokens
from etl.outside.asked import Ledger, Question
from etl.outside.endpoint import Decoding


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would ask of one model.

    Attributes:
        units: distinct questions.
        stored: of them, answered in the ledger.
        tokens_in: of the open ones; four characters are a token.
        tokens_out: expected.
        tokens_out_most: if every answer were as long as it may be.
        price: None: unknown.
        called: what the questions are called.
    """

    model: str
    units: int
    stored: int
    tokens_in: int
    tokens_out: int
    tokens_out_most: int
    price: Price | None
    called: str = "units"

    @property
    def usd(self) -> float | None:
        """What the run is expected to cost."""
        return None if self.price is None else self.price.of(self.tokens_in, self.tokens_out)

    @property
    def usd_most(self) -> float | None:
        """What it costs if every answer is as long as it may be."""
        return None if self.price is None else self.price.of(self.tokens_in, self.tokens_out_most)

    def __str__(self) -> str:
        """Say it in one line."""
        usd = "price unknown" if self.usd is None else f"${self.usd:,.2f}, at most ${self.usd_most:,.2f}"
        return (
            f"{self.model}: {self.units:,} {self.called}, {self.stored:,} stored, {self.units - self.stored:,} to ask; "
            f"tokens in {self.tokens_in:,}, out {self.tokens_out:,}; {usd}"
        )


def read_prices(path: Path) -> dict[str, Price]:
    """Read a TOML file with a table a model: ["gpt-x"] input_usd_per_million = 2.5, output_usd_per_million = 15.

    Raises:
        ConfigError: it is no such file; what is wrong is named.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
        return {
            model: Price(float(said["input_usd_per_million"]), float(said["output_usd_per_million"]))
            for model, said in tables.items()
        }
    except tomllib.TOMLDecodeError:
        raise ConfigError(f'{path} is no TOML; quote a model\'s name that holds a dot: ["name-4.1"]') from None
    except (KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{path} wants a table for each model with input_usd_per_million and output_usd_per_million; quote a "
            'model\'s name that holds a dot: ["name-4.1"]'
        ) from None


def check_budget(estimates: list[Estimate], max_usd: float) -> None:
    """See, before the first request, that a run cannot cost more than allowed.

    Raises:
        ConfigError: it could, or nobody knows.
    """
    unknown = [one.model for one in estimates if one.usd_most is None]
    if unknown:
        raise ConfigError(f"--max-cost needs the price of {', '.join(unknown)}; give it with --prices FILE")
    most = sum(one.usd_most or 0.0 for one in estimates)
    if most > max_usd:
        raise ConfigError(f"the run may cost ${most:,.2f}, above --max-cost {max_usd:g}; nothing was sent")


def estimates(
    models: Sequence[str],
    prices: Mapping[str, Price],
    questions: Sequence[Callable[[], Question]],
    ledger: Ledger | None,
    decoding: Decoding,
) -> list[Estimate]:
    """Return what a run would ask of each model."""
    return [_estimate(model, prices.get(model), questions, ledger, decoding) for model in models]


def _estimate(
    model: str,
    price: Price | None,
    questions: Sequence[Callable[[], Question]],
    ledger: Ledger | None,
    decoding: Decoding,
) -> Estimate:
    """Count what is open under the snapshot that answered last; under a new one all of it is."""
    last = ledger.last_snapshot(model) if ledger else None
    open_, tokens, expected = 0, 0, 0
    for make in questions:
        question = make()
        if ledger and last and ledger.find(question.key(last[0], decoding)):
            continue
        open_ += 1
        expected += question.expected_tokens
        tokens += count_tokens(question.messages)
    most = open_ * decoding.max_tokens
    return Estimate(model, len(questions), len(questions) - open_, tokens, min(expected, most), most, price)
