"""Count drafts against truths: the per-visit table, from which every metric, interval and figure follows.

One row per row of the printed table and visit, the visits in the order of the samples:

    row, kind, rank, step           which row; kind is one of `Kind`; rank and step are checkpoints' own
    subject_id, hadm_id             patient and visit
    outcome, well_formed            what the answer was
    items, repeats                  drugs as written, those named again among them
    unknown, off_formulary          drafted drugs that nobody knows; known ones that training never had
    p_, t_, tp_, one_ + rung        see `lists.compare`; mapped_p, mapped_t: drugs with an ATC code
    same_class_pairs                pairs of drafted drugs of one ATC-4 class
    history                         whether an earlier stay's drugs are known: H
    continued_t, continued_tp       |T ∩ H|, |P ∩ T ∩ H|
    started_t, started_tp           |T - H|, |P ∩ T - H|
    stopped, stopped_right          |H - T|, |H - T - P|; no list stops nothing
    rare_t, rare_tp                 |T| and |P ∩ T| by training frequency, see `metrics.RARITIES`
    beside, beside_formed, shared   the selected checkpoint's |P|, whether it is a list, and the drugs of both
    average_precision, brier_, level_   see `evaluation/probabilities.py`; null where a row gives lists alone
    *pairs*, ddi_*                  see `evaluation/interactions.py`
    chance_ + score + rung          what another patient's list would score, see `evaluation/statistics/chance.py`
    sex, age_band, ...              see `evaluation/strata.py`

It holds no text and no drug; it still is patients' data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from etl.errors import ContractError
from etl.prompts import Outcome
from evaluation.conventions import pyhealth_by_label
from evaluation.drafts import Drafted
from evaluation.interactions import Interactions
from evaluation.ladder import RUNGS, Projection
from evaluation.lists import Ints, Lists, Names, compare, drugs_of
from evaluation.metrics import RARITIES
from evaluation.probabilities import scored_columns, unscored_columns
from evaluation.statistics.calibration import classwise_ece
from evaluation.statistics.chance import random_copy
from evaluation.statistics.ratios import Floats
from evaluation.strata import strata


class Truth:
    """What was ordered in each visit, ready to be compared with any row's drafts."""

    def __init__(
        self, samples: pl.DataFrame, formulary: Sequence[str], projection: Projection, interactions: Interactions
    ) -> None:
        """Read the answers.

        Args:
            samples: rows of samples.parquet.
            formulary: the training admissions' drugs, commonest first.
            projection: what a drug is at each rung.
            interactions: which drugs should not meet.
        """
        self.samples, self._interactions = samples, interactions
        self._names = Names(projection)
        for drug in formulary:  # they get the first numbers, in their order
            self._names.number(drug)
        self._formulary = len(formulary)
        self._lists = samples["drugs"].to_list()
        self._ordered = Lists(self._lists, self._names)
        self._earlier = Lists(samples["previous_drugs"].to_list(), self._names)
        self._facts = pl.concat(
            [
                samples.select("subject_id", "hadm_id", history=pl.col("previous_drugs").is_not_null()),
                strata(samples),
                self._chances(projection),
            ],
            how="horizontal",
        )
        place = {drug: i for i, drug in enumerate(formulary)}
        self._in_formulary = np.zeros((samples.height, len(formulary)), dtype=bool)
        for row, drugs in zip(self._in_formulary, self._lists, strict=True):
            row[[place[drug] for drug in drugs if drug in place]] = True

    def count(self, drafted: Drafted, selected: pl.DataFrame | None = None) -> pl.DataFrame:
        """Count one row's drafts; see the head of this file for the columns.

        Args:
            drafted: the row.
            selected: drafts of the checkpoint chosen on validation; None: these are.

        Raises:
            ContractError: the drafts are of other visits.
        """
        row, drafts = drafted.row, drafted.drafts
        if drafts["hadm_id"].to_list() != self.samples["hadm_id"].to_list():
            raise ContractError(
                f"the drafts of {row.name} and the samples are of different admissions; remove the drafts"
            )
        lists = Lists(drafts["drugs"].to_list(), self._names)
        formed, chosen = _formed(drafts), drafts if selected is None else selected
        beside = Lists(chosen["drugs"].to_list(), self._names)
        columns: dict[str, Any] = {"items": lists.lengths() + drafts["repeats"].to_numpy()}
        columns |= self._ladder(lists) | self._strangers(lists) | self._changes(lists) | self._rare(lists)
        columns["stopped_right"] = columns["stopped_right"] * formed.to_numpy()
        shared = lists.count(np.intersect1d(lists.each(), beside.each(), assume_unique=True))
        columns |= {"beside": beside.lengths(), "beside_formed": _formed(chosen), "shared": shared}
        return pl.concat(
            [
                drafts.select(
                    pl.lit(row.name).alias("row"),
                    pl.lit(row.kind.value).alias("kind"),
                    pl.lit(row.rank, pl.Int64).alias("rank"),
                    pl.lit(row.step, pl.Int64).alias("step"),
                    "outcome",
                    formed.alias("well_formed"),
                    "repeats",
                ),
                self._facts,
                pl.DataFrame(columns),
                pl.DataFrame(map(self._interactions.columns, drafts["drugs"].to_list(), self._lists)),
                self._scored(drafted),
            ],
            how="horizontal",
        )

    def facts(self, drafted: Drafted) -> dict[str, Any]:
        """Return what no visit's counts can tell of a row: scores by drug, and how many drugs it ever names."""
        lists = Lists(drafted.drafts["drugs"].to_list(), self._names)
        hits = np.intersect1d(lists.each(), self._ordered.each(), assume_unique=True)
        p, t, tp = (self._by_drug(drugs) for drugs in (lists.drug, self._ordered.drug, drugs_of(hits)))
        return {
            "drugs_ever_drafted": len(np.unique(lists.drug)),
            "by_label": pyhealth_by_label(p, t, tp),
            "classwise_ece": self._classwise_ece(drafted),
        }

    def _classwise_ece(self, drafted: Drafted) -> float | None:
        if drafted.scores is None or not drafted.probable:
            return None
        return classwise_ece(drafted.scores, self._in_formulary.astype(int))

    def _by_drug(self, drugs: Ints) -> Floats:
        """Count the drugs of the formulary, (formulary,)."""
        return np.bincount(drugs[drugs < self._formulary], minlength=self._formulary).astype(float)

    def _scored(self, drafted: Drafted) -> pl.DataFrame:
        if drafted.scores is None:
            return unscored_columns(self.samples.height)
        return scored_columns(drafted.scores, self._in_formulary, self._ordered.lengths(), drafted.probable)

    def _chances(self, projection: Projection) -> pl.DataFrame:
        rungs, subjects = [projection.rungs(drugs) for drugs in self._lists], self.samples["subject_id"].to_list()
        columns = {
            f"chance_{score}_{rung}": values
            for rung in RUNGS
            for score, values in random_copy([classes[rung] for classes in rungs], subjects)._asdict().items()
        }
        return pl.DataFrame(columns).fill_nan(None)

    def _ladder(self, drafted: Lists) -> dict[str, Ints]:
        columns = {
            f"{name}_{rung}": counts for rung in RUNGS for name, counts in compare(drafted, self._ordered, rung).items()
        }
        keys, drugs = drafted.classed("atc4")
        return {
            **columns,
            "mapped_p": drafted.count(*drafted.classed("atc3")),
            "mapped_t": self._ordered.count(*self._ordered.classed("atc3")),
            "same_class_pairs": drafted.count(keys, drugs * (drugs - 1) // 2),
        }

    def _strangers(self, drafted: Lists) -> dict[str, Ints]:
        """Count what training never had: invented names, and drugs that are known elsewhere."""
        new = drafted.each()[drafted.drug >= self._formulary]
        understood = self._names.understood()[drugs_of(new)] if len(new) else np.zeros(0, dtype=bool)
        return {"unknown": drafted.count(new[~understood]), "off_formulary": drafted.count(new[understood])}

    def _changes(self, drafted: Lists) -> dict[str, Ints]:
        """Count continuations, new starts and stops; 0 everywhere where no earlier stay is known."""
        known = np.flatnonzero(self._facts["history"].to_numpy())
        p, t, h = (_of(lists, known) for lists in (drafted, self._ordered, self._earlier))
        hits, count = np.intersect1d(p, t, assume_unique=True), drafted.count
        stopped = np.setdiff1d(h, t, assume_unique=True)
        return {
            "continued_t": count(np.intersect1d(t, h, assume_unique=True)),
            "continued_tp": count(np.intersect1d(hits, h, assume_unique=True)),
            "started_t": count(np.setdiff1d(t, h, assume_unique=True)),
            "started_tp": count(np.setdiff1d(hits, h, assume_unique=True)),
            "stopped": count(stopped),
            "stopped_right": count(np.setdiff1d(stopped, p, assume_unique=True)),
        }

    def _rare(self, drafted: Lists) -> dict[str, pl.Series]:
        hits = np.intersect1d(drafted.each(), self._ordered.each(), assume_unique=True)
        return {"rare_t": self._by_rarity(self._ordered.each()), "rare_tp": self._by_rarity(hits)}

    def _by_rarity(self, keys: Ints) -> pl.Series:
        """Count keys by visit and training frequency: 0 for never, then fifths from the rarest to the commonest."""
        fifths, places = RARITIES - 1, drugs_of(keys)  # the commonest drug of the formulary has number 0
        rarity = np.where(places >= self._formulary, 0, fifths - places * fifths // max(self._formulary, 1))
        counts = np.stack([self._ordered.count(keys[rarity == i]) for i in range(RARITIES)], axis=1)
        return pl.Series(counts).arr.to_list()


def _formed(drafts: pl.DataFrame) -> pl.Series:
    return drafts["outcome"].is_in([outcome.value for outcome in Outcome if outcome.well_formed])


def _of(lists: Lists, visits: Ints) -> Ints:
    return lists.each()[np.isin(lists.visit, visits)]
