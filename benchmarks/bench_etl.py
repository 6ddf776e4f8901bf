"""Time `rxdraft etl` beside the floor, Polars and pandas on the same files, and see that they make the same samples.

Measured: whole processes from start to end, imports included, on csv.gz files that are in the page cache (every file
is read once before), with all cores, contenders in turn and in reversed order every second round. Not measured: a
cold disk, Parquet sources, and a machine to itself: look at the load in the JSON, and compare within one run only.
Contenders do the job of job.py; `rxdraft etl` does that and all else a cohort needs (digests, checks, account,
statistics, audit, report), the floor does nothing but read. A run that fails or is killed for its memory is reported
as that.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb
from compare import count_differences
from hospital import FULL_ADMISSIONS, cached_hospital
from job import COLUMNS
from measure import Measured, run_measured

HERE = Path(__file__).parent
CONTENDERS = ("rxdraft", "floor", "polars", "pandas")
QUICK_ADMISSIONS = FULL_ADMISSIONS // 20
TENTH_ADMISSIONS = FULL_ADMISSIONS // 10


def command_of(contender: str, mimic: Path, out: Path, etl_arguments: list[str]) -> list[str]:
    """Return what to run; the ETL as its users run it."""
    if contender == "rxdraft":
        program = Path(sys.executable).with_name("rxdraft")
        return [str(program), "etl", "--mimic", str(mimic), "--out", str(out), *etl_arguments]
    script = [sys.executable, str(HERE / f"etl_{contender}.py"), "--mimic", str(mimic)]
    return script if contender == "floor" else [*script, "--out", str(out)]


def run_rounds(mimic: Path, scratch: Path, options: argparse.Namespace) -> dict[str, list[Measured]]:
    """Run every contender `options.repeat` times; the last run's output stays at scratch/CONTENDER/out."""
    runs: dict[str, list[Measured]] = {name: [] for name in options.only}
    for number in range(options.repeat):
        for name in options.only[:: -1 if number % 2 else 1]:
            folder = scratch / name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            command = command_of(name, mimic, folder / "out", shlex.split(options.etl_arguments))
            measured = run_measured(command, folder, options.max_gib)
            runs[name].append(measured)
            print(f"  {name:<8} {measured.wall_seconds:7.2f} s  {measured.failure or ''}", file=sys.stderr)
    return runs


def differences(scratch: Path, runs: dict[str, list[Measured]]) -> dict[str, dict[str, int] | str]:
    """Return how each contender's samples differ from the first one's; {} where they are the same."""
    made = [name for name in runs if name != "floor" and not runs[name][-1].failure]
    samples = {name: scratch / name / "out" / "samples.parquet" for name in made}
    found: dict[str, dict[str, int] | str] = {}
    for name in made[1:]:
        try:
            found[f"{name}, {made[0]}"] = count_differences(samples[made[0]], samples[name])
        except duckdb.Error as error:
            found[f"{name}, {made[0]}"] = f"cannot be compared: {str(error).splitlines()[0]}"
    return found


