"""Which models a service serves, under which names, and what is refused before a port is opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from etl.errors import ConfigError, ContractError
from serving.starting.fleet import Elsewhere, Fleet, name_of
from training.manifest import read_manifest, write_manifest


def test_checkpoints_of_one_base_are_loaded_together(taught_runs: Path) -> None:
    models = [f"{name}={taught_runs / rank / 'step-000004'}" for name, rank in (("a", "rank-2"), ("b", "rank-4"))]
    engines = Fleet(tuple(models)).engines()
    assert [loading.names for loading in engines.loadings] == [("a", "b")]
    engines.load()
    first, second = (engine.drafter for engine in engines.all())
    assert first is not None
    assert second is not None
    assert first.engine is second.engine  # type: ignore[attr-defined]
    assert first.identity != second.identity


def test_the_first_model_is_the_default_and_a_baseline_may_stand_beside(checkpoint: Path, tiny_cohort: Path) -> None:
    engines = Fleet((str(checkpoint), "baseline:knn"), data=tiny_cohort).engines()
    assert engines.default == name_of(str(checkpoint))
    assert [engine.name for engine in engines.all()][1] == "baseline:knn"
    assert Fleet(("baseline:knn", str(checkpoint)), data=tiny_cohort).engines().default == "baseline:knn"


def test_what_the_search_needs_is_there_before_the_models(checkpoint: Path, tiny_cohort: Path) -> None:
    for fleet in (Fleet((str(checkpoint),)), Fleet(("baseline:knn",), data=tiny_cohort)):
        vocabulary = fleet.engines().loadings[0].vocabulary
        assert vocabulary is not None
        assert vocabulary().titles


def test_two_models_of_one_name_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="NAME=MODEL"):
        Fleet((str(checkpoint), str(checkpoint))).engines()


def test_one_base_for_models_of_two_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    other = shutil.copytree(checkpoint, tmp_path / "other")
    write_manifest(other, replace(read_manifest(other), base_sha256="0" * 64))
    with pytest.raises(ConfigError, match="2 bases"):
        Fleet((str(checkpoint), str(other)), base="somewhere").engines()


@pytest.mark.parametrize("names", [(), ("one", "two")])
def test_an_endpoint_says_what_it_calls_each_model(checkpoint: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="--endpoint-model"):
        Fleet((str(checkpoint),), elsewhere=Elsewhere("http://127.0.0.1:1/v1", names)).engines()


def test_admissions_go_to_no_other_machine_without_an_affirmation(checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match="affirmation"):
        Fleet((str(checkpoint),), elsewhere=Elsewhere("https://far.example/v1", ("m",))).engines()


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=str(tmp_path)):
        Fleet((str(tmp_path),)).engines()


def test_choosing_models_loads_none_of_their_libraries(checkpoint: Path) -> None:
    code = (
        "import sys; from serving.starting.fleet import Fleet; Fleet((sys.argv[1],)).engines();"
        "print([name for name in ('torch', 'transformers', 'peft') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(checkpoint)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
