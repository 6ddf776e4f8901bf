"""Time the evaluation's core: drafts counted against the truth, every figure with its interval, and the findings.

Measured: each setting in a process of its own, on visits made up in memory, with real drugs' names so that every rung
of the ladder has its work; wall, CPU and the process's peak memory, its input and imports included. Each baseline
comes with a probability for every drug of the formulary. Not measured: drafting, and files. Look at the load in the
JSON: on busy cores CPU seconds are the ones to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from measure import run_measured

from etl.drug_vocabulary import read_drug_vocabulary
from evaluation.drafts import Drafted, Kind, Row, as_drafts
from evaluation.findings import find
from evaluation.interactions import read_interactions
from evaluation.ladder import Projection
from evaluation.results import Redrawn, tabulate
from evaluation.visits import Truth

HERE = Path(__file__).parent
DRUGS_A_VISIT = 25
VISITS_A_PATIENT = 2
CELLS = [(rank, step) for rank in (16, 32) for step in (1950, 2925, 3900, 4875)]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is evaluated, and the bounds that it is to keep; None: no bound."""

    cells: int
    baselines: int
    visits: int
    formulary: int
    draws: int
    most_seconds: float | None = None
    most_gib: float | None = None


SETTINGS = {
    "quick": Setting(cells=4, baselines=2, visits=200, formulary=200, draws=200),
    "table": Setting(cells=8, baselines=0, visits=1_000, formulary=1_200, draws=2_000, most_seconds=10),
    "large": Setting(cells=8, baselines=8, visits=20_000, formulary=1_200, draws=2_000, most_gib=2),
}


class World:
    """Made-up visits: drugs by their popularity and the patient's habits."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._rng = setting, np.random.default_rng(0)
        table = pl.read_csv(HERE.parent / "etl" / "vocabulary" / "ingredients.csv")
        names = table["ingredient"].gather_every(max(1, table.height // setting.formulary))
        self.formulary = names.head(setting.formulary).to_list()
        odds = 1 / np.arange(2, len(self.formulary) + 2)
        self._odds = odds / odds.sum()
        self.samples = self._samples()

    def rows(self) -> Iterator[Drafted]:
        """Yield rows one at a time, as the evaluation drafts them: each a share right, the rest from popularity."""
        for rank, step in CELLS[: self._setting.cells]:
            yield Drafted(Row(f"rank-{rank}-step-{step:06d}", Kind.CHECKPOINT, rank, step), self._drafts())
        for number in range(self._setting.baselines):
            scores = self._rng.beta(0.2, 2.0, size=(self.samples.height, len(self.formulary)))
            yield Drafted(Row(f"baseline-{number}", Kind.BASELINE), self._drafts(), scores, probable=True)

    def _samples(self) -> pl.DataFrame:
        n, rng = self._setting.visits, self._rng
        return pl.DataFrame(
            {
                "subject_id": np.arange(n) // VISITS_A_PATIENT,
                "hadm_id": np.arange(n),
                "sex": rng.choice(["F", "M"], n),
                "age": rng.integers(18, 90, n),
                "race": rng.choice(["WHITE", "BLACK/AFRICAN AMERICAN", "ASIAN"], n, p=[0.7, 0.2, 0.1]),
                "admission_type": rng.choice(["EW EMER.", "URGENT", "ELECTIVE"], n),
                "diagnoses": [[{"icd_code": code, "icd_version": 10}] for code in rng.choice(["I509", "J189"], n)],
                "drugs": self._lists(),
                "previous_drugs": [drugs if i % VISITS_A_PATIENT else None for i, drugs in enumerate(self._lists())],
            }
        )

    def _lists(self) -> list[list[str]]:
        lengths = np.clip(self._rng.poisson(DRUGS_A_VISIT, self._setting.visits), 1, len(self.formulary) // 2)
        picks = self._rng.choice(len(self.formulary), (len(lengths), 2 * lengths.max()), p=self._odds)
        return [
            [self.formulary[i] for i in dict.fromkeys(row[: 2 * n])][:n]
            for row, n in zip(picks.tolist(), lengths, strict=True)
        ]

    def _drafts(self) -> pl.DataFrame:
        kept = [drugs[:8] for drugs in self.samples["drugs"].to_list()]
        return as_drafts(
            self.samples, [list(dict.fromkeys([*k, *more]))[:22] for k, more in zip(kept, self._lists(), strict=True)]
        )


def measure(setting: Setting) -> dict[str, Any]:
    """Evaluate a made-up world and return the seconds of each part, and the peak of memory."""
    world, seconds = World(setting), {}
    redrawn = Redrawn(draws=setting.draws)
    drugs = read_drug_vocabulary()
    input_mib = peak_mib()
    truth = timed(
        seconds, "truth", lambda: Truth(world.samples, world.formulary, Projection(drugs), read_interactions(drugs))
    )
    counted, rows = [], []
    for drafted in world.rows():
        counted.append(timed(seconds, "count", lambda drafted=drafted: truth.count(drafted)))
        rows.append(asdict(drafted.row))
        del drafted
    visits = pl.concat(counted)
    counted.clear()
    counted_mib = peak_mib()
    results = timed(seconds, "tabulate", lambda: tabulate(visits, "made up", redrawn))
    tabulated_mib = peak_mib()
    timed(seconds, "find", lambda: find(visits, {"rows": rows, "selected": rows[0]["name"]}, redrawn))
    peaks = {"input": input_mib, "count": counted_mib, "tabulate": tabulated_mib, "find": peak_mib()}
    return {"seconds": seconds, "figures": results.height, "peak_mib": peaks}


def timed(seconds: dict[str, dict[str, float]], part: str, work: Callable[[], Any]) -> Any:
    """Do a part's work and add what it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work()
    taken = seconds.setdefault(part, {"wall": 0.0, "cpu": 0.0})
    taken["wall"] += time.perf_counter() - wall
    taken["cpu"] += time.process_time() - cpu
    return done


