"""The recommender: the same answer whoever else is asked, the same question as in training, or a refusal."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl import prompts
from etl.cohort import read_prompts, read_samples, to_admission
from etl.domain import Admission, Diagnosis
from etl.errors import ConfigError, ContractError
from serving.decoding.decoder import Ask, Drawn
from serving.decoding.trie import FormularyTrie
from serving.probabilities.calibration import Calibration, Votes
from serving.probabilities.cut import Cut, Rule
from serving.recommenders.engine import Engine
from serving.recommenders.lists import Recommender, load_recommenders
from serving.schemas import DraftRequest, make_list
from training.data import encode_split
from training.manifest import FORMAT, find_checkpoints, read_manifest


@pytest.fixture(scope="module")
def admissions(tiny_cohort: Path) -> list[Admission]:
    samples = pl.concat([read_samples(tiny_cohort, split) for split in ("validation", "test")])
    return [to_admission(sample) for sample in samples.iter_rows(named=True)]


def change_manifest(checkpoint: Path, **fields: Any) -> None:
    path = checkpoint / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def copied(checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoint, tmp_path / "checkpoint"))


# --- answers --------------------------------------------------------------------------------------------


def test_an_admission_alone_gets_the_answer_it_gets_in_a_batch(recommender, admissions):
    together = recommender.recommend(admissions)
    assert len({drafted.text for drafted in together}) > 1  # else equality would prove nothing
    assert [recommender.recommend([admission])[0] for admission in admissions] == together


def test_the_order_of_a_batch_changes_no_answer(recommender, admissions):
    order = list(range(len(admissions)))
    random.Random(0).shuffle(order)
    straight = recommender.recommend(admissions)
    assert recommender.recommend([admissions[i] for i in order]) == [straight[i] for i in order]


def test_batches_of_any_size_give_the_same_answers(recommender, admissions):
    engine, room = recommender.engine, recommender.manifest.max_answer_tokens
    ids = [prompts.encode(engine.tokenizer, prompts.render_prompt(admission)) for admission in admissions]
    whole, by_three = (engine.generate(ids, recommender.adapter, room, batch_size=size) for size in (64, 3))
    assert whole == by_three


def test_no_admission_gets_no_answer(recommender):
    assert recommender.recommend([]) == []


def test_adapters_on_one_engine_answer_as_each_does_alone(taught_runs, admissions):
    checkpoints = find_checkpoints(taught_runs)
    asked = admissions[:6]
    alone = [load_recommenders([path])[0].recommend(asked) for path in checkpoints]
    shared = load_recommenders(checkpoints)
    assert [(r.manifest.rank, r.manifest.step) for r in shared] == [(2, 2), (2, 4), (4, 2), (4, 4)]
    assert len({tuple(drafted.text for drafted in answers) for answers in alone}) > 1  # the adapters do differ
    assert [r.recommend(asked) for r in shared] == alone
    assert [r.recommend(asked) for r in reversed(shared)] == alone[::-1]


def test_threads_that_ask_different_adapters_do_not_mix_their_answers(taught_runs, admissions):
    shared = load_recommenders(find_checkpoints(taught_runs))
    asked = admissions[:4]
    one_by_one = [r.recommend(asked) for r in shared]
    with ThreadPoolExecutor(len(shared)) as pool:
        at_once = [pool.submit(r.recommend, asked) for _ in range(3) for r in shared]
        assert [answer.result() for answer in at_once] == one_by_one * 3


# --- votes ----------------------------------------------------------------------------------------------

VOTING = Calibration(cut=Cut(Rule.THRESHOLD, 0.4), votes=Votes(5, 1.0, 0.5))


@pytest.fixture(scope="module")
def calibrated(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("voting") / "checkpoint"))
    change_manifest(folder, calibration=VOTING.to_json())
    return folder


@pytest.fixture(scope="module")
def voting(calibrated: Path) -> Recommender:
    [found] = load_recommenders([calibrated])
    assert isinstance(found, Recommender)
    return found


def test_votes_are_the_same_alone_in_a_batch_in_another_order_and_again(voting, admissions):
    together = voting.recommend(admissions)
    assert len({drafted.chances for drafted in together}) > 1
    assert [voting.recommend([admission])[0] for admission in admissions] == together
    assert voting.recommend(admissions[::-1]) == together[::-1]


def test_drafts_that_meet_in_the_scheduler_are_voted_as_in_a_batch(voting, admissions):
    async def at_once():
        return await asyncio.gather(*map(voting.draft, admissions))

    assert asyncio.run(at_once()) == voting.recommend(admissions)


def test_every_drug_has_the_chance_its_votes_and_its_popularity_give_it(voting, admissions):
    votes = voting.count_votes(admissions, samples=5, temperature=1.0)
    assert ((votes >= 0) & (votes <= 5)).all()
    assert len(np.unique(votes)) > 2  # the lists agree on some drugs and not on others
    for drafted, counted in zip(voting.recommend(admissions), votes, strict=True):
        assert drafted.chances == pytest.approx((counted + 0.5 * voting.popularity) / 5.5)


def test_a_list_is_the_most_probable_drugs_by_falling_probability(voting, admissions):
    formulary = voting.vocabulary.formulary
    for drafted in voting.recommend(admissions):
        drugs, chances = drafted.answer.drugs, dict(zip(formulary, drafted.chances, strict=True))
        assert drafted.probabilities == tuple(chances[drug] for drug in drugs)
        assert list(drafted.probabilities) == sorted(drafted.probabilities, reverse=True)
        assert drafted.text == prompts.render_answer(drugs)
        assert set(drugs) == {drug for drug in formulary if chances[drug] >= 0.4} or len(drugs) == 1


def test_drugs_without_a_vote_come_by_popularity(voting, admissions):
    for drafted, votes in zip(voting.recommend(admissions), voting.count_votes(admissions, 5, 1.0), strict=True):
        unnamed = np.flatnonzero(votes == 0)
        assert (np.diff(np.array(drafted.chances)[unnamed]) <= 0).all()  # the formulary begins with the commonest


def test_popularity_is_the_share_of_training_admissions(voting, tiny_cohort):
    lists = read_samples(tiny_cohort, "train")["drugs"].to_list()
    shares = [sum(drug in drugs for drugs in lists) / len(lists) for drug in voting.vocabulary.formulary]
    assert voting.popularity == pytest.approx(shares)


def test_one_list_is_the_uncalibrated_draft_and_knows_no_probability(calibrated, recommender, admissions):
    [greedy] = load_recommenders([calibrated], k=1)
    assert greedy.recommend(admissions) == recommender.recommend(admissions)
    assert {(drafted.probabilities, drafted.chances) for drafted in greedy.recommend(admissions)} == {(None, None)}


def test_what_the_model_writes_is_no_matter_of_votes(voting, recommender, admissions):
    assert voting.recommend(admissions, raw=True) == recommender.recommend(admissions, raw=True)


def test_as_many_lists_as_were_calibrated_for_may_be_asked_for_and_no_other_number(calibrated, checkpoint):
    assert load_recommenders([calibrated], k=5)[0].votes == VOTING.votes
    with pytest.raises(ConfigError, match=r"k is 7, wanted 1 or 5.*rxdraft calibrate --votes 7"):
        load_recommenders([calibrated], k=7)
    with pytest.raises(ConfigError, match=r"k is 5, wanted 1; .*rxdraft calibrate --votes 5"):
        load_recommenders([checkpoint], k=5)


def test_a_draft_names_the_calibration_that_made_its_probabilities_and_no_other(voting, calibrated, recommender):
    assert voting.identity != recommender.identity
    assert voting.identity.calibration_sha256 is not None
    assert load_recommenders([calibrated], k=1)[0].identity == recommender.identity


def test_a_calibration_of_another_version_is_refused(copied):
    change_manifest(copied, calibration={"kind": "older"})
    with pytest.raises(ContractError, match="rxdraft calibrate"):
        load_recommenders([copied])


# --- questions ------------------------------------------------------------------------------------------


class Overheard:
    """Stands in for Engine.draw: keeps the token ids and answers the commonest drug."""

    def __init__(self) -> None:
        self.prompts: list[list[int]] = []

    def __call__(self, asks: list[Ask], adapter: str, trie: FormularyTrie) -> list[list[Drawn]]:
        self.prompts += [list(ask.prompt) for ask in asks]
        return [[Drawn((0,), 0.0)]] * len(asks)


@pytest.fixture
def overheard(recommender, monkeypatch) -> Overheard:
    listener = Overheard()
    monkeypatch.setattr(recommender.engine, "draw", listener)
    return listener


def test_serving_asks_for_token_what_training_asked(recommender, tiny_cohort, overheard):
    trained = encode_split(
        read_prompts(tiny_cohort, "train"), recommender.engine.tokenizer, recommender.manifest.max_length
    ).rows
    samples = read_samples(tiny_cohort, "train").iter_rows(named=True)
    recommender.recommend([to_admission(sample) for sample in samples])
    assert overheard.prompts == [row.input_ids[: row.prompt_tokens] for row in trained]


def test_a_request_with_a_training_admissions_facts_asks_what_training_asked(recommender, tiny_cohort, overheard):
    trained = encode_split(
        read_prompts(tiny_cohort, "train"), recommender.engine.tokenizer, recommender.manifest.max_length
    ).rows
    for sample in read_samples(tiny_cohort, "train").iter_rows(named=True):
        codes = [{"icd_code": d["icd_code"], "icd_version": d["icd_version"]} for d in sample["diagnoses"]]
        facts = {name: sample[name] for name in DraftRequest.model_fields if name in sample and name != "diagnoses"}
        request = DraftRequest.model_validate({"diagnoses": codes, **facts})
        recommender.recommend([request.to_admission(recommender.vocabulary)])
    assert overheard.prompts == [row.input_ids[: row.prompt_tokens] for row in trained]


def test_question_and_answer_together_never_exceed_max_length(recommender, overheard):
    many = Admission(tuple(Diagnosis(title=f"Disease number {i} of a long list") for i in range(300)))
    recommender.recommend([many])
    manifest = recommender.manifest
    assert len(overheard.prompts[0]) <= manifest.max_length - manifest.max_answer_tokens


def test_three_hundred_diagnoses_are_shortened_and_the_dropped_ones_are_named(recommender):
    many = Admission(tuple(Diagnosis(title=f"Disease number {i} of a long list") for i in range(300)))
    [drafted] = recommender.recommend([many])
    assert 0 < drafted.dropped_diagnoses < 300
    draft = make_list(many, drafted, recommender)
    left_out = [warning.position for warning in draft.warnings if warning.code == "diagnosis_left_out"]
    assert left_out == list(range(300 - drafted.dropped_diagnoses + 1, 301))
    kept = Admission(many.diagnoses[: 300 - drafted.dropped_diagnoses])
    [again] = recommender.recommend([kept])
    assert (again.text, again.dropped_diagnoses) == (drafted.text, 0)


def test_one_diagnosis_more_than_is_kept_does_not_fit(recommender):
    many = Admission(tuple(Diagnosis(title=f"Disease number {i} of a long list") for i in range(300)))
    kept = 300 - recommender.recommend([many])[0].dropped_diagnoses
    [drafted] = recommender.recommend([Admission(many.diagnoses[: kept + 1])])
    assert drafted.dropped_diagnoses == 1


@pytest.mark.parametrize("others", [0, 2])
def test_an_admission_without_diagnosis_is_refused(recommender, admissions, others):
    with pytest.raises(ConfigError, match="diagnosis"):
        recommender.recommend([*admissions[:others], Admission(())])


# --- refusals -------------------------------------------------------------------------------------------


def test_another_prompt_version_is_refused_with_both_named(copied):
    change_manifest(copied, prompt_version="0.9-old")
    with pytest.raises(ContractError, match=rf"0\.9-old.*renders {prompts.VERSION};"):
        load_recommenders([copied])


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_changed_adapter_file_is_refused(copied, name):
    path = copied / "adapter" / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ContractError, match=r"adapter is not what its manifest was written for"):
        load_recommenders([copied])


def test_a_missing_adapter_is_refused(copied):
    shutil.rmtree(copied / "adapter")
    with pytest.raises(ContractError, match="adapter"):
        load_recommenders([copied])


def test_a_changed_formulary_is_refused(copied):
    path = copied / "vocabulary" / "formulary.parquet"
    pl.read_parquet(path).head(3).write_parquet(path)
    with pytest.raises(ContractError, match=r"formulary\.parquet.*not what the manifest names"):
        load_recommenders([copied])


def test_all_wrong_vocabulary_files_are_named_at_once(copied):
    (copied / "vocabulary" / "formulary.parquet").unlink()
    (copied / "vocabulary" / "icd_titles.parquet").write_bytes(b"")
    with pytest.raises(ContractError, match=r"formulary\.parquet.*icd_titles\.parquet"):
        load_recommenders([copied])


def test_another_base_is_refused_with_both_digests(checkpoint, random_base):
    manifest = read_manifest(checkpoint)
    with pytest.raises(ContractError) as refusal:
        load_recommenders([checkpoint], str(random_base))
    from training.base import base_sha256

    assert base_sha256(random_base)[:12] in str(refusal.value)
    assert manifest.base_sha256[:12] in str(refusal.value)


def test_a_base_that_moved_is_found_with_base(copied, admissions, recommender, tmp_path):
    moved = shutil.copytree(recommender.manifest.base, tmp_path / "moved")
    change_manifest(copied, base=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="nowhere"):
        load_recommenders([copied])
    [found] = load_recommenders([copied], str(moved))
    assert found.recommend(admissions[:2]) == recommender.recommend(admissions[:2])


def test_checkpoints_of_two_bases_are_refused(taught_runs, trained_runs):
    with pytest.raises(ContractError, match="2 different bases"):
        load_recommenders([find_checkpoints(taught_runs)[0], find_checkpoints(trained_runs)[0]])


def test_a_whole_model_is_no_adapter(taught_runs):
    [whole] = find_checkpoints(taught_runs.parent / "full")
    with pytest.raises(ContractError, match="whole model"):
        load_recommenders([whole])


def test_a_folder_without_manifest_is_no_checkpoint(copied):
    (copied / "manifest.json").unlink()
    with pytest.raises(ContractError, match=r"manifest\.json is missing"):
        load_recommenders([copied])


@pytest.mark.parametrize("fields", [{"format": FORMAT - 1}, {"format": FORMAT + 1}, {"colour": "blue"}])
def test_a_manifest_of_another_rxdraft_is_refused(copied, fields):
    change_manifest(copied, **fields)
    with pytest.raises(ContractError, match="train again"):
        load_recommenders([copied])


def test_nothing_of_an_admission_is_in_a_refusal(recommender):
    canary = "CANARY-DX-Z99"
    endless = Admission((Diagnosis(title="x"),), previous_drugs=tuple(f"{canary} {i}" for i in range(300)))
    with pytest.raises(ConfigError) as refusal:
        recommender.recommend([endless])
    assert canary not in str(refusal.value)


def test_the_engine_reports_a_cut_answer_as_truncated(recommender, admissions):
    engine: Engine = recommender.engine
    ids = [prompts.encode(engine.tokenizer, prompts.render_prompt(admission)) for admission in admissions[:3]]
    assert all(answer.truncated for answer in engine.generate(ids, recommender.adapter, 2))


def test_a_recommender_is_one_checkpoint(recommender: Recommender, checkpoint: Path):
    assert (recommender.checkpoint, recommender.manifest) == (checkpoint, read_manifest(checkpoint))
