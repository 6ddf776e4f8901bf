"""Train the reference's recipe, ours, and ours with one factor changed at a time, on the synthetic hospital.

Measured for each recipe and seed: validation loss, the drafts of the validation admissions scored as `rxdraft evaluate`
scores them, how far the weights moved, and the CPU seconds of training. A seed is that of A and of the samples' order
together. Recipes are compared on the validation split; the test split is drafted for reference and winner alone.
What is whole is kept: the same command goes on where it was killed. Several processes with other --only or --seeds may
work in one folder. Not measured: a real language model, real patients.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from recipe_arms import ARMS, COHORTS, REFERENCE, WINNER, Arm, write_variant
from recipe_document import write_document
from safetensors.torch import load_file

from etl import artefacts
from etl.build import build_cohort
from etl.cohort import read_samples
from etl.drug_vocabulary import read_drug_vocabulary
from etl.progress import Told, bars
from etl.synth import write_hospital
from evaluation.drafts import Drafted, Kind, Row, draft_oracle
from evaluation.interactions import read_interactions
from evaluation.ladder import Projection
from evaluation.metrics import BY_NAME
from evaluation.predict import predict
from evaluation.statistics.bootstrap import Draws, draw
from evaluation.statistics.comparisons import against, combine, simultaneous
from evaluation.visits import Truth
from training.loop import train
from training.manifest import find_checkpoints, read_manifest
from training.tiny import tiny_base

PATIENTS, HOSPITAL_SEED = 1600, 1
"""The hospital of `make demo`."""
SCORES = ("jaccard", "f1", "output_rate")


# --- runs -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything lies, below one folder."""

    work: Path
    base: str

    def cohort(self, arm: Arm) -> Path:
        """Return the folder of the cohort that an arm learns."""
        return self.work / "cohorts" / arm.cohort.replace(" ", "-")

    def run(self, arm: Arm, seed: int) -> Path:
        """Return the folder of one run."""
        return self.work / "runs" / arm.name / f"seed-{seed}"


def train_arm(place: Place, arm: Arm, seed: int, told: Callable[[str], Told]) -> None:
    """Train one arm with one seed, unless that was done, and keep what it took."""
    folder, cohort, config = place.run(arm, seed), place.cohort(arm), arm.config(seed)
    asked = {"config": config.model_dump(mode="json"), "cohort_sha256": artefacts.sha256_file(cohort / "cohort.json")}
    kept = folder / "measured.json"
    if kept.is_file() and artefacts.read_json(kept, "ablate_recipe.py")["asked"] == asked:
        return
    fresh, began = not folder.exists(), time.process_time()
    [checkpoint] = train(config, cohort, place.base, folder, lambda name: told(f"{arm.name}, seed {seed}"))
    seconds = time.process_time() - began
    manifest = read_manifest(checkpoint)
    measured = {
        "validation_loss": manifest.losses["validation"],
        "update_norm": update_norm(checkpoint / "adapter" / "adapter_model.safetensors", manifest.scaling),
        "scaling": manifest.scaling,
        "steps": manifest.step,
        "samples": manifest.step * config.batch_size,
        "cpu_seconds": seconds if fresh else None,  # of a run that went on, only a part is known
    }
    with artefacts.whole_or_absent(kept) as new:
        artefacts.write_json(new, {"asked": asked, "seed": seed, "measured": measured})


def update_norm(adapter: Path, scaling: float) -> float:
    """Return |ΔW|, the Frobenius norm of scaling · B A over all layers of an adapter's file."""
    weights = load_file(adapter)
    squares = 0.0
    for name in (name for name in weights if ".lora_A." in name):
        a, b = weights[name].double(), weights[name.replace(".lora_A.", ".lora_B.")].double()
        squares += float(((b.T @ b) * (a @ a.T)).sum())
    return scaling * math.sqrt(squares)


