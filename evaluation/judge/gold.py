"""Human labels, as `rxdraft review finalize` writes them: item_id, hadm_id, drug, verdict, inclusion_probability."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from etl.errors import ContractError
from evaluation.judge.items import Charts, Unit
from evaluation.judge.protocol import Verdict

COLUMNS = ("item_id", "hadm_id", "drug", "verdict", "inclusion_probability")
_WORDS = {verdict.value for verdict in Verdict if verdict is not Verdict.ERROR}


@dataclass(frozen=True, slots=True)
class Label:
    """What humans found.

    Attributes:
        appropriate: 1 or 0; "insufficient information" is 0, as an abstention of the judge is.
        weight: 1 over the probability that the item was chosen for labelling.
    """

    appropriate: float
    weight: float


def read_gold(path: Path, charts: Charts) -> dict[Unit, Label]:
    """Return the labels by unit.

    Raises:
        ContractError: columns are missing, lines are wrong, or a unit is labelled twice; lines are named, no value is.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise ContractError(f"{path} is no readable CSV; make it with `rxdraft review finalize`") from None
    missing = set(COLUMNS) - set(lines[0] if lines else ())
    if missing:
        raise ContractError(f"{path} lacks {', '.join(sorted(missing))}; make it with `rxdraft review finalize`")
    found: dict[Unit, Label] = {}
    wrong = []
    for number, line in enumerate(lines, 2):
        read = _read_line(line, charts)
        if read is None or read[0] in found:
            wrong.append(str(number))
        else:
            found[read[0]] = read[1]
    if wrong:
        shown = ", ".join(wrong[:10]) + (" ..." if len(wrong) > 10 else "")
        raise ContractError(
            f"{path}: lines {shown} name an unknown stay, a verdict not of {', '.join(sorted(_WORDS))}, "
            "a probability outside (0, 1], or an item once more; correct them"
        )
    return found


def _read_line(line: dict[str, str], charts: Charts) -> tuple[Unit, Label] | None:
    try:
        hadm_id, probability = int(line["hadm_id"]), float(line["inclusion_probability"])
    except (TypeError, ValueError):
        return None
    if hadm_id not in charts.samples or line["verdict"] not in _WORDS or not 0 < probability <= 1:
        return None
    unit = Unit(hadm_id, charts.label(line["drug"]))
    return unit, Label(float(line["verdict"] == Verdict.APPROPRIATE), 1 / probability)
