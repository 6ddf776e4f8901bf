"""The rules and all that they speak of, read from knowledge/*.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from serving.screening.findings import Text, Tier
from serving.screening.rules import AllergyTo, Group, Pair, Rule

FILES = (
    "allergies.json",
    "onc_interactions.json",
    "qt.json",
    "rules.json",
    "duplicates.json",
    "onc_noninterruptive.json",
    "synonyms.json",
)
"""In the order in which the rules are documented."""


@dataclass(frozen=True, slots=True)
class Knowledge:
    """All that the files say.

    Attributes:
        version: their release and a digest of their bytes.
        rules: in the order in which they are documented.
        groups: by the names that rules use.
        classes: of duplicates, by ATC code.
        may_repeat: groups whose members may be ordered twice.
        synonyms: other spelling -> ingredient.
        noninterruptive: pairs of ingredients -> "info" where the list keeps such a row, else None: suppressed.
        none_recorded: what stands for "no allergy" in a list of allergies.
    """

    version: str
    rules: tuple[Rule, ...]
    groups: Mapping[str, Group]
    classes: Mapping[str, Text]
    may_repeat: tuple[str, ...]
    synonyms: Mapping[str, str]
    noninterruptive: Mapping[frozenset[str], Tier | None]
    none_recorded: frozenset[str]


@cache
def read_knowledge() -> Knowledge:
    """Read the files of knowledge/; they are ours, so that a mistake in one is a bug."""
    folder = files("serving.screening") / "knowledge"
    data = {name: (folder / name).read_bytes() for name in FILES}
    allergies, onc, qt, own, duplicates, quiet, names = (json.loads(data[name]) for name in FILES)
    digest = hashlib.sha256(b"\0".join(data.values())).hexdigest()[:8]
    allowed = duplicates["allowed"]
    classes = {row["atc"]: Text(en=row["en"], ko=row["ko"]) for row in duplicates["classes"]}
    groups = {name: Group.model_validate(group) for name, group in own["groups"].items()}
    groups |= {rule["rule_id"]: Group(**rule["members"], local=True) for rule in allergies["rules"] if rule["members"]}
    groups |= {f"duplicate {code}": Group(atc=(code,)) for code in classes}
    groups |= {
        row["what"]: Group(ingredients=row.get("ingredients", ()), atc=row.get("atc", ()))
        for row in allowed
        if "same_as" not in row
    }
    groups |= dict(_onc_groups(onc, [entry["drug"] for entry in qt["qt_known_risk"]]))
    return Knowledge(
        version=f"{own['content_version']}+{digest}",
        rules=(*_allergy_rules(allergies), *_onc_rules(onc, qt), *_own_rules(own)),
        groups=groups,
        classes=classes,
        may_repeat=tuple(row.get("same_as", row["what"]) for row in allowed),
        synonyms={
            other: name
            for source in (onc, quiet, names)
            for name, others in source["synonyms"].items()
            for other in others
        },
        noninterruptive=dict(_quiet_pairs(quiet)),
        none_recorded=frozenset(allergies["none_recorded"]),
    )


def _rule(source: dict[str, Any], row: dict[str, Any], **more: Any) -> Rule:
    return Rule.model_validate({"owner": source["owner"], "reviewed": source["reviewed"], **row, **more})


def _own_rules(own: dict[str, Any]) -> Iterator[Rule]:
    for row in own["rules"]:
        yield _rule(own, row)


def _allergy_rules(allergies: dict[str, Any]) -> Iterator[Rule]:
    for row in allergies["rules"]:
        row = dict(row)
        members, names, spreads = row.pop("members"), row.pop("names"), row.pop("spreads")
        when = AllergyTo(names=names, group=row["rule_id"] if members else None, spreads=spreads)
        yield _rule(allergies, row, check="allergy", code="ALGY", when=when)


def _onc_groups(onc: dict[str, Any], qt_known_risk: list[str]) -> Iterator[tuple[str, Group]]:
    for row in onc["pairs"]:
        for side in ("object", "precipitant"):
            yield f"{row['rule_id']} {side}", Group(ingredients=row.get(side, qt_known_risk))


def _onc_rules(onc: dict[str, Any], qt: dict[str, Any]) -> Iterator[Rule]:
    source = {
        "onc-high": (onc["provenance"]["citation"], f"https://doi.org/{onc['provenance']['doi']}"),
        "qt": (f"{qt['citation']}; as a pair: {onc['provenance']['citation']}", qt["url"]),
    }
    for row in onc["pairs"]:
        kept = {name: value for name, value in row.items() if name not in ("object", "precipitant", "members_from")}
        check = "qt" if "members_from" in row else "onc-high"
        if check == "qt":
            labels = (f"{entry['drug']} ({entry['label']}, {entry['section']})" for entry in qt["qt_known_risk"])
            kept["note"] += f" Members: {'; '.join(labels)}."
        citation, url = source[check]
        when = Pair(sides=(f"{row['rule_id']} object", f"{row['rule_id']} precipitant"))
        yield _rule(onc, kept, check=check, code="DRG", citation=citation, url=url, when=when)


def _quiet_pairs(quiet: dict[str, Any]) -> Iterator[tuple[frozenset[str], Tier | None]]:
    """Yield the pairs that the panel judged non-interruptive, but for those where only the oral form was meant."""
    for row in quiet["pairs"]:
        excluded = {frozenset(pair) for pair in row.get("exclude_pairs", ())}
        if row.get("oral_only"):
            continue
        for one in quiet["classes"][row["object"]]:
            for other in quiet["classes"][row["precipitant"]]:
                if one != other and (pair := frozenset((one, other))) not in excluded:
                    yield pair, row.get("show_as")
