"""A hospital's own table of interactions: `--interactions CSV`, a general source below rxdraft's own rules.

    drug_a,drug_b,severity,message,source
    warfarin,fluconazole,warning,INR rises: check it within 3 days,Pharmacy handbook 2026

`drug_a` and `drug_b` are single drugs in any spelling, in any order; `severity` is critical, warning or info;
`message` is shown as it stands; `source` says where the row comes from. A row is lowered or not shown where the list
of non-interruptive pairs holds it, and not shown where a rule of rxdraft says as much of the pair at its tier or above.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from etl.artefacts import sha256
from etl.errors import ConfigError
from serving.screening.case import Case, Hit, in_order, paired
from serving.screening.findings import TIERS, Text, Tier
from serving.screening.knowledge import Knowledge
from serving.screening.profiles import Profile, Profiler
from serving.screening.rules import Pair, Rule, SiteRow

COLUMNS = ("drug_a", "drug_b", "severity", "message", "source")
_LONGEST = 500
"""Characters of a message, and of a source."""
_SHOWN = 5
"""Problems named in one message; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Site:
    """A site's table.

    Attributes:
        digest: of the file's bytes, 8 digits.
        rows: pair of ingredients -> the row as a rule, and the tier that it is shown at; None: it is not shown.
    """

    digest: str
    rows: dict[frozenset[str], tuple[Rule, Tier | None]]

    def hits(self, case: Case) -> Iterator[tuple[Hit, Tier | None]]:
        """Yield the rows that concern a case, each with the tier that it is shown at."""
        for pair in combinations(sorted(case.doses), 2):
            if found := self.rows.get(frozenset(pair)):
                rule, shown = found
                one, other = ([(drug, frozenset([name])) for drug in case.doses[name]] for name in pair)
                if drugs := paired(one, other):
                    yield Hit(rule, tuple(in_order(drugs))), shown


def read_site(path: Path, knowledge: Knowledge, profiler: Profiler) -> Site:
    """Read a site's table; the module's docstring says what stands in it.

    Raises:
        ConfigError: the file cannot be read, or is not such a table; the message tells lines and columns.
    """
    try:
        data = path.read_bytes()
        reader = csv.reader(data.decode("utf-8-sig").splitlines(), strict=True)
        lines = [(reader.line_num, [field.strip() for field in line]) for line in reader if line]
    except OSError as error:
        raise ConfigError(f"cannot read --interactions {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"--interactions {path} is not a CSV in UTF-8; save it as one") from None
    header = lines[0][1] if lines else []
    if sorted(header) != sorted(COLUMNS):
        raise ConfigError(
            f"--interactions {path} has columns {', '.join(header) or 'none'}; wanted {', '.join(COLUMNS)}"
        )
    site, problems = Site(sha256(data)[:8], {}), []
    for number, fields in lines[1:]:
        if len(fields) == len(header):
            row = dict(zip(header, fields, strict=True))
            found = list(_problems(row, profiler)) or _add(row, site, knowledge, profiler)
        else:
            found = [f"has {len(fields)} fields, wanted {len(header)}"]
        problems += [f"line {number} {problem}" for problem in found]
    if problems or not site.rows:
        shown = "; ".join(problems[:_SHOWN]) or "no rows"
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConfigError(f"--interactions {path}: {shown}{more}; correct the file")
    return site


def _problems(row: dict[str, str], profiler: Profiler) -> Iterator[str]:
    for column in ("drug_a", "drug_b"):
        found = len(profiler(row[column]).ingredients)
        if found == 0:
            yield f"column {column} is no drug that rxdraft knows; write its generic name"
        elif found > 1:
            yield f"column {column} is a combination; write one row for each ingredient"
    if row["severity"] not in TIERS:
        yield f"column severity is not one of {', '.join(TIERS)}"
    for column in ("message", "source"):
        if not 0 < len(row[column]) <= _LONGEST:
            yield f"column {column} has {len(row[column])} characters, wanted 1 to {_LONGEST}"


def _add(row: dict[str, str], site: Site, knowledge: Knowledge, profiler: Profiler) -> list[str]:
    """Take a row; return what is wrong with it as a pair."""
    drugs = profiler(row["drug_a"]), profiler(row["drug_b"])
    pair = drugs[0].ingredients | drugs[1].ingredients
    if len(pair) == 1:
        return ["names one ingredient twice"]
    if pair in site.rows:
        return ["repeats the pair of a line before"]
    rule = _rule(row, pair, site.digest)
    site.rows[pair] = rule, _shown(rule.tier, pair, drugs, knowledge)
    return []


def _rule(row: dict[str, str], pair: frozenset[str], digest: str) -> Rule:
    one, other = sorted(pair)
    title, message = f"{one} + {other}", row["message"]
    return Rule(
        rule_id="site-" + re.sub(r"[^a-z0-9]+", "-", f"{one}--{other}").strip("-"),
        version=digest,
        check="site",
        tier=row["severity"],  # type: ignore[arg-type]  # one of TIERS, or it would not be here
        code="DRG",
        title=Text(en=title, ko=title),
        message=Text(en=message, ko=message),
        citation=row["source"],
        owner="this site",
        reviewed="by this site",
        when=SiteRow(ingredients=(one, other)),
    )


def _shown(tier: Tier, pair: frozenset[str], drugs: tuple[Profile, Profile], knowledge: Knowledge) -> Tier | None:
    """Return the tier that a row is shown at: own rules come first, then the list of non-interruptive pairs."""
    if any(TIERS.index(own) <= TIERS.index(tier) for own in _own_tiers(drugs, knowledge)):
        return None
    return knowledge.noninterruptive.get(pair, tier)


def _own_tiers(drugs: tuple[Profile, Profile], knowledge: Knowledge) -> Iterator[Tier]:
    """Yield the tiers of rxdraft's own rules on a pair."""
    one, other = (drug.groups for drug in drugs)
    for rule in knowledge.rules:
        if isinstance(rule.when, Pair):
            a, b = rule.when.sides
            if (a in one and b in other) or (b in one and a in other):
                yield rule.tier
