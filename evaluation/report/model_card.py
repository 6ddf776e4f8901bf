"""The model card of the checkpoint chosen on validation, with its scores as `model-index`.

Source: huggingface_hub's ModelCardData and EvalResult; the sections are those of the hub's template.
"""

from __future__ import annotations

from typing import Any

from evaluation.metrics import BY_NAME
from evaluation.report.cells import Book
from evaluation.report.footnotes import footnotes, split_digest
from evaluation.results import Redrawn

METRICS = ("jaccard", "f1", "recall", "accuracy_all", "accuracy", "output_rate")
UNKNOWN = "not recorded here"


def render_card(book: Book) -> str:
    """Return README.md: YAML for the hub, and prose that says what the numbers do not."""
    return f"---\n{_front(book)}\n---\n\n{_prose(book)}"


def _front(book: Book) -> str:
    """Return the front matter. Its licence is a person's to decide, and is left out."""
    from huggingface_hub import EvalResult, ModelCardData

    about, row = book.about, book.about["selected"]
    source = _source(book)
    results = [
        EvalResult(
            task_type="text-generation",
            task_name="Drafting prescription lists",
            dataset_type="mimic-iv",
            dataset_name=f"{source}, cohort {about['cohort_sha256'][:12]}",
            dataset_split=about["split"],
            dataset_revision=split_digest(book),
            metric_type=name,
            metric_name=f"{BY_NAME[name].title} ({BY_NAME[name].over})",
            metric_value=round(value, 6),
            metric_config=f"95 % interval {_interval(book, row, name)}; provenance {book.metric(row, name).id}",
            verified=False,
        )
        for name in METRICS
        if (value := book.value(row, name)["value"]) is not None
    ]
    manifest = book.sources.outside.get("manifest") or {}
    data = ModelCardData(
        model_name=f"rxdraft {book.titles[row]}",
        language="en",
        library_name="peft" if manifest.get("method") != "full" else "transformers",
        base_model=_hub_id(manifest.get("base")),
        pipeline_tag="text-generation",
        tags=["medical", "prescription", "mimic-iv", "lora"],
        metrics=list(METRICS),
        eval_results=results,
        ignore_metadata_errors=False,
    )
    return str(data.to_yaml()).rstrip()


def _hub_id(base: str | None) -> str | None:
    """Return the base where it is the hub's name of one, and no folder."""
    return base if base and "/" in base else None


def _interval(book: Book, row: str, metric: str) -> str:
    line = book.value(row, metric)
    return "not given: too few patients" if line["lo"] is None else f"{line['lo']:.4f} to {line['hi']:.4f}"


def _source(book: Book) -> str:
    cohort = book.sources.outside.get("cohort") or {}
    return str((cohort.get("source") or {}).get("version", "MIMIC-IV"))


def _line(book: Book, metric: str) -> str:
    cell = book.metric(book.about["selected"], metric)
    return f"| {BY_NAME[metric].title} | {cell.value} {cell.interval} | {BY_NAME[metric].over} |"


def _prose(book: Book) -> str:
    about, row = book.about, book.about["selected"]
    manifest: dict[str, Any] = book.sources.outside.get("manifest") or {}
    jaccard = book.metric(row, "jaccard")
    best = about["comparisons"]["jaccard"]["selected_less_others"]
    lines = "\n".join(_line(book, name) for name in METRICS)
    faced = "\n".join(
        f"- less {book.titles[line['row']]}: {line['point']:+.3f} [{line['lo']:+.3f}, {line['hi']:+.3f}]"
        for line in best
        if line["lo"] is not None
    )
    notes = "\n".join(f"- {subject}: {words}." for subject, words in footnotes(book))
    redrawn = Redrawn(**about["redrawn"])
    return f"""# rxdraft: {book.titles[row]}

Drafts the list of drugs of a hospital admission from patient facts and ICD codes, for a clinician to accept, edit or
reject. This is the checkpoint that was chosen on the validation split.

## What it is not for

No clinical use without review by a clinician. A draft holds no doses and knows no allergies; it repeats what was
ordered in one hospital, right or wrong. ICD codes in MIMIC-IV are assigned after discharge, so scores from a stay's
own codes are optimistic.

## Training

- Base: {manifest.get("base", UNKNOWN)} ({about["checkpoints"][row]["base_sha256"][:12]}).
- Method: {manifest.get("method", UNKNOWN)}, alpha {manifest.get("alpha", UNKNOWN)}, on
  {", ".join(manifest.get("targets", [])) or UNKNOWN}; parameters that learned:
  {manifest.get("trainable_parameters", UNKNOWN)}.
- Data: {_source(book)}, cohort {about["cohort_sha256"][:12]}, {manifest.get("samples", UNKNOWN)} samples.
- Weights: {about["checkpoints"][row]["weights_sha256"][:12]}.

## Evaluation

Jaccard {jaccard.value} {jaccard.interval}; brackets are 95 % intervals from {redrawn.draws:,} redraws of patients.
Rates are in percent.

| metric | value | over |
|---|---|---|
{lines}

Jaccard of this checkpoint, with simultaneous 95 % intervals:

{faced or "- nothing else was scored."}

{notes}

## Terms

What is made from credentialed data, weights included, is under the terms of that data. A licence is for the people
who publish this to state; none is stated here.
"""
