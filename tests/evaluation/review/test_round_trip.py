"""make -> filled by raters with known mistakes -> merge -> finalize: the mistakes come out as they went in."""

from __future__ import annotations

import json
import shutil

import numpy as np
import openpyxl
import polars as pl
import pytest

from etl.errors import ContractError
from evaluation.judge.gold import read_gold
from evaluation.judge.items import read_charts
from evaluation.review.finalize import finalize_review
from evaluation.review.form import FIELDS
from evaluation.review.merge import merge_review


def test_known_mistakes_are_measured_settled_and_gone_from_the_gold(review, fill, settle, tiny_cohort, scripted):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    merged = merge_review(review)
    differ = scripted.errors(review, "rater-1", 0.1) ^ scripted.errors(review, "rater-2", 0.2)
    both = scripted.errors(review, "rater-1", 0.1) & scripted.errors(review, "rater-2", 0.2)
    verdict = merged["agreement"]["verdict"]["statistics"]
    assert verdict["percent agreement"]["value"] == pytest.approx(1 - len(differ) / 90)
    assert verdict["percent agreement"]["lo"] < 1 - len(differ) / 90 < verdict["percent agreement"]["hi"]
    assert merged["counts"]["to_adjudicate"] == len(differ)
    for rater in merged["raters"].values():
        assert (rater["decoys_caught"]["k"], rater["decoys_caught"]["n"]) == (18, 18)
        assert (rater["true_drugs_accepted"]["k"], rater["true_drugs_accepted"]["n"]) == (12, 12)
    settle(review)
    said = finalize_review(review)
    gold = pl.read_csv(review / "gold.csv", infer_schema=False)
    assert gold.columns == ["item_id", "hadm_id", "drug", "verdict", "inclusion_probability", "adjudicated_by"]
    assert set(gold["item_id"]) == set(scripted.drafted(review))
    for row in gold.iter_rows(named=True):
        item = scripted.drafted(review)[row["item_id"]]
        # What both got wrong is agreed on, and stays wrong.
        assert (row["verdict"] == scripted.truth(item)) == (row["item_id"] not in both)
        assert (row["adjudicated_by"] == "third reader") == (row["item_id"] in differ)
        assert row["inclusion_probability"] == item["inclusion_probability"]
    assert said["counts"]["adjudicated"] == len(differ) == said["adjudicators"]["third reader"]
    assert "internist, 12 years" in said["tripod_llm"]["8b"]
    kappa = verdict["Cohen's kappa"]["value"]
    assert f"Cohen's kappa {kappa:.2f}" in said["tripod_llm"]["8c"]
    assert len(read_gold(review / "gold.csv", read_charts(tiny_cohort, "train"))) == 90  # the judge reads it whole


def test_weighted_gold_estimates_the_share_of_appropriate_drafts(review, fill, drafted, tiny_cohort):
    """Over the whole pool a third is wrong by construction; so says the weighted sample, within its error."""
    fill(review, "rater-1")
    fill(review, "rater-2")
    merge_review(review)
    finalize_review(review)
    gold = pl.read_csv(review / "gold.csv")
    right = (gold["verdict"] == "appropriate").to_numpy()
    weights = 1 / gold["inclusion_probability"].to_numpy()
    assert np.average(right, weights=weights) == pytest.approx(2 / 3, abs=0.15)
    units = json.loads((review / "review.json").read_text("utf-8"))["counts"]["drafted_units"]
    assert weights.sum() == pytest.approx(units)


def test_the_four_forms_give_the_same_answers(made, tmp_path, fill, scripted):
    """One rater by workbook, CSV, Label Studio and Potato: the same ratings, byte for byte but for the sheet's name."""
    wanted = None
    for form in ("xlsx", "csv", "label_studio", "potato"):
        folder = shutil.copytree(made, tmp_path / form)
        FORMS[form](folder, fill, scripted)
        merge_review(folder)
        found = (folder / "ratings.csv").read_bytes()
        wanted = wanted or found
        assert found == wanted, form


def by_csv(folder, fill, scripted):
    key, path = scripted.key(folder), folder / "sheets" / "rater-1.csv"
    table = pl.read_csv(path, infer_schema=False)
    cells = [scripted.answers(key[item_id]) for item_id in table["item_id"]]
    filled = table.with_columns([pl.Series(field.name, [row[field.name] for row in cells]) for field in FIELDS])
    # As a German Excel saves it: semicolons, another order of rows, its own encoding.
    text = filled.sort("drug").write_csv(separator=";")
    path.write_bytes(text.encode("cp1252", errors="replace"))


def by_label_studio(folder, fill, scripted):
    key = scripted.key(folder)
    tasks = json.loads((folder / "label-studio" / "tasks-rater-1.json").read_text("utf-8"))
    for number, task in enumerate(tasks):
        said = scripted.answers(key[task["data"]["item_id"]])
        kinds = {field.name: ("choices", "choices") if field.answers else ("textarea", "text") for field in FIELDS}
        result = [
            {"from_name": name, "to_name": "chart", "type": kinds[name][0], "value": {kinds[name][1]: [answer]}}
            for name, answer in said.items()
            if answer
        ]
        task |= {"id": number, "annotations": [{"was_cancelled": False, "completed_by": 7, "result": result}]}
    (folder / "sheets" / "project-7.json").write_text(json.dumps(tasks), "utf-8")


