"""A user's CSV of drug names: what each order's name, GSN or NDC is called, and what that is made of.

It knows nothing of our own tables, which fill what a map leaves open; see `etl.drug_vocabulary`. Standard library
only.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from etl.artefacts import sha256
from etl.drugs import normalise_drug
from etl.errors import ConfigError

_KEYS = {"drug": 0, "gsn": 6, "ndc": 11}
"""Key columns of a drug map, and how many digits each is padded to."""
_SHOWN = 5
"""Problems named in one message; the rest are counted."""

_ATC = re.compile(r"[A-Z]\d{2}[A-Z]{2}(?:\d{2})?")


class Meaning(NamedTuple):
    """What a map says of a clinical name; () where it says nothing.

    Attributes:
        ingredients: sorted, spelt as `normalise_drug` does.
        atc: sorted, upper case, of 5 or 7 characters.
    """

    ingredients: tuple[str, ...] = ()
    atc: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DrugMap:
    """A user's names, which win over ours.

    Attributes:
        key: "drug", "gsn" or "ndc", which `names` are found by.
        names: key (spelling normalised, GSN of 6, NDC of 11 digits) -> clinical name.
        meanings: what the map says of a name; what it leaves empty our tables fill.
        digest: of the file's bytes.
    """

    key: str
    names: dict[str, str]
    meanings: dict[str, Meaning]
    digest: str


def read_drug_map(path: Path) -> DrugMap:
    """Read a user's CSV: one key column of `drug`, `gsn`, `ndc`; `name`; optionally `ingredients`, `atc` ("X; Y").

    Raises:
        ConfigError: the file cannot be read, or is not such a table; the message tells columns and lines.
    """
    try:
        data = path.read_bytes()
        lines = list(csv.reader(data.decode("utf-8-sig").splitlines(), strict=True))
    except OSError as error:
        raise ConfigError(f"cannot read --drug-map {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise ConfigError(f"--drug-map {path} is not a CSV in UTF-8; save it as one") from None
    header = [column.strip() for column in lines[0]] if lines else []
    keys = [column for column in header if column in _KEYS]
    unknown = sorted({c for c in header if header.count(c) > 1 or c not in (*_KEYS, "name", "ingredients", "atc")})
    if len(keys) != 1 or "name" not in header or unknown:
        raise ConfigError(
            f"--drug-map {path} has columns {', '.join(header) or 'none'}; "
            "wanted one of drug, gsn, ndc, then name, and if need be ingredients, atc"
        )
    names: dict[str, str] = {}
    meanings: dict[str, Meaning] = {}
    problems: list[str] = []
    for number, line in enumerate(lines[1:], start=2):
        if line:
            wrong = _take_row(header, keys[0], line, names, meanings)
            problems += [f"line {number} {problem}" for problem in wrong]
    if problems or not names:
        shown = "; ".join(problems[:_SHOWN]) or "no rows"
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ConfigError(f"--drug-map {path}: {shown}{more}; correct the file")
    return DrugMap(keys[0], names, meanings, sha256(data))


def _take_row(
    header: list[str], key: str, line: list[str], names: dict[str, str], meanings: dict[str, Meaning]
) -> list[str]:
    """Add one row of a drug map; return what is wrong with it, in which case it adds nothing of use."""
    if len(line) != len(header):
        return [f"has {len(line)} fields, wanted {len(header)}"]
    row = dict(zip(header, line, strict=True))
    digits = _KEYS[key]
    value = row[key].strip().zfill(digits) if digits else normalise_drug(row[key])
    name = normalise_drug(row["name"])
    ingredients = {normalise_drug(one) for one in parts(row.get("ingredients", ""))} - {""}
    atc = tuple(sorted(code.upper() for code in parts(row.get("atc", ""))))
    meant = Meaning(tuple(sorted(ingredients)), atc)
    wrong = [f"has no {column}" for column in (key, "name") if not normalise_drug(row[column])]
    if not wrong and digits and not (len(value) == digits and value.isascii() and value.isdigit()):
        wrong.append(f"has a {key} that is not up to {digits} digits")
    if not all(map(_ATC.fullmatch, atc)):
        wrong.append("has an atc that is not of 5 or 7 characters, like C03CA or C03CA01")
    if not wrong and names.setdefault(value, name) != name:
        wrong.append(f"gives its {key} another name than a line before")
    if not wrong and any(meant) and meanings.setdefault(name, meant) != meant:
        wrong.append("gives its name another meaning than a line before")
    return wrong


def parts(text: str) -> tuple[str, ...]:
    """Return the parts of "a; b"; () of an empty cell."""
    return tuple(part.strip() for part in text.split(";") if part.strip())
