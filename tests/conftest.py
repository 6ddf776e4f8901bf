"""What several packages' tests stand on: the demo files, a tiny hospital, and a tiny random base."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before any library reads them: no test may look for a model or a file elsewhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Tiny matrices: several threads on few cores wait for each other, and one thread always adds in the same order.
os.environ["OMP_NUM_THREADS"] = "1"

# What a shell begins in the background ignores interrupts, and so do the processes it starts; tests interrupt some.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is about time, and busy cores are slow at moments.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


LONGEST = {
    *("test_main_job.py", "test_launchers.py", "test_accessibility.py", "test_service_killed.py"),
    *("test_distributed.py", "test_faults.py"),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files first, so that none of them is what the other core waits for at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def mimic_demo() -> Path:
    """The open MIMIC-IV demo, where it is at hand."""
    beside = Path(__file__).parents[2] / "shared" / "mimic-iv-demo"
    folder = Path(os.environ.get("RXDRAFT_MIMIC_DEMO", beside))
    if not (folder / "hosp").is_dir():
        pytest.skip(f"the MIMIC-IV demo is not at {folder}; set RXDRAFT_MIMIC_DEMO to run this")
    return folder


@pytest.fixture(scope="session")
def tiny_hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic hospital of 60 patients."""
    from etl.synth import write_hospital

    folder = tmp_path_factory.mktemp("hospital") / "mimic"
    write_hospital(folder, patients=60, seed=3)
    return folder


@pytest.fixture(scope="session")
def tiny_cohort(tiny_hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort of the tiny hospital."""
    from etl.build import build_cohort

    folder = tmp_path_factory.mktemp("cohort") / "run"
    build_cohort(tiny_hospital, folder)
    return folder


@pytest.fixture(scope="session")
def random_base(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with a tokenizer trained on the tiny cohort, as a Hugging Face folder."""
    from etl.cohort import read_prompts
    from training.tiny import untrained_llama

    folder = tmp_path_factory.mktemp("base") / "llama"
    untrained_llama(
        read_prompts(tiny_cohort, "train"),
        vocab_size=1024,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    ).save(folder)
    return folder


@pytest.fixture(scope="session")
def trained_runs(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adapters of rank 2 and 4 at steps 2 and 4 on the random base: real checkpoints that know nothing yet."""
    from training.config import load_config
    from training.loop import train

    folder = tmp_path_factory.mktemp("runs") / "runs"
    config = load_config("smoke", ["ranks=[2, 4]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"])
    train(config, tiny_cohort, str(random_base), folder, lambda name: lambda done, total, loss: None)
    return folder


@pytest.fixture(scope="session")
def taught_runs(tiny_cohort: Path, random_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like trained_runs, on a base that was first taught the cohort: most of its answers are lists."""
    from training.config import load_config
    from training.loop import train

    folder = tmp_path_factory.mktemp("taught")
    quiet = lambda name: lambda done, total, loss: None  # noqa: E731
    whole = ['method="full"', "checkpoint_steps=[120]", "batch_size=8", "warmup_steps=5", "learning_rate=3e-3"]
    [taught] = train(load_config("smoke", whole), tiny_cohort, str(random_base), folder / "full", quiet)
    small = ["ranks=[2, 4]", "checkpoint_steps=[2, 4]", "batch_size=4", "warmup_steps=0"]
    train(load_config("smoke", small), tiny_cohort, str(taught / "model"), folder / "runs", quiet)
    return folder / "runs"
