"""The report: whole, the same bytes twice, true to the per-visit table, usable without script, network or colour."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from etl import artefacts
from etl.errors import ConfigError, ContractError
from evaluation.judge.appropriateness import Appropriateness, described
from evaluation.metrics import BY_NAME
from evaluation.report.write import check_report, write_report
from tests.evaluation.report.conftest import SELECTED, evaluated

VOID = {"meta", "br", "wbr", "path", "rect", "circle"}
FILES = {"report.html", "table.md", "table.tex", "table.csv", "README.md", "tripod_llm.json", "report.json"}


class Page(HTMLParser):
    """What a reader of the page can rely on."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: Counter[str] = Counter()
        self.links: list[str] = []
        self.figures: dict[str, str] = {}
        self.tags: Counter[str] = Counter()
        self.heads: list[dict[str, str | None]] = []
        self._figure = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        if found.get("id"):
            self.ids[found["id"] or ""] += 1
        if tag == "a":
            self.links.append(found["href"] or "")
        if tag == "th":
            self.heads.append(found)
        if tag == "td":
            self._figure = found.get("data-id") or ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "td":
            self._figure = ""

    def handle_data(self, data: str) -> None:
        if self._figure and data.strip():
            self.figures.setdefault(self._figure, data.strip())


@pytest.fixture
def page(report: Path) -> Page:
    return Page((report / "report.html").read_text("utf-8"))


def judge(evaluation: Path, folder: str = "judge", **more: Any) -> None:
    """Write what a lenient judge leaves: no certificate, nothing identified."""
    none = {"est": None, "ci": [0.0, 1.0], "n": 0}
    card = {
        "mode": "unit",
        "certified": False,
        "reasons": ["91 % of 100 swapped drugs accepted"],
        "models": [{"requested": "judge-1", "returned": ["judge-1"], "shutdown_date": None}],
        "prompt_sha256": "c" * 64,
        "protocol_version": "1",
        "dates": ["2026-11-01", "2026-11-02"],
        "n_items": 900,
        "n_patients": 40,
        "provenance": "synthetic",
        "usage": {"tokens_in": 1000, "tokens_out": 100, "cost_usd": None},
        "ledger_sha256": "d" * 64,
        "s": {"est": 0.99, "ci": [0.97, 1.0], "n": 300},
        "f": {"chart_swap": {"est": 0.91, "ci": [0.85, 0.95], "n": 100}, "sex": none},
        "canary": {"n": 73, "accepted": 1},
        "swap_gap": {"est": 0.01, "ci": [-0.02, 0.04]},
        "retest_flip": {"est": 0.02, "n": 50},
        "abstention": {"overall": 0.0},
        "unsupported_evidence": 0.1,
        "raw_rate": 0.982,
        "identification": {"lo": 0.6, "hi": 1.0, "identified": False},
        "human": None,
    }
    (evaluation / folder).mkdir()
    artefacts.write_json(evaluation / folder / "judge-card.json", card | more)
    text = "98.2† (f=.91; not identified)"
    row = Appropriateness(0.982, 0.6, 1.0, text, "UNCERTIFIED JUDGE", "not identified", raw=0.982, drugs=900)
    digest = artefacts.sha256_file(evaluation / folder / "judge-card.json")
    rows = {"card_sha256": digest, "rows": described({SELECTED: row})}
    artefacts.write_json(evaluation / folder / "appropriateness.json", rows)


# --- what is written -----------------------------------------------------------------------------------


def test_all_files_are_written_and_nothing_else(report: Path) -> None:
    assert {path.name for path in report.iterdir()} == FILES


def test_the_same_evaluation_gives_the_same_bytes(evaluation: Path, report: Path, tmp_path: Path) -> None:
    write_report(evaluation, tmp_path / "again")
    assert artefacts.sha256_tree(report) == artefacts.sha256_tree(tmp_path / "again")


def test_the_files_do_not_say_where_or_when_they_were_made(evaluation: Path, report: Path) -> None:
    text = "".join(path.read_text("utf-8") for path in report.iterdir())
    assert "/home/somebody" not in text
    assert str(evaluation) not in text
    assert not re.search(r"20\d\d-\d\d-\d\d", text)


