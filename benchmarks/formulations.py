"""Compare the ways in which one small language model can be asked for the drugs of an admission.

A list written freely, held to the formulary, or voted on; every drug's name scored in one pass; a yes or no for each
drug; a label head, alone and blended with a regression: the same hospital, split, base and rank, three seeds of the
hospital. Everything that chooses looks at the validation split, the table is of the test split. Beside it, what the
label head, the regressions and the list make of smaller training splits.

What is whole is kept: the same command goes on where it was killed. Not measured: a real language model, real patients.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from formulations_asked import Arrays, Split, Ways, asked_oracle, baseline_way, kept, read_formulary, read_split
from formulations_document import write_document
from formulations_rows import ORACLE, REGRESSIONS, ROWS, Answers, summarise
from formulations_yes_no import write_corpus
from recipe_arms import write_variant

from etl import artefacts
from etl.build import build_cohort
from etl.cohort import read_samples
from etl.progress import Told, bars
from etl.synth import write_hospital
from training.config import load_config
from training.loop import train
from training.manifest import find_checkpoints, read_manifest
from training.tiny import tiny_base

Json = dict[str, Any]

PATIENTS = 3200
RANK = 32
SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "list": ("smoke", ("checkpoint_steps=[480]", "schedule=linear")),
    "yes-no": (
        "smoke",
        ("checkpoint_steps=[]", "checkpoint_epochs=[1]", "schedule=linear", "batch_size=16", "max_length=1024"),
    ),
    "labels": ("labels", ("learning_rate=3e-3", "checkpoint_epochs=[6]", "validate_every=400")),
}
"""Of each run the shipped config, and what is put over it."""
CURVE_ROWS = ("constrained", "labels", "blended", *REGRESSIONS)
"""What is drawn over the number of training admissions."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one hospital's cohort and all that learned from it lie."""

    folder: Path
    base: str

    @property
    def cohort(self) -> Path:
        """Folder of the cohort."""
        return self.folder / "cohort"

    @property
    def runs(self) -> Path:
        """Folder of the runs, by the keys of SETTINGS."""
        return self.folder / "runs"

    def learn(self, name: str, told: Callable[[str], Told]) -> None:
        """Train one run, unless it stands."""
        config, over = SETTINGS[name]
        data = self.cohort
        if name == "yes-no":
            data = self.folder / "questions"
            write_corpus(self.cohort, data, seed=0)
        settings = load_config(config, [f"ranks=[{RANK}]", *over])
        train(settings, data, self.base, self.runs / name, lambda rank: told(f"{self.folder.name}, {name}"))

    def answers(self, oracle: Path, asked: Sequence[str] | None = None) -> Answers:
        """Ask everything that was not asked yet, or only what is named."""
        ways = Ways(self.cohort, self.runs, self.base)
        splits = {split: read_split(self.cohort, split) for split in ("validation", "test")}
        test = {"test": splits["test"]}
        wanted: dict[str, tuple[Callable[..., Arrays], dict[str, Split], str | None]] = {
            "free": (ways.write, test, "list"),
            "constrained": (ways.write_held, test, "list"),
            "votes-5": (ways.vote_less, {}, "list"),
            "votes": (ways.vote, splits, "list"),
            "names": (ways.score_names, splits, "list"),
            "yes-no": (ways.ask_yes_no, splits, "yes-no"),
            "labels": (ways.read_labels, splits, "labels"),
            **{
                name: (baseline_way(self.cohort, name, self.folder / "baselines"), splits, None)
                for name in ("popularity", *REGRESSIONS)
            },
        }
        said = {ORACLE: asked_oracle(oracle, splits["test"], read_formulary(self.cohort))}
        for name, (way, of, run) in wanted.items():
            if asked is None or name in asked:
                path = self.folder / "asked" / f"{name}.npz"
                said[name] = kept(path, way, of, splits["test"], self._origin(run))
        return Answers(said, splits)

    def _origin(self, run: str | None) -> Json:
        cohort_sha256 = artefacts.sha256_file(self.cohort / "cohort.json")
        if run is None:
            return {"cohort_sha256": cohort_sha256}
        [checkpoint] = find_checkpoints(self.runs / run)
        return {"cohort_sha256": cohort_sha256, "weights_sha256": read_manifest(checkpoint).weights_sha256}


