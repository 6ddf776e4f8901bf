"""An OpenAI-compatible server that answers completions well, or misbehaves as it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

Mode = Literal["well", "slow", "wrong", "error", "down"]
SLOW_SECONDS = 6.0


class Endpoint:
    """The server.

    Attributes:
        mode: well; slow: answers long after anybody waits; wrong: 200 with what is no completion; error: 500;
            down: the connection ends without a word.
        drugs: the list it writes.
    """

    def __init__(self, drugs: Sequence[str]) -> None:
        self.mode: Mode = "well"
        self.drugs = drugs
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, content = endpoint._answer(asked)
                if status == 0:
                    self.close_connection = True
                    return
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Say nothing."""

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _answer(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        if self.mode == "slow":
            time.sleep(SLOW_SECONDS)
        if self.mode == "wrong":
            return 200, b'<html>{"choices": 7}'
        if self.mode == "error":
            return 500, b'{"error": {"message": "out of memory"}}'
        if self.mode == "down":
            return 0, b""
        read = len(asked["prompt"])
        choice = {"index": 0, "text": "\n".join(self.drugs), "logprobs": None, "finish_reason": "stop"}
        usage = {"prompt_tokens": read, "completion_tokens": 9, "total_tokens": read + 9}
        told = {"id": "1", "object": "text_completion", "created": 1, "model": asked["model"], "choices": [choice]}
        return 200, json.dumps({**told, "usage": usage}).encode()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that did not wait."""


@contextmanager
def endpoint_running(drugs: Sequence[str]) -> Iterator[Endpoint]:
    """Lend a server that answers well."""
    endpoint = Endpoint(drugs)
    thread = threading.Thread(target=endpoint._server.serve_forever, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint._server.shutdown()
        endpoint._server.server_close()
