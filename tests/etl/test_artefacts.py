from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.artefacts import (
    check_same,
    read_json,
    remove,
    sha256,
    sha256_file,
    sha256_files,
    sha256_tree,
    whole_or_absent,
    write_json,
)
from etl.errors import ContractError


def make(path: Path, kind: str, content: str) -> None:
    if kind == "file":
        path.write_text(content)
    else:
        (path / "inner").mkdir(parents=True)
        (path / "inner" / "data").write_text(content)


def content(path: Path, kind: str) -> str:
    return (path if kind == "file" else path / "inner" / "data").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["file", "folder"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def test_an_artefact_appears_only_when_its_block_has_ended(tmp_path, kind):
    path = tmp_path / "deep" / "artefact"
    with whole_or_absent(path) as new:
        make(new, kind, "whole")
        assert not path.exists()
        assert new.parent == path.parent, "another folder could be another file system"
    assert content(path, kind) == "whole"
    assert names(path.parent) == ["artefact"]


def test_a_new_artefact_replaces_the_old_one_altogether(tmp_path, kind):
    path = tmp_path / "artefact"
    make(path, kind, "old")
    if kind == "folder":
        (path / "stale").write_text("from the old one")
    with whole_or_absent(path) as new:
        make(new, kind, "new")
        assert content(path, kind) == "old"
    assert content(path, kind) == "new"
    assert names(tmp_path) == ["artefact"]
    assert kind == "file" or names(path) == ["inner"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_nothing_where_nothing_was(tmp_path, kind, error):
    def fail() -> None:
        with whole_or_absent(tmp_path / "artefact") as new:
            make(new, kind, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_block_leaves_the_old_artefact(tmp_path, kind, error):
    path = tmp_path / "artefact"
    make(path, kind, "old")

    def fail() -> None:
        with whole_or_absent(path) as new:
            make(new, kind, "half")
            raise error

    with pytest.raises(error):
        fail()
    assert content(path, kind) == "old"
    assert names(tmp_path) == ["artefact"]


def test_a_block_that_writes_nothing_leaves_the_old_artefact(tmp_path, kind):
    path = tmp_path / "artefact"
    make(path, kind, "old")

    def forget() -> None:
        with whole_or_absent(path):
            pass

    with pytest.raises(OSError):
        forget()
    assert path.exists(), f"only {names(tmp_path)} is left"
    assert content(path, kind) == "old"


KILLED = """
import os, sys
from pathlib import Path
from etl.artefacts import whole_or_absent
if sys.argv[2] == "between the renames":
    replace = Path.replace
    def die_at_second(self, target):
        if self.name.endswith(".unfinished"):
            os._exit(9)
        return replace(self, target)
    Path.replace = die_at_second
with whole_or_absent(Path(sys.argv[1])) as new:
    new.mkdir()
    (new / "half").write_text("half")
    if sys.argv[2] == "while writing":
        os._exit(9)
"""


@pytest.mark.parametrize("moment", ["while writing", "between the renames"])
def test_leftovers_of_a_killed_run_are_removed_by_the_next(tmp_path, moment):
    path = tmp_path / "artefact"
    make(path, "folder", "old")
    root = str(Path(sys.modules["etl"].__file__).parents[1])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), moment], env={**os.environ, "PYTHONPATH": root}, check=False
    )
    assert killed.returncode == 9
    assert names(tmp_path) != ["artefact"], "the run was killed too late to leave anything"
    with whole_or_absent(path) as new:
        make(new, "folder", "new")
    assert content(path, "folder") == "new"
    assert names(tmp_path) == ["artefact"]


def test_what_a_killed_run_wrote_does_not_mix_with_the_next(tmp_path, kind):
    make(tmp_path / ".artefact.unfinished", "folder", "killed")
    with whole_or_absent(tmp_path / "artefact") as new:
        assert not new.exists()
        make(new, kind, "new")
    assert names(tmp_path) == ["artefact"]


def test_removing_a_link_keeps_what_it_points_at(tmp_path):
    make(tmp_path / "target", "folder", "precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert names(tmp_path) == ["target"]
    assert content(tmp_path / "target", "folder") == "precious"


def test_the_digest_of_files_sees_names_and_bytes_but_not_the_order_of_the_list(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_text("1")
    b.write_text("2")
    before = sha256_files([a, b])
    assert sha256_file(a) == sha256(b"1")
    assert sha256_files([b, a]) == before
    a.rename(tmp_path / "c")
    assert sha256_files([b, tmp_path / "c"]) != before
    b.write_text("3")
    assert sha256_files([b]) != sha256_files([tmp_path / "c"])


def test_the_digests_of_a_tree_are_those_of_its_files_by_their_paths(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    (tmp_path / "b" / "c" / "d").write_text("1")
    (tmp_path / "a").write_text("2")
    assert sha256_tree(tmp_path) == {"a": sha256(b"2"), "b/c/d": sha256(b"1")}


STANDS = {"seed": 1, "inputs": {"x": "SECRET"}, "settings": {"drop": [], "level": "drug"}, "outputs": {}}


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"seed": 2, "inputs": {"x": "y"}}, "seed, inputs"),
        ({"inputs": {"x": "SECRET"}, "settings": {"drop": [], "level": "atc4", "fold": 1}}, "level, fold"),
        ({"version": None, "tokenizer": "x"}, "tokenizer"),
    ],
)
def test_what_differs_is_refused_with_every_key_and_no_value(tmp_path, wanted, named):
    with pytest.raises(ContractError, match=f"^what stands at {tmp_path} differs in {named}; choose another") as error:
        check_same(tmp_path, STANDS, wanted, within="settings")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize("wanted", [{}, {"seed": 1}, {"settings": {"level": "drug"}}, STANDS])
def test_what_stands_may_say_more_than_is_asked_for(tmp_path, wanted):
    check_same(tmp_path, STANDS, wanted, within="settings")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner),
)


@given(json_values)
def test_json_reads_back_as_written_and_is_written_alike_twice(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("json") / "x.json"
    write_json(path, value)
    first = path.read_bytes()
    assert read_json(path, "rxdraft etl") == value
    write_json(path, json.loads(first))
    assert path.read_bytes() == first


@pytest.mark.parametrize("text", [None, "", "{", "\xff"])
def test_an_unreadable_json_names_itself_and_the_command_that_makes_it(tmp_path, text):
    path = tmp_path / "cohort.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ContractError) as error:
        read_json(path, "rxdraft etl")
    assert str(path) in str(error.value)
    assert "rxdraft etl" in str(error.value)
