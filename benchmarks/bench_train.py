"""Time `rxdraft train` beside TRL's SFTTrainer and transformers' Trainer on the same base, rows and adapter.

Measured: each setting in a process of its own on one thread, in turn and in reversed order every second round; wall,
CPU and resident memory from the model's first forward pass to the last optimiser step. Tokens are those of
the rows, padding never counted. All train the same FA-LoRA adapter (rank 16 on q and v, AdamW, four rows a step, fp32,
each row once) on a random Llama of nine million parameters; a second base differs in its vocabulary alone, which has
the size of Llama-3.1's. Losses are compared step by step where a peer is given our batches. Not measured: loading,
tokenising, validation, saving, a GPU (bench_train_gpu.py) and a machine to itself: look at the load in the JSON, and
compare CPU seconds within one run only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measure import Measured, run_measured

HERE = Path(__file__).resolve()
ENGINES = {
    "rxdraft": "rxdraft_loop",
    "rxdraft, whole batches": "rxdraft_loop",
    "rxdraft, checkpointing": "rxdraft_loop",
    "TRL, padded": "peers",
    "TRL, padded, checkpointing": "peers",
    "TRL, packed": "peers",
    "Trainer, padded": "peers",
    "Trainer, grouped by length": "peers",
    "Trainer, four times one": "peers",
    "TRL, our batches": "peers",
    "Trainer, our batches": "peers",
}
"""Settings, and the module of engines/ that runs each."""
OURS, SLOWEST_WANTED = "rxdraft", "TRL, padded"
MATCHED = tuple(name for name in ENGINES if name.endswith("our batches"))
"""They lend a peer our order of rows: to compare losses, and to see what is left when batches are the same."""
TOLD = ("Trainer, four times one", *MATCHED)
"""Peers that were told what makes ours fast. They are shown; targets hold against those as they come."""
VOCABULARIES = {2_048: 96, 128_256: 24}
"""Size of the base's vocabulary, and rows to train on."""
WANTED = {"times TRL, padded": 2.0, "times the fastest peer": 1.4, "of the leanest peer's memory": 1.0}
SAME_LOSS = 1e-4


def measure(name: str, folder: Path, threads: int) -> dict[str, Any]:
    """Train one setting in this process and return its figures."""
    import torch
    from engines.meter import Meter

    torch.set_num_threads(threads)
    meter = Meter()
    losses = importlib.import_module(f"engines.{ENGINES[name]}").run(folder, name)
    return {**meter.figures(), "losses": losses}


def run_rounds(folder: Path, options: argparse.Namespace) -> dict[str, list[dict[str, Any]]]:
    """Run every setting `options.repeat` times; a run that fails is its failure."""
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in options.only}
    for number in range(options.repeat):
        for name in options.only[:: -1 if number % 2 else 1]:
            command = [sys.executable, str(HERE), "--measure", name, "--job", str(folder)]
            done = run_measured([*command, "--threads", str(options.threads)], folder, options.max_gib)
            runs[name].append(read_figures(done))
            print(f"  {name:<28} {done.wall_seconds:7.1f} s  {done.failure or ''}", file=sys.stderr)
    return runs


def read_figures(done: Measured) -> dict[str, Any]:
    """Return what the process of a setting printed last, or how it failed."""
    return {"failure": done.failure} if done.failure else json.loads(done.output.splitlines()[-1])


def measure_vocabulary(vocabulary: int, rows: int, options: argparse.Namespace) -> dict[str, Any]:
    """Make the job of one vocabulary, run all settings on it and return their figures."""
    from engines import workload

    with tempfile.TemporaryDirectory(prefix="bench-train-") as scratch:
        folder = Path(scratch) / "job"
        workload.make(folder, rows, vocabulary)
        lengths = [(len(row.input_ids), row.response_tokens) for row in workload.read_rows(folder)]
        runs = run_rounds(folder, options)
    tokens = sum(length for length, _ in lengths)
    settings = {name: figures(each, tokens) for name, each in runs.items()}
    return {
        "vocabulary": vocabulary,
        "rows": len(lengths),
        "tokens": tokens,
        "response_tokens": sum(response for _, response in lengths),
        "lengths": [min(lengths)[0], max(lengths)[0]],
        "settings": settings,
        "targets": targets(settings),
        "loss_differences": loss_differences(settings),
    }


