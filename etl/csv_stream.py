"""Feed a csv or csv.gz to DuckDB in chunks of whole records, inflated ahead of its parser.

DuckDB inflates a gz file on the thread that also parses, slower than ISA-L does, and does not look at its checksum.
Here one thread inflates the next chunk, and checks the file's CRC and end, while all others parse this one.
Memory stays at a few chunks whatever the file's size.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fsspec import AbstractFileSystem
from isal import igzip, isal_zlib

T = TypeVar("T")

CHUNK_BYTES = 31_000_000
"""Inflated bytes per chunk: just under one of DuckDB's buffers, which its threads parse by quarters."""

LONGEST_RECORD_BYTES = 2_000_000
"""DuckDB refuses a longer one; what runs on behind a quote for so long is no record but a quote astray."""

DAMAGED: tuple[type[Exception], ...] = (EOFError, igzip.BadGzipFile, isal_zlib.error)  # type: ignore[assignment]
"""What inflating raises where the file is truncated or damaged."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records of a csv, without its header.

    Attributes:
        data: the records.
        compressed_end: bytes of the file read when the chunk was whole.
    """

    data: bytes
    compressed_end: int


@dataclass(slots=True)
class CsvStream:
    """One csv or csv.gz, read from its start.

    Attributes:
        path: the file; inflated if its name ends in .gz.
        chunk_bytes: inflated size of a chunk.
        header: the column names; empty where the file is.
    """

    path: Path
    chunk_bytes: int = CHUNK_BYTES
    header: list[str] = field(init=False)

    def __post_init__(self) -> None:
        with self.path.open("rb") as raw, self._inflated(raw) as file:
            self.header = _names(file.readline())

    def chunks(self) -> Iterator[Chunk]:
        """Yield the records after the header; each chunk is inflated while its predecessor is in use.

        Raises:
            one of DAMAGED: the gz file is; only after the chunks before.
        """
        return _ahead(self._chunks())

    def lines_before(self, chunk: int) -> int:
        """Return how many lines stand before a chunk, the header included; reads the file anew."""
        before = (piece.data.count(b"\n") for _, piece in zip(range(chunk), self._chunks(), strict=False))
        return 1 + sum(before)

    def _chunks(self) -> Iterator[Chunk]:
        with self.path.open("rb") as raw, self._inflated(raw) as file:
            file.readline()
            while data := file.read(self.chunk_bytes):
                yield Chunk(data + _rest_of_record(data, file), raw.tell())

    def _inflated(self, raw: io.BufferedReader) -> io.BufferedIOBase:
        return igzip.IGzipFile(fileobj=raw, mode="rb") if self.path.suffix == ".gz" else raw


class ChunkFile(AbstractFileSystem):
    """A file system of one file in memory, the chunk that is lent; several of other names stand side by side."""

    cachable = False

    def __init__(self, name: str) -> None:
        """Name the file; letters only."""
        super().__init__()
        self.protocol = f"chunk{name}"
        self.path = f"chunk{name}://rows.csv"
        self.lent = b""

    def glob(self, path: str, **_: Any) -> list[str]:
        """Return the path itself: the file is named, not sought."""
        return [path]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Return name and size."""
        return {"name": path, "size": len(self.lent), "type": "file"}

    def modified(self, path: str) -> datetime:
        """Return one moment for all: a chunk never changes."""
        return datetime.fromtimestamp(0, UTC)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> io.BytesIO:
        return io.BytesIO(self.lent)


def _names(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").strip("\r\n")
    return [name.strip().strip('"') for name in text.split(",")] if text else []


def _rest_of_record(data: bytes, file: io.BufferedIOBase) -> bytes:
    """Read on to the newline that ends data's last record: one with an even number of quotes before it."""
    rest = b"" if data.endswith(b"\n") else file.readline()
    quotes = data.count(b'"') + rest.count(b'"')
    while quotes % 2 and len(rest) < LONGEST_RECORD_BYTES and (line := file.readline()):
        rest += line
        quotes += line.count(b'"')
    return rest


def _ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the items, the next one being made by another thread meanwhile."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="inflate") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # type: ignore[misc]
