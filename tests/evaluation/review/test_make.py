"""A review as it leaves: what raters can see and do, and what they cannot."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import openpyxl
import polars as pl
import pytest

from etl.artefacts import sha256_tree
from etl.cohort import read_samples
from etl.errors import ConfigError, ContractError
from etl.prompts import render_prompt
from evaluation.judge.items import read_charts
from evaluation.review.drawing import Settings
from evaluation.review.form import COLUMNS, FIELDS, VERDICTS
from evaluation.review.make import make_review


def sheet_rows(folder: Path, rater: str) -> list[dict[str, str]]:
    with (folder / "sheets" / f"{rater}.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_sheet_mixes_drafts_decoys_and_true_drugs_as_asked(made, scripted):
    kinds = Counter(item["kind"] for item in scripted.key(made).values())
    assert kinds["drafted"] == 90
    assert kinds["positive_control"] == 12
    assert kinds["chart_swap"] + kinds["fictitious"] + kinds["sex"] == 18


def test_decoys_were_drafted_for_nobody_and_true_drugs_were_ordered(made, drafted, tiny_cohort, scripted):
    charts = read_charts(tiny_cohort, "train")
    lists = pl.concat([pl.read_parquet(path) for path in (drafted / "predictions").glob("*.parquet")])
    drafts = {
        (hadm_id, charts.label(drug))
        for hadm_id, drugs in lists.select("hadm_id", "drugs").iter_rows()
        for drug in drugs
    }
    for item in scripted.key(made).values():
        stay, drug = int(item["hadm_id"]), item["drug"]
        ordered = {charts.label(true) for true in charts.samples[stay]["drugs"]}
        assert ((stay, drug) in drafts) >= (item["kind"] == "drafted")
        assert item["kind"] != "positive_control" or drug in ordered
        if item["kind"] not in ("drafted", "positive_control"):
            assert (stay, drug) not in drafts
            assert drug not in ordered


def test_only_drafted_items_have_a_chance_of_being_drawn(made, scripted):
    for item in scripted.key(made).values():
        assert (item["inclusion_probability"] is not None) == (item["kind"] == "drafted")
        assert item["kind"] != "drafted" or 0 < float(item["inclusion_probability"]) <= 1


def test_a_quarter_of_the_drafted_were_objected_to_by_the_judge(made, scripted):
    judged = Counter(item["judged"] for item in scripted.key(made).values() if item["kind"] == "drafted")
    assert judged == {"judge_negative": round(0.25 * 90), "judge_positive": 90 - round(0.25 * 90)}


def test_raters_see_the_models_prompt_and_nothing_of_row_judge_or_kind(made, tiny_cohort, scripted):
    from etl.cohort import to_admission

    samples = {row["hadm_id"]: row for row in read_samples(tiny_cohort, "train").iter_rows(named=True)}
    key = scripted.key(made)
    hidden = ("rank-", "judge", "chart_swap", "fictitious", "positive", "subject_id", "hadm_id")
    for row in sheet_rows(made, "rater-1"):
        prompt = render_prompt(to_admission(samples[int(key[row["item_id"]]["hadm_id"])]))[1]["content"]
        assert row["chart"].endswith(prompt)
    for path in (*made.glob("sheets/*.csv"), *made.glob("label-studio/*"), *made.glob("potato/*")):
        text = path.read_text("utf-8-sig").casefold()
        assert not [word for word in hidden if word in text], path.name


def test_every_rater_has_all_items_in_an_order_of_their_own(made, scripted):
    orders = [[row["item_id"] for row in sheet_rows(made, rater)] for rater in ("rater-1", "rater-2")]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(scripted.key(made))
    tasks = json.loads((made / "label-studio" / "tasks-rater-2.json").read_text("utf-8"))
    assert [task["data"]["item_id"] for task in tasks] == orders[1]


def test_the_workbook_offers_answers_and_locks_facts(made):
    sheet = openpyxl.load_workbook(made / "sheets" / "rater-1.xlsx")["Items"]
    header = [cell.value for cell in sheet[1]]
    assert tuple(header) == COLUMNS
    offered = {str(rule.sqref): rule.formula1.strip('"').split(",") for rule in sheet.data_validations.dataValidation}
    for field in (field for field in FIELDS if field.answers):
        letter = sheet.cell(1, header.index(field.name) + 1).column_letter
        assert offered[f"{letter}2:{letter}{sheet.max_row}"] == list(field.answers)
    assert sheet.freeze_panes == "D2"
    assert sheet.protection.sheet
    for cell in sheet[2]:
        assert cell.protection.locked == (header[cell.column - 1] in ("item_id", "chart", "drug"))
        assert cell.alignment.wrap_text
    assert sheet.max_row == 121


def test_a_drug_spelt_like_a_formula_and_a_long_chart_stay_text_one_can_read(tmp_path):
    from evaluation.review.sheets import read_sheet
    from evaluation.review.workbook import Column, write_xlsx

    chart = "Age: 50\nDiagnoses:\n" + "\n".join(f"- Diagnosis {number}" for number in range(60)) + "\x0b"
    columns = [Column("chart", locked=True), Column("drug", locked=True), Column("verdict", "", VERDICTS)]
    write_xlsx(tmp_path / "a.xlsx", columns, [{"chart": chart, "drug": '=HYPERLINK("x")'}], "a", "# Guide", about=False)
    [(number, row)] = read_sheet(tmp_path / "a.xlsx").rows
    assert (number, row["drug"], row["verdict"]) == (2, '=HYPERLINK("x")', None)
    assert row["chart"].startswith("Age: 50\nDiagnoses: Diagnosis 0; Diagnosis 1;")
    sheet = openpyxl.load_workbook(tmp_path / "a.xlsx")["Items"]
    assert sheet["B2"].data_type == "s"
    assert sheet.row_dimensions[2].height <= 409


def test_the_same_review_is_the_same_bytes(made, drafted, tiny_cohort, tmp_path, scripted):
    make_review(drafted, tiny_cohort, tmp_path / "again", Settings(n=120))
    assert sha256_tree(tmp_path / "again") == sha256_tree(made)
    make_review(drafted, tiny_cohort, tmp_path / "other", Settings(n=120, seed=1))
    assert set(scripted.key(tmp_path / "other")) != set(scripted.key(made))


def test_the_folder_says_whose_data_it_holds_and_keeps_itself_out_of_git(made):
    assert "CREDENTIALED" in (made / "README.md").read_text("utf-8")
    assert (made / ".gitignore").read_text("utf-8") == "*\n"
    assert made.stat().st_mode & 0o077 == 0


def test_a_review_that_nobody_touched_is_replaced_and_a_filled_one_is_not(review, drafted, tiny_cohort, fill, scripted):
    make_review(drafted, tiny_cohort, review, Settings(n=60))
    assert len(scripted.key(review)) == 60
    fill(review, "rater-2")
    before = sha256_tree(review)
    with pytest.raises(ContractError, match=r"sheets/rater-2.xlsx"):
        make_review(drafted, tiny_cohort, review, Settings(n=60))
    assert sha256_tree(review) == before


def test_without_a_judge_drugs_are_drawn_all_the_same(drafted, tiny_cohort, tmp_path):
    import shutil

    shutil.copytree(drafted / "predictions", tmp_path / "evaluation" / "predictions")
    made = make_review(tmp_path / "evaluation", tiny_cohort, tmp_path / "review", Settings(raters=3, n=40))
    assert made["judged"] is False
    assert made["counts"]["judged"] == {"unjudged": 30}
    assert len(list((tmp_path / "review" / "sheets").glob("*.xlsx"))) == 3


def test_only_chosen_rows_are_drawn_from(drafted, tiny_cohort, tmp_path, scripted):
    make_review(drafted, tiny_cohort, tmp_path / "one", Settings(n=60, rows=("rank-16-step-000060",)))
    rows = {item["rows"] for item in scripted.key(tmp_path / "one").values() if item["kind"] == "drafted"}
    assert rows == {"rank-16-step-000060"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(rows=("rank-64",)), "rank-64"),
        (Settings(decoys=0.6, true_drugs=0.4), "no room"),
        (Settings(decoys=-0.1, raters=0), "--raters 0.*--decoys -0.1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said, drafted, tiny_cohort, tmp_path):
    with pytest.raises(ConfigError, match=said):
        make_review(drafted, tiny_cohort, tmp_path / "review", settings)
    assert not (tmp_path / "review").exists()


def test_drafts_of_another_cohort_are_refused(drafted, tiny_cohort, tmp_path):
    import shutil

    other = Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    content = json.loads((other / "cohort.json").read_text("utf-8"))
    (other / "cohort.json").write_text(json.dumps(content | {"note": "another"}), "utf-8")
    with pytest.raises(ContractError, match="another cohort"):
        make_review(drafted, other, tmp_path / "review", Settings())
    with pytest.raises(ConfigError, match="--data"):
        make_review(drafted, None, tmp_path / "review", Settings())
