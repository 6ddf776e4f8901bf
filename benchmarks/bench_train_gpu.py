"""Time FA-LoRA steps at the shape of Llama-3.1-8B on the CUDA GPU that is here, beside transformers' Trainer with PEFT.

Measured: random bf16 weights, rank 32 on q and v, AdamW, 4 rows of 2,048 random tokens of which 200 are to learn;
checkpointing on and off, our response-only head and the full one, a compiled model, and the peer on the same rows,
weights and adapter, each in a process of its own; the median step and the most memory allocated. Attention is the
flash-attn package where it is installed, else torch's own FlashAttention-2 kernels. A setting that does not fit is
reported as that. Nothing is read or fetched. Without CUDA a toy runs on the CPU in float32, which shows that it runs.

MFU is the operations that a step needs over those the GPU could do in its time. Needed are, a token: 4 to a frozen
weight (forward, and backward to its input; a frozen weight needs no gradient), 6 to one of B, 4 to one of A; to the
head 4 for each token to learn; causal attention over half the square, three times. Computing again under checkpointing
and logits nobody asked for count for nothing. `6N` is the usual convention beside it, which credits 6 to every weight.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from engines.random_llama import LLAMA_8B, SETTINGS, TOY, Size, measure, relative_difference
from measure import run_measured

HERE = Path(__file__).resolve()
LEAN, MOST_GIB, LEAST_MFU = "response head, checkpointing", 22.0, 0.45
DENSE_BF16_TFLOPS = {
    "B200": 2250, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "L40S": 362, "L4": 121,
    "A10": 125, "RTX 5090": 209, "RTX 4090": 165, "RTX 3090": 71,
}  # fmt: skip
"""Peak without sparsity, float32 accumulation, by part of the device's name; from NVIDIA's data sheets."""


def run(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a setting in a process of its own; a setting that fails is its failure."""
    command = [sys.executable, str(HERE), "--measure", name, "--steps", str(options.steps)]
    with tempfile.TemporaryDirectory(prefix="bench-train-gpu-") as folder:
        done = run_measured([*command, *(["--toy"] if options.toy else [])], Path(folder), options.max_gib)
    found = {"failure": done.failure} if done.failure else json.loads(done.output.splitlines()[-1])
    told = "out of memory" if found.get("out_of_memory") else done.failure or ""
    print(f"  {name:<30} {done.wall_seconds:7.1f} s  {told}", file=sys.stderr)
    return found


def figures(found: dict[str, Any], size: Size, peak_flops: float | None) -> dict[str, Any]:
    """Return a setting's figures; speed is of the median step."""
    if "seconds" not in found:
        return found
    seconds, tokens = statistics.median(found["seconds"]), size.rows * size.tokens
    return {
        **found,
        "step_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "tflops_needed_per_second": size.flops() / seconds / 1e12,
        "mfu": size.flops() / seconds / peak_flops if peak_flops else None,
        "mfu_6n": 6 * size.weights() * tokens / seconds / peak_flops if peak_flops else None,
    }


def targets(settings: dict[str, dict[str, Any]], *, toy: bool) -> dict[str, dict[str, Any]]:
    """Return each target's figure and whether it was met; of a toy only the speed beside the peer's."""
    done = {name: row for name, row in settings.items() if "step_seconds" in row}
    mine = [row for name, row in done.items() if SETTINGS[name]["who"] != "Trainer"]
    theirs = [row for name, row in done.items() if SETTINGS[name]["who"] == "Trainer"]
    found: dict[str, dict[str, Any]] = {}
    if mine and theirs:
        times = max(r["tokens_per_second"] for r in mine) / max(r["tokens_per_second"] for r in theirs)
        found["best of ours, times the best of Trainer"] = {"is": times, "met": times > 1}
    if not toy:
        lean = done.get(LEAN, {}).get("peak_gib")
        found[f"GiB of {LEAN}, at most {MOST_GIB:g}"] = {"is": lean, "met": lean is not None and lean <= MOST_GIB}
        mfu = max((row["mfu"] for row in mine if row["mfu"]), default=None)
        found[f"best MFU, at least {LEAST_MFU}"] = {"is": mfu, "met": mfu is not None and mfu >= LEAST_MFU}
    return found


