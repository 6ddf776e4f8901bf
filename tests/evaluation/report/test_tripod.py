"""TRIPOD-LLM: every item is there once, says only what a file can show, and fails when the file no longer does."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from etl.errors import ContractError
from evaluation.report import tripod
from evaluation.report.write import write_report

ASKED_OF_FILES = {
    *("2f", "5c", "5e", "6a", "6b", "6c", "6d", "6e", "6f", "7a", "7c", "8b", "8c", "9a", "9b", "12", "14f"),
    *("16a", "16b", "16c", "16d", "17"),
}
TO_CONFIRM = {"2e", "2g", "2h", "2i", "5a", "5b", "5d", "6g", "7b", "8a", "11", "14e", "18", "19b"}


@pytest.fixture
def items(report: Path) -> dict[str, dict[str, Any]]:
    return {item["item"]: item for item in json.loads((report / tripod.NAME).read_text("utf-8"))}


def test_every_item_stands_once_with_the_status_that_is_due(items: dict[str, dict[str, Any]]) -> None:
    assert len(items) == 59
    auto = {name for name, item in items.items() if item["status"] == "auto"}
    assert auto == ASKED_OF_FILES - {"8b", "8c"}  # nobody reviewed
    assert {name for name, item in items.items() if item["status"] == "draft"} == TO_CONFIRM
    assert Counter(item["status"] for item in items.values())["na"] == 1


def test_what_files_answer_names_its_evidence_and_leaves_no_gap(items: dict[str, dict[str, Any]]) -> None:
    for item in items.values():
        if item["status"] == "auto":
            assert item["evidence"], item["item"]
            assert "{" not in item["text"]
            assert "not recorded" not in item["text"] or item["item"] in ("6b", "12"), item["text"]


def test_no_review_is_said_and_a_review_answers(evaluation: Path, tmp_path: Path) -> None:
    said = {"8b": "9 drafted drugs were labelled by two pharmacists.", "8c": "On 9 drugs: kappa 0.70."}
    gold = {"counts": {"verdicts": {"appropriate": 9}}, "agreement": {}, "tripod_llm": said, "gold_sha256": "e" * 64}
    (tmp_path / "gold.json").write_text(json.dumps(gold))
    write_report(evaluation, evaluation / "report", review=tmp_path)
    items = {item["item"]: item for item in json.loads((evaluation / "report" / tripod.NAME).read_text("utf-8"))}
    assert items["8b"]["status"] == "auto"
    assert items["8b"]["text"] == said["8b"]
    assert items["8c"]["evidence"] == ["report.html#review"]
    assert said["8c"] in (evaluation / "report" / "report.html").read_text("utf-8")


def test_evidence_that_vanished_is_named_with_all_items_that_lean_on_it(report: Path) -> None:
    page = report / "report.html"
    page.write_text(page.read_text("utf-8").replace('id="cohort"', 'id="elsewhere"'), "utf-8")
    with pytest.raises(ContractError, match=r"5c \(report.html#cohort\).*16c \(report.html#cohort\)"):
        tripod.lint(report)


def test_an_answer_without_evidence_is_a_failure(report: Path) -> None:
    path = report / tripod.NAME
    items = json.loads(path.read_text("utf-8"))
    next(item for item in items if item["item"] == "17")["evidence"] = []
    path.write_text(json.dumps(items))
    with pytest.raises(ContractError, match=r"17 \(no evidence\)"):
        tripod.lint(report)
