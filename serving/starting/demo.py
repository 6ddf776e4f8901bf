"""The model of `rxdraft serve` without --model: a baseline fitted on a synthetic hospital, to look at the service."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from etl.artefacts import whole_or_absent
from serving.starting.cache import cache_folder

NAME = "demo"
BASELINE = "pooled"
PATIENTS = 600
SEED = 7


def demo_cohort(told: Callable[[str], None]) -> Path:
    """Return the cohort of the demo, made now if the cache has none: some seconds, once a version.

    Args:
        told: told each step, in words.
    """
    from etl.build import build_cohort
    from etl.settings import CohortSettings
    from etl.synth import write_hospital
    from serving.baselines.service import load_baseline

    folder = cache_folder() / f"demo-{version('rxdraft')}"
    if not (folder / "cohort" / "cohort.json").is_file():
        with whole_or_absent(folder) as unfinished:
            told(f"making a synthetic hospital of {PATIENTS} patients for the demo, in {folder}")
            write_hospital(unfinished / "hospital", patients=PATIENTS, seed=SEED)
            told("reading its admissions")
            # Nobody real stands behind a count here.
            build_cohort(unfinished / "hospital", unfinished / "cohort", CohortSettings(open_data=True))
            told("fitting a baseline on them")
            load_baseline(BASELINE, unfinished / "cohort")
    return folder / "cohort"
