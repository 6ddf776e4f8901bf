"""A plan as text for a terminal."""

from __future__ import annotations

from typing import Any

from training.planner.gpus import SIZES_GB
from training.planner.plan import BATCHES, GIB

_PARTS = {
    "weights": "base weights",
    "adapters": "adapters",
    "optimiser": "optimiser",
    "gradients": "gradients",
    "activations": "activations",
    "logits": "logits",
    "total": "peak",
}


def text(title: str, plan: dict[str, Any], best: dict[str, Any] | None, presets: list[dict[str, Any]]) -> str:
    """Return the whole plan; `best` is the largest combination that fits the card, None where none was named."""
    parts = [_head(title, plan), _parts(plan), _grid(plan), _fit(plan, best), _time(plan)]
    return "\n\n".join([*parts, *([_presets(presets)] if presets else [])])


def _gib(count: float) -> str:
    return f"{count / GIB:,.2f}"


def _head(title: str, plan: dict[str, Any]) -> str:
    rank = f", rank {plan['rank']}" if plan["rank"] else ""
    share = plan["trainable"] / plan["parameters"]
    return (
        f"{title}: method {plan['method']}{rank}, optimizer {plan['optimizer']}\n"
        f"parameters  {plan['parameters']:>15,}\n"
        f"that learn  {plan['trainable']:>15,}  ({share:.4%})"
    )


def _parts(plan: dict[str, Any]) -> str:
    work = plan["work"]
    recompute = "on" if work["checkpointing"] else "off"
    lines = [
        f"At once: {work['batch']} x {work['length']:,} tokens, {work['labelled']:,} of a row to learn, "
        f"gradient_checkpointing {recompute}; GiB at the highest moment of a step"
    ]
    lines += [f"  {name:<14}{_gib(plan['peak_bytes'][key]):>10}" for key, name in _PARTS.items()]
    rule = plan["rule_of_thumb"]
    lines.append(
        f"  {'rule of thumb':<14}{_gib(rule['bytes']):>10}  P x 4 bytes / (32 / {rule['bits']}) x 1.2: "
        f"{rule['off']:+.0%} against the peak"
    )
    return "\n".join(lines)


def _grid(plan: dict[str, Any]) -> str:
    found = {(cell["checkpointing"], cell["head"], cell["batch"]): cell["bytes"] for cell in plan["grid"]}
    lines = [
        f"Peak, GiB      {'checkpointing off':^26}  {'checkpointing on':^26}",
        f"micro batch  {'response':>13} {'all logits':>13} {'response':>13} {'all logits':>13}",
    ]
    for batch in BATCHES:
        cells = [found[on, head, batch] for on in (False, True) for head in ("response", "all")]
        lines.append(f"{batch:>11}  " + " ".join(f"{_gib(count):>13}" for count in cells))
    return "\n".join(lines)


def _fit(plan: dict[str, Any], best: dict[str, Any] | None) -> str:
    smallest = plan["smallest_gb"]
    needs = f"a card of {smallest} GB" if smallest else f"more than {SIZES_GB[-1]} GB"
    lines = [f"This run needs {needs}, with {plan['reserve_gib']:g} GiB left for CUDA and the allocator."]
    if plan["gpu"]:
        setting = str(best["checkpointing"]).lower() if best else ""
        largest = f"micro_batch_size={best['batch']} gradient_checkpointing={setting}" if best else "nothing of this"
        lines.append(f"The largest that {plan['gpu']['name']} holds: {largest}")
    return "\n".join(lines)


def _time(plan: dict[str, Any]) -> str:
    time = plan["time"]
    row = f"A row of {time['mean_length']:,} tokens is {time['flops_per_row'] / 1e12:.1f} TFLOP"
    if time["epoch_seconds"] is None:
        return f"{row}; how long an epoch takes is known for a named --gpu in bfloat16."
    gpu = plan["gpu"]
    return (
        f"{row}; on {gpu['name']} at {time['mfu']:.0%} of its {gpu['bf16_tflops']:g} TFLOP/s (assumed, --mfu) "
        f"{time['tokens_per_second']:,.0f} tokens/s,\n"
        f"an epoch of {time['samples']:,} rows takes {_clock(time['epoch_seconds'])}."
    )


def _clock(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{seconds / 60:.1f} min"


def _presets(rows: list[dict[str, Any]]) -> str:
    sizes = "".join(f"{f'{size} GB':>9}" for size in SIZES_GB)
    width = max(len(row["preset"]) for row in rows)
    lines = [f"{'Preset':<{width}}  {'method':<8}{'batch':>6}{'peak GiB':>10}{sizes}"]
    for row in rows:
        fits = "".join(f"{row['fits'][str(size)] or '-':>9}" for size in SIZES_GB)
        lines.append(f"{row['preset']:<{width}}  {row['method']:<8}{row['batch']:>6}{_gib(row['bytes']):>10}{fits}")
    return "\n".join([*lines, "Under a size: the micro_batch_size that fits, the same result in more passes; -: none."])
