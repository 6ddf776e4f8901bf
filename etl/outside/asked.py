"""What asking needs of a question and of a ledger."""

from __future__ import annotations

from typing import Any, Protocol

from etl.outside.endpoint import Decoding, Reply
from etl.prompts import Message


class Question(Protocol):
    """What is asked of any model; how the ledger names it and its answer is between the two of them."""

    @property
    def messages(self) -> list[Message]:
        """The words."""
        ...

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""
        ...

    @property
    def expected_tokens(self) -> int:
        """Of its answer."""
        ...

    def key(self, model: str, decoding: Decoding) -> str:
        """Return the digest of everything that could change the answer of `model`, a snapshot's name."""
        ...

    def asked(self, model: str) -> Any:
        """Return the ledger's words for it."""
        ...

    def read(self, reply: Reply) -> Any:
        """Read an answer. Total."""
        ...


class Ledger(Protocol):
    """Where every answer is kept."""

    def find(self, key: str) -> object | None:
        """Return the answer to exactly this question."""
        ...

    def store(self, key: str, asked: Any, reply: Reply, reading: Any, shutdown_date: str | None) -> None:
        """Keep an answer; on disk when this returns."""
        ...

    def fail(self, asked: Any, attempt: int, state: str, status: int | None) -> None:
        """Keep that a request brought no answer."""
        ...

    def resolve(self, requested: str, returned: str, shutdown_date: str | None) -> None:
        """Keep which model stands behind a name now."""
        ...

    def last_snapshot(self, requested: str) -> tuple[str, str | None] | None:
        """Return which model stood behind a name when it was last asked, and its shutdown date."""
        ...
