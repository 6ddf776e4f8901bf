"""What a judge is asked, as the ledger names it, and all answers to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from etl.artefacts import sha256
from etl.outside.endpoint import Decoding, Reply
from etl.prompts import Message
from evaluation.judge.ledger import Asked, Kept, Ledger
from evaluation.judge.protocol import Protocol, Reading

EXPECTED_ANSWER_TOKENS = 60
"""Of one drug's answer."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of any judge: the words, how the answer is read, and what the ledger says of it."""

    protocol: Protocol
    messages: list[Message]
    read: Callable[[Reply], Reading]
    context_hmac: str
    ingredient: str
    item_kind: str
    repeat: int
    provenance: str
    drugs: int = 1

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""
        return self.protocol.schema

    @property
    def expected_tokens(self) -> int:
        """Of the answer: it grows with the drugs asked about."""
        return EXPECTED_ANSWER_TOKENS * self.drugs

    def key(self, model: str, decoding: Decoding) -> str:
        """Return the digest of everything that could change the answer of `model`, a snapshot's name."""
        said = [self.protocol.digest, model, repr(self.messages), repr(decoding.described()), str(self.repeat)]
        return sha256("\0".join(said).encode())

    def asked(self, model: str) -> Asked:
        """Return the ledger's words for it."""
        return Asked(
            *(self.protocol.name, model, self.protocol.digest, self.context_hmac),
            *(self.ingredient, self.item_kind, self.repeat, self.provenance),
        )


def find_all(
    questions: Sequence[Callable[[], Question]], snapshot: str, decoding: Decoding, ledger: Ledger
) -> list[Kept | None]:
    """Return the ledger's answer to each question; None where it has none."""
    return [ledger.find(make().key(snapshot, decoding)) for make in questions]
