"""A run that is stopped anywhere goes on from what it finished, and ends with the same bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from etl.build import build_cohort
from etl.settings import CohortSettings
from etl.source import TABLES

LOADS = [f"raw.{table}" for table in TABLES]
STOPS = [*LOADS, "admissions", "samples", "report", "parquet"]


def step(stage: str, total: int) -> str:
    """Name the load of a table as the table it makes."""
    return stage.replace("load ", "raw.")


class Killed(BaseException):
    """Ends a run where it stands, as Ctrl-C does; nothing of the ETL catches it."""


def all_bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def mimic(tmp_path: Path, tables, write_tables) -> Path:
    return write_tables(tmp_path / "mimic", tables)


@pytest.fixture
def killed_at(mimic: Path, tmp_path: Path) -> Callable[[str], None]:
    """Begin `run` and stop it as the named stage begins."""

    def stop(stage: str) -> None:
        def told(name: str, done: int, total: int) -> None:
            if step(name, total) == stage:
                raise Killed

        with pytest.raises(Killed):
            build_cohort(mimic, tmp_path / "run", told=told)
        assert (tmp_path / ".run.work").is_dir()
        assert not (tmp_path / "run").exists()

    return stop


def loaded(database: Path) -> set[str]:
    """Return the tables that stand in a workspace, finished; none where there is no workspace."""
    if not database.exists():
        return set()
    with duckdb.connect(database) as con:
        return {
            f"raw.{name}"
            for (name,) in con.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'raw'").fetchall()
        }


def stages_of(run: Callable[..., object]) -> list[str]:
    """Return the stages that a run goes through, each once."""
    stages: list[str] = []
    run(told=lambda stage, done, total: stages.append(step(stage, total)))
    return list(dict.fromkeys(stages))


def test_a_chain_of_kills_repeats_no_finished_load_and_ends_with_the_same_bytes(mimic, tmp_path):
    build_cohort(mimic, tmp_path / "undisturbed")
    seen: set[str] = set()
    began: set[str] = set()

    def stop_where_new(stage: str, done: int, total: int) -> None:
        name = step(stage, total)
        new = name not in seen
        seen.add(name)
        began.add(name)
        if new and name in STOPS:
            raise Killed

    while not (tmp_path / "run").exists():
        stood = loaded(tmp_path / ".run.work" / "warehouse.duckdb")
        began.clear()
        with suppress(Killed):
            build_cohort(mimic, tmp_path / "run", told=stop_where_new)
        assert not began & stood
    assert set(STOPS) <= seen
    assert all_bytes(tmp_path / "run") == all_bytes(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mimic", "run", "undisturbed"]


def test_a_second_run_loads_nothing_that_stands(mimic, tmp_path, killed_at):
    killed_at("samples")
    stages = stages_of(lambda told: build_cohort(mimic, tmp_path / "run", told=told))
    assert [stage for stage in stages if stage in LOADS] == []
    assert "samples" in stages


@pytest.mark.parametrize("what", ["settings", "inputs", "origin", "database"])
def test_what_is_of_another_run_or_damaged_is_begun_anew(mimic, tmp_path, killed_at, what):
    killed_at("samples")
    work, settings = tmp_path / ".run.work", CohortSettings(seed=7 if what == "settings" else 0)
    if what == "inputs":
        omr = mimic / "hosp" / "omr.csv.gz"
        omr.write_bytes(omr.read_bytes() + b"\0")  # padding that gzip allows: other bytes, the same rows
    if what == "origin":
        (work / "origin.json").unlink()
    if what == "database":
        (work / "warehouse.duckdb").write_bytes(b"not a database" * 1000)
    stages = stages_of(lambda told: build_cohort(mimic, tmp_path / "run", settings, told=told))
    assert [stage for stage in stages if stage in LOADS]
    build_cohort(mimic, tmp_path / "undisturbed", settings)
    assert all_bytes(tmp_path / "run") == all_bytes(tmp_path / "undisturbed")
    assert not work.exists()


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_a_database_that_opens_but_cannot_be_read_back_is_no_lasting_obstacle(
    mimic, tmp_path, killed_at, command, kept
):
    killed_at("samples")
    database = tmp_path / ".run.work" / "warehouse.duckdb"
    database.write_bytes(database.read_bytes()[: int(database.stat().st_size * kept)])
    status, _, err = command("etl", "--mimic", mimic, "--out", tmp_path / "run")
    assert status == 0 or (status, len(err.splitlines())) == (2, 1)
    build_cohort(mimic, tmp_path / "run")
    build_cohort(mimic, tmp_path / "undisturbed")
    assert all_bytes(tmp_path / "run") == all_bytes(tmp_path / "undisturbed")


def test_a_source_that_cannot_be_read_leaves_no_workspace(mimic, tmp_path, killed_at, command):
    killed_at("samples")
    (mimic / "hosp" / "omr.csv.gz").unlink()
    (mimic / "hosp" / "omr.csv").write_text("subject_id,chartdate,seq_num,result_name,result_value\nCANARY,1,1,1,1\n")
    assert command("etl", "--mimic", mimic, "--out", tmp_path / "run")[0] == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mimic"]


def test_a_second_process_is_refused_and_the_first_one_ends_well(mimic, tmp_path, command):
    first = """if True:
        import sys
        from pathlib import Path
        from etl.build import build_cohort
        def told(stage, done, total):
            if stage == "samples":
                print("building", flush=True)
                sys.stdin.read()
        build_cohort(sys.argv[1], Path(sys.argv[2]), told=told)
    """
    with subprocess.Popen(
        [sys.executable, "-c", first, mimic, tmp_path / "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "building\n"
        refusals = [
            command("etl", "--mimic", mimic, "--out", tmp_path / "run"),
            command("etl", "--mimic", mimic, "--out", tmp_path / "run", "--seed", 1),
        ]
        other.communicate("")
    for status, out, err in refusals:
        assert (status, out, len(err.splitlines())) == (2, "", 1), err
        assert "is in use: another rxdraft etl builds this cohort" in err
    assert other.returncode == 0
    build_cohort(mimic, tmp_path / "undisturbed")
    assert all_bytes(tmp_path / "run") == all_bytes(tmp_path / "undisturbed")


# --- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["much", "2XB", "", "0", "1kB", "5MB"])
def test_a_memory_limit_that_is_none_or_too_little_is_one_line(mimic, tmp_path, command, limit):
    status, out, err = command("etl", "--mimic", mimic, "--out", tmp_path / "run", "--memory-limit", limit)
    assert (status, out, len(err.splitlines())) == (2, "", 1), err
    assert f"--memory-limit {limit} is" in err
    assert not (tmp_path / "run").exists()


def test_little_memory_and_much_give_the_same_bytes(tiny_hospital, tmp_path):
    build_cohort(tiny_hospital, tmp_path / "little", memory_limit="100MB")
    build_cohort(tiny_hospital, tmp_path / "much")
    assert all_bytes(tmp_path / "little") == all_bytes(tmp_path / "much")


def test_the_workspace_is_on_disk_and_bounded(mimic, tmp_path):
    seen: dict[str, str] = {}
    connect = duckdb.connect

    def told(stage: str, done: int, total: int) -> None:
        if stage == "samples":
            seen["there"] = str((tmp_path / ".run.work" / "warehouse.duckdb").is_file())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "etl.workspace.duckdb.connect",
            lambda *path, **how: seen.update(how.get("config", {})) or connect(*path, **how),
        )
        build_cohort(mimic, tmp_path / "run", told=told, memory_limit="300MB")
    assert seen["there"] == "True"
    assert seen["memory_limit"] == "300MB"
    assert seen["temp_directory"] == str(tmp_path / ".run.work" / "spill")
