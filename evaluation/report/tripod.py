"""TRIPOD-LLM items, filled as far as files can answer, and a linter that fails when the evidence has gone.

Source: Gallifant et al., Nat Med 2025, 10.1038/s41591-024-03425-5. Numbers and short titles are from a third party's
transcription: check the wording against the published checklist before it is submitted.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ContractError
from evaluation.drafts import Kind
from evaluation.report.cells import Book
from evaluation.report.footnotes import split_digest

NAME = "tripod_llm.json"
_OF_MANIFEST = (
    *("base", "method", "alpha", "trainable_parameters"),
    *("max_answer_tokens", "max_length", "prompt_version"),
)
_OF_CONFIG = ("learning_rate", "optimizer", "batch_size", "schedule", "weight_decay")
_NOT_THERE = "Not in this evaluation; {to_do}."


class _Facts(dict[str, str]):
    def __missing__(self, key: str) -> str:
        return f"[{key.replace('_', ' ')}: not recorded here]"


def items(book: Book, page: str) -> list[dict[str, Any]]:
    """Return every item: auto where a file answers it, draft where a person must confirm, human, or na.

    An item whose evidence this report does not have is a person's.

    Args:
        book: the figures.
        page: report.html, whose sections are the evidence.
    """
    known = _Facts(_facts(book))
    anchors = anchors_of(page)
    table = tomllib.loads((files("evaluation.report") / "tripod_llm.toml").read_text("utf-8"))
    return [_filled(item, known, anchors) for item in table["item"]]


def _filled(item: dict[str, Any], known: _Facts, anchors: set[str]) -> dict[str, Any]:
    evidence = [f"report.html#{anchor}" for anchor in item.get("evidence", []) if anchor in anchors]
    status, text = item["status"], item.get("text", "").strip().format_map(known)
    if status == "auto" and not evidence:
        status, text = "human", _NOT_THERE.format(to_do=item.get("otherwise", "to be written by hand"))
    return {"item": item["item"], "asks": item["asks"], "status": status, "text": text, "evidence": evidence}


def anchors_of(page: str) -> set[str]:
    """Return the ids that a link into the page can name."""
    return set(re.findall(r'\bid="([^"]+)"', page))


def lint(report: Path) -> None:
    """See that all evidence is there.

    Raises:
        ContractError: some is not; every item that leans on it is named.
    """
    gone = []
    for item in artefacts.read_json(report / NAME, "rxdraft report"):
        if item["status"] == "auto" and not item["evidence"]:
            gone.append(f"{item['item']} (no evidence)")
        gone += [f"{item['item']} ({where})" for where in item["evidence"] if not _stands(report, where)]
    if gone:
        raise ContractError(f"{report / NAME}: evidence is gone for {', '.join(gone)}; run `rxdraft report` again")


def _stands(report: Path, where: str) -> bool:
    name, _, anchor = where.partition("#")
    path = report / name
    return path.is_file() and anchor in anchors_of(path.read_text("utf-8"))


def _facts(book: Book) -> dict[str, str]:
    about, outside = book.about, book.sources.outside
    manifest, cohort, review = (outside.get(name) or {} for name in ("manifest", "cohort", "review"))
    config = manifest.get("config", {})
    selected = about["selected"]
    jaccard = book.metric(selected, "jaccard")
    facts = {
        "selected": book.titles[selected],
        "checkpoints": str(len(about["checkpoints"])),
        "ranks": ", ".join(sorted({str(r["rank"]) for r in about["rows"] if r["rank"] is not None}, key=int)),
        "weights": about["checkpoints"][selected]["weights_sha256"][:12],
        "base_digest": about["checkpoints"][selected]["base_sha256"][:12],
        "split": about["split"],
        "split_by": str(about["settings"].get("split", "patient")),
        "split_digest": split_digest(book),
        "admissions": f"{about['admissions']:,}",
        "patients": f"{about['patients']:,}",
        "formulary": f"{about['formulary']:,}",
        "draws": f"{about['redrawn']['draws']:,}",
        "jaccard": f"{jaccard.value} {jaccard.interval}".strip(),
        "rows": ", ".join(book.titles[r["name"]] for r in about["rows"] if r["kind"] != Kind.CHECKPOINT) or "none",
        "cohort": about["cohort_sha256"][:12],
    }
    facts |= {name: str(value) for name, value in about["settings"].items() if name in ("predict_at", "codes")}
    facts |= {name: str(manifest[name]) for name in _OF_MANIFEST if name in manifest}
    facts |= {name: str(config[name]) for name in _OF_CONFIG if name in config}
    facts |= {"train_seed": str(config["seed"])} if "seed" in config else {}
    facts |= {"source": cohort["source"]["version"]} if "source" in cohort else {}
    if "splits" in cohort:
        counts = cohort["splits"]
        facts["splits"] = ", ".join(
            f"{n} {counts[n]['admissions'] if counts[n] else 'hidden'}"  # too few patients to be told
            for n in ("train", "validation", "test")
            if n in counts
        )
    facts |= {"years": years} if (years := _years(cohort)) else {}
    if review:
        facts |= {"who": review["tripod_llm"]["8b"], "agreement": review["tripod_llm"]["8c"]}
    return facts


def _years(cohort: dict[str, Any]) -> str:
    """Return the groups of years that the admissions' patients are anchored in."""
    of = next((fact for fact in cohort.get("table_one", []) if "anchor" in fact["fact"]), None)
    return ", ".join(of["levels"]) if of else ""
