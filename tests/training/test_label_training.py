"""Runs of objective labels: the loss is the plainest one, dropout follows from the step, and a checkpoint is whole."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from etl.cohort import read_training_prompts
from etl.dialogues import import_dialogues
from etl.errors import ConfigError, ContractError
from tests.training.runs import Killed, killed_after, log_of, quiet
from training import loop, methods
from training.base import load_tokenizer
from training.checkpoint import checked_weights
from training.config import TrainConfig, load_config
from training.data import cut_by_rows, deal, epoch_batches
from training.feed import Feed
from training.labels import FILE, LabelHead, draw_seen, load_head
from training.loss import LabelLoss
from training.manifest import find_checkpoints, read_manifest
from training.questions import Question, collate_questions, encode_questions, read_formulary, with_dropout

CPU = torch.device("cpu")
Gradients = dict[str, torch.Tensor]


def small(*overrides: str) -> TrainConfig:
    short = ["ranks=[2]", "checkpoint_epochs=[]", "checkpoint_steps=[3, 6]", "schedule=constant", "batch_size=4"]
    return load_config("labels", [*short, "warmup_steps=0", "validate_every=2", *overrides])


@pytest.fixture(scope="module")
def rows(tiny_cohort: Path, random_base: Path) -> list[Question]:
    conversations = read_training_prompts(tiny_cohort, "train")
    encoded = encode_questions(conversations, load_tokenizer(random_base), 2048, read_formulary(tiny_cohort))
    return with_dropout(encoded.rows[:5], seed=0, step=1)


@pytest.fixture(scope="module")
def loss(random_base: Path, rows: list[Question]) -> LabelLoss:
    """A model and a head of which no weight that learns is 0."""
    model = methods.attach(AutoModelForCausalLM.from_pretrained(random_base), load_config("smoke"), 4)
    torch.manual_seed(0)
    module = LabelLoss(model, LabelHead(64, rows[0].labels))
    for weight in (weight for weight in module.parameters() if weight.requires_grad):
        torch.nn.init.normal_(weight, std=0.05)
    return module


def learned(loss: LabelLoss, values: Sequence[torch.Tensor]) -> tuple[float, Gradients]:
    loss.zero_grad()
    total = torch.stack(list(values)).sum()
    total.backward()
    return total.item(), {name: w.grad.clone() for name, w in loss.named_parameters() if w.grad is not None}


def plainest(loss: LabelLoss, row: Question) -> torch.Tensor:
    """One row by itself: the model's own forward, its last hidden states, and the cross-entropy of every drug."""
    ids = torch.tensor([row.input_ids])
    out = loss.model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
    seen = draw_seen([row.dropout_seed], len(row.input_ids), 64) if row.dropout_seed is not None else None
    [logits] = loss.head(out.hidden_states[-1], torch.tensor([len(row.input_ids)]), seen)
    assert row.drugs is not None
    chances = logits.sigmoid()
    terms = [-(chance if drug in row.drugs else 1 - chance).log() for drug, chance in enumerate(chances)]
    return torch.stack(terms).sum()


@pytest.mark.parametrize("micro_batch_size", [None, 1, 2, 5])
@pytest.mark.parametrize("dropout", [True, False])
def test_every_way_of_feeding_gives_the_plainest_loss_and_gradient(
    loss: LabelLoss, rows: list[Question], micro_batch_size: int | None, dropout: bool
) -> None:
    given = rows if dropout else [replace(row, dropout_seed=None) for row in rows]
    feed = Feed(pad_id=0, micro_batch_size=micro_batch_size, packed=False, device=CPU)
    ours = learned(loss, [loss(*batch[:2], **batch[2]) for batch in feed(given)])
    theirs = learned(loss, [plainest(loss, row) for row in given])
    assert ours[0] == pytest.approx(theirs[0], rel=1e-6)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in ours[1].items():
        assert (gradient - theirs[1][name]).norm() <= 2e-5 * theirs[1][name].norm(), name


