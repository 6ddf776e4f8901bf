"""`rxdraft review` as a user runs it."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from etl.errors import ContractError
from evaluation.review.commands import app


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_round_trip_from_the_shell(drafted, tiny_cohort, tmp_path, fill, settle):
    out = tmp_path / "review"
    made = run("make", "--evaluation", drafted, "--data", tiny_cohort, "--raters", 2, "--n", 40, "--out", out)
    assert made.exit_code == 0
    assert "40 items of" in made.output
    assert "credentialed data" in made.output
    fill(out, "rater-1", 0.2)
    fill(out, "rater-2")
    merged = run("merge", out)
    assert merged.exit_code == 0
    assert "6 of 6 decoys caught" in merged.output
    assert "Krippendorff's alpha" in merged.output
    settle(out)
    done = run("finalize", out)
    assert done.exit_code == 0
    assert "30 of 30 drafted drugs labelled, 6 adjudicated" in done.output
    assert (out / "gold.csv").is_file()


@pytest.mark.parametrize("command", ["merge", "finalize"])
def test_a_folder_that_is_no_review_is_told_so(command, tmp_path):
    refused = run(command, tmp_path)
    assert isinstance(refused.exception, ContractError)
    assert "`rxdraft review make`" in str(refused.exception)
