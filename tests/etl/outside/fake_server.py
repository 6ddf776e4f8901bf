"""A server that speaks chat completions over real HTTP, and says what a test wants it to."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]
Answering = Callable[[dict[str, Any]], Reply]


def completion(content: str | None, finish_reason: str = "stop", model: str = "judge-1-2026", **message: Any) -> Reply:
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, **message},
                "finish_reason": finish_reason,
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
    }
    return 200, {}, json.dumps(answer).encode()


def failure(status: int, code: str | None = None, **headers: str) -> Reply:
    error = {"message": "CANARY: Sex: F", "type": "x", "param": None, "code": code}
    return status, {"Retry-After-Ms": "1", **headers}, json.dumps({"error": error}).encode()


class FakeServer:
    """Speaks chat completions as OpenAI does; `answer` decides what it says to a question."""

    def __init__(self) -> None:
        self.answer: Answering = lambda body: completion("ready")
        self.questions: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.under_way = self.most_under_way = 0
        self._lock = threading.Lock()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with fake._lock:
                    fake.headers.append(dict(self.headers))
                    if not is_probe(body):
                        fake.questions.append(body)
                    fake.under_way += 1
                    fake.most_under_way = max(fake.most_under_way, fake.under_way)
                try:
                    self._send(*(completion("ready") if is_probe(body) and fake.probe_is_easy else fake.answer(body)))
                finally:
                    with fake._lock:
                        fake.under_way -= 1

            def do_GET(self) -> None:
                described = {
                    "id": "judge-1",
                    "object": "model",
                    "created": 1,
                    "owned_by": "x",
                    "shutdown_date": "2027-01-14",
                }
                self._send(200, {}, json.dumps(described).encode())

            def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self.probe_is_easy = True
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def asked(self) -> Counter[str]:
        """How often each question was put, by its words."""
        return Counter(json.dumps(body["messages"]) for body in self.questions)


def is_probe(body: dict[str, Any]) -> bool:
    return "response_format" not in body and "text" not in body
