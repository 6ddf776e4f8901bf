"""A process that asks a fake server, and is killed on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.etl.outside.fake_server import FakeServer


def kill_after(questions: int, server: FakeServer, sig: signal.Signals, script: str, *arguments: str) -> None:
    """Run a script and signal it when the server was asked so many questions in all; it must not have ended by then."""
    running = subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(server.questions) < questions and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        running.send_signal(sig)
        running.wait()
    assert running.returncode != 0
