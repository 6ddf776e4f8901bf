"""Manifests: read back as written, refused where they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from etl.errors import ContractError
from training.base import base_sha256
from training.manifest import find_checkpoints, read_manifest, write_manifest


def test_a_manifest_is_read_back_as_written(trained_runs: Path, tmp_path: Path) -> None:
    manifest = read_manifest(trained_runs / "rank-2" / "step-000002")
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_a_folder_without_manifest_is_no_checkpoint(tmp_path: Path, trained_runs: Path) -> None:
    copy = tmp_path / "runs"
    shutil.copytree(trained_runs, copy)
    (copy / "rank-2" / "step-000002" / "manifest.json").unlink()
    hidden = copy / "rank-2" / ".step-000006.unfinished"
    shutil.copytree(copy / "rank-2" / "step-000004", hidden)
    assert len(find_checkpoints(copy)) == 3
    with pytest.raises(ContractError, match="rxdraft train"):
        read_manifest(copy / "rank-2" / "step-000002")


@pytest.mark.parametrize("change", [{"format": 0}, {"surprise": 1}])
def test_a_manifest_of_another_shape_is_refused(trained_runs: Path, tmp_path: Path, change: dict[str, int]) -> None:
    content = json.loads((trained_runs / "rank-2" / "step-000002" / "manifest.json").read_text("utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(content | change), "utf-8")
    with pytest.raises(ContractError):
        read_manifest(tmp_path)


def test_a_changed_base_has_another_digest(random_base: Path, tmp_path: Path) -> None:
    copy = tmp_path / "base"
    shutil.copytree(random_base, copy)
    assert base_sha256(copy) == base_sha256(random_base)
    with (copy / "chat_template.jinja").open("a", encoding="utf-8") as file:
        file.write(" ")
    assert base_sha256(copy) != base_sha256(random_base)