# --- the table, and the curve -----------------------------------------------------------------------------


def prepare(work: Path, base: str, seed: int, patients: int) -> Place:
    """Make one seed's hospital and cohort."""
    place = Place(work / f"seed-{seed}", base)
    write_hospital(place.folder / "hospital", patients, seed)
    build_cohort(place.folder / "hospital", place.cohort)
    return place


def compare(places: dict[int, Place], told: Callable[[str], Told]) -> dict[int, Answers]:
    """Train and ask everything, seed by seed."""
    found = {}
    for seed, place in places.items():
        for name in SETTINGS:
            place.learn(name, told)
        found[seed] = place.answers(place.folder / "hospital" / "oracle.parquet")
    return found


def grow(place: Place, sizes: Sequence[int], told: Callable[[str], Told]) -> list[Json]:
    """Return what fewer training admissions are worth, and all of them: figures of CURVE_ROWS at each size."""
    points = []
    rows = [row for row in ROWS if row.name in (*CURVE_ROWS, ORACLE)]
    for size in (*sizes, None):
        part = place
        if size is not None:
            part = Place(place.folder / f"first-{size}", place.base)
            write_variant(place.cohort, "as it is", part.cohort, size)
            for name in ("list", "labels"):
                part.learn(name, told)
        answers = part.answers(place.folder / "hospital" / "oracle.parquet", CURVE_ROWS)
        found = summarise({0: answers}, rows)
        figures = {row["name"]: {score: row[score] for score in ("f1", "jaccard", "ece")} for row in found}
        points.append({"admissions": read_samples(part.cohort, "train").height, "rows": figures})
    return points


def learned(place: Place) -> Json:
    """Return what each run of a seed took: samples seen, tokens read."""
    found: Json = {}
    for name in SETTINGS:
        [checkpoint] = find_checkpoints(place.runs / name)
        manifest = read_manifest(checkpoint)
        lines = (checkpoint.parent / "log.jsonl").read_text("utf-8").splitlines()
        tokens = sum(json.loads(line).get("tokens", 0) for line in lines)
        found[name] = {"samples": manifest.step * manifest.config["batch_size"], "tokens": tokens}
    return found


# --- the command ------------------------------------------------------------------------------------------


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("demo/formulations"), help="folder (default: %(default)s)")
    parser.add_argument("--base", default="tiny", help="folder of the base model, or tiny (default)")
    parser.add_argument("--patients", type=int, default=PATIENTS, help="of each hospital (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the hospitals")
    parser.add_argument(
        "--curve", type=int, nargs="*", default=[600, 1200, 2400], help="training admissions of the first seed"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the process (default: 1, comparable CPU seconds)")
    parser.add_argument("--write", type=Path, help="the document to write, such as docs/formulations.md")
    return parser.parse_args()


def main() -> int:
    """Run what is missing, write the document, and print JSON last."""
    options = read_options()
    torch.set_num_threads(options.threads)
    with bars() as told:
        base = str(tiny_base(told)) if options.base == "tiny" else options.base
        places = {seed: prepare(options.work, base, seed, options.patients) for seed in options.seeds}
        answers = compare(places, told)
        first = places[options.seeds[0]]
        found = {
            "patients": options.patients,
            "rank": RANK,
            "seeds": options.seeds,
            "splits": {seed: _sizes(place) for seed, place in places.items()},
            "formulary": len(read_formulary(first.cohort)),
            "learned": {seed: learned(place) for seed, place in places.items()},
            "rows": summarise(answers),
            "curve": grow(first, options.curve, told),
            "versions": {name: version(name) for name in ("rxdraft", "torch", "transformers", "peft")},
            "cpus": os.cpu_count(),
        }
    with artefacts.whole_or_absent(options.work / "formulations.json") as new:
        artefacts.write_json(new, found)
    if options.write:
        write_document(found, options.write)
    print(json.dumps({"benchmark": "formulations", **found}))
    return 0


def _sizes(place: Place) -> Json:
    return {split: read_samples(place.cohort, split).height for split in ("train", "validation", "test")}


if __name__ == "__main__":
    sys.exit(main())
