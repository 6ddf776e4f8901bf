"""The tables of docs/screening.md, made from the rules: what is written there is what the program does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from importlib.resources import files

from serving.screening.knowledge import read_knowledge
from serving.screening.rules import Rule

_TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return a page with every table between `<!-- table: NAME -->` and `<!-- end -->` as the rules have it now."""
    return _TABLE.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}\n{found[3]}", page)


def rules_table() -> str:
    """Return one row for each rule; its source is a number of the list of sources."""
    return _table(("rule", "tier", "fires for", "source"), map(_row, read_knowledge().rules))


def sources_list() -> str:
    """Return the sources of the rules, each once."""
    rules = {rule.citation: rule for rule in reversed(read_knowledge().rules)}
    return "\n".join(f"{number}. {_linked(rules[citation])}" for citation, number in _sources().items())


def qt_table() -> str:
    """Return one row for each drug that counts as prolonging the QT interval."""
    rows = json.loads(_read("qt.json"))["qt_known_risk"]
    return _table(("drug", "US label", "section"), ((row["drug"], row["label"], row["section"]) for row in rows))


def duplicates_table() -> str:
    """Return one row for each group that may be ordered twice."""
    rows = json.loads(_read("duplicates.json"))["allowed"]
    return _table(("may be ordered twice", "why"), ((row["what"], row["why"]) for row in rows))


def quiet_table() -> str:
    """Return one row for each pair of classes that lowers the site's own table."""
    quiet = json.loads(_read("onc_noninterruptive.json"))
    return _table(("pair", "classes", "a site's row becomes"), map(_quiet_row, quiet["pairs"]))


def limits_list() -> str:
    """Return the limits that the files state, under their names."""
    sources = [json.loads(_read(name)) for name in _FILES_WITH_LIMITS]
    return "\n".join(f"- {source['name']}: {'; '.join(source['limits'])}." for source in sources)


TABLES: dict[str, Callable[[], str]] = {
    "rules": rules_table,
    "sources": sources_list,
    "qt": qt_table,
    "duplicates": duplicates_table,
    "quiet": quiet_table,
    "limits": limits_list,
}
_FILES_WITH_LIMITS = ("allergies.json", "onc_interactions.json", "qt.json", "rules.json", "onc_noninterruptive.json")


def _row(rule: Rule) -> Iterator[str]:
    yield f"`{rule.rule_id}` v{rule.version}"
    yield rule.tier
    yield rule.title.en
    yield str(_sources()[rule.citation])


def _sources() -> dict[str, int]:
    """Number the citations in the order of the rules."""
    citations = dict.fromkeys(rule.citation for rule in read_knowledge().rules)
    return {citation: number for number, citation in enumerate(citations, start=1)}


def _linked(rule: Rule) -> str:
    return f"[{rule.citation}]({rule.url})" if rule.url else rule.citation


def _quiet_row(row: dict[str, str]) -> Iterator[str]:
    yield f"`{row['rule_id']}`"
    excluded = ", ".join(" + ".join(pair) for pair in row.get("exclude_pairs", ()))
    yield f"{row['object']} + {row['precipitant']}" + (f", but for {excluded}" if excluded else "")
    yield "stays as it is: oral forms only" if row.get("oral_only") else row.get("show_as", "not shown")


def _table(header: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _read(name: str) -> str:
    return (files("serving.screening") / "knowledge" / name).read_text("utf-8")
