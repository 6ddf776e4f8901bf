"""Drafts of rows that are no checkpoints: the lengths that were asked for, scores in the formulary's order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from etl.cohort import read_samples
from etl.errors import ContractError
from etl.prompts import Outcome, parse_answer
from evaluation import drafts as drafts_module
from evaluation.drafts import Drafted, Kind, Row, as_drafts, draft_baselines, draft_oracle, draft_votes, with_chances
from evaluation.predict import SCHEMA
from serving.baselines.design import Visits, read_visits
from serving.baselines.fit import NAMES
from tests.evaluation.by_hand import drafts_of, samples_of

LENGTHS = (3, 0, 7, 1)


@pytest.fixture(scope="module")
def samples(tiny_cohort: Path) -> pl.DataFrame:
    return read_samples(tiny_cohort, "test")


@pytest.fixture(scope="module")
def formulary(tiny_cohort: Path) -> list[str]:
    return pl.read_parquet(tiny_cohort / "formulary.parquet")["drug"].to_list()


def lengths_for(samples: pl.DataFrame) -> list[int]:
    return [LENGTHS[i % len(LENGTHS)] for i in range(samples.height)]


def drafted(tiny_cohort: Path, samples: pl.DataFrame, formulary: list[str], keep: Path, *names: str) -> list[Drafted]:
    def visits(split: str) -> Visits:
        return read_visits(read_samples(tiny_cohort, split), formulary)

    lengths = lengths_for(samples)
    own = read_visits(samples, formulary)
    return list(draft_baselines(names, visits("train"), visits("validation"), samples, own, lengths, keep))


@pytest.fixture(scope="module")
def every(tiny_cohort, samples, formulary, tmp_path_factory) -> list[Drafted]:
    return drafted(tiny_cohort, samples, formulary, tmp_path_factory.mktemp("kept"), *NAMES)


def test_every_baseline_gives_lists_of_the_lengths_asked_for(every, samples):
    assert [one.row for one in every] == [Row(name, Kind.BASELINE) for name in NAMES]
    for one in every:
        assert one.drafts["drugs"].list.len().to_list() == lengths_for(samples)
        assert one.drafts["hadm_id"].equals(samples["hadm_id"])
        assert dict(one.drafts.schema) == SCHEMA


def test_chances_of_every_drug_are_probabilities_and_a_list_alone_has_none(samples, formulary):
    row, chances = Row("served", Kind.PRODUCT), np.linspace(0, 1, samples.height * len(formulary))
    lists = as_drafts(samples, [[]] * samples.height)
    table = chances.reshape(samples.height, -1).tolist()
    known = with_chances(row, lists.with_columns(pl.Series("chances", table, SCHEMA["chances"])))
    assert known.probable
    assert known.scores.dtype == np.float64
    assert np.allclose(known.scores, table, atol=1e-7)
    assert with_chances(row, lists).scores is None


def test_every_baseline_scores_each_drug_of_the_formulary(every, samples, formulary):
    for one in every:
        assert one.scores.shape == (samples.height, len(formulary))
        assert np.isfinite(one.scores).all()
        if one.probable:
            assert ((one.scores >= 0) & (one.scores <= 1)).all()


def test_popular_drugs_score_in_the_formularys_order(every, formulary):
    popularity = next(one for one in every if one.row.name == "popularity")
    assert (np.diff(popularity.scores, axis=1) <= 0).all()
    assert popularity.drafts["drugs"].to_list()[0] == formulary[: LENGTHS[0]]


def test_the_batch_changes_no_score(every, tiny_cohort, samples, formulary, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts_module, "BATCH", 4)
    [again] = drafted(tiny_cohort, samples, formulary, tmp_path, "popularity-by-chapter")
    whole = next(one for one in every if one.row.name == "popularity-by-chapter")
    assert np.array_equal(again.scores, whole.scores)


# --- the oracle -----------------------------------------------------------------------------------------


def test_the_oracle_scores_by_the_chances_it_knows(tiny_hospital, samples, formulary):
    found = draft_oracle(tiny_hospital / "oracle.parquet", samples, formulary)
    assert (found.row, found.probable) == (Row("oracle", Kind.ORACLE), True)
    known = {row["hadm_id"]: row for row in pl.read_parquet(tiny_hospital / "oracle.parquet").iter_rows(named=True)}
    for row, scores in zip(found.drafts.iter_rows(named=True), found.scores, strict=True):
        chances = dict(zip(known[row["hadm_id"]]["drugs"], known[row["hadm_id"]]["chances"], strict=True))
        assert scores.tolist() == [chances.get(drug, 0) for drug in formulary]
        least = min((chances[drug] for drug in row["drugs"]), default=1)
        assert all(chances[drug] <= least for drug in chances.keys() - set(row["drugs"]))


def test_another_hospitals_oracle_is_refused(tiny_hospital, samples, formulary, tmp_path):
    path = tmp_path / "oracle.parquet"
    pl.read_parquet(tiny_hospital / "oracle.parquet").head(2).write_parquet(path)
    with pytest.raises(ContractError, match=r"knows nothing of \d+ admissions"):
        draft_oracle(path, samples, formulary)


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_an_oracle_that_is_none_is_refused(samples, formulary, tmp_path, content):
    path = tmp_path / "oracle.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(ContractError, match=r"oracle\.parquet of `rxdraft synth`"):
        draft_oracle(path, samples, formulary)


@pytest.mark.parametrize("other", ["formulary.parquet", "samples.parquet"])
def test_a_parquet_file_of_another_kind_is_no_oracle(tiny_cohort, samples, formulary, other):
    with pytest.raises(ContractError, match="is not the oracle"):
        draft_oracle(tiny_cohort / other, samples, formulary)


# --- votes, lists -----------------------------------------------------------------------------------------


def test_shares_of_votes_are_probabilities_of_the_formularys_drugs():
    samples = samples_of([["a"], ["b"]], [1, 2])
    drafts = drafts_of(samples, [["b"], ["c"]], ["ok", "ok"], [0, 0])
    row = Row("vote", Kind.STRATEGY)
    assert draft_votes(row, drafts.with_columns(candidates=None, candidate_votes=None), ["a", "b"]).scores is None
    voted = drafts.with_columns(
        candidates=pl.Series([["b", "c"], ["c"]]), candidate_votes=pl.Series([[0.75, 0.25], [1.0]])
    )
    found = draft_votes(row, voted, ["a", "b"])
    assert found.probable
    assert found.scores.tolist() == [[0, 0.75], [0, 0]]


def test_a_list_reads_as_a_model_would_have_written_it():
    samples = samples_of([["a"], ["b"]], [1, 2])
    found = as_drafts(samples, [["heparin", "senna"], []])
    assert found["outcome"].to_list() == [Outcome.OK, Outcome.OK_EMPTY_LIST]
    for text, outcome, drugs in found.select("text", "outcome", "drugs").iter_rows():
        read = parse_answer(text)
        assert (read.outcome, list(read.drugs)) == (outcome, drugs)