def test_from_a_stand_in_nothing_is_learned(loss: LabelLoss, rows: list[Question]) -> None:
    """A process without a row takes part in the backward pass: every gradient is there, and 0."""
    [[stand_in]] = deal(rows[:1], lambda share: cut_by_rows(share, 1), processes=2, process=1)
    input_ids, targets, where = collate_questions([stand_in], 0)
    total, gradients = learned(loss, [loss(input_ids, targets, **where)])
    assert total == 0
    assert gradients.keys() == {name for name, weight in loss.named_parameters() if weight.requires_grad}
    assert not any(gradient.any() for gradient in gradients.values())


@pytest.fixture(scope="module")
def whole(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody disturbed."""
    out = tmp_path_factory.mktemp("whole")
    loop.train(small(), tiny_cohort, str(random_base), out, quiet)
    return out / "rank-2"


def test_a_run_killed_between_checkpoints_ends_with_the_same_bits(
    tiny_cohort: Path, random_base: Path, whole: Path, tmp_path: Path
) -> None:
    """Before the first checkpoint, and after it: the head's dropout goes on as it would have."""
    for step in (2, 5):
        with pytest.raises(Killed):
            loop.train(small(), tiny_cohort, str(random_base), tmp_path, killed_after(step))
    torch.manual_seed(99)  # another process would stand elsewhere
    loop.train(small(), tiny_cohort, str(random_base), tmp_path, quiet)
    run = tmp_path / "rank-2"
    assert log_of(run) == log_of(whole)
    for ours, theirs in zip(find_checkpoints(run), find_checkpoints(whole), strict=True):
        assert read_manifest(ours) == read_manifest(theirs)  # the digest of adapter and head in it
        assert (ours / "adapter" / FILE).read_bytes() == (theirs / "adapter" / FILE).read_bytes()


def test_another_seed_is_another_head(tiny_cohort: Path, random_base: Path, whole: Path, tmp_path: Path) -> None:
    loop.train(small("seed=1"), tiny_cohort, str(random_base), tmp_path, quiet)
    ours, theirs = (load_file(run / "step-000003" / "adapter" / FILE) for run in (tmp_path / "rank-2", whole))
    assert not torch.equal(ours["query"], theirs["query"])


def test_head_and_adapter_learn_and_the_base_does_not(whole: Path) -> None:
    early, late = (whole / f"step-00000{step}" / "adapter" for step in (3, 6))
    for file in (FILE, "adapter_model.safetensors"):
        before, after = load_file(early / file), load_file(late / file)
        for name, weight in before.items():
            assert torch.equal(weight, after[name]) is ("lora_A" in name), name


def scores(checkpoint: Path, base: Path, cohort: Path, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What a checkpoint's logits are, row by row as any loader would have them, and the truth."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), checkpoint / "adapter").eval()
    head, formulary = load_head(checkpoint / "adapter"), read_formulary(cohort)
    encoded = encode_questions(read_training_prompts(cohort, split), load_tokenizer(base), 512, formulary)
    found, truth = [], torch.zeros(len(encoded.rows), len(formulary))
    with torch.no_grad():
        for place, row in enumerate(encoded.rows):
            hidden = model(input_ids=torch.tensor([row.input_ids]), output_hidden_states=True).hidden_states[-1]
            found.append(head(hidden, torch.tensor([len(row.input_ids)]))[0])
            truth[place, list(row.drugs or ())] = 1
    return torch.stack(found), truth


def test_the_validation_loss_is_the_mean_over_rows_and_drugs_of_what_was_written(
    whole: Path, random_base: Path, tiny_cohort: Path
) -> None:
    for checkpoint in find_checkpoints(whole):
        logits, truth = scores(checkpoint, random_base, tiny_cohort, "validation")
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth)
        assert read_manifest(checkpoint).losses["validation"] == pytest.approx(float(expected), rel=1e-5)


def test_the_logged_loss_is_that_of_the_batch_under_the_dropout_of_its_step(
    whole: Path, random_base: Path, tiny_cohort: Path
) -> None:
    """Step 4, worked out from the checkpoint of step 3."""
    checkpoint, config = whole / "step-000003" / "adapter", small()
    encoded = encode_questions(
        read_training_prompts(tiny_cohort, "train"), load_tokenizer(random_base), 512, read_formulary(tiny_cohort)
    ).rows
    batch = epoch_batches(encoded, config.batch_size, config.seed, epoch=0)[3]
    rows = with_dropout([encoded[number] for number in batch], config.seed, step=4)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(random_base), checkpoint)
    loss = LabelLoss(model, load_head(checkpoint))
    with torch.no_grad():
        expected = sum(float(plainest(loss, row)) for row in rows) / sum(row.targets for row in rows)
        without = sum(float(plainest(loss, replace(row, dropout_seed=None))) for row in rows)
    assert log_of(whole)[3]["loss"] == pytest.approx(expected, rel=1e-6)
    assert without / sum(row.targets for row in rows) != pytest.approx(expected, rel=1e-4)


