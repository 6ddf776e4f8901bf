"""A server in a process of its own, and a plain socket to it; not a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path


class Server:
    """A process that listens on `port`; what it writes goes to `output`."""

    def __init__(self, command: list[str], folder: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._file = folder / f"output-{self.port}.txt"
        given = {"RXDRAFT_TEST_PORT": str(self.port), "RXDRAFT_TEST_FOLDER": str(folder), **environment}
        with self._file.open("wb") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **given}
            )

    def wait(self, seconds: float = 60) -> None:
        """Wait until it listens."""
        for _ in range(int(seconds * 20)):
            if self.process.poll() is not None:
                raise AssertionError(self.output())
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError(f"it does not listen: {self.output()}")

    def output(self) -> str:
        return self._file.read_text("utf-8", "replace")

    def talk(self, sent: bytes, seconds: float = 5) -> bytes:
        """Send bytes as they are, and return all that comes back until the end or a pause."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as line:
            line.sendall(sent)
            received = b""
            try:
                while part := line.recv(65_536):
                    received += part
            except (TimeoutError, ConnectionResetError):
                pass
            return received

    def get(self, path: str, *headers: str) -> tuple[int, str]:
        """Return status and body of a plain GET."""
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Connection: close", *headers, "", ""]
        head, _, body = self.talk("\r\n".join(lines).encode()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body.decode()

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
