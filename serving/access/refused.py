"""Why somebody was not let in: a reason code for the log and the metrics, never for the caller."""

from __future__ import annotations


class RefusedError(Exception):
    """A key, token or session that does not hold; `reason` is a constant of ours, such as "expired"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
