"""What an evaluator gets: a row a drug, with the decision that counts."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from etl.errors import ConfigError
from serving.store.export import COLUMNS, export
from serving.store.retention import purge
from tests.serving.store.conftest import Ward


@pytest.fixture
def reviewed(ward: Ward) -> Ward:
    """One draft decided in full, its second row twice; one not looked at; one queued."""
    draft = ward.review(ward.record(), decision="reject", reason_code="patient-refuses", reason_text="Mr Kim")
    draft = ward.review(draft, item_id="i2")
    ward.review(draft, item_id="i2", decision="edit", edited_drug="tramadol")
    ward.clock.pass_(days=1)
    ward.record()
    ward.drafts.submit(ward.new())
    return ward


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_row_tells_what_was_drafted_and_what_became_of_it(reviewed: Ward, tmp_path: Path):
    assert export(reviewed.store, tmp_path / "out.jsonl") == 4
    first, second, third, fourth = lines(tmp_path / "out.jsonl")
    assert first == {
        "draft_id": "d1",
        "state": "ready",
        "source": "api",
        "owner": "clinician",
        "created_at": "2026-11-21T12:00:00+00:00",
        "version": 4,
        "model": "m1",
        "adapter_sha256": "a1",
        "rules": "2026.11.0",
        "item_id": "i1",
        "rank": 1,
        "drug": "furosemide",
        "probability": 0.83,
        "rule_ids": ["onc-3"],
        "decision": "reject",
        "edited_drug": None,
        "reason_code": "patient-refuses",
        "reviewer": "clinician",
        "reviewed_at": "2026-11-21T12:00:00+00:00",
    }
    assert (second["decision"], second["edited_drug"], second["drug"]) == ("edit", "tramadol", "µ-opioid")
    assert (third["draft_id"], third["decision"], fourth["reviewer"]) == ("d2", None, None)


def test_free_text_is_written_only_where_it_is_asked_for(reviewed: Ward, tmp_path: Path):
    for name, free_text in (("without", False), ("with", True)):
        for kind in ("jsonl", "parquet"):
            export(reviewed.store, tmp_path / f"{name}.{kind}", free_text=free_text)
    assert "Mr Kim" not in (tmp_path / "without.jsonl").read_text()
    assert lines(tmp_path / "with.jsonl")[0]["reason_text"] == "Mr Kim"
    assert pl.read_parquet(tmp_path / "without.parquet").columns == [name for name in COLUMNS if name != "reason_text"]
    assert pl.read_parquet(tmp_path / "with.parquet")["reason_text"].to_list() == ["Mr Kim", None, None, None]


def test_parquet_and_json_lines_hold_the_same_rows(reviewed: Ward, tmp_path: Path):
    for kind in ("jsonl", "parquet"):
        export(reviewed.store, tmp_path / f"out.{kind}")
    assert pl.read_parquet(tmp_path / "out.parquet").to_dicts() == lines(tmp_path / "out.jsonl")
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == ["out.jsonl", "out.parquet"]


def test_drafts_before_a_moment_and_purged_ones_are_left_out(reviewed: Ward, tmp_path: Path):
    since = reviewed.clock.time - timedelta(hours=1)
    assert export(reviewed.store, tmp_path / "out.jsonl", since=since) == 2
    reviewed.clock.pass_(days=90)
    purge(reviewed.store)
    assert export(reviewed.store, tmp_path / "out.jsonl") == 2
    reviewed.clock.pass_(days=1)
    purge(reviewed.store)
    assert export(reviewed.store, tmp_path / "out.parquet") == 0
    assert pl.read_parquet(tmp_path / "out.parquet").height == 0


def test_more_drafts_than_a_block_are_all_exported(reviewed: Ward, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("serving.store.export._BLOCK", 2)
    for _ in range(3):
        reviewed.record()
    assert export(reviewed.store, tmp_path / "out.jsonl") == 10
    assert len({line["draft_id"] for line in lines(tmp_path / "out.jsonl")}) == 5


def test_an_export_is_noted_and_another_ending_refused(reviewed: Ward, tmp_path: Path):
    export(reviewed.store, tmp_path / "out.jsonl", actor="evaluator")
    assert reviewed.audit.events()[-1].facts == {"count": 4, "format": "jsonl"}
    with pytest.raises(ConfigError, match=r"neither .jsonl nor .parquet"):
        export(reviewed.store, tmp_path / "out.csv")
