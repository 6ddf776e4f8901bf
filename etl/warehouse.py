"""Run the SQL of `sql/` in the order its queries need, and hold each table to its header.

A file is one SELECT under a header of one-line fields: `Grain`, `Key`, `Inputs`, `Known`, `Source`. The order
comes from DuckDB's own parser; a header that names other inputs than the query reads stops the run. A field `Enum`
names columns of text that become an ENUM, in the order of the text: drugs and titles are then sorted, grouped and
listed as numbers, four times as fast, and are text again in any file written from them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from importlib.resources import files
from typing import Any

import duckdb

from etl.errors import ContractError

_BIG_TABLE_ROWS = 2_000_000
_FIELDS = ("Grain", "Key", "Inputs", "Known", "Source")


@dataclass(frozen=True, slots=True)
class Model:
    """One SQL file: the table it makes, its contract and its query."""

    table: str
    key: tuple[str, ...]
    enums: tuple[str, ...]
    inputs: frozenset[str]
    query: str


def read_models() -> list[Model]:
    """Read every file of the package `sql`, sorted by name."""
    sources = {
        f.name.removesuffix(".sql"): f.read_text("utf-8") for f in files("sql").iterdir() if f.name.endswith(".sql")
    }
    return [parse_model(table, text) for table, text in sorted(sources.items())]


def parse_model(table: str, text: str) -> Model:
    """Read one file's header and query.

    Raises:
        ContractError: a field of the header is missing; all missing ones are named.
    """
    header = dict(re.findall(r"^-- (\w+):\s+(.+)$", text, re.MULTILINE))
    missing = [field for field in _FIELDS if field not in header]
    if missing:
        raise ContractError(f"sql/{table}.sql: the header lacks {', '.join(missing)}")

    def split(field: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in header.get(field, "").split(",") if part)

    return Model(table, split("Key"), split("Enum"), frozenset(split("Inputs")), text)


def tables_read(con: duckdb.DuckDBPyConnection, query: str) -> frozenset[str]:
    """Return the tables a query reads, CTEs excluded, as DuckDB's parser sees them; nothing is bound."""
    tree = json.loads(con.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()[0][0])
    if tree["error"]:
        raise ContractError(f"a query does not parse: {tree['error_message']}")
    named = {entry["key"] for node in _walk(tree) for entry in node.get("cte_map", {}).get("map", [])}
    read = {
        ".".join(filter(None, (node["schema_name"], node["table_name"])))
        for node in _walk(tree)
        if node.get("type") == "BASE_TABLE"
    }
    return frozenset(read - named)


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for branch in tree:
            yield from _walk(branch)


def run_models(
    con: duckdb.DuckDBPyConnection, models: list[Model], on_table: Callable[[str], None] = lambda table: None
) -> None:
    """Build every model as a temporary table of `con`, inputs first, and check each key.

    Temporary, since it is made anew faster than it is written and read: only what is loaded is kept on disk.

    Args:
        con: holds the schemas `raw` and `seed`, the table `settings` and the function `drug_meaning`.
        models: in any order.
        on_table: told each table's name before it is built.

    Raises:
        ContractError: a header names other inputs than its query, or a key is null or not unique.
    """
    by_table = {model.table: model for model in models}
    for model in models:
        read = tables_read(con, model.query)
        if read != model.inputs:
            raise ContractError(
                f"sql/{model.table}.sql: Inputs says {', '.join(sorted(model.inputs))}; "
                f"the query reads {', '.join(sorted(read))}"
            )
    graph = {model.table: model.inputs & by_table.keys() for model in models}
    for table in TopologicalSorter(graph).static_order():
        on_table(table)
        con.execute(f"CREATE TEMP TABLE {table} AS {by_table[table].query}").fetchall()
        _check_key(con, by_table[table])
        for column in by_table[table].enums:
            _enumerate(con, table, column)


def _enumerate(con: duckdb.DuckDBPyConnection, table: str, column: str) -> None:
    """Turn a column of text into an ENUM that sorts as the text does."""
    values = f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY {column}"
    con.execute(f"CREATE TEMP TYPE {table}_{column} AS ENUM ({values})").fetchall()
    con.execute(f"ALTER TABLE {table} ALTER {column} TYPE {table}_{column}").fetchall()


def has_table(con: duckdb.DuckDBPyConnection, table: str, schema: str = "main") -> bool:
    """Tell whether a table stands in the database that `con` writes."""
    query = (
        "SELECT count(*) FROM duckdb_tables() "
        "WHERE database_name = current_database() AND schema_name = ? AND table_name = ?"
    )
    return bool(con.execute(query, [schema, table]).fetchall()[0][0])


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Keep all that the block did, or nothing of it."""
    con.execute("BEGIN").fetchall()
    try:
        yield
        con.execute("COMMIT").fetchall()
    except BaseException:
        with suppress(duckdb.Error):  # an error may have ended it already
            con.execute("ROLLBACK").fetchall()
        raise


def _check_key(con: duckdb.DuckDBPyConnection, model: Model) -> None:
    """See that no key is null and none repeats; of a big table, among a sixteenth of its keys, chosen by hash."""
    # Column by column: a row of nulls as a whole IS NULL is false for (NULL, NULL).
    nulls = " OR ".join(f"{column} IS NULL" for column in model.key)
    key = ", ".join(model.key)
    null_rows, rows = con.execute(f"SELECT count(*) FILTER (WHERE {nulls}), count(*) FROM {model.table}").fetchall()[0]
    some = f"WHERE hash({key}) % 16 = 0" if rows > _BIG_TABLE_ROWS else ""
    repeated = con.execute(
        f"SELECT sum(rows) - count(*) FROM (SELECT count(*) AS rows FROM {model.table} {some} GROUP BY {key})"
    ).fetchall()[0][0]
    if null_rows or repeated:
        raise ContractError(f"sql/{model.table}.sql: key {key} has {null_rows} null and {repeated} repeated rows")
