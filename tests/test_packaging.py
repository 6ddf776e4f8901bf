"""The wheel holds what the commands need, the SQL and the configs among it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel_contents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built wheel, unpacked: what an installation without the source tree sees."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_runs_the_etl_without_the_source_tree(
    wheel_contents: Path, tiny_hospital: Path, tiny_cohort: Path, tmp_path: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(wheel_contents)}
    script = (
        "import etl, sys; from pathlib import Path; from etl.build import build_cohort;"
        "from training.config import shipped_configs; assert shipped_configs();"
        "assert Path(etl.__file__).is_relative_to(sys.argv[1]), etl.__file__;"
        "build_cohort(Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(wheel_contents), str(tiny_hospital), str(tmp_path / "cohort")],
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert (tmp_path / "cohort" / "samples.parquet").read_bytes() == (tiny_cohort / "samples.parquet").read_bytes()


def test_the_wheel_holds_every_source_file_and_no_test(wheel_contents: Path) -> None:
    packages = ("etl", "training", "serving", "evaluation", "sql")
    wanted = {
        path.relative_to(ROOT)
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    } | {Path("rxdraft.py")}
    held = {path.relative_to(wheel_contents) for path in wheel_contents.rglob("*") if path.is_file()}
    assert {path for path in held if ".dist-info" not in str(path)} == wanted
