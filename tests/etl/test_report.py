"""The report: one page that stands alone, says what cohort.json says, and nothing of what is hidden."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from html.parser import HTMLParser
from typing import Any

import pytest

from etl.report import render_report

VOID = {"meta", "br", "wbr"}


def cell(patients: int, share: float = 0.5) -> dict[str, Any]:
    return {"admissions": 2 * patients, "patients": patients, "share": share}


def mean(value: float) -> list[dict[str, Any]]:
    return [{"patients": 40, "mean": value, "sd": 14.04, "q1": 54.0, "median": 63.0, "q3": 71.5}]


def table(fact: str, levels: list[str], columns: dict[str, list[Any]], **more: Any) -> dict[str, Any]:
    smd = {"test": 0.412, "validation": 0.031} if "train" in columns else {}
    return {"fact": fact, "levels": levels, "columns": columns, "sums": True, "smd": smd, **more}


def per_split(*cells: Any) -> dict[str, list[Any]]:
    return {split: list(cells) for split in ("test", "train", "validation")}


@pytest.fixture
def cohort() -> dict[str, Any]:
    return {
        "format": 1,
        "source": {"kind": "folder", "version": "MIMIC-IV 9.9"},
        "settings": {"predict_at": "admission", "within_hours": None, "drop": ["flushes"], "open_data": True},
        "flow": [
            {"step": "admissions read", "admissions": 12345, "excluded": 0},
            {"step": "at least one drug", "admissions": 12000, "excluded": 345},
        ],
        "splits": {"train": {"admissions": 80, "patients": 40}, "test": {"admissions": 20, "patients": 12}},
        "orders": {"read": 1000, "kept": 900, "left out: BASE, not MAIN": 100},
        "diagnoses": {"read": 500, "kept": 500, "without a title": 3},
        "rules": [
            {
                "rule": "height is plausible",
                "table": "omr",
                "column": "result_value",
                "low": 100,
                "high": 230,
                "unit": "cm",
                "action": "reading not used",
                "source": "measurements.csv",
                "touched": 17,
            }
        ],
        "drugs": {
            "spellings": 631,
            "canonical": 551,
            "formulary": 498,
            "level": "drug",
            "coverage": {"rows": 1000, "mapped_ingredient": 985, "mapped_atc4": 966},
            "unmapped": [{"name": "<script>alert(1)</script>", "orders": 40}, {"name": "rare name", "orders": 2}],
            "dropped": {"flushes": 70},
        },
        "audit": [
            {"check": "No patient stands in two splits", "status": "pass", "found": "0 in several", "wanted": "0"},
            {"check": "Diagnoses are known", "status": "note", "found": "post hoc", "wanted": "know it"},
        ],
        "statistics": {
            "table_one": [
                table("Admissions", ["all"], per_split(cell(40, 1.0))),
                table("Age, years", [""], {split: mean(63.75) for split in per_split()}, sums=False),
                table("Sex", ["F", "M"], per_split(cell(15), cell(25))),
            ],
            "missing": [
                table("Age, years", ["known", "unknown"], per_split(cell(40), cell(0))),
                table("Height, cm", ["known", "unknown"], per_split(cell(23), cell(17))),
            ],
            "measurement_ages": [table("Height", [""], {split: mean(8.5) for split in per_split()}, sums=False)],
            "histograms": [
                table("Drugs per admission", ["1–5", "6–10", "11–15"], per_split(cell(20), cell(0), cell(20)))
            ],
            "top": [table("Drugs", ["heparin"], {"all": [cell(33, 0.77)]}, sums=False)],
        },
        "inputs": {"omr": "0123456789abcdef" * 4},
        "rows_read": {"omr": 2964},
        "outputs": {"samples.parquet": "fedcba9876543210" * 4},
        "versions": {"duckdb": "2.0.0"},
        "seed": 7,
    }


class Page(HTMLParser):
    """The elements of a page, every one closed by its own tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), "/".join(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), "/".join(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs, _ in self.found if name == tag]


def test_the_page_is_whole_and_fetches_nothing(cohort):
    text = render_report(cohort)
    page = Page(text)
    assert page.open == []
    assert not re.search(r"https?:|//|url\(|@import|src=|<script|<link|<img", text.replace("<!doctype html>", ""))


def test_what_cohort_json_says_is_on_the_page(cohort):
    text = Page(render_report(cohort)).text
    for said in (
        "MIMIC-IV 9.9", "12,345", "345 excluded", "63.8 (14.0)", "63 [54–71.5]", "0.412", "height is plausible",
        "100 to 230 cm", "17", "98.5 %", "0123456789ab", "66 (77.0 %)", "✓ pass", "! note",
    ):  # fmt: skip
        assert said in text, said
    assert "0123456789abc" not in text


