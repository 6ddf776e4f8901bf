"""The picture shows what the logs hold: every run, every panel that has numbers, and the same bytes again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from etl.errors import ContractError
from training.curves import POINTS, draw_curves, read_panels
from training.drawing import Line, Panel, draw_panels, round_numbers


def log_of(run: Path, steps: int, **more: float) -> list[dict[str, Any]]:
    run.mkdir(parents=True)
    entries = [
        {"step": step, "loss": 2 / step, "grad_norm": 1 + step % 3, "response_tokens": 1 + step, **more}
        for step in range(1, steps + 1)
    ]
    (run / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")
    return entries


def points(runs: Path, panel: int) -> dict[str, list[tuple[float, float]]]:
    return {line.name: list(line.points) for line in read_panels(runs)[panel].lines}


def test_the_train_loss_of_a_stretch_is_the_mean_over_its_answer_tokens(tmp_path: Path) -> None:
    entries = log_of(tmp_path / "rank-2", 2 * POINTS)
    first, second = entries[:2]
    total = first["loss"] * first["response_tokens"] + second["loss"] * second["response_tokens"]
    drawn = points(tmp_path, 0)["rank-2"]
    assert len(drawn) == POINTS
    assert drawn[0] == (2, pytest.approx(total / (first["response_tokens"] + second["response_tokens"])))
    assert drawn[-1][0] == 2 * POINTS


def test_a_short_log_is_drawn_as_it_is(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 3, update_norm=0.5)
    assert points(tmp_path, 2) == {"rank-2": [(1, 2), (2, 3), (3, 1)]}
    assert points(tmp_path, 3) == {"rank-2": [(1, 0.5), (2, 0.5), (3, 0.5)]}


def test_looks_come_from_their_file_and_from_the_log_once_each(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 4)
    with (tmp_path / "rank-2" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 4, "validation_loss": 0.4}\n{"step": 5, "validation_loss": null}\n')
    looks = [{"step": 2, "loss": 0.6}, {"step": 4, "loss": 0.4}]
    (tmp_path / "rank-2" / "validation.json").write_text(json.dumps({"looks": looks}), "utf-8")
    assert points(tmp_path, 1) == {"rank-2": [(2, 0.6), (4, 0.4)]}


def test_runs_stand_in_the_order_of_their_numbers_and_what_is_unfinished_is_left_out(tmp_path: Path) -> None:
    for name in ("rank-16", "rank-2", "seed-1/rank-2", "seed-0/rank-2", ".rank-4.unfinished"):
        log_of(tmp_path / name, 2)
    assert list(points(tmp_path, 0)) == ["rank-2", "rank-16", "seed-0/rank-2", "seed-1/rank-2"]


def test_a_run_by_itself_is_named_by_its_folder(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 2)
    assert list(points(tmp_path / "rank-2", 0)) == ["rank-2"]


def test_a_loss_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 2)
    with (tmp_path / "rank-2" / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 3, "loss": NaN, "grad_norm": Infinity, "response_tokens": 1}\n')
    assert [step for step, _ in points(tmp_path, 0)["rank-2"]] == [1, 2]
    draw_curves(tmp_path)


def test_a_run_keeps_its_look_in_a_panel_that_others_are_missing_from(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 2)
    log_of(tmp_path / "rank-4", 2, update_norm=1.0)
    [line] = read_panels(tmp_path)[3].lines
    assert (line.name, line.look) == ("rank-4", 1)


def test_losses_of_lists_and_of_labels_share_no_axis(tmp_path: Path) -> None:
    for name, objective in {"rank-2": "list", "rank-4": "labels"}.items():
        log_of(tmp_path / name, 2, validation_loss=1.0)
        (tmp_path / name / "run.json").write_text(json.dumps({"config": {"objective": objective}}), "utf-8")
    drawn = {panel.title: [line.name for line in panel.lines] for panel in read_panels(tmp_path)}
    assert drawn["train loss per learned token"] == drawn["validation loss per answer token"] == ["rank-2"]
    assert drawn["train loss per drug"] == drawn["validation loss per drug"] == ["rank-4"]
    assert drawn["gradient norm before clipping"] == ["rank-2", "rank-4"]
    assert not any("token" in panel.title for panel in read_panels(tmp_path / "rank-4"))


def test_real_runs_are_drawn(trained_runs: Path, tmp_path: Path) -> None:
    path = draw_curves(trained_runs, tmp_path / "curves.png")
    with Image.open(path) as image:
        assert image.size[0] == 1200
    assert points(trained_runs, 0).keys() == {"rank-2", "rank-4"}


def test_the_same_curves_are_the_same_bytes_and_others_are_not(tmp_path: Path) -> None:
    for name, steps in {"one": 5, "same": 5, "other": 6}.items():
        log_of(tmp_path / name / "rank-2", steps)
    one, same, other = (draw_curves(tmp_path / name).read_bytes() for name in ("one", "same", "other"))
    assert one == same != other


def test_the_picture_says_what_it_was_drawn_from(tmp_path: Path) -> None:
    log_of(tmp_path / "rank-2", 2)
    with Image.open(draw_curves(tmp_path)) as image:
        assert image.text["Source"].startswith("sha256 ")
        assert image.text["Software"].startswith("rxdraft ")
        assert str(tmp_path) not in str(image.text)


def test_lines_differ_without_their_colours(tmp_path: Path) -> None:
    """Six runs, in grey: the same curve six times is six different pictures."""
    pictures = set()
    for look in range(6):
        path = tmp_path / f"{look}.png"
        draw_panels([Panel("loss", [Line("run", [(1, 2.0), (50, 0.5), (100, 0.4)], look)])], path, {})
        with Image.open(path) as image:
            pictures.add(image.convert("L").point(lambda grey: 255 * (grey > 200)).tobytes())
    assert len(pictures) == 6


def test_a_folder_without_a_step_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").touch()
    with pytest.raises(ContractError, match="with a step in it; give a folder"):
        draw_curves(tmp_path)
    assert not (tmp_path / "curves.png").exists()


ORDINARY = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-9)


@given(ORDINARY, ORDINARY.map(abs))
def test_round_numbers_enclose_any_range(low: float, span: float) -> None:
    high = low + span
    found = round_numbers(low, high)
    slack = 1e-6 * max(abs(low), abs(high), 1e-9)
    assert found[0] <= low + slack
    assert found[-1] >= high - slack
    assert 2 <= len(found) <= 7
    assert found == sorted(set(found))
