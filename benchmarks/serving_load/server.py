"""A real `rxdraft serve`, started, killed with its workers, and started again on the same port and store."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

SERVE = [sys.executable, "-m", "rxdraft", "serve"]
_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """One service; each life of it is a process group of its own.

    Attributes:
        url: it answers there.
        output: what all its lives printed.
    """

    def __init__(self, folder: Path, model: Sequence[str], store: str, settings: dict[str, Any], workers: int = 1):
        """Start nothing yet.

        Args:
            folder: for its settings and output.
            model: options that say what is served.
            store: URL.
            settings: over the defaults.
            workers: processes.
        """
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = folder / "server.log"
        toml = folder / "settings.toml"
        toml.write_text(_toml({"public_url": self.url, **settings}))
        options = ["--settings", str(toml), "--port", str(self.port), "--workers", str(workers)]
        self._command = [*SERVE, *model, *options]
        self._store = store
        self._lives: list[subprocess.Popen[bytes]] = []

    def start(self, wait_seconds: float = 120) -> float:
        """Start it and wait until it is ready; return the seconds that took."""
        began = time.monotonic()
        with self.output.open("ab") as file:
            process = subprocess.Popen(
                self._command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "RXDRAFT_STORE": self._store, "OMP_NUM_THREADS": "1"},
            )
        self._lives.append(process)
        while not self.is_ready():
            if process.poll() is not None or time.monotonic() - began > wait_seconds:
                raise RuntimeError(f"the server is not ready: {self.output.read_text()[-2000:]}")
            time.sleep(0.1)
        return time.monotonic() - began

    def is_ready(self) -> bool:
        """Ask /readyz."""
        try:
            return bool(httpx2.get(f"{self.url}/readyz", timeout=5).status_code == 200)
        except httpx2.TransportError:
            return False

    def kill(self) -> None:
        """Kill every process of it at once, as `kill -9` or a power cut of the machine's programs would."""
        os.killpg(self._lives[-1].pid, signal.SIGKILL)
        self._lives[-1].wait()

    def stop(self, seconds: float = 90) -> int:
        """Tell it to stop and return its exit status."""
        if self._lives[-1].poll() is None:
            self._lives[-1].terminate()
        try:
            return self._lives[-1].wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL

    def cpu_seconds(self) -> float:
        """Return user and system time of its living processes."""
        return sum(ticks for group, ticks in map(_group_and_ticks, _pids()) if group == self._lives[-1].pid) / _TICKS


@contextmanager
def running(server: Server) -> Iterator[Server]:
    """Lend a started server, and stop it whatever happens."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


def _group_and_ticks(pid: str) -> tuple[int, int]:
    """Return a process's group and its user and system time; nothing where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0
    return int(fields[2]), int(fields[11]) + int(fields[12])


def _toml(values: dict[str, Any]) -> str:
    """Write plain values, and lists of tables, as TOML; JSON's strings, numbers and lists are TOML's."""
    plain = {name: value for name, value in values.items() if not (isinstance(value, list) and value)}
    lines = [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    for name, tables in values.items():
        for table in tables if name not in plain else ():
            lines += [f"[[{name}]]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"