def test_no_patient_or_stay_is_named(evaluation: Path, report: Path) -> None:
    visits = pl.read_parquet(evaluation / "per_visit.parquet")
    numbers = set(map(str, [*visits["subject_id"].unique(), *visits["hadm_id"].unique()]))
    text = "".join(path.read_text("utf-8") for path in report.iterdir())
    assert not numbers & set(re.findall(r"(?<![\d.])\d{8}(?![\d.])", text))


def test_another_folder_is_not_overwritten(evaluation: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").write_text("years of work")
    with pytest.raises(ContractError, match="was not made by `rxdraft report`"):
        write_report(evaluation, tmp_path / "mine")


# --- the page ------------------------------------------------------------------------------------------


def test_the_page_is_well_formed_and_stands_alone(report: Path, page: Page) -> None:
    assert page.open == []
    assert not page.tags["script"]
    assert not page.tags["img"]
    assert not page.tags["link"]
    assert "http" not in (report / "report.html").read_text("utf-8")


def test_ids_are_unique_and_every_link_leads_somewhere(page: Page) -> None:
    assert not [name for name, n in page.ids.items() if n > 1]
    assert {link.removeprefix("#") for link in page.links} <= page.ids.keys()
    assert len(page.links) > 10


def test_tables_have_captions_heads_have_scopes_and_drawings_have_words(page: Page) -> None:
    assert page.tags["table"] == page.tags["caption"]
    assert all(head.get("scope") for head in page.heads)
    drawings = [name for name in page.ids if name.endswith("-desc")]
    assert {name.removesuffix("-desc") + "-title" for name in drawings} <= page.ids.keys()
    assert {"steps-jaccard-desc", "ladder-plot-desc", "loss-0-desc", "reliability-4-desc"} <= set(drawings)


def test_every_printed_metric_is_the_figure_of_its_id(evaluation: Path, page: Page) -> None:
    results = pl.read_csv(evaluation / "results.csv")
    jaccard = results.filter(metric="jaccard", convention="ours", row=SELECTED).row(0, named=True)
    assert page.figures[jaccard["provenance_id"]] == f"{jaccard['value']:.3f}"
    ours = results.filter(convention="ours", rung="drug", rule="set").filter(pl.col("metric").is_in(list(BY_NAME)))
    shown = [one for one in ours.iter_rows(named=True) if one["provenance_id"] in page.figures]
    assert len(shown) > 60
    for one in shown:
        text = page.figures[one["provenance_id"]].replace("−", "-")
        if text not in ("–", "-"):
            assert any(abs(float(text) - factor * one["value"]) < 0.051 for factor in (1, 100))


def test_the_best_is_bold_and_what_ties_with_it_is_underlined(evaluation: Path, report: Path) -> None:
    results = pl.read_csv(evaluation / "results.csv").filter(metric="jaccard", convention="ours")
    best = json.loads((evaluation / "evaluation.json").read_text())["comparisons"]["jaccard"]["best"]
    ids = dict(results.select("row", "provenance_id").iter_rows())
    text = (report / "report.html").read_text("utf-8")
    assert re.search(rf'data-id="{ids[best["row"]]}"[^>]*><strong>', text)
    for tied in set(best["tied"]) - {best["row"]}:
        assert re.search(rf'data-id="{ids[tied]}"[^>]*><u>', text)
    assert not re.search(rf'data-id="{ids["popularity"]}"[^>]*><(strong|u)>', text)


def test_a_group_of_few_patients_is_suppressed_without_its_number(evaluation: Path, report: Path) -> None:
    about = json.loads((evaluation / "evaluation.json").read_text())
    hidden = [group for groups in about["subgroups"]["jaccard"].values() for group in groups if group["hidden"]]
    assert hidden
    page = (report / "report.html").read_text("utf-8")
    assert page.count("each of fewer than 20 patients") == len(
        [groups for groups in about["subgroups"]["jaccard"].values() if any(group["hidden"] for group in groups)]
    )


def test_a_reference_stands_beside_the_table_and_never_in_it(evaluation: Path, tmp_path: Path) -> None:
    (tmp_path / "their.csv").write_text("rank,steps,output_rate,accuracy,appropriateness\n2,10,0.123,0.456,\n")
    write_report(evaluation, evaluation / "report", tmp_path / "their.csv")
    text = (evaluation / "report" / "report.html").read_text("utf-8")
    theirs = text[text.index('class="wide reference"') :]
    theirs = theirs[: theirs.index("</table>")]
    assert "other data, not a row to beat" in theirs
    assert "12.3" in theirs
    assert "–" in theirs
    assert "45.6" in theirs
    assert "data-id" not in theirs
    lines = csv.DictReader((evaluation / "report" / "table.csv").open())
    assert {"0.123", "0.456"}.isdisjoint(value for line in lines for value in line.values())
    assert check_report(evaluation, evaluation / "report")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rank,steps\n2,10\n", "lacks output_rate, accuracy, appropriateness"),
        ("rank,steps,output_rate,accuracy,appropriateness\n2,x,1,1,1\n2,10,55,1,1\n", "line 2.*line 3"),
    ],
)
def test_a_reference_that_is_none_is_refused_with_all_problems(
    evaluation: Path, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "their.csv").write_text(text)
    with pytest.raises(ConfigError, match=told):
        write_report(evaluation, evaluation / "report", tmp_path / "their.csv")


