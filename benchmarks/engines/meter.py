"""One clock for every trainer: from the model's first forward pass to its last optimiser step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_post_hook


class Meter:
    """Wall, CPU and memory between the first forward pass and the last optimiser step of this process.

    By then base, adapter and data are in memory, whatever the trainer did to get them there; what it does afterwards
    (validation, saving) is left out. torch itself tells of both, so that no trainer has to be trusted with it.
    """

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._first = register_module_forward_pre_hook(self._begin)
        register_optimizer_step_post_hook(self._end)

    def figures(self) -> dict[str, float]:
        """Return seconds and MiB; growth is over what was resident at the beginning."""
        if not self._began or not self._ended:
            raise RuntimeError("nothing was trained")
        begin, end = self._began, self._ended
        return {
            "wall_seconds": end["wall"] - begin["wall"],
            "cpu_seconds": end["cpu"] - begin["cpu"],
            "loaded_mib": begin["resident"],
            "growth_mib": end["peak"] - begin["resident"],
            "peak_mib": end["peak"],
        }

    def _begin(self, *_: Any) -> None:
        self._first.remove()
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew: loading may have been higher
        self._began = _now()

    def _end(self, *_: Any) -> None:
        self._ended = _now()


def _now() -> dict[str, float]:
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    resident, peak = (int(status[name].split()[0]) / 2**10 for name in ("VmRSS", "VmHWM"))
    return {"wall": time.perf_counter(), "cpu": time.process_time(), "resident": resident, "peak": peak}
