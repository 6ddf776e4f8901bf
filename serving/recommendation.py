"""What every recommender gives, be it a model or a baseline. Light: importing it loads no model's library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from etl.domain import Admission
from etl.errors import RxdraftError
from etl.prompts import Answer
from serving.vocabulary import Vocabulary

if TYPE_CHECKING:
    from serving.probabilities.calibration import Votes
    from serving.schemas import BaselineIdentity, ModelIdentity


class BusyError(RxdraftError):
    """As many requests wait as may; ask again later."""


class NoReplyError(BusyError):
    """An engine elsewhere gave no answer, however often it was asked."""


class LateError(RxdraftError):
    """The draft was not done by the request's deadline."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A draft as the recommender gave it.

    Attributes:
        answer: the list as read, or why it is none.
        text: the model's own words; may hold anything, so it is stored by the evaluation and never logged.
        dropped_diagnoses: last-ranked diagnoses that did not fit into the prompt.
        probabilities: of each of the answer's drugs being ordered, in [0, 1]; None where nobody knows them.
        chances: the same of every drug of the formulary, in the formulary's order; None where nobody knows them.
        unused_diagnoses: places, from 1, of diagnoses that a recommender that goes by them could not use.
    """

    answer: Answer
    text: str
    dropped_diagnoses: int = 0
    probabilities: tuple[float, ...] | None = None
    unused_diagnoses: tuple[int, ...] = ()
    chances: tuple[float, ...] | None = None


class Drafter(Protocol):
    """What can be served."""

    vocabulary: Vocabulary

    @property
    def identity(self) -> ModelIdentity | BaselineIdentity:
        """What drafts, as each draft names it."""
        ...

    def recommend(self, admissions: Sequence[Admission]) -> list[Recommendation]:
        """Draft a list for each admission.

        Raises:
            ConfigError: an admission has no diagnosis to go by.
            TooLongError: one has too many drugs for the model's prompt.
        """
        ...

    async def draft(self, admission: Admission, seconds: float) -> Recommendation:
        """Draft a list for one of many that ask at once; cancelling frees what it took.

        Args:
            admission: with a diagnosis.
            seconds: until `LateError`.

        Raises:
            ConfigError: the admission has no diagnosis to go by.
            TooLongError: it has too many drugs for the model's prompt.
            BusyError, LateError: too many ask at once.
        """
        ...


@runtime_checkable
class Voter(Protocol):
    """What may give shares of lists that it drew for probabilities.

    Attributes:
        votes: how its lists vote; None: its probabilities, if it gives any, are no shares.
    """

    votes: Votes | None