def figures(runs: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    """Return the medians of the runs that ended well, None where none did, with the losses and every failure."""
    good = [run for run in runs if "failure" not in run]

    def median(field: str) -> float | None:
        return statistics.median(run[field] for run in good) if good else None

    fields = ("wall_seconds", "cpu_seconds", "loaded_mib", "growth_mib", "peak_mib")
    medians = {field: median(field) for field in fields}
    return {
        **medians,
        "tokens_per_wall_second": tokens / medians["wall_seconds"] if good else None,
        "tokens_per_cpu_second": tokens / medians["cpu_seconds"] if good else None,
        "cpu_seconds_each": [round(run["cpu_seconds"], 2) for run in good],
        "losses": good[-1]["losses"] if good else [],
        "failures": [run["failure"] for run in runs if "failure" in run],
    }


def targets(settings: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return our speed over TRL's and over the fastest peer's, by CPU, and our memory over the leanest peer's.

    Of memory the worse of growth and peak counts.
    """
    done = {name: row for name, row in settings.items() if row["cpu_seconds"] is not None}
    peers = [row for name, row in done.items() if not name.startswith("rxdraft") and name not in TOLD]
    if OURS not in done or SLOWEST_WANTED not in done:
        return {}
    ours = done[OURS]
    fastest = max(row["tokens_per_cpu_second"] for row in peers)
    found = (
        ours["tokens_per_cpu_second"] / done[SLOWEST_WANTED]["tokens_per_cpu_second"],
        ours["tokens_per_cpu_second"] / fastest,
        max(ours[field] / min(row[field] for row in peers) for field in ("growth_mib", "peak_mib")),
    )
    return {name: round(value, 2) for name, value in zip(WANTED, found, strict=True)}


def loss_differences(settings: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Return, by peer that had our batches, the largest difference between its loss of a step and ours."""
    ours = settings.get(OURS, {}).get("losses")
    found = {}
    for name in MATCHED:
        theirs = settings.get(name, {}).get("losses")
        if ours and theirs:
            found[name] = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    return found


def missed(result: dict[str, Any]) -> list[str]:
    """Return what failed, fell short of its target, or had another loss than ours on the same batch."""
    settings = result["settings"].items()
    short = [
        f"{value:.2f} {name}, wanted {'under' if name.startswith('of') else 'at least'} {WANTED[name]}"
        for name, value in result["targets"].items()
        if (value >= WANTED[name] if name.startswith("of") else value < WANTED[name])
    ]
    differ = [f"{n}: losses differ by {d:.1e}" for n, d in result["loss_differences"].items() if d > SAME_LOSS]
    return [f"{name} failed: {failure}" for name, row in settings for failure in row["failures"]] + short + differ


def print_table(result: dict[str, Any]) -> None:
    """Print a row per setting, then targets and the losses of equal batches."""
    about = f"{result['rows']} rows of {' to '.join(map(str, result['lengths']))} tokens, {result['tokens']:,} in all"
    print(f"\nvocabulary {result['vocabulary']:,}: {about}")
    print(f"{'tokens a second of':<28}{'CPU':>8}{'wall':>8}{'x TRL':>7}{'growth MiB':>12}{'peak MiB':>10}{'loss':>9}")
    base = result["settings"].get(SLOWEST_WANTED, {}).get("tokens_per_cpu_second")
    for name, row in result["settings"].items():
        if row["cpu_seconds"] is None:
            continue
        speed, wall = row["tokens_per_cpu_second"], row["tokens_per_wall_second"]
        times = f"{speed / base:.2f}" if base else "-"
        memory = f"{row['growth_mib']:>12,.0f}{row['peak_mib']:>10,.0f}"
        print(f"{name:<28}{speed:>8,.0f}{wall:>8,.0f}{times:>7}{memory}{statistics.mean(row['losses']):>9.4f}")
    for name, value in result["targets"].items():
        print(f"{value:>6.2f} {name} (wanted {'under' if name.startswith('of') else 'at least'} {WANTED[name]})")
    for name, difference in result["loss_differences"].items():
        print(f"{name}: losses of each step equal to {difference:.1e}")
    for text in missed(result):
        print(f"  missed: {text}")


def machine(threads: int) -> dict[str, Any]:
    """Return what else decides the figures."""
    packages = ("rxdraft", "torch", "transformers", "peft", "trl", "accelerate")
    return {
        "cpus": os.cpu_count(),
        "threads": threads,
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "load_before": os.getloadavg(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 rows, the small vocabulary, one round: does it run")
    parser.add_argument("--vocabularies", nargs="+", type=int, choices=VOCABULARIES, default=list(VOCABULARIES))
    parser.add_argument("--rows", type=int, help=f"to train on (default: {VOCABULARIES}, by vocabulary)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds; medians are shown (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    parser.add_argument("--max-gib", type=float, default=16, help="a setting is killed above it (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="exit with 1 if anything failed or missed its target")
    parser.add_argument("--measure", choices=ENGINES, help=argparse.SUPPRESS)  # the process of one setting
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure, print the tables, and JSON last."""
    options = read_options()
    if options.measure:
        print(json.dumps(measure(options.measure, options.job, options.threads)))
        return 0
    if options.quick:
        options.vocabularies, options.rows, options.repeat = options.vocabularies[:1], options.rows or 8, 1
    where = machine(options.threads)
    results = [measure_vocabulary(size, options.rows or VOCABULARIES[size], options) for size in options.vocabularies]
    for result in results:
        print_table(result)
    print(json.dumps({"benchmark": "train", **where, "repeat": options.repeat, "results": results}))
    return int(options.verify and any(map(missed, results)))


if __name__ == "__main__":
    sys.exit(main())
