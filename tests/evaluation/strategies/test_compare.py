"""Side by side: the answers are the models' own, the marks are true, and the page shows text as text."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from etl import artefacts
from etl.cohort import read_samples, to_admission
from etl.errors import ConfigError, ContractError
from etl.prompts import render_prompt
from evaluation.strategies import commands
from evaluation.strategies.compare import Compared, Comparison, Shown, compare, to_html, to_text
from evaluation.strategies.strategy import Strategy
from serving.recommenders.lists import load_recommenders
from training.manifest import find_checkpoints

SERVED = Strategy(name="zero-shot")
VOTED = Strategy(name="voted", samples=3, temperature=0.6, on=("tuned",))


@pytest.fixture(scope="module")
def checkpoint(taught_runs: Path) -> Path:
    return find_checkpoints(taught_runs)[-1]


@pytest.fixture(scope="module")
def comparison(checkpoint: Path, tiny_cohort: Path) -> Comparison:
    return compare(checkpoint, tiny_cohort, "train", 4, [SERVED, VOTED])


def test_the_tuned_answers_are_those_of_the_service_about_admissions_spread_over_the_split(
    comparison, checkpoint, tiny_cohort
):
    samples = read_samples(tiny_cohort, "train")
    spread = [samples.row(place * samples.height // 4, named=True) for place in range(4)]
    served = load_recommenders([checkpoint])[0].recommend([to_admission(sample) for sample in spread], raw=True)
    assert [a.told for a in comparison.admissions] == [render_prompt(to_admission(s))[1]["content"] for s in spread]
    assert [a.answers["zero-shot"]["tuned"].texts[0] for a in comparison.admissions] == [d.text for d in served]
    assert [list(a.truth) for a in comparison.admissions] == [sample["drugs"] for sample in spread]


def test_hits_and_misses_are_true(comparison):
    seen = 0
    for admission in comparison.admissions:
        for by_side in admission.answers.values():
            for shown in by_side.values():
                drafted = {drug for drug, _ in shown.drugs}
                assert {drug for drug, ordered in shown.drugs if ordered} == drafted & set(admission.truth)
                assert set(shown.missed) == set(admission.truth) - drafted
                seen += len(drafted)
    assert seen


def test_only_the_sides_a_strategy_names_are_asked_and_votes_stand_beside_drugs(comparison):
    for admission in comparison.admissions:
        assert list(admission.answers["zero-shot"]) == ["base", "tuned"]
        assert list(admission.answers["voted"]) == ["tuned"]
        voted = admission.answers["voted"]["tuned"]
        assert (len(voted.texts), len(voted.votes)) == (3, len(voted.drugs))


def test_more_admissions_than_there_are_gives_each_once(checkpoint, tiny_cohort):
    found = compare(checkpoint, tiny_cohort, "validation", 10_000)
    assert len(found.admissions) == read_samples(tiny_cohort, "validation").height


def test_another_cohort_is_refused_with_both_named(checkpoint, tiny_cohort, tmp_path):
    other = Path(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    (other / "cohort.json").write_text((other / "cohort.json").read_text() + " ")
    with pytest.raises(ContractError) as refusal:
        compare(checkpoint, other, "validation", 1)
    for cohort in (other, tiny_cohort):
        assert artefacts.sha256_file(cohort / "cohort.json")[:12] in str(refusal.value)


# --- the page -------------------------------------------------------------------------------------------

HAND = Comparison(
    "rank-2-step-000001",
    "validation",
    (SERVED,),
    (
        Compared(
            "Age: 50\nDiagnoses:\n- <script>alert(1)</script>",
            ("aspirin", "heparin"),
            {
                "zero-shot": {
                    "base": Shown("prose_only", (), (), ("aspirin", "heparin"), ("I <b>think</b> so.",), (1, 3)),
                    "tuned": Shown(
                        "ok", (("aspirin", True), ("iron", False)), (), ("heparin",), ("aspirin\niron",), (0, 3)
                    ),
                }
            },
        ),
    ),
)


def test_totals_are_counts_over_all_admissions():
    assert HAND.total("zero-shot", "tuned") == {"answers": 1, "lists": 1, "drafted": 2, "hits": 1, "ordered": 2}
    assert HAND.total("zero-shot", "base") == {"answers": 1, "lists": 0, "drafted": 0, "hits": 0, "ordered": 2}


def test_the_terminal_marks_hits_and_shows_what_is_no_list_as_it_is():
    lines = to_text(HAND).splitlines()
    assert "  + aspirin" in lines
    assert "  - iron" in lines
    assert "  | I <b>think</b> so." in lines
    assert "zero-shot, tuned (ok): 1 of 2 drafted were ordered, of 2 in all; 0 of 3 examples fitted" in lines


class Tags(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("which", ["by hand", "real"])
def test_the_page_is_whole_needs_nothing_else_and_shows_answers_as_text(which, comparison):
    page = to_html(HAND if which == "by hand" else comparison)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert {"script", "b", "img", "link"}.isdisjoint(tags.tags)
    assert all(link.startswith("#") for link in tags.links)
    assert "Holds patients’ facts" in page
    assert ("0 of 3 examples fitted" in page) == (which == "by hand")


def compare_command(*arguments: Any) -> Any:
    app = typer.Typer()
    app.command()(commands.compare)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_and_writes_only_where_asked(checkpoint, tiny_cohort, tmp_path):
    asked = ("--model", checkpoint, "--data", tiny_cohort, "--n", 2)
    printed = compare_command(*asked)
    assert printed.exit_code == 0
    assert "admission 2 of 2, split validation" in printed.stdout
    assert list(tmp_path.iterdir()) == []
    written = compare_command(*asked, "--out", tmp_path / "page.html")
    assert written.stdout.startswith(printed.stdout)
    assert "holds patients' facts" in written.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_file_of_strategies_is_asked_as_it_says(checkpoint, tiny_cohort, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('[brief]\nsystem = "Be brief."\non = ["base"]\n')
    asked = ("--model", checkpoint, "--data", tiny_cohort, "--n", 1, "--strategies")
    ran = compare_command(*asked, path)
    assert "brief, base" in ran.stdout
    assert "zero-shot" not in ran.stdout
    assert isinstance(compare_command(*asked, tmp_path / "none.toml").exception, ConfigError)