def print_table(settings: dict[str, dict[str, Any]]) -> None:
    """Print a row per setting; out of memory is a result."""
    print(f"\n{'':<30}{'step s':>9}{'tokens/s':>10}{'TFLOP/s':>9}{'MFU':>7}{'6N':>7}{'peak GiB':>10}{'reserved':>10}")
    for name, row in settings.items():
        if "step_seconds" not in row:
            print(f"{name:<30}{'out of memory' if row.get('out_of_memory') else 'failed: ' + row['failure']}")
            continue
        mfu = "".join(f"{row[key]:>7.1%}" if row[key] else f"{'-':>7}" for key in ("mfu", "mfu_6n"))
        speed = f"{row['step_seconds']:>9.3f}{row['tokens_per_second']:>10,.0f}{row['tflops_needed_per_second']:>9.1f}"
        print(f"{name:<30}{speed}{mfu}{row['peak_gib']:>10.2f}{row['reserved_gib']:>10.2f}")


def machine(peak_tflops: float | None) -> dict[str, Any]:
    """Return what else decides the figures."""
    cuda = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "device": cuda.name if cuda else "cpu",
        "device_gib": round(cuda.total_memory / 2**30, 1) if cuda else None,
        "peak_tflops": peak_tflops or next((t for n, t in DENSE_BF16_TFLOPS.items() if cuda and n in cuda.name), None),
        "cpus": os.cpu_count(),
        "load_before": os.getloadavg(),
        "versions": {
            "python": platform.python_version(),
            "cuda": torch.version.cuda,
            **{name: _version(name) for name in ("rxdraft", "torch", "transformers", "peft", "flash-attn")},
        },
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="measured, after three (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, help="default: all that this device runs")
    parser.add_argument("--toy", action="store_true", default=not torch.cuda.is_available(), help="the CPU's default")
    parser.add_argument("--peak-tflops", type=float, help="of the GPU in bfloat16, dense, where its name is not known")
    parser.add_argument("--max-gib", type=float, default=1024, help="of the host's memory (default: %(default)s)")
    parser.add_argument("--verify", action="store_true", help="exit with 1 if anything failed or missed its target")
    parser.add_argument("--measure", choices=SETTINGS, help=argparse.SUPPRESS)  # the process of one setting
    return parser.parse_args()


def main() -> int:
    """Measure, print the table, and JSON last."""
    options = read_options()
    size = TOY if options.toy else LLAMA_8B
    if options.measure:
        print(json.dumps(measure(options.measure, size, options.steps, warm_up=3)))
        return 0
    where = machine(options.peak_tflops)
    runs = [name for name in SETTINGS if torch.cuda.is_available() or not SETTINGS[name].get("compile")]
    peak_flops = where["peak_tflops"] and where["peak_tflops"] * 1e12
    settings = {name: figures(run(name, options), size, peak_flops) for name in options.only or runs}
    print_table(settings)
    reached = targets(settings, toy=options.toy)
    for name, found in reached.items():
        print(f"{'met' if found['met'] else 'missed'}: {name}: {found['is'] or math.nan:.2f}")
    differ = relative_difference([row.get("losses", []) for row in settings.values()])
    print(f"first losses equal to {differ:.1e} of themselves")
    print(json.dumps({"benchmark": "train-gpu", **where, "settings": settings, "targets": reached, "losses": differ}))
    failed = any("failure" in row for row in settings.values())
    return int(options.verify and (failed or not all(found["met"] for found in reached.values())))


if __name__ == "__main__":
    sys.exit(main())
