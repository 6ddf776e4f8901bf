"""Files between stages: whole or absent, digested, the same bytes for the same content."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from etl.errors import ContractError


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Lend a path beside `path`; it becomes `path` only if the block ends without an error.

    Works for a file and for a folder that the block creates. Beside, since a rename is atomic only
    within one file system. An existing file or folder is replaced. What a failed block wrote is removed;
    what a killed one wrote is removed by the next, which also brings back a folder that a kill between its
    two renames left under its other name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)
    remove(old)
    remove(unfinished)
    try:
        yield unfinished
        if path.is_dir() and unfinished.exists():
            path.rename(old)  # a folder cannot be renamed onto another
        unfinished.replace(path)
    except BaseException:
        remove(unfinished)
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    remove(old)


def check_replaceable(path: Path, marker: str, made_by: str) -> None:
    """See that a folder may be replaced: it is absent, empty, or an earlier output of the same command.

    Args:
        path: what is to be written.
        marker: the file that says a folder is such an output.
        made_by: the command.

    Raises:
        ContractError: something else stands there; nothing is touched.
    """
    if not path.exists() or (path.is_dir() and (not any(path.iterdir()) or (path / marker).is_file())):
        return
    raise ContractError(f"{path} exists and was not made by `{made_by}`; choose another --out")


def check_same(
    path: Path,
    stands: dict[str, Any],
    wanted: dict[str, Any],
    within: str = "",
    to_do: str = "choose another --out, or replace it with --overwrite",
) -> None:
    """See that what stands at `path` is what is asked for.

    Args:
        path: an output.
        stands: what it says of itself; keys that `wanted` lacks do not count.
        wanted: what it would say of itself if it were the one.
        within: the key whose entries are compared, and named, one by one.
        to_do: the user's way out.

    Raises:
        ContractError: they differ; every key that does is named, no value is.
    """
    other = [key for key in wanted if key != within and stands.get(key) != wanted[key]]
    has = stands.get(within, {})
    other += [key for key, value in wanted.get(within, {}).items() if has.get(key) != value]
    if other:
        raise ContractError(f"what stands at {path} differs in {', '.join(other)}; {to_do}")


def remove(path: Path) -> None:
    """Remove a file or a folder tree, or nothing where nothing is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(data: bytes) -> str:
    """Return the digest under which artefacts name each other."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the digest of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_files(paths: list[Path]) -> str:
    """Return one digest over several files' names and bytes, in the order of their names."""
    lines = [f"{path.name} {sha256_file(path)}\n" for path in sorted(paths, key=lambda p: p.name)]
    return sha256("".join(lines).encode())


def sha256_tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, by its path from there."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in found}


def write_json(path: Path, content: Any) -> None:
    """Write sorted, indented JSON, flushed to disk: what ends a stage must not be lost after its data."""
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, sort_keys=True, ensure_ascii=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, made_by: str) -> Any:
    """Read an artefact's JSON.

    Raises:
        ContractError: it is absent or no JSON; the message names the command that makes it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ContractError(f"{path} is missing: the folder is unfinished or not the output of `{made_by}`") from None
    except ValueError:
        raise ContractError(f"{path} is not JSON; make it again with `{made_by}`") from None