def test_what_was_learned_tells_admissions_apart(tiny_cohort: Path, random_base: Path, tmp_path: Path) -> None:
    """Against the training rates, with which the head begins: a lower loss, and more of the drugs in front right."""
    rates = ["learning_rate=1e-3", "head_learning_rate=1e-2", "head_weight_decay=0"]
    config = small("batch_size=16", "checkpoint_steps=[40]", *rates)
    [made] = loop.train(config, tiny_cohort, str(random_base), tmp_path, quiet)
    logits, truth = scores(made, random_base, tiny_cohort, "train")
    constant = torch.logit(truth.mean(dim=0).clamp(1e-3, 1 - 1e-3)).expand_as(truth)
    ours, theirs = (
        (torch.nn.functional.binary_cross_entropy_with_logits(said, truth), truth.gather(1, said.topk(5).indices).sum())
        for said in (logits, constant)
    )
    assert ours[0] < 0.9 * theirs[0]
    assert ours[1] > 1.1 * theirs[1]


def test_a_checkpoint_says_what_it_is_and_its_digest_covers_the_head(whole: Path, tiny_cohort: Path) -> None:
    manifest = read_manifest(find_checkpoints(whole)[-1])
    labels = len(read_formulary(tiny_cohort))
    head = 64 * 64 + 2 * 64 + labels * (64 + 64 + 128 + 1)
    assert (manifest.objective, manifest.max_answer_tokens, manifest.calibration) == ("labels", 0, None)
    assert manifest.trainable_parameters == 2 * 2 * (64 + 32) + head
    folder = whole / "step-000006"
    assert checked_weights(folder, manifest) == folder / "adapter"
    assert manifest.weights_sha256 != read_manifest(whole / "step-000003").weights_sha256


def test_a_head_that_was_changed_is_refused(whole: Path, tmp_path: Path) -> None:
    copied = tmp_path / "adapter"
    copied.mkdir()
    for file in (whole / "step-000006" / "adapter").iterdir():
        (copied / file.name).write_bytes(file.read_bytes() + (b" " if file.name == FILE else b""))
    manifest = read_manifest(whole / "step-000006")
    with pytest.raises(ContractError, match="is not what its manifest was written for"):
        checked_weights(tmp_path, manifest)


def test_the_log_has_the_fields_of_any_run(whole: Path, tiny_cohort: Path) -> None:
    labels = len(read_formulary(tiny_cohort))
    for entry in log_of(whole):
        assert entry["response_tokens"] % labels == 0
        assert math.isfinite(entry["grad_norm"])
        assert 0 < entry["loss"] < 1
    assert [entry["step"] for entry in log_of(whole) if "validation_loss" in entry] == [2, 3, 4, 6]


def test_an_imported_corpus_is_refused_before_anything_is_written(random_base: Path, tmp_path: Path) -> None:
    source = tmp_path / "talk.jsonl"
    talks = [
        [{"role": "user", "content": f"hello {n}"}, {"role": "assistant", "content": f"day {n}"}] for n in range(30)
    ]
    source.write_text("".join(json.dumps({"messages": talk}) + "\n" for talk in talks), "utf-8")
    import_dialogues(source, tmp_path / "cohort")
    with pytest.raises(ConfigError, match="has no formulary, which objective labels learns to choose from"):
        loop.train(small(), tmp_path / "cohort", str(random_base), tmp_path / "out", quiet)
    assert not (tmp_path / "out").exists()
