"""Whatever goes wrong: a whole cohort, or one line that says what to do; never a loss that nobody counts."""

from __future__ import annotations

import csv
import gzip
import io
import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.build import build_cohort
from etl.errors import SourceDataError
from etl.settings import CohortSettings
from etl.source import TABLES
from etl.synth import write_hospital

KILLS = 8


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rxdraft(mimic: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "rxdraft", "etl", "--mimic", str(mimic), "--out", str(out)]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital whose cohort takes seconds."""
    folder = tmp_path_factory.mktemp("big") / "mimic"
    write_hospital(folder, patients=1500, seed=5)
    return folder


def copy_with(hospital: Path, folder: Path, **changes: Callable[[bytes], bytes]) -> Path:
    """Copy a hospital; each change is a table's name and what becomes of its inflated bytes."""
    (folder / "hosp").mkdir(parents=True)
    for path in (hospital / "hosp").iterdir():
        table, data = path.name.partition(".")[0], path.read_bytes()
        if table in changes:
            data = gzip.compress(changes[table](gzip.decompress(data)), 1, mtime=0)
        (folder / "hosp" / path.name).write_bytes(data)
    return folder


def killed(command: list[str], after_seconds: float) -> bool:
    """Run a command and kill it; tell whether it was still running."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
    return process.wait() == -signal.SIGKILL


def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_undisturbed_one(hospital, tmp_path):
    begun = time.monotonic()
    subprocess.run(rxdraft(hospital, tmp_path / "undisturbed"), check=True, capture_output=True)
    whole_seconds = time.monotonic() - begun
    draw, hits, out = random.Random(0), 0, tmp_path / "run"
    while hits < KILLS:  # one chain: what a run finished, the next one finds
        hits += killed(rxdraft(hospital, out), draw.uniform(0, whole_seconds))
        if out.exists():
            assert all_bytes(out) == all_bytes(tmp_path / "undisturbed")
            for path in [*out.iterdir(), out]:  # found whole: from the start again
                path.unlink() if path.is_file() else path.rmdir()
    subprocess.run(rxdraft(hospital, out), check=True, capture_output=True)
    assert all_bytes(out) == all_bytes(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "undisturbed"]


# --- no room, no right --------------------------------------------------------------------------------


def full_disk(bytes_per_file: int) -> Callable[[], None]:
    """Let a child process write files of so many bytes at most: a full disk, but for the errno."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_per_file, bytes_per_file))

    return limit


@pytest.mark.parametrize("kilobytes", [1, 500])
def test_a_disk_that_takes_no_more_is_one_line_and_the_same_command_then_ends_the_run(hospital, tmp_path, kilobytes):
    command = rxdraft(hospital, tmp_path / "run")
    run = subprocess.run(command, capture_output=True, text=True, preexec_fn=full_disk(1000 * kilobytes))
    assert (run.returncode, run.stdout) == (2, ""), run.stderr
    assert [line for line in run.stderr.splitlines() if not line.startswith("rxdraft: ")] == []
    assert not (tmp_path / "run").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("where", ["file/run", "file/deeper/run", "/proc/run", "x" * 300])
