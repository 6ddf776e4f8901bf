"""Several judges as one: a single "inappropriate" vetoes, and beside it the mean of their approvals.

A majority of lenient judges is as lenient as they are; a minority's veto is not. Errors have no vote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluation.judge.items import Unit
from evaluation.judge.protocol import Verdict

Verdicts = Mapping[Unit, Verdict | None]
"""By unit; None: open, nobody has answered yet."""

_STRICTEST_FIRST = (Verdict.INAPPROPRIATE, Verdict.INSUFFICIENT, Verdict.APPROPRIATE)


def veto(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """Return the strictest verdict; an error where all are, None where any judge has not answered.

    >>> veto([Verdict.APPROPRIATE, Verdict.ERROR, Verdict.INAPPROPRIATE]).value
    'inappropriate'
    """
    if None in verdicts:
        return None
    return next((verdict for verdict in _STRICTEST_FIRST if verdict in verdicts), Verdict.ERROR)


def approval(verdicts: Sequence[Verdict | None]) -> float | None:
    """Return the share of approvals among judges with an opinion; None where none has one.

    An abstention is no approval: the drug was not shown to be appropriate.
    """
    opinions = [verdict for verdict in verdicts if verdict not in (None, Verdict.ERROR)]
    return sum(verdict is Verdict.APPROPRIATE for verdict in opinions) / len(opinions) if opinions else None


def combine(judges: Sequence[Verdicts]) -> dict[Unit, Verdict | None]:
    """Return the panel's verdict on every unit."""
    return {unit: veto([judge[unit] for judge in judges]) for unit in judges[0]}