# --- the judge -----------------------------------------------------------------------------------------


def test_a_judges_number_carries_its_badge_wherever_it_is_printed(evaluation: Path) -> None:
    judge(evaluation)
    write_report(evaluation, evaluation / "report")
    for name in ("report.html", "table.md", "table.tex", "table.csv"):
        lines = (evaluation / "report" / name).read_text("utf-8").splitlines()
        printed = [line for line in lines if "98.2" in line or ",appropriateness," in line]
        assert printed or name == "report.html"
        assert all("UNCERTIFIED JUDGE" in line for line in printed if "raw" not in line and "<td" not in line)
    page = (evaluation / "report" / "report.html").read_text("utf-8")
    assert len(re.findall(r"98\.2† \(f=\.91; not identified\).*?UNCERTIFIED JUDGE", page, re.S)) >= 2
    assert "91.0 % [85.0, 95.0] of 100" in page
    assert check_report(evaluation, evaluation / "report")


def test_the_references_protocol_never_prints_without_its_badge(evaluation: Path) -> None:
    judge(evaluation, "judge-paper-parity", mode="paper-parity")
    write_report(evaluation, evaluation / "report")
    assert "PAPER-PARITY: no decoys, not identified" in (evaluation / "report" / "report.html").read_text("utf-8")


# --- the other tables ----------------------------------------------------------------------------------


def test_the_latex_balances(report: Path) -> None:
    text = (report / "table.tex").read_text("utf-8")
    plain = re.sub(r"\\[{}%&$#_]", "", text)
    assert plain.count("{") == plain.count("}")
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert begun == ended[::-1] == ["table", "tabular"]
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = len(re.search(r"{tabular}{(\w+)}", text)[1])  # type: ignore[index]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    assert text.isascii()


def test_the_csv_has_every_figure_under_a_readable_name(evaluation: Path, report: Path) -> None:
    lines = list(csv.DictReader((report / "table.csv").open()))
    results = pl.read_csv(evaluation / "results.csv")
    assert [line["provenance_id"] for line in lines] == results["provenance_id"].to_list()
    assert {line["display"] for line in lines if line["row"] == SELECTED} == {"rank 4, step 20"}


def test_the_model_card_is_one_the_hub_reads(evaluation: Path, report: Path) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard((report / "README.md").read_text("utf-8"))
    found = {one.metric_type: one.metric_value for one in card.data.eval_results}
    results = pl.read_csv(evaluation / "results.csv").filter(row=SELECTED, convention="ours", metric="jaccard")
    assert found["jaccard"] == pytest.approx(results["value"][0], abs=1e-6)
    front = yaml.safe_load((report / "README.md").read_text("utf-8").split("---")[1])
    assert "license" not in front
    assert "base_model" not in front  # a folder is no model of the hub


# --- the check -----------------------------------------------------------------------------------------


