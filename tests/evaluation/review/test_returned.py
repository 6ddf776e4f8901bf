"""What may be wrong with what comes back: one clear line each, with sheet and row, and no patient's word in it."""

from __future__ import annotations

import json
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.errors import ContractError
from evaluation.review.form import FIELDS, read_answers
from evaluation.review.returned import read_returned, read_review

SECRET = "Mrs CANARY was confused"  # noqa: S105


def change(review: Path, edit) -> None:
    path = review / "sheets" / "rater-1.xlsx"
    workbook = openpyxl.load_workbook(path)
    edit(workbook["Items"], {cell.value: cell.column for cell in workbook["Items"][1]})
    workbook.save(path)


def put(row: int, name: str, value):
    return lambda sheet, column: setattr(sheet.cell(row, column[name]), "value", value)


MISTAKES = {
    "a comment in the verdict's cell": (
        put(7, "verdict", SECRET),
        "rater-1.xlsx row 7: verdict is none of appropriate",
    ),
    "a 6": (put(7, "confidence", 6), "rater-1.xlsx row 7: confidence is none of 1, 2"),
    "no verdict": (put(9, "verdict", None), "rater-1.xlsx row 9: verdict is empty although"),
    "unknown id": (put(5, "item_id", SECRET), "rater-1.xlsx row 5: item_id is unknown"),
    "sorted apart": (put(5, "drug", SECRET), "rater-1.xlsx row 5: the drug is not that of item_id"),
    "row deleted": (lambda sheet, column: sheet.delete_rows(5), "rater-1.xlsx lacks 1 items"),
    "header renamed": (put(1, "verdict", "my verdict"), "rater-1.xlsx lacks the columns verdict"),
    "header doubled": (put(1, "comment", "verdict"), "rater-1.xlsx has two columns of one name"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_sheet_and_row(mistake, review, fill):
    fill(review, "rater-1")
    edit, said = MISTAKES[mistake]
    change(review, edit)
    with pytest.raises(ContractError) as refused:
        read_returned(read_review(review))
    assert said in str(refused.value)
    assert "CANARY" not in str(refused.value)


def test_a_doubled_row_is_named_twice_and_all_mistakes_at_once(review, fill):
    fill(review, "rater-1")
    first = openpyxl.load_workbook(review / "sheets" / "rater-1.xlsx")["Items"]["A2"].value
    change(
        review, lambda sheet, column: (put(3, "item_id", first)(sheet, column), put(8, "verdict", "no")(sheet, column))
    )
    with pytest.raises(ContractError) as refused:
        read_returned(read_review(review))
    for said in ("row 2: item_id", "row 3: item_id", "stands 2 times", "row 8: verdict", "lacks 1 items"):
        assert said in str(refused.value)


def test_many_mistakes_are_counted_not_listed(review, fill):
    fill(review, "rater-1", verdict="maybe")
    with pytest.raises(ContractError, match=r"and 112 more$"):
        read_returned(read_review(review))


def test_strange_files_and_names_are_refused(review, fill):
    fill(review, "rater-1")
    sheets = review / "sheets"
    (sheets / "rater-1.xlsx").rename(sheets / "rater-9.xlsx")
    (sheets / "scan.pdf").write_bytes(b"%PDF")
    (sheets / "rater-2.xlsx").write_bytes(b"no workbook")
    (sheets / "export.json").write_text(json.dumps([{"verdict": "appropriate"}]), "utf-8")
    (sheets / "~$rater-2.xlsx").write_bytes(b"Excel's lock")
    with pytest.raises(ContractError) as refused:
        read_returned(read_review(review))
    for said in (
        "rater-9.xlsx is of no rater",
        "scan.pdf is no XLSX",
        "rater-2.xlsx is no XLSX",
        "export.json is no Label",
    ):
        assert said in str(refused.value)
    assert "~$" not in str(refused.value)


def test_answers_in_two_places_are_refused(review, fill, scripted):
    fill(review, "rater-1")
    item = sorted(scripted.key(review))[0]
    state = {"user_id": "rater-1", "instance_id_to_label_to_value": {item: {"verdict": {"appropriate": True}}}}
    (review / "sheets" / "rater-1").mkdir()
    (review / "sheets" / "rater-1" / "user_state.json").write_text(json.dumps(state), "utf-8")
    with pytest.raises(ContractError, match="both hold answers of rater-1"):
        read_returned(read_review(review))


def test_empty_sheets_are_no_answers(review):
    with pytest.raises(ContractError, match="holds no answer yet"):
        read_returned(read_review(review))


def test_a_changed_key_is_refused(review):
    (review / "key.csv").write_text((review / "key.csv").read_text("utf-8").replace("drafted", "sex", 1), "utf-8")
    with pytest.raises(ContractError, match=r"key.csv is missing or was changed"):
        read_review(review)


def test_label_studios_lead_time_is_kept_and_a_skipped_task_has_no_answer(review, scripted):
    ids = sorted(scripted.key(review))
    given_ = {"from_name": "verdict", "to_name": "chart", "type": "choices", "value": {"choices": ["appropriate"]}}
    tasks = [
        {"data": {"rater": "rater-2", "item_id": ids[0]}, "annotations": [{"result": [given_], "lead_time": 31.5}]},
        {"data": {"rater": "rater-2", "item_id": ids[1]}, "annotations": [{"result": [given_], "was_cancelled": True}]},
    ]
    (review / "sheets" / "export.json").write_text(json.dumps(tasks), "utf-8")
    [(name, rater)] = read_returned(read_review(review)).items()
    assert (name, set(rater.answers), rater.seconds) == ("rater-2", {ids[0]}, {ids[0]: 31.5})


cells = st.one_of(st.none(), st.text(max_size=8), st.integers(-1, 9), st.floats(), st.booleans())


@given(st.dictionaries(st.sampled_from([field.name for field in FIELDS]), cells))
def test_whatever_stands_in_the_cells_an_answer_is_on_the_list_or_absent(raw):
    answers, wrong = read_answers(raw)
    for field in FIELDS:
        assert not field.answers or answers[field.name] in ("", *field.answers)
    assert answers["verdict"] or not any(answers.values()) or wrong


def test_case_space_and_a_spreadsheets_decimals_are_forgiven():
    answers, wrong = read_answers({"verdict": " Appropriate", "indication": "y", "confidence": 4.0})
    assert (answers["verdict"], answers["indication"], answers["confidence"], wrong) == ("appropriate", "Y", "4", [])