@pytest.mark.parametrize(
    "section",
    ["source", "settings", "flow", "splits", "orders", "diagnoses", "rules", "drugs", "audit", "statistics", "inputs",
     "rows_read", "outputs", "versions", "seed"],
)  # fmt: skip
def test_any_section_can_be_absent(cohort, section):
    del cohort[section]
    Page(render_report(cohort))


@pytest.mark.parametrize("part", ["table_one", "missing", "measurement_ages", "histograms", "top"])
def test_any_part_of_the_statistics_can_be_absent(cohort, part):
    del cohort["statistics"][part]
    Page(render_report(cohort))


@pytest.mark.parametrize("part", ["level", "coverage", "unmapped", "dropped"])
def test_any_later_part_of_the_drugs_can_be_absent(cohort, part):
    del cohort["drugs"][part]
    Page(render_report(cohort))


def test_an_empty_cohort_still_tells_its_limits():
    assert "ICD codes are post hoc" in Page(render_report({})).text


def test_contents_lead_to_every_section_and_nowhere_else(cohort):
    page = Page(render_report(cohort))
    sections = [attrs["id"] for attrs in page.all("section")]
    assert [attrs["href"] for attrs in page.all("a")] == [f"#{name}" for name in sections]
    ids = [attrs["id"] for _, attrs, _ in page.found if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_the_order_of_keys_changes_no_byte(cohort):
    reordered = json.loads(json.dumps(cohort, sort_keys=True))
    assert render_report(reordered) == render_report(cohort) == render_report(deepcopy(cohort))


def test_names_from_the_source_are_text_and_never_markup(cohort):
    assert "<script" not in render_report(cohort)
    assert "<script>alert(1)</script>" in Page(render_report(cohort)).text


def test_a_hidden_cell_is_named_hidden_and_draws_no_bar(cohort):
    shown = render_report(cohort)
    cohort["statistics"]["histograms"][0]["columns"]["train"][0] = None
    cohort["statistics"]["table_one"][2]["columns"]["test"] = [None, None]
    cohort["statistics"]["table_one"][0]["columns"]["test"] = [None]
    cohort["statistics"]["top"][0]["columns"]["all"] = [None]
    cohort["flow"][1]["excluded"] = cohort["flow"][0]["admissions"] = None
    hidden = render_report(cohort)
    assert len([a for a in Page(hidden).all("rect") if a["class"] == "bar"]) == 5
    assert len([a for a in Page(shown).all("rect") if a["class"] == "bar"]) == 6
    assert ("hidden" in Page(shown).text, Page(hidden).text.count("hidden") > 5) == (False, True)
    assert "12,345" not in hidden
    assert not re.search(r"\bNone\b", Page(hidden).text + Page(shown).text)


def test_rare_names_are_shown_of_open_data_alone(cohort):
    assert "rare name" in render_report(cohort)
    cohort["settings"]["open_data"] = False
    assert "rare name" not in render_report(cohort)
    del cohort["settings"]
    assert "rare name" not in render_report(cohort)


def test_every_table_has_a_caption_and_every_heading_cell_a_scope(cohort):
    page = Page(render_report(cohort))
    assert len(page.all("caption")) == len(page.all("table")) > 5
    assert all(attrs.get("scope") for attrs in page.all("th"))


def test_every_drawing_is_told_in_words(cohort):
    page = Page(render_report(cohort))
    ids = {attrs.get("id") for _, attrs, _ in page.found}
    assert len(page.all("svg")) == 4
    for drawing in page.all("svg"):
        assert drawing["role"] == "img"
        assert set(drawing["aria-labelledby"].split()) <= ids


def test_a_failed_check_is_on_the_first_lines(cohort):
    cohort["audit"][0]["status"] = "fail"
    text = Page(render_report(cohort)).text
    assert "1 failed" in text[: text.index("Settings Flow")]


def luminance(colour: str) -> float:
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_stands_out_from_the_paper_by_4_5_to_1_in_every_theme(cohort):
    themes = [
        dict(re.findall(r"--(\w+): #(\w+)", block))
        for block in re.findall(r":root \{(.*?)\}", render_report(cohort), re.S)
    ]
    assert len(themes) == 3
    for theme in themes:
        for name in ("ink", "quiet", "accent", "pass", "fail", "note"):
            dark, light = sorted((luminance(theme[name]), luminance(theme["paper"])))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name
