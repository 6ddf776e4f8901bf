"""The rows of the table, drafted one after another: what may be asked for, and who drafts it from what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl

from etl import kept
from etl.cohort import read_samples
from etl.domain import Split
from etl.errors import ConfigError
from etl.prompts import Outcome
from evaluation.drafts import SERVED, Drafted, Kind, Row, draft_baselines, draft_oracle, draft_votes, with_chances
from evaluation.lengths import matched_lengths
from evaluation.predict import Decoding, cell_name, predict
from evaluation.probes import PROBES
from evaluation.results import Redrawn
from evaluation.selection import Checkpoint, takes_votes
from evaluation.strategies.drafts import predict_strategies
from evaluation.strategies.strategy import Strategy
from serving.baselines.design import Visits, read_visits
from serving.baselines.fit import NAMES as BASELINES

BASE = "base"
CONSTRAINED = "constrained"
"""The same checkpoint's likeliest list, beside one that is served by votes: `rxdraft serve --k 1`."""
ROWS = (SERVED, CONSTRAINED, *BASELINES, BASE, *PROBES)
"""Rows beside the checkpoints, all of them asked for by default."""

Told = Callable[[str, int, int], None]
"""Told (row, admissions drafted so far, all)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What an evaluation is asked for beside checkpoints and samples.

    Attributes:
        rows: of ROWS.
        matched_lengths: baselines get the list lengths of the selected checkpoint, visit by visit, so that nobody is
            more precise by saying less; else each is cut as it is served, as the product is.
        oracle: oracle.parquet of a synthetic hospital, for a row that nobody can beat.
        strategies: further rows, of the checkpoint chosen on validation and its base.
        interactions: CSV of interacting drugs; None: the shipped one.
        redrawn: how patients are redrawn.
    """

    rows: Sequence[str] = ROWS
    matched_lengths: bool = False
    oracle: Path | None = None
    strategies: Sequence[Strategy] = ()
    interactions: Path | None = None
    redrawn: Redrawn = field(default_factory=Redrawn)

    def check(self) -> None:
        """See that every row is one.

        Raises:
            ConfigError: some are not; all of them are named.
        """
        if unknown := [row for row in self.rows if row not in ROWS]:
            raise ConfigError(f"--rows has {', '.join(unknown)}, wanted some of {', '.join(ROWS)}")


@dataclass(frozen=True, slots=True)
class Drafting:
    """What all rows are drafted from.

    Attributes:
        cohort: folder of `rxdraft etl`.
        samples: what is drafted for.
        formulary: the training admissions' drugs, commonest first.
        folder: keeps predictions.
        origin: what decides them beside the checkpoint: digest of the cohort, split.
        base: where the base lies now; None: where the manifests say.
        told: of progress, row by row.
    """

    cohort: Path
    samples: pl.DataFrame
    formulary: list[str]
    folder: Path
    origin: dict[str, str]
    base: str | None
    told: Told

    def cells(self, checkpoints: Sequence[Checkpoint]) -> dict[str, pl.DataFrame]:
        """Return the checkpoints' own drafts: what lists' models write, what labels' draft."""
        return predict(checkpoints, self.samples, self.origin, self.folder, self.base, self.told)

    def rows(
        self, checkpoints: Sequence[Checkpoint], cells: dict[str, pl.DataFrame], selected: Checkpoint, asked: Asked
    ) -> Iterator[Drafted]:
        """Return row after row, in the table's order; all but the checkpoints' cells are drafted here."""
        for _, manifest in checkpoints:
            name = cell_name(manifest)
            yield with_chances(Row(name, Kind.CHECKPOINT, manifest.rank, manifest.step), cells[name])
        own = cells[cell_name(selected[1])]
        yield from self._products(selected, asked.rows)
        yield from self._strategies(selected[0], asked)
        yield from self._probes(selected, asked.rows)
        yield from self._baselines([name for name in BASELINES if name in asked.rows], own, asked.matched_lengths)
        if asked.oracle is not None:
            yield draft_oracle(asked.oracle, self.samples, self.formulary)

    def _products(self, selected: Checkpoint, rows: Sequence[str]) -> Iterator[Drafted]:
        if CONSTRAINED in rows and takes_votes(selected[1]):  # else it is what is served
            yield self._product(CONSTRAINED, selected, Decoding.CONSTRAINED)
        if SERVED in rows:
            yield self._product(SERVED, selected, Decoding.SERVED)

    def _product(self, name: str, selected: Checkpoint, decoding: Decoding) -> Drafted:
        return with_chances(Row(name, Kind.PRODUCT), self._again(name, selected, self.samples, self.origin, decoding))

    def _again(
        self, name: str, selected: Checkpoint, samples: pl.DataFrame, origin: dict[str, str], decoding: Decoding
    ) -> pl.DataFrame:
        """Return the selected checkpoint's drafts under another name, kept in a folder of that name."""
        told = partial(_renamed, self.told, name)
        found = predict([selected], samples, origin, self.folder / name, self.base, told, decoding=decoding)
        return found[cell_name(selected[1])]

    def _strategies(self, checkpoint: Path, asked: Asked) -> Iterator[Drafted]:
        alone = [Strategy.model_validate({"name": "zero-shot", "on": [BASE]})] if BASE in asked.rows else []
        wanted = [*alone, *(strategy for strategy in asked.strategies if not (alone and strategy.is_served))]
        if not wanted:
            return
        training = read_samples(self.cohort, Split.TRAIN)
        found = predict_strategies(
            wanted, checkpoint, self.samples, training, self.origin, self.folder, self.base, self.told
        )
        for name, drafts in found.items():
            yield draft_votes(Row(name, Kind.STRATEGY), drafts, self.formulary)

    def _probes(self, selected: Checkpoint, rows: Sequence[str]) -> Iterator[Drafted]:
        for name, alter in PROBES.items():
            if name in rows:
                origin = {**self.origin, "probe": name}
                drafts = self._again(name, selected, alter(self.samples), origin, Decoding.RAW)
                yield with_chances(Row(name, Kind.PROBE), drafts)

    def _baselines(self, names: Sequence[str], own: pl.DataFrame, matched: bool) -> Iterator[Drafted]:
        if not names:
            return
        training, validation = (
            read_visits(read_samples(self.cohort, s), self.formulary) for s in (Split.TRAIN, Split.VALIDATION)
        )
        lengths = _lengths_of(own, training) if matched else None
        visits, keep = read_visits(self.samples, self.formulary), self.cohort / "baselines"
        for drafted in draft_baselines(names, training, validation, self.samples, visits, lengths, keep):
            self.told(drafted.row.name, self.samples.height, self.samples.height)
            origin = {**self.origin, "lengths": "matched" if matched else "own"}
            kept.write(self.folder / f"{drafted.row.name}.parquet", drafted.drafts, origin)
            yield drafted


def _lengths_of(drafts: pl.DataFrame, training: Visits) -> list[int]:
    given = [
        len(drugs) if Outcome(outcome).well_formed else None
        for drugs, outcome in zip(drafts["drugs"], drafts["outcome"], strict=True)
    ]
    return matched_lengths(given, otherwise=round(float(np.median(training.lengths))))


def _renamed(told: Told, name: str, cell: str, done: int, total: int) -> None:
    told(name, done, total)