def by_potato(folder, fill, scripted):
    labelled = {
        item_id: [
            [{"schema": name, "name": answer if name != "comment" else "text_box"}, answer]
            for name, answer in scripted.answers(item).items()
            if answer
        ]
        for item_id, item in scripted.key(folder).items()
    }
    state = {"user_id": "rater-1", "instance_id_to_label_to_value": labelled, "instance_id_to_behavioral_data": {}}
    (folder / "sheets" / "annotation_output" / "rater-1").mkdir(parents=True)
    (folder / "sheets" / "annotation_output" / "rater-1" / "user_state.json").write_text(json.dumps(state), "utf-8")


FORMS = {
    "xlsx": lambda folder, fill, scripted: fill(folder, "rater-1"),
    "csv": by_csv,
    "label_studio": by_label_studio,
    "potato": by_potato,
}


def test_an_absent_rater_is_named_and_a_lone_one_gives_gold_without_agreement(review, fill):
    fill(review, "rater-1")
    merged = merge_review(review)
    assert merged["absent"] == ["rater-2"]
    assert "Nothing came back from rater-2" in (review / "agreement.html").read_text("utf-8")
    said = finalize_review(review)
    assert said["counts"]["by_one_rater"] == 90
    assert "not known" in said["tripod_llm"]["8c"]


def test_rows_left_blank_are_missing_and_never_gold(review, fill, scripted):
    fill(review, "rater-1")
    fill(review, "rater-2")
    blank = sorted(scripted.drafted(review))[:5]
    for rater in ("rater-1", "rater-2"):
        empty(review / "sheets" / f"{rater}.xlsx", blank)
    assert merge_review(review)["counts"]["unrated"] == 5
    said = finalize_review(review)
    assert said["counts"]["labelled"] == 85
    assert sum(said["counts"]["unlabelled_by_stratum"].values()) == 5
    assert not set(blank) & set(pl.read_csv(review / "gold.csv")["item_id"])


def empty(path, items):
    workbook = openpyxl.load_workbook(path)
    for row in workbook["Items"].iter_rows(min_row=2):
        if row[0].value in items:
            for cell in row[3:]:
                cell.value = None
    workbook.save(path)


def test_the_page_and_the_json_hold_no_drug_no_chart_and_no_stay(review, fill, scripted):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    merge_review(review)
    for name in ("agreement.html", "agreement.json"):
        text = (review / name).read_text("utf-8")
        for item in scripted.key(review).values():
            assert item["hadm_id"] not in text
            assert f">{item['drug']}<" not in text
            assert f'"{item["drug"]}"' not in text
        assert "Blood pressure" not in text
    page = (review / "agreement.html").read_text("utf-8")
    assert "<script" not in page
    assert "http" not in page


def test_merging_twice_gives_the_same_bytes(review, fill):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    names = ("ratings.csv", "agreement.html", "agreement.json", "adjudication.xlsx")
    merge_review(review)
    first = [(review / name).read_bytes() for name in names]
    merge_review(review)
    assert [(review / name).read_bytes() for name in names] == first


def test_settled_disagreements_are_not_written_over(review, fill, settle):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    merge_review(review)
    settle(review)
    before = (review / "adjudication.xlsx").read_bytes()
    with pytest.raises(ContractError, match="was worked on"):
        merge_review(review)
    assert (review / "adjudication.xlsx").read_bytes() == before


def test_an_open_disagreement_is_named_by_row_and_leaves_no_gold(review, fill):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    merge_review(review)
    with pytest.raises(ContractError, match=r"adjudication.xlsx: row 2: verdict is empty; row 3: "):
        finalize_review(review)
    assert not (review / "gold.csv").exists()


def test_a_sheet_changed_after_the_merge_is_noticed(review, fill):
    fill(review, "rater-1")
    fill(review, "rater-2")
    merge_review(review)
    fill(review, "rater-2", 0.2)
    with pytest.raises(ContractError, match=r"rater-2.xlsx changed .*`rxdraft review merge`"):
        finalize_review(review)


def test_an_unsigned_settlement_is_refused(review, fill, settle):
    fill(review, "rater-1", 0.1)
    fill(review, "rater-2", 0.2)
    merge_review(review)
    settle(review)
    workbook = openpyxl.load_workbook(review / "adjudication.xlsx")
    column = {cell.value: cell.column for cell in workbook["Items"][1]}
    workbook["Items"].cell(4, column["adjudicated_by"]).value = " "
    workbook.save(review / "adjudication.xlsx")
    with pytest.raises(ContractError, match=r"adjudication.xlsx: row 4: adjudicated_by is empty$"):
        finalize_review(review)
