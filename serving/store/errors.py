"""What can go wrong with the store, as a tree; no message holds a bound value.

RxdraftError
├── StoreError                   the database cannot be reached, read or written now: try again later
└── RecordError                  the database works, and the call does not fit what stands in it
    ├── UnknownDraftError        no draft has this id
    ├── VersionConflictError     the draft was changed since the caller read it
    ├── FinalisedError           the draft is final and takes no more reviews
    ├── NotReadyError            the draft has no list to review (yet)
    ├── LeaseLostError           the worker no longer holds the draft: it was cancelled, or another has it
    ├── KeyReusedError           the idempotency key came with another body before
    └── KeyRunningError          the first call with this idempotency key is still running
"""

from __future__ import annotations

from etl.errors import RxdraftError


class StoreError(RxdraftError):
    """The database cannot be reached, read or written; the transaction is not kept, but for a lost commit."""


class RecordError(RxdraftError):
    """The call does not fit what the store holds."""


class UnknownDraftError(RecordError):
    """No draft has this id."""


class VersionConflictError(RecordError):
    """The draft has another version than the caller saw."""


class FinalisedError(RecordError):
    """The draft is final."""


class NotReadyError(RecordError):
    """The draft is queued, running, failed or cancelled, so there is nothing to review."""


class LeaseLostError(RecordError):
    """The worker no longer holds the draft; its result is not kept."""


class KeyReusedError(RecordError):
    """The idempotency key belongs to another body."""


class KeyRunningError(RecordError):
    """The first call with this idempotency key has not ended."""