def peak_mib() -> float:
    """Return the most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def run(name: str) -> dict[str, Any]:
    """Measure a setting in a process of its own, and see whether it kept its bounds."""
    setting = SETTINGS[name]
    with tempfile.TemporaryDirectory(prefix="bench-evaluate-") as folder:
        done = run_measured([sys.executable, str(Path(__file__).resolve()), "--measure", name], Path(folder), max_gib=8)
    if done.failure:
        return {"setting": name, "failure": done.failure}
    found = json.loads(done.output)
    wall = sum(part["wall"] for part in found["seconds"].values())
    missed = [
        f"{what}: {value:.2f}, wanted under {bound}"
        for what, value, bound in (
            ("wall seconds", wall, setting.most_seconds),
            ("GiB", done.peak_mib / 2**10, setting.most_gib),
        )
        if bound is not None and value >= bound
    ]
    return {"setting": name, **asdict(setting), "wall_seconds": wall, "peak_of_all_mib": done.peak_mib, **found,
            "missed": missed, "failure": None}  # fmt: skip


def print_result(result: dict[str, Any]) -> None:
    """Print a setting's parts, one a line."""
    if result["failure"]:
        print(f"\n{result['setting']}  failed: {result['failure']}")
        return
    print(
        f"\n{result['setting']}: {result['cells']} cells and {result['baselines']} baselines, {result['visits']:,} "
        f"visits, {result['formulary']:,} drugs, {result['draws']:,} draws, {result['figures']:,} figures"
    )
    print(f"{'':<10}{'wall s':>9}{'CPU s':>9}{'peak MiB so far':>18}")
    for part, seconds in result["seconds"].items():
        peak = result["peak_mib"].get(part)
        print(f"{part:<10}{seconds['wall']:>9.2f}{seconds['cpu']:>9.2f}{f'{peak:,.0f}' if peak else '':>18}")
    print(f"{'all':<10}{result['wall_seconds']:>9.2f}{'':>9}{result['peak_of_all_mib']:>18,.0f}")
    for missed in result["missed"]:
        print(f"  {missed}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="200 visits: does it run at all")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=["table", "large"])
    parser.add_argument("--verify", action="store_true", help="exit with 1 if anything failed or missed its bound")
    parser.add_argument("--measure", choices=SETTINGS, help=argparse.SUPPRESS)  # the process of one setting
    return parser.parse_args()


def main() -> int:
    """Measure, print the parts, and JSON last."""
    options = read_options()
    if options.measure:
        print(json.dumps(measure(SETTINGS[options.measure])))
        return 0
    load = os.getloadavg()
    results = [run(name) for name in (["quick"] if options.quick else options.only)]
    for result in results:
        print_result(result)
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("rxdraft", "numpy", "polars")}}
    about = {"cpus": os.cpu_count(), "load_before": load, "versions": versions}
    print(json.dumps({"benchmark": "evaluate", **about, "results": results}))
    return int(options.verify and any(result["failure"] or result["missed"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
