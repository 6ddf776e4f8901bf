"""Measure a command as a whole process: wall, CPU, peak memory of its process tree, disk used while it ran.

Memory is the sum of resident pages over the tree, so pages that forked processes share count in each: never too
little. It is polled; the kernel's high-water mark of each process covers what falls between two looks. The mark that
`wait4` gives would not do: it starts from the memory of the process that forked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. `failure` is None where it went well, else why not, in one line; figures are then up to that point."""

    wall_seconds: float
    cpu_seconds: float
    """User and system, children included."""
    peak_mib: float
    spill_mib: float
    """Most disk used in the working folder at any look, less what is left at the end."""
    failure: str | None
    output: str


def run_measured(command: list[str], folder: Path, max_gib: float) -> Measured:
    """Run a command in its own session and folder, and kill that session if its memory passes a bound.

    Args:
        command: as for `subprocess`.
        folder: the working folder, where it also finds TMPDIR; what is written under it counts as disk.
        max_gib: resident memory of the whole tree, GiB.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        peak_bytes, disk_bytes, too_large = _watch(process.pid, folder, max_gib * 2**30)
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        return Measured(
            wall_seconds=wall_seconds,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_mib=peak_bytes / 2**20,
            spill_mib=max(0, disk_bytes - _disk_bytes(folder)) / 2**20,
            failure=_failure(process.returncode, max_gib if too_large else None, _text(err)),
            output=_text(out),
        )


def _watch(pid: int, folder: Path, max_bytes: float) -> tuple[int, int, bool]:
    """Look at a process until it ends; return the most memory and disk seen, and whether it had to be killed."""
    peak_bytes = disk_bytes = 0
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        memory = [_memory_bytes(each) for each in _tree(pid)]
        resident = sum(now for now, _ in memory)
        peak_bytes = max(peak_bytes, resident, *(most for _, most in memory))
        disk_bytes = max(disk_bytes, _disk_bytes(folder))
        if resident > max_bytes:
            os.killpg(pid, signal.SIGKILL)
            return peak_bytes, disk_bytes, True
        time.sleep(POLL_SECONDS)
    return peak_bytes, disk_bytes, False


def _tree(pid: int) -> list[int]:
    """Return a process and all that descend from it; those that end meanwhile are left out."""
    try:
        children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in _read(task / "children").split()]
    except FileNotFoundError:
        return []
    return [pid, *(descendant for child in children for descendant in _tree(child))]


def _memory_bytes(pid: int) -> tuple[int, int]:
    """Return what is resident of a process now and what was at most; nothing where it has ended."""
    lines = dict(line.split(":", 1) for line in _read(Path(f"/proc/{pid}/status")).splitlines())
    now, most = (int(lines.get(name, "0 kB").split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _disk_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:  # removed since it was listed
            continue
    return total


def _failure(exit_status: int, exceeded_gib: float | None, err: str) -> str | None:
    if exceeded_gib is not None:
        return f"killed: over {exceeded_gib:g} GiB"
    if exit_status == -signal.SIGKILL:
        return "killed by the system, perhaps for memory"
    if exit_status:
        lines = [line.strip("│ ") for line in err.splitlines() if any(map(str.isalpha, line))]  # a frame has no letters
        return f"exit status {exit_status}: {lines[-1] if lines else 'no message'}"
    return None


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()