def test_an_untouched_report_holds(evaluation: Path, report: Path) -> None:
    assert check_report(evaluation, report) == pl.read_csv(evaluation / "results.csv").height


def test_a_changed_figure_is_found_by_its_id(evaluation: Path, report: Path) -> None:
    results = pl.read_csv(evaluation / "results.csv")
    wanted = results.filter(metric="jaccard", convention="ours", row=SELECTED)["provenance_id"][0]
    page = report / "report.html"
    text = page.read_text("utf-8")
    page.write_text(re.sub(rf'(data-id="{wanted}"[^>]*>(?:<\w+>)?)0\.\d\d\d', r"\g<1>0.999", text), "utf-8")
    with pytest.raises(ContractError, match=rf"report.html has drifted: figure {wanted}"):
        check_report(evaluation, report)


def test_a_changed_result_is_found_by_its_id(evaluation: Path, report: Path) -> None:
    path = evaluation / "results.csv"
    results = pl.read_csv(path)
    wanted = results["provenance_id"][40]
    changed = pl.when(pl.col("provenance_id") == wanted).then(0.123).otherwise("value").alias("value")
    results.with_columns(changed).write_csv(path)
    with pytest.raises(ContractError, match=rf"results.csv has drifted .*{wanted}"):
        check_report(evaluation, report)


def test_a_changed_finding_is_found_by_its_place(evaluation: Path, report: Path) -> None:
    about = json.loads((evaluation / "evaluation.json").read_text())
    about["comparisons"]["jaccard"]["best"]["raw"] += 0.1
    artefacts.write_json(evaluation / "evaluation.json", about)
    with pytest.raises(ContractError, match="comparisons/jaccard/best/raw"):
        check_report(evaluation, report)


def test_another_per_visit_table_is_refused_with_both_named(evaluation: Path, report: Path) -> None:
    path = evaluation / "per_visit.parquet"
    pl.read_parquet(path).with_columns(pl.col("tp_drug") * 0).write_parquet(path)
    with pytest.raises(ContractError, match=r"per_visit.parquet is \w{12}, evaluation.json was made from \w{12}"):
        check_report(evaluation, report)


@pytest.mark.parametrize("name", sorted(FILES - {"report.json"}))
def test_a_missing_file_is_named(evaluation: Path, report: Path, name: str) -> None:
    (report / name).unlink()
    with pytest.raises(ContractError, match=rf"{name} has drifted: it is missing"):
        check_report(evaluation, report)


def test_a_report_holds_when_the_runs_are_gone(cohort: Path, runs: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(runs, tmp_path / "runs"))
    evaluation = evaluated(cohort, moved, tmp_path / "evaluation")
    write_report(evaluation, evaluation / "report")
    shutil.rmtree(moved)
    assert check_report(evaluation, evaluation / "report")
    assert "loss-0-title" in (evaluation / "report" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("objectives", "told"),
    [
        (["list"], "Loss per response token: train"),
        (["labels"], "Loss per drug of the formulary: train"),
        (["labels", "list"], "Loss per response token, or per drug of the formulary under objective labels: train"),
    ],
)
def test_the_losses_caption_says_what_they_are_means_over(objectives: list[str], told: str, evaluation: Path) -> None:
    about = json.loads((evaluation / "evaluation.json").read_text("utf-8"))
    for place, known in enumerate(about["checkpoints"].values()):
        known["objective"] = objectives[place % len(objectives)]
    (evaluation / "evaluation.json").write_text(json.dumps(about), "utf-8")
    write_report(evaluation, evaluation / "report")
    assert told in (evaluation / "report" / "report.html").read_text("utf-8")


def test_without_runs_and_with_few_patients_a_report_is_still_written(cohort: Path, tmp_path: Path) -> None:
    evaluation = evaluated(cohort, tmp_path / "nowhere", tmp_path / "evaluation", (), visits=6)
    write_report(evaluation, evaluation / "report")
    page = (evaluation / "report" / "report.html").read_text("utf-8")
    assert "logs were not found" in page
    assert check_report(evaluation, evaluation / "report")


def test_an_evaluation_that_is_none_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"evaluation\.json is missing"):
        write_report(tmp_path, tmp_path / "report")