def test_a_place_that_cannot_be_written_is_one_line(tiny_hospital, tmp_path, command, where):
    (tmp_path / "file").write_text("in the way")
    status, out, err = command("etl", "--mimic", tiny_hospital, "--out", tmp_path / where)
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert err.startswith("rxdraft: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_is_read_only_is_one_line(tiny_hospital, tmp_path, command):
    (tmp_path / "locked").mkdir(mode=0o555)
    status, out, err = command("etl", "--mimic", tiny_hospital, "--out", tmp_path / "locked" / "run")
    assert (status, out, len(err.splitlines())) == (2, "", 1), err


# --- files that are not what they were ----------------------------------------------------------------


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_a_gz_that_ends_in_the_middle_of_prescriptions_is_refused_and_nothing_is_left(
    hospital, tmp_path, command, kept
):
    mimic = copy_with(hospital, tmp_path / "mimic")
    path = mimic / "hosp" / "prescriptions.csv.gz"
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    status, out, err = command("etl", "--mimic", mimic, "--out", tmp_path / "run")
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert f"{path}: the gz file is truncated or damaged" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mimic"]


@pytest.mark.parametrize("table", list(TABLES))
def test_a_renamed_column_is_named_before_anything_is_written(tiny_hospital, tmp_path, command, table):
    column = list(TABLES[table])[-1]
    rename = {table: lambda data: data.replace(column.encode(), b"renamed", 1)}
    status, out, err = command(
        "etl", "--mimic", copy_with(tiny_hospital, tmp_path / "mimic", **rename), "--out", tmp_path / "run"
    )
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert f"{table}.csv.gz lacks column {column}" in err
    assert [path.name for path in tmp_path.iterdir()] == ["mimic"]


# --- one line of a hundred ----------------------------------------------------------------------------

CORRUPTIONS: dict[str, Callable[[random.Random, str], str]] = {
    "a comma is lost": lambda draw, line: line.replace(",", "", 1),
    "a comma is doubled": lambda draw, line: line.replace(",", ",,", 1),
    "a quote comes in": lambda draw, line: insert(draw, line, '"'),
    "a control character comes in": lambda draw, line: insert(draw, line, draw.choice("\x00\x01\x1a\x7f")),
    "bytes that are no UTF-8 come in": lambda draw, line: insert(draw, line, "\udcff"),
    "the line is cut": lambda draw, line: line[: draw.randrange(len(line))],
    "the line is there twice": lambda draw, line: f"{line}\n{line}",
    "the line ends early": lambda draw, line: insert(draw, line, "\n"),
    "the stay is another": lambda draw, line: re.sub(r",\d+", f",{draw.randrange(10**8)}", line, count=1),
    "the stay is no number": lambda draw, line: re.sub(r",\d+", ",2O14", line, count=1),
    "the stay is lost": lambda draw, line: re.sub(r",\d+", ",", line, count=1),
    "the time is impossible": lambda draw, line: re.sub(r"-\d\d ", "-32 ", line, count=1),
    "the kind of order is lost": lambda draw, line: line.replace(",MAIN,", ",,", 1),
}


def insert(draw: random.Random, line: str, text: str) -> str:
    place = draw.randrange(len(line) + 1)
    return line[:place] + text + line[place:]


def corrupted(data: bytes, kind: str, draw: random.Random, share: float) -> bytes:
    header, *lines = data.decode().rstrip("\n").split("\n")
    for number in draw.sample(range(len(lines)), max(1, int(len(lines) * share))):
        lines[number] = CORRUPTIONS[kind](draw, lines[number])
    return "\n".join([header, *lines, ""]).encode("utf-8", "surrogateescape")


def rows_of(data: bytes) -> int:
    """The records that csv sees; blank lines are none."""
    return sum(bool(row) for row in csv.reader(io.StringIO(data.decode(errors="replace"), newline=""))) - 1


@settings(max_examples=16, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(list(CORRUPTIONS)), seed=st.integers(0, 2**32), share=st.sampled_from([0.0, 0.01]))
def test_corrupted_prescriptions_are_refused_in_one_line_or_every_row_has_its_fate(
    tiny_hospital, tmp_path_factory, kind, seed, share
):
    folder = tmp_path_factory.mktemp("corrupted")
    mimic = copy_with(
        tiny_hospital, folder / "mimic", prescriptions=lambda data: corrupted(data, kind, random.Random(seed), share)
    )
    path = mimic / "hosp" / "prescriptions.csv.gz"
    try:
        cohort = build_cohort(mimic, folder / "run", CohortSettings(open_data=True))
    except SourceDataError as refusal:
        told = str(refusal)
    else:
        orders = dict(cohort["orders"])
        assert orders.pop("read") == sum(orders.values()) == rows_of(gzip.decompress(path.read_bytes()))
        return
    assert re.fullmatch(
        rf"{re.escape(str(path))}: (line \d+: )?[\w ,'-]+; (restore|convert) the file( to UTF-8)?", told
    )
    assert [path.name for path in folder.iterdir()] == ["mimic"]