def draft(place: Place, arm: Arm, seed: int, split: str, admissions: int) -> pl.DataFrame:
    """Return one run's drafts of a split's first admissions, made once."""
    cohort, [checkpoint] = place.cohort(arm), find_checkpoints(place.run(arm, seed))
    samples = read_samples(cohort, split).head(admissions)
    origin = {"cohort_sha256": artefacts.sha256_file(cohort / "cohort.json"), "split": f"{split} {samples.height}"}
    folder = place.run(arm, seed) / f"drafts-{split}"
    [drafts] = predict(
        [(checkpoint, read_manifest(checkpoint))], samples, origin, folder, place.base, lambda cell, done, total: None
    ).values()
    return drafts


# --- what comes of it -------------------------------------------------------------------------------------


class Judge:
    """One split's truth, and every arm's drafts counted against it."""

    def __init__(self, place: Place, split: str, admissions: int) -> None:
        cohort = place.work / "cohorts" / "as-it-is"
        self._place, self._split, self._admissions = place, split, admissions
        self.samples = read_samples(cohort, split).head(admissions)
        self.formulary = pl.read_parquet(cohort / "formulary.parquet")["drug"].to_list()
        vocabulary = read_drug_vocabulary(None)
        self._truth = Truth(self.samples, self.formulary, Projection(vocabulary), read_interactions(vocabulary))

    def scores(self, arm: Arm, seed: int) -> np.ndarray[Any, Any]:
        """Return the scores of each visit, (visits, SCORES)."""
        drafts = draft(self._place, arm, seed, self._split, self._admissions)
        return self.count(Drafted(Row(arm.name, Kind.CHECKPOINT), drafts))

    def count(self, drafted: Drafted) -> np.ndarray[Any, Any]:
        """Return the scores of each visit, (visits, SCORES); an answer that is no list counts 0."""
        visits = self._truth.count(drafted)
        return np.stack([BY_NAME[score].of(visits).num for score in SCORES], axis=1)

    def draws(self, columns: np.ndarray[Any, Any]) -> Draws:
        """Draw patients again; columns are (visits, columns)."""
        return draw(self.samples["subject_id"].to_numpy(), columns)


def intervals(draws: Draws) -> list[dict[str, float]]:
    """Return value and 95 % interval of each column."""
    found = draws.intervals()
    return [_interval(*ends) for ends in zip(found.point, found.lo, found.hi, strict=True)]


def _interval(value: float, lo: float, hi: float) -> dict[str, float]:
    return {"value": float(value), "lo": float(lo), "hi": float(hi)}


def compare(judge: Judge, arms: Sequence[Arm], seeds: Sequence[int], reference: str) -> dict[str, dict[str, Any]]:
    """Return each arm's scores, means over seeds, and its difference in Jaccard from one of them.

    The intervals are of patients drawn again with their visits; those of the differences hold all at once.
    """
    scores = np.stack([[judge.scores(arm, seed) for seed in seeds] for arm in arms])  # (arms, seeds, visits, SCORES)
    mean = scores.mean(axis=1)
    found: dict[str, dict[str, Any]] = {arm.name: {} for arm in arms}
    for place, score in enumerate(SCORES):
        for arm, interval in zip(arms, intervals(judge.draws(mean[:, :, place].T)), strict=True):
            found[arm.name][score] = interval
    index = [arm.name for arm in arms].index(reference)
    family = simultaneous(combine(judge.draws(mean[:, :, 0].T), against(len(arms), index)))
    by_seed = scores[:, :, :, 0].mean(axis=2)  # (arms, seeds)
    others = [place for place in range(len(arms)) if place != index]
    for place, *ends in zip(others, family.point, family.lo, family.hi, strict=True):
        each = [float(x) for x in by_seed[place] - by_seed[index]]
        found[arms[place].name]["difference"] = {**_interval(*ends), "seeds": each}
    return found


