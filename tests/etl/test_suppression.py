"""Small cells are hidden, and nothing that is shown gives them away."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from etl.statistics import Statistics
from etl.suppression import MINIMUM, suppress_counts, suppress_flow, suppress_statistics

Rows = list[dict[str, Any]]


def sections(rows: Rows) -> dict[str, Any]:
    """Describe stays of which only patient, split, age and sex are told."""
    con = duckdb.connect()
    con.execute("CREATE TABLE samples (subject_id BIGINT, split VARCHAR, age INTEGER, sex VARCHAR)").fetchall()
    for row in rows:
        facts = [row["subject_id"], row.get("split", "train"), row.get("age"), row.get("sex")]
        con.execute("INSERT INTO samples VALUES (?, ?, ?, ?)", facts).fetchall()
    return Statistics(con).sections()


cells = st.builds(
    lambda patients, more: {"patients": patients, "admissions": patients + more * (patients > 0), "share": 0.1},
    st.integers(0, 40),
    st.integers(0, 5),
)


def hidden(column: list[dict[str, Any]], sums: bool = True) -> list[Any]:
    total = [{"patients": 99, "admissions": 99, "share": 1.0}]
    of_all = {"fact": "Admissions", "levels": ["all"], "sums": True, "columns": {"train": total}, "smd": {}}
    levels = [str(i) for i in range(len(column))]
    one = {"fact": "x", "levels": levels, "sums": sums, "columns": {"train": column}, "smd": {}}
    return suppress_statistics({"table_one": [of_all, one]})["table_one"][1]["columns"]["train"]


@given(st.lists(cells, min_size=1, max_size=8), st.booleans())
def test_no_small_cell_is_left_and_no_total_tells_of_fewer_than_the_minimum(column: list[dict[str, Any]], sums: bool):
    shown = hidden(column, sums)
    assert all(cell is None or cell["patients"] == 0 or cell["patients"] >= MINIMUM for cell in shown)
    assert all(cell == shown[i] for i, cell in enumerate(column) if not cell["patients"])
    gone = [cell["patients"] for cell, left in zip(column, shown, strict=True) if left is None]
    large = [cell["patients"] for cell in column if cell["patients"] >= MINIMUM]
    assert not sums or not gone or not large or max(gone) == min(large)


@given(st.lists(cells.filter(lambda cell: cell["patients"] == 0 or cell["patients"] >= MINIMUM), min_size=1))
def test_nothing_is_hidden_where_every_cell_is_large(column: list[dict[str, Any]]):
    assert hidden(column) == column


def test_hiding_changes_no_table_it_was_given_and_takes_the_differences_along():
    rows = [{"subject_id": 3 * i, "sex": "F" if i % 2 else "M", "age": 40 + i} for i in range(40)]
    rows += [{"subject_id": 200 + 3 * i, "split": "test", "sex": "F", "age": 40 + i} for i in range(12)]
    rows += [{"subject_id": 600 + 3 * i, "split": "test", "sex": "M", "age": 40 + i} for i in range(10)]
    found = sections(rows)
    before = deepcopy(found)
    shown = {table["fact"]: table for table in suppress_statistics(found)["table_one"]}
    assert found == before
    assert (shown["Sex"]["columns"]["test"], shown["Sex"]["smd"]["test"]) == ([None, None], None)
    assert shown["Age, years"]["smd"]["test"] is not None


def test_a_split_of_few_patients_is_hidden_with_the_next_so_that_no_subtraction_finds_it():
    rows = [{"subject_id": 3 * i, "sex": "F"} for i in range(40)]
    rows += [{"subject_id": 200 + i, "split": "validation", "sex": "F"} for i in range(20)]
    rows += [{"subject_id": 300 + i, "split": "test", "sex": "F"} for i in range(4)]
    for tables in suppress_statistics(sections(rows)).values():
        for found in tables:
            for split in {"validation", "test"} & found["columns"].keys():
                assert all(cell is None or not cell["patients"] for cell in found["columns"][split]), found["fact"]
    assert suppress_statistics(sections(rows))["table_one"][0]["columns"]["train"][0]["patients"] == 40


def test_a_mean_shown_does_not_tell_how_few_patients_lack_the_value():
    rows = [{"subject_id": 3 * i, "age": None if i < 2 else 50} for i in range(40)]
    found = suppress_statistics(sections(rows))
    age = next(table for table in found["table_one"] if table["fact"] == "Age, years")
    assert "patients" not in age["columns"]["train"][0]
    assert found["missing"][0]["columns"]["train"] == [None, None]


def flow(*steps: tuple[int, int]) -> list[dict[str, Any]]:
    return [
        {"step": str(i), "admissions": left, "excluded": out, "excluded_patients": out}
        for i, (left, out) in enumerate(steps)
    ]


def test_a_small_exclusion_cannot_be_had_by_subtraction():
    shown = suppress_flow(flow((200, 0), (150, 50), (147, 3), (100, 47)))
    assert [step["excluded"] for step in shown] == [0, 50, None, 47]
    assert [step["admissions"] for step in shown] == [None, None, 147, 100]


def test_patients_decide_about_an_exclusion_where_they_are_counted():
    steps = flow((200, 0), (150, 50))
    steps[1]["excluded_patients"] = 4
    assert suppress_flow(steps)[1]["excluded"] is None
    assert suppress_flow(flow((200, 0), (150, 50))) == flow((200, 0), (150, 50))


COUNTS: dict[str, Any] = {
    "flow": flow((200, 0), (150, 50)),
    "splits": {"test": {"admissions": 12, "patients": 4}, "train": {"admissions": 100, "patients": 90}},
    "orders": {"read": 1000, "kept": 900, "left out: BASE, not MAIN": 70, "left out: no name": 4, "left out: x": 26},
    "diagnoses": {"read": 300, "kept": 297, "left out: no code": 3, "without a title": 0},
    "measurements": {"readings": {"bmi": 40}, "dropped as implausible": {"bmi": 2}, "omr rows of other kinds": 10},
    "drugs": {
        "dropped": {"devices": 5, "diluents": 50},
        "unmapped": [{"name": "adde", "orders": 2}, {"name": "kit x", "orders": 11}],
    },
    "rules": [{"rule": "age", "touched": 3}, {"rule": "bmi", "touched": 30}, {"rule": "sex_other", "touched": 0}],
}


def test_counts_of_few_are_hidden_and_the_next_part_of_a_sum_with_them():
    before = deepcopy(COUNTS)
    shown = suppress_counts(COUNTS)
    assert before == COUNTS
    assert shown["orders"] == {
        **COUNTS["orders"],
        "left out: no name": None,
        "left out: x": None,
    }
    assert shown["splits"] == {"test": None, "train": None}
    assert shown["measurements"] == {
        "readings": {"bmi": 40},
        "dropped as implausible": {"bmi": None},
        "omr rows of other kinds": None,
    }
    assert shown["drugs"]["dropped"] == {"devices": None, "diluents": 50}
    assert shown["drugs"]["unmapped"] == [{"name": "kit x", "orders": 11}]
    assert [rule["touched"] for rule in shown["rules"]] == [None, 30, 0]


def test_counts_that_are_large_stay_as_they_are():
    large = deepcopy(COUNTS)
    large["orders"]["left out: no name"] = 0
    assert suppress_counts(large)["orders"] == large["orders"]
    assert suppress_counts(large, minimum=1) == large
