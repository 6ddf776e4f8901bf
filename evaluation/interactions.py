"""Pairs of drugs that a source says should not meet: in the draft, in the truth, and new in the draft.

A source is a CSV with the columns of `COLUMNS`; a code is an ingredient's name or an ATC code of any level, which
stands for all drugs below it. The shipped one, `etl/vocabulary/interactions.csv`, holds the 14 high-priority pairs
of classes that Phansalkar et al. name, drug by drug, as this project reads them; their fifteenth, two QT-prolonging
drugs, names no drugs. It rarely fires on general wards, and no rate under it says that a draft is safe.

A rate below the truth's is not good by itself: shorter and blander lists get there too.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib.resources import files
from itertools import combinations
from pathlib import Path

import numpy as np
import polars as pl

from etl.artefacts import sha256
from etl.drug_vocabulary import Drug, DrugVocabulary
from etl.errors import ConfigError
from evaluation.ladder import atc_codes
from evaluation.statistics.ratios import Ratio, divide, mean, ratio

COLUMNS = ("code_a", "code_b", "severity", "source", "version")
SEVERITIES = ("contraindicated", "major", "moderate", "minor", "unknown")
"""Worst first; a pair listed several times has its worst."""

_ATC = re.compile(r"[a-z]\d\d(?:[a-z](?:[a-z](?:\d\d)?)?)?")
_LEVELS = (3, 4, 5, 7)
_SHOWN = 5

_Pair = tuple[str, str]


class Interactions:
    """Tells which drugs interact, and counts it in lists; keeps the last names and pairs it has seen."""

    def __init__(self, severities: dict[_Pair, int], vocabulary: DrugVocabulary, digest: str) -> None:
        """Index the source.

        Args:
            severities: index in SEVERITIES of each pair of codes, the pair sorted, in lower case.
            digest: of the source's bytes.
        """
        self.digest = digest
        self._severities = severities
        self._codes = frozenset(code for pair in severities for code in pair)
        self._speaks_atc = any(map(_ATC.fullmatch, self._codes))
        self._speaks_names = not all(map(_ATC.fullmatch, self._codes))
        self._look_up = vocabulary.look_up
        self._listed = lru_cache(1 << 16)(lambda name: _codes(vocabulary.look_up(name)) & self._codes)
        self._worst = lru_cache(1 << 20)(self._worst_of)

    def severity(self, a: str, b: str) -> str | None:
        """Return how bad it is that two drugs meet; None where the source does not say so.

        Two names of the same ingredients are one drug, and never interact.
        """
        worst = self._worst(a, b)
        return None if worst is None else SEVERITIES[worst]

    def _worst_of(self, a: str, b: str) -> int | None:
        if _substances(self._look_up(a)) == _substances(self._look_up(b)):
            return None
        pairs = ((min(x, y), max(x, y)) for x in self._listed(a) for y in self._listed(b))
        return min((self._severities[pair] for pair in pairs if pair in self._severities), default=None)

    def pairs(self, names: Collection[str]) -> dict[tuple[str, str], int]:
        """Return the interacting pairs of a list, each sorted, with the index of their severity."""
        listed = sorted(name for name in names if self._listed(name))
        found = {pair: self._worst(*pair) for pair in combinations(listed, 2)}
        return {pair: worst for pair, worst in found.items() if worst is not None}

    def is_mapped(self, name: str) -> bool:
        """Tell whether the source could speak of a drug: it is known by what the source calls drugs."""
        drug = self._look_up(name)
        known = (self._speaks_names and drug.ingredients) or (self._speaks_atc and atc_codes(drug))
        return bool(known or self._listed(name))

    def columns(self, predicted: Collection[str], truth: Collection[str]) -> dict[str, int | list[int]]:
        """Return a visit's interaction columns; `ddi_severity` counts the draft's pairs by SEVERITIES.

        Args:
            predicted, truth: distinct names.
        """
        drafted, ordered = self.pairs(predicted), self.pairs(truth)
        return {
            "pairs": _pairs_of(len(predicted)),
            "mapped_pairs": _pairs_of(sum(map(self.is_mapped, predicted))),
            "ddi_pairs": len(drafted),
            "pairs_truth": _pairs_of(len(truth)),
            "ddi_truth": len(ordered),
            "novel_pairs": len(drafted.keys() - ordered.keys()),
            "ddi_severity": [list(drafted.values()).count(i) for i in range(len(SEVERITIES))],
        }


def _pairs_of(drugs: int) -> int:
    return drugs * (drugs - 1) // 2


def _codes(drug: Drug) -> frozenset[str]:
    """Return all that a source may call a drug."""
    return frozenset(_substances(drug)) | {code[:n] for code in atc_codes(drug) for n in _LEVELS}


def _substances(drug: Drug) -> tuple[str, ...]:
    """Return the ingredients; the name itself where our vocabulary lacks it, since the source may not."""
    return drug.ingredients or (drug.name,)


# --- the source ---------------------------------------------------------------------------------------


def read_interactions(vocabulary: DrugVocabulary, path: Path | None = None) -> Interactions:
    """Read a source, or the shipped one. Other spellings of an ingredient are understood.

    Raises:
        ConfigError: the file cannot be read, or is not such a table; the message tells columns and lines.
    """
    shown = path or Path("etl/vocabulary/interactions.csv")
    try:
        data = path.read_bytes() if path else (files("etl") / "vocabulary" / "interactions.csv").read_bytes()
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except OSError as error:
        raise ConfigError(f"cannot read {shown}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"{shown} is not a CSV in UTF-8; save it as one") from None
    header = [column.strip() for column in lines[0]] if lines else []
    if sorted(header) != sorted(COLUMNS):
        raise ConfigError(f"{shown} has columns {', '.join(header) or 'none'}; wanted {', '.join(COLUMNS)}")
    rows = [dict(zip(header, line, strict=False)) for line in lines[1:] if len(line) == len(header)]
    problems = [
        f"line {number} {problem}"
        for number, line in enumerate(lines[1:], start=2)
        for problem in (_problems(header, line) if line else ())
    ]
    if problems or not rows:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConfigError(f"{shown}: {'; '.join(problems[:_SHOWN]) or 'no rows'}{more}; correct the file")
    severities: dict[_Pair, int] = {}
    for row in rows:
        a, b = sorted(_canonical(row[code], vocabulary) for code in ("code_a", "code_b"))
        worst = SEVERITIES.index(_severity(row))
        severities[a, b] = min(worst, severities.get((a, b), worst))
    return Interactions(severities, vocabulary, sha256(data))


def _problems(header: list[str], line: list[str]) -> Iterator[str]:
    if len(line) != len(header):
        yield f"has {len(line)} fields, wanted {len(header)}"
        return
    row = dict(zip(header, line, strict=True))
    yield from (f"has no {column}" for column in ("code_a", "code_b", "source") if not row[column].strip())
    if _severity(row) not in SEVERITIES:
        yield f"has a severity that is none of {', '.join(SEVERITIES)}"


def _severity(row: dict[str, str]) -> str:
    return row["severity"].strip().lower() or "unknown"


def _canonical(code: str, vocabulary: DrugVocabulary) -> str:
    """Return an ATC code in lower case, or an ingredient as our vocabulary spells it."""
    name = code.strip().lower()
    meant = () if _ATC.fullmatch(name) else vocabulary.look_up(name).ingredients
    return meant[0] if len(meant) == 1 else name


# --- scores of the per-visit table --------------------------------------------------------------------


def interaction_scores(visits: pl.DataFrame) -> dict[str, Ratio]:
    """Return rates over the visits that were answered with a list, the truth's over the same visits.

    `ddi_rate` - `ddi_rate_truth` is the excess; `ddi_rate_by_visit` averages visits, 0 with fewer than two drugs;
    `novel_per_100` counts interacting pairs that were not both ordered, in 100 lists; `pair_coverage` is the share
    of pairs of which the source could speak.
    """
    formed = visits["well_formed"].to_numpy().astype(float)
    pairs, found = visits["pairs"].to_numpy() * formed, visits["ddi_pairs"].to_numpy() * formed
    return {
        "ddi_rate": ratio(found, pairs, 0.0),
        "ddi_rate_truth": ratio(
            visits["ddi_truth"].to_numpy() * formed, visits["pairs_truth"].to_numpy() * formed, 0.0
        ),
        "ddi_rate_by_visit": mean(np.where(formed, divide(found, pairs, undefined=0.0), np.nan)),
        "novel_per_100": ratio(100 * visits["novel_pairs"].to_numpy() * formed, formed),
        "pair_coverage": ratio(visits["mapped_pairs"].to_numpy() * formed, pairs),
    }


def rates_by_severity(visits: pl.DataFrame) -> dict[str, Ratio]:
    """Return the pooled rate of each severity that the drafts meet; with all of them, they sum to `ddi_rate`."""
    pairs = visits["pairs"].to_numpy() * visits["well_formed"].to_numpy()
    counts = np.array(visits["ddi_severity"].to_list(), dtype=float).reshape(-1, len(SEVERITIES))
    found = counts * visits["well_formed"].to_numpy()[:, None]
    return {name: ratio(found[:, i], pairs, 0.0) for i, name in enumerate(SEVERITIES) if found[:, i].any()}
