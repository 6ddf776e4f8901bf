"""Kill a sweep with kill -9 at random moments and see that it ends with the bits of one that was left alone.

A random tiny base, a made-up hospital, two ranks with two seeds. A life of the command ends at a random moment after
it began to train, or at any moment at all, imports and evaluation included; with --jobs above 1 a kill hits the
command or, every other time, one of its workers, which the command must notice. Compared in the end: every adapter,
every log without seconds and memory, and the table. Says in its last line, as JSON, what was killed where.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from etl.build import build_cohort
from etl.cohort import read_prompts
from etl.synth import write_hospital
from training.manifest import find_checkpoints, read_manifest
from training.tiny import untrained_llama

SWEEP = "import typer; from evaluation.sweep.commands import sweep; typer.run(sweep)"
SHAPE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
MACHINES = ("seconds", "peak_memory_bytes")
LONGEST_LIFE_SECONDS = 4.0
"""After it began to train."""
ANY_MOMENT_SECONDS = 15.0
"""After it was started, for the kills that do not wait for training."""


def main() -> None:
    """Run what the head of this file says."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--kills", type=int, default=20)
    asked.add_argument("--jobs", type=int, default=1)
    asked.add_argument("--steps", default="60,120,180,240", help="where checkpoints are kept")
    asked.add_argument("--seed", type=int, default=0, help="of the moments")
    args = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        cohort, base = prepare(work)
        command = [sys.executable, "-c", SWEEP, "--data", str(cohort), "--base", str(base), "--config", "smoke"]
        command += ["--set", "batch_size=4", "--ranks", "2,4", "--seeds", "0,1", "--steps", args.steps]
        command += ["--draws", "200", "--jobs", str(args.jobs)]
        began = time.perf_counter()
        subprocess.run([*command, "--out", str(work / "alone")], check=True, capture_output=True)
        alone_seconds = time.perf_counter() - began
        killed = kill([*command, "--out", str(work / "killed")], work / "killed", args.kills, random.Random(args.seed))
        subprocess.run([*command, "--out", str(work / "killed")], check=True, capture_output=True)
        differences = compare(work / "alone", work / "killed")
    print(f"{sum(killed.values())} kills, {len(differences)} differences {differences}")
    result = {"kills": dict(killed), "jobs": args.jobs, "differences": differences, "alone_seconds": alone_seconds}
    print(json.dumps(result))
    sys.exit(bool(differences))


def prepare(work: Path) -> tuple[Path, Path]:
    """Make a cohort and a random base."""
    write_hospital(work / "hospital", patients=60, seed=3)
    build_cohort(work / "hospital", work / "cohort")
    untrained_llama(read_prompts(work / "cohort", "train"), vocab_size=1024, num_key_value_heads=2, **SHAPE).save(
        work / "base"
    )
    return work / "cohort", work / "base"


def kill(command: list[str], out: Path, kills: int, draw: random.Random) -> Counter[str]:
    """Start the command and kill it, `kills` times; return how often at which state of its folder."""
    killed: Counter[str] = Counter()
    while sum(killed.values()) < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before, waits = written(out), draw.random() < 0.75
        deadline = time.monotonic() + (120 if waits else draw.uniform(0, ANY_MOMENT_SECONDS))
        while process.poll() is None and time.monotonic() < deadline and not (waits and written(out) != before):
            time.sleep(0.02)
        time.sleep(draw.uniform(0, LONGEST_LIFE_SECONDS) if waits else 0)
        workers = workers_of(process.pid)
        if workers and draw.random() < 0.5:
            os.kill(draw.choice(workers), signal.SIGKILL)
            killed["worker"] += 1
            time.sleep(draw.uniform(0, LONGEST_LIFE_SECONDS))
        if process.poll() is not None:
            sys.exit(f"it ended after {dict(killed)}: give more --steps")
        process.kill()
        process.wait()
        killed[stage(out)] += 1
        print(f"{sum(killed.values()):3} {dict(killed)}", flush=True)
    return killed


def written(out: Path) -> dict[Path, int]:
    """Return the sizes of all logs and drafts."""
    return {path: path.stat().st_size for path in (*out.rglob("log.jsonl"), *out.rglob("predictions/*.parquet"))}


def workers_of(pid: int) -> list[int]:
    """Return the processes that train: children of the server they are forked from, the command's child."""

    def children(parent: int) -> list[int]:
        try:
            return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except OSError:  # it has ended
            return []

    return [worker for server in children(pid) for worker in children(server)]


def stage(out: Path) -> str:
    """Say what was being done."""
    if (out / "evaluation-validation").is_dir():
        return "evaluating"
    return "training" if any(out.rglob("log.jsonl")) else "starting"


def compare(alone: Path, killed: Path) -> list[str]:
    """Return what is not the same."""
    differences = []
    for checkpoint in find_checkpoints(alone):
        place = checkpoint.relative_to(alone)
        if read_manifest(checkpoint).weights_sha256 != read_manifest(killed / place).weights_sha256:
            differences.append(str(place))
    logs = [log.relative_to(alone) for log in alone.rglob("log.jsonl")]
    differences += [str(log) for log in logs if lines(alone / log) != lines(killed / log)]
    table = Path("evaluation-validation/sweep.md")
    differences += [str(table)] * ((alone / table).read_bytes() != (killed / table).read_bytes())
    differences += [str(path) for path in killed.rglob("*.unfinished")]
    return differences


def lines(log: Path) -> list[dict[str, object]]:
    """Return a log's entries without time and memory, which are no part of a result."""
    entries = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return [{name: value for name, value in entry.items() if name not in MACHINES} for entry in entries]


if __name__ == "__main__":
    main()
