"""The least client of HTTP/1.1 that a load generator needs: one kept connection, one call at a time on it.

Ours because a full client spends as much of a core on a call as the server does, and the two share a machine.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class NoAnswerError(Exception):
    """The connection ended, or was refused, before an answer was whole: nothing was acknowledged."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body's content."""
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The problem's code, None where the body is no problem."""
        if "json" not in self.headers.get("content-type", "") or self.status < 400:
            return None
        told = self.json()
        return told.get("code") if isinstance(told, dict) else None


class Wire:
    """One client's connection, opened again when it was lost."""

    def __init__(self, url: str, timeout_seconds: float = 120) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._host_header = parts.netloc
        self._timeout = timeout_seconds
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, headers: dict[str, str], body: Any = None) -> Answer:
        """Send a call and return the whole answer.

        Args:
            method, path: of the call.
            headers: beside Host, Content-Type and Content-Length.
            body: sent as JSON; None: none.

        Raises:
            NoAnswerError: there is none.
        """
        content = b"" if body is None else json.dumps(body).encode()
        told = {"Host": self._host_header, "Content-Length": str(len(content)), **headers}
        if body is not None:
            told["Content-Type"] = "application/json"
        head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
        try:
            async with asyncio.timeout(self._timeout):
                return await self._exchange(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + content)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            self.close()
            raise NoAnswerError(type(error).__name__) from None

    def close(self) -> None:
        """Let go of the connection."""
        if self._streams:
            self._streams[1].close()
        self._streams = None

    async def _exchange(self, call: bytes) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(call)
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await _body(reader, headers)
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Answer(int(start.split(" ", 2)[1]), headers, body)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    whole = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        whole += (await reader.readexactly(size + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return whole