def summarise(place: Place, arms: Sequence[Arm], seeds: Sequence[int], admissions: int) -> dict[str, Any]:
    """Return all that was found, as JSON takes it."""
    validation = Judge(place, "validation", admissions)
    compared = compare(validation, [arm for arm in arms if arm.drafted], seeds, WINNER)
    rows = []
    for arm in arms:
        kept = [artefacts.read_json(place.run(arm, seed) / "measured.json", "ablate_recipe.py") for seed in seeds]
        runs = [{"seed": run["seed"], **run["measured"]} for run in kept]
        about = {key: value for key, value in asdict(arm).items() if key not in ("start", "changed")}
        settings = {key: value for key, value in kept[0]["asked"]["config"].items() if not key.endswith("seed")}
        rows.append({**about, "config": settings, "runs": runs, "validation": compared.get(arm.name)})
    last = [arm for arm in arms if arm.name in (REFERENCE, WINNER)]
    test = Judge(place, "test", admissions)
    oracle = draft_oracle(place.work / "hospital" / "oracle.parquet", test.samples, test.formulary)
    return {
        "formulary": len(test.formulary),
        "layers": artefacts.read_json(Path(place.base) / "config.json", "rxdraft train")["num_hidden_layers"],
        "training_samples": read_samples(place.cohort(ARMS[0]), "train").height,
        "seeds": list(seeds),
        "admissions": {"validation": validation.samples.height, "test": test.samples.height},
        "patients": {
            name: j.samples["subject_id"].n_unique() for name, j in (("validation", validation), ("test", test))
        },
        "arms": rows,
        "test": {
            **compare(test, last, seeds, REFERENCE),
            "oracle": dict(zip(SCORES, intervals(test.draws(test.count(oracle))), strict=True)),
        },
        "machine": {
            "cpus": os.cpu_count(),
            "versions": {name: version(name) for name in ("rxdraft", "torch", "transformers", "peft")},
        },
    }


# --- the command ------------------------------------------------------------------------------------------


def prepare(place: Place, patients: int, training: int) -> None:
    """Make the hospital and its cohort, and of the cohort a copy for each change."""
    write_hospital(place.work / "hospital", patients, HOSPITAL_SEED)
    build_cohort(place.work / "hospital", place.work / "cohort")
    for name in COHORTS:
        write_variant(place.work / "cohort", name, place.work / "cohorts" / name.replace(" ", "-"), training)


def run(place: Place, arms: Sequence[Arm], seeds: Sequence[int], admissions: int) -> None:
    """Train and draft what is not there yet, the reference's five epochs after all else."""
    with bars() as told:
        for arm, seed in sorted(((a, s) for s in seeds for a in arms), key=lambda each: each[0].name == REFERENCE):
            train_arm(place, arm, seed, told)
            if arm.drafted:
                draft(place, arm, seed, "validation", admissions)
            if arm.name in (REFERENCE, WINNER):
                draft(place, arm, seed, "test", admissions)


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("demo/recipe"), help="folder (default: %(default)s)")
    parser.add_argument("--base", default="tiny", help="folder of the base model, or tiny (default)")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="of the hospital (default: %(default)s)")
    parser.add_argument("--training", type=int, default=600, help="admissions to learn from (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=[arm.name for arm in ARMS], help="run these and write nothing")
    parser.add_argument("--admissions", type=int, default=200, help="of each split to draft (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of a process (default: 1, comparable CPU seconds)")
    parser.add_argument("--write", type=Path, help="the document to write, such as docs/recipe.md")
    return parser.parse_args()


def command() -> list[str]:
    """Return the command that anybody would type to get the same: where things lie on this machine left out."""
    kept, words = [], iter(sys.argv[1:])
    for word in words:
        if word in ("--work", "--base"):
            next(words)
        else:
            kept.append(word)
    return ["python", "benchmarks/ablate_recipe.py", *kept]


def main() -> int:
    """Run what is missing, write the document, and print JSON last."""
    options = read_options()
    torch.set_num_threads(options.threads)
    if options.base == "tiny":
        with bars() as told:
            options.base = str(tiny_base(told))
    place = Place(options.work, options.base)
    prepare(place, options.patients, options.training)
    arms = [arm for arm in ARMS if not options.only or arm.name in options.only]
    run(place, arms, options.seeds, options.admissions)
    if options.only:
        return 0
    found = {"command": command(), **summarise(place, arms, options.seeds, options.admissions)}
    with artefacts.whole_or_absent(options.work / "recipe.json") as new:
        artefacts.write_json(new, found)
    if options.write:
        write_document(found, options.write)
    print(json.dumps({"benchmark": "recipe", **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
