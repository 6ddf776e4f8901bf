from __future__ import annotations

import random
import re
from importlib.resources import files

import duckdb
import pytest

from etl import source
from etl.build import _lay_out
from etl.drug_vocabulary import read_drug_vocabulary
from etl.errors import ContractError
from etl.settings import Codes, CohortSettings
from etl.warehouse import Model, parse_model, read_models, run_models, tables_read

MODELS = read_models()
BY_TABLE = {model.table: model for model in MODELS}

HEADER = """-- Something.
--
-- Grain:  one row per thing
-- Key:    {key}
-- Inputs: {inputs}
-- Known:  always
-- Source: this test

"""


def model(table: str, query: str, key: str = "id", inputs: str = "raw.things") -> Model:
    return parse_model(table, HEADER.format(key=key, inputs=inputs) + query)


@pytest.fixture
def con():
    with duckdb.connect() as con:
        con.execute("CREATE SCHEMA raw")
        con.execute("CREATE TABLE raw.things AS FROM (VALUES (1, 1), (2, 1), (3, NULL)) t(id, kind)")
        yield con


# --- the shipped files --------------------------------------------------------------------------------


def test_every_shipped_file_is_a_model():
    shipped = {f.name for f in files("sql").iterdir() if f.name.endswith(".sql")}
    assert {f"{model.table}.sql" for model in MODELS} == shipped
    assert len(shipped) >= 12


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.table)
def test_a_header_names_exactly_the_tables_its_query_reads(model):
    with duckdb.connect() as con:
        assert tables_read(con, model.query) == model.inputs


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.table)
def test_a_file_is_one_select_that_reads_what_exists(model):
    with duckdb.connect() as con:
        statements = con.extract_statements(model.query)
    assert [statement.type for statement in statements] == [duckdb.StatementType.SELECT]
    seeds = ("seed.labs", "seed.measurements", "seed.rules")
    known = {*BY_TABLE, "settings", *seeds, "raw.labevents", *(f"raw.{table}" for table in source.TABLES)}
    assert model.inputs <= known


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.table)
def test_a_file_names_its_columns_one_by_one(model):
    with duckdb.connect() as con:
        tree = con.execute("SELECT json_serialize_sql(?::VARCHAR)", [model.query]).fetchall()[0][0]
    assert '"class":"STAR"' not in tree


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.table)
def test_a_key_that_a_header_promises_is_unique_and_never_null(model, built):
    columns = built.execute(f"SELECT column_name FROM (DESCRIBE {model.table})").fetchall()
    assert set(model.key) <= {name for (name,) in columns}
    key = ", ".join(model.key)
    rows = built.execute(f"SELECT {key} FROM {model.table}").fetchall()
    assert rows
    assert len(set(rows)) == len(rows)
    assert not [row for row in rows if None in row]


def build(con: duckdb.DuckDBPyConnection, hospital, models: list[Model]) -> list[str]:
    """Load a hospital and run the models, with something for each of them to find; return the order of tables."""
    order: list[str] = []
    _lay_out(con, CohortSettings(codes=Codes.BOTH, open_data=True), read_drug_vocabulary(), None)
    tables = source.needed()
    found = source.open_source(hospital, tables)
    for table, columns in tables.items():
        source.load(con, found, table, columns)
    con.execute(
        "INSERT INTO raw.labevents SELECT subject_id, 50912, admittime, admittime, 1.1 FROM raw.admissions"
    ).fetchall()
    run_models(con, models, order.append)
    return order


@pytest.fixture(scope="module")
def built(tiny_hospital):
    with duckdb.connect() as con:
        build(con, tiny_hospital, MODELS)
        yield con


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_list_decides_neither_what_comes_first_nor_a_row(tiny_hospital, built, seed):
    shuffled = random.Random(seed).sample(MODELS, len(MODELS))
    with duckdb.connect() as con:
        order = build(con, tiny_hospital, shuffled)
        assert sorted(order) == sorted(BY_TABLE)
        for place, table in enumerate(order):
            assert BY_TABLE[table].inputs & set(BY_TABLE) <= set(order[:place]), table
        for table in ("samples", "formulary", "icd_titles"):
            assert con.execute(f"FROM {table}").fetchall() == built.execute(f"FROM {table}").fetchall()


# --- what a contract refuses --------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [["Grain"], ["Key"], ["Inputs"], ["Known"], ["Source"], ["Key", "Known"]])
def test_all_missing_fields_of_a_header_are_named_and_no_other(missing):
    text = HEADER.format(key="id", inputs="raw.things") + "SELECT id FROM raw.things"
    for field in missing:
        text = re.sub(rf"^-- {field}:.*\n", "", text, flags=re.MULTILINE)
    with pytest.raises(ContractError) as error:
        parse_model("things", text)
    assert str(error.value) == f"sql/things.sql: the header lacks {', '.join(missing)}"


@pytest.mark.parametrize("inputs", ["raw.other", "raw.things, raw.other", "things"])
def test_a_header_with_other_inputs_is_refused_with_both_named_and_nothing_built(con, inputs):
    good, wrong = model("good", "SELECT id FROM raw.things"), model("wrong", "SELECT id FROM raw.things", inputs=inputs)
    with pytest.raises(ContractError, match=r"sql/wrong\.sql") as error:
        run_models(con, [good, wrong])
    assert "reads raw.things" in str(error.value)
    assert f"says {', '.join(sorted(inputs.split(', ')))};" in str(error.value)
    built = con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'main'").fetchall()
    assert built == []


@pytest.mark.parametrize(
    ("key", "select", "found"),
    [
        ("kind", "1 AS kind", "0 null and 2 repeated"),
        ("kind", "kind + id AS kind", "1 null"),
        ("id, kind", "id, kind", "1 null"),
        ("id, kind", "NULL AS id, NULL AS kind", "3 null"),
        ("id, kind", "1 AS id, 2 AS kind", "0 null and 2 repeated"),
    ],
)
def test_a_null_or_repeated_key_is_refused_and_counted(con, key, select, found):
    with pytest.raises(ContractError, match=rf"sql/things\.sql: key {key} has ") as error:
        run_models(con, [model("things", f"SELECT {select} FROM raw.things", key=key)])
    assert found in str(error.value)


def test_models_that_need_each_other_are_refused(con):
    a = model("a", "SELECT id FROM b", inputs="b")
    b = model("b", "SELECT id FROM a", inputs="a")
    with pytest.raises(ValueError, match="cycle"):
        run_models(con, [a, b])


def test_a_query_that_does_not_parse_is_refused(con):
    with pytest.raises(ContractError, match="does not parse"):
        tables_read(con, "SELECT FROM WHERE")


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT 1", set()),
        ("WITH mine AS (SELECT id FROM raw.things) SELECT id FROM mine", {"raw.things"}),
        ("SELECT id FROM raw.things WHERE id IN (SELECT id FROM other)", {"raw.things", "other"}),
        ("SELECT id FROM a INNER JOIN b USING (id) UNION ALL SELECT id FROM c", {"a", "b", "c"}),
        ("SELECT 'FROM hidden' AS text FROM a -- FROM comment", {"a"}),
    ],
)
def test_the_parser_sees_every_table_and_no_common_table_expression(con, query, tables):
    assert tables_read(con, query) == tables
