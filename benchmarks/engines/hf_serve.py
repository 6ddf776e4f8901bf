"""`transformers serve` as its users start it, on this machine's loopback: a process of its own, asked over HTTP."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_SECONDS, ANSWER_SECONDS = 180, 600
MODES: dict[str, Sequence[str]] = {
    "transformers serve": (),
    "transformers serve, continuous batching": (
        "--continuous-batching", "--cb-num-blocks", "128", "--cb-max-batch-tokens", "1024",
    ),
}  # fmt: skip
"""Its cache of blocks takes most of the memory there is unless it is told how many; 128 of 256 tokens hold our work."""


@contextmanager
def serving(folder: Path, arguments: Sequence[str], threads: int) -> Iterator[str]:
    """Serve a whole model while the block runs; lend the server's address.

    Raises:
        RuntimeError: it did not start; the end of its log is told.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", str(folder)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--model-timeout", "-1", *arguments]
    log = folder / "serve.log"
    with log.open("w") as out:
        quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": str(threads)}
        process = subprocess.Popen(command, env={**os.environ, **quiet}, stdout=out, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1/chat/completions"
    finally:
        process.terminate()
        process.wait()


def ask(client: httpx.Client, address: str, model: Path, question: list[Any], most_tokens: int) -> int:
    """Ask one question greedily; return how many tokens the answer has."""
    body = {"model": str(model), "messages": question, "max_tokens": most_tokens, "temperature": 0}
    answer = client.post(address, json=body).raise_for_status().json()
    return int(answer["usage"]["completion_tokens"])


def _wait(health: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            httpx.get(health).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise RuntimeError(f"transformers serve did not start: {log.read_text()[-500:]}")