def measure_hospital(mimic: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run all contenders on one folder and return their figures."""
    files = [mimic / "hosp" / f"{table}.csv.gz" for table in COLUMNS]
    for path in files:
        with path.open("rb") as file:
            while file.read(1 << 24):  # into the page cache, where every contender but the first would find it
                pass
    with tempfile.TemporaryDirectory(prefix="bench-etl-") as scratch:
        runs = run_rounds(mimic, Path(scratch), options)
        differ = differences(Path(scratch), runs)
    floor = runs.get("floor", [])
    return {
        "hospital": mimic.name,
        "bytes": {path.name: path.stat().st_size for path in files},
        "rows": json.loads(floor[-1].output) if floor and not floor[-1].failure else None,
        "contenders": {name: figures(measured) for name, measured in runs.items()},
        "differences": differ,
    }


def figures(runs: list[Measured]) -> dict[str, Any]:
    """Return the medians of the runs that ended well, None where none did, with every wall time and failure."""
    good = [run for run in runs if not run.failure]

    def median(field: str) -> float | None:
        return round(statistics.median(getattr(run, field) for run in good), 2) if good else None

    return {
        **{field: median(field) for field in ("wall_seconds", "cpu_seconds", "peak_mib", "spill_mib")},
        "wall_seconds_each": [round(run.wall_seconds, 2) for run in runs],
        "failures": [run.failure for run in runs if run.failure],
    }


def print_table(result: dict[str, Any]) -> None:
    """Print a row per contender, failures in words, then whether the samples are the same."""
    contenders = result["contenders"]
    floor = contenders.get("floor", {}).get("wall_seconds")
    print(f"\n{result['hospital']}, {sum(result['bytes'].values()) / 2**20:,.0f} MiB of csv.gz")
    print(f"{'':<10}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}{'spill MiB':>11}{'x floor':>9}")
    for name, row in contenders.items():
        if row["wall_seconds"] is not None:
            ratio = f"{row['wall_seconds'] / floor:.2f}" if floor else "-"
            numbers = f"{row['wall_seconds']:>9.2f}{row['cpu_seconds']:>9.2f}{row['peak_mib']:>10,.0f}"
            print(f"{name:<10}{numbers}{row['spill_mib']:>11,.0f}{ratio:>9}")
        for failure in row["failures"]:
            print(f"{name:<10}  failed: {failure}")
    for pair, found in result["differences"].items():
        print(f"samples of {pair}: {f'stays that differ {found}' if found else 'the same'}")


def print_linearity(small: dict[str, Any], large: dict[str, Any], factor: float) -> None:
    """Print how much longer each contender takes for `factor` times the admissions."""
    print(f"\nfrom {small['hospital']} to {large['hospital']}, {factor:.1f} times the admissions:")
    for name, row in large["contenders"].items():
        before = small["contenders"][name]["wall_seconds"]
        if before and row["wall_seconds"]:
            print(f"{name:<10}{row['wall_seconds'] / before:>9.2f} times the wall")


def machine() -> dict[str, Any]:
    """Return what else decides the figures."""
    packages = ("rxdraft", "duckdb", "polars", "pandas", "pyarrow")
    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_before": os.getloadavg(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def read_options() -> argparse.Namespace:
    """Read the command line; --quick and --mimic are short for a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help=f"{QUICK_ADMISSIONS} admissions")
    size.add_argument(
        "--admissions", type=int, default=FULL_ADMISSIONS, help="default: %(default)s, with a tenth of it"
    )
    size.add_argument("--mimic", type=Path, help="a folder of csv.gz files that is there, such as the demo")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument(
        "--max-gib", type=float, default=18, help="a contender is killed above it (default: %(default)s)"
    )
    parser.add_argument("--etl-arguments", default="--open-data --drop=", help="of `rxdraft etl`, as one text")
    parser.add_argument("--verify", action="store_true", help="exit with 1 if anything failed or samples differ")
    return parser.parse_args()


def main() -> int:
    """Measure, print the tables, and JSON last."""
    options, where = read_options(), machine()
    if options.mimic:
        results = [measure_hospital(options.mimic, options)]
    else:
        admissions = QUICK_ADMISSIONS if options.quick else options.admissions
        sizes = [TENTH_ADMISSIONS, admissions] if admissions == FULL_ADMISSIONS else [admissions]
        print(f"hospitals of {sizes} admissions; making what the cache lacks", file=sys.stderr)
        results = [measure_hospital(cached_hospital(size), options) for size in sizes]
    for result in results:
        print_table(result)
    if len(results) > 1:
        print_linearity(results[0], results[1], FULL_ADMISSIONS / TENTH_ADMISSIONS)
    failed = any(row["failures"] for result in results for row in result["contenders"].values())
    differ = any(found for result in results for found in result["differences"].values())
    print(json.dumps({"benchmark": "etl", **where, "repeat": options.repeat, "results": results}))
    return int(options.verify and (failed or differ))


if __name__ == "__main__":
    sys.exit(main())
