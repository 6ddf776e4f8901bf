"""The database in which a cohort grows: on disk, in bounded memory, and still there after a kill.

It stands beside the cohort's folder under a hidden name, for one set of inputs and settings. A table in it is
finished: each is made in one transaction. A run that ends, well or with bad input, removes it; one that was
killed, interrupted or ran out of disk leaves it, and the same command goes on from its finished tables.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts
from etl.errors import ConfigError, ContractError, RxdraftError

log = logging.getLogger(__name__)

MEMORY_LIMIT = "2GB"
"""What DuckDB may use before it spills to disk; Python and the chunks of a csv come on top, about 0.5 GB."""

_SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)


@contextmanager
def workspace(
    out: Path, origin: dict[str, Any] | None, memory_limit: str = MEMORY_LIMIT
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Lend the database in which the cohort `out` grows.

    Args:
        out: the cohort's folder; its parent is made where it is missing.
        origin: what the cohort is made from; another one's workspace is not gone on with. None: never go on.
        memory_limit: as DuckDB reads it: "2GB", "500MiB".

    Raises:
        ConfigError: the limit cannot be read, or is too little.
        ContractError: another process is building the same cohort.
        OSError: the disk is full or cannot be written; what is finished is kept.
    """
    if not _SIZE.fullmatch(memory_limit):
        raise ConfigError(f"--memory-limit {memory_limit} is no size; wanted is for example 2GB or 500MiB")
    folder = out.with_name(f".{out.name}.work")
    con = _open(folder, origin, memory_limit)
    try:
        with con:
            yield con
            con.execute("PRAGMA disable_checkpoint_on_shutdown").fetchall()  # it is removed in a moment
    except duckdb.OutOfMemoryException:
        raise ConfigError(
            f"--memory-limit {memory_limit} is too little, and {folder} cannot take more; raise it"
        ) from None
    except duckdb.Error as error:
        if _is_unwritable(error):
            reason = "cannot be written, is the disk full? Make room and run the same command again, it goes on"
            raise OSError(errno.ENOSPC, reason, str(folder)) from None
        if _is_damaged(error):
            artefacts.remove(folder)
            raise OSError(errno.EIO, "could not be read back; run the same command again", str(folder)) from None
        raise  # a bug
    except RxdraftError:  # what is wrong must be mended first: nothing to go on with
        artefacts.remove(folder)
        raise
    artefacts.remove(folder)


def _is_unwritable(error: duckdb.Error) -> bool:
    return any(words in str(error) for words in ("No space", "Could not write", "File too large", "Failed to commit"))


def _is_damaged(error: duckdb.Error) -> bool:
    return isinstance(error, (duckdb.IOException, duckdb.FatalException)) or "orrupt" in str(error)


def _open(folder: Path, origin: dict[str, Any] | None, memory_limit: str) -> duckdb.DuckDBPyConnection:
    """Open what an earlier run of the same origin finished, or begin anew."""
    stands = folder / "origin.json"
    if folder.exists():
        con = _connect(folder, memory_limit)
        if con and origin is not None and stands.is_file() and artefacts.read_json(stands, "rxdraft etl") == origin:
            log.info("going on from the finished tables of an earlier run")
            return con
        if con:
            con.close()
    artefacts.remove(folder)
    folder.mkdir(parents=True)
    if origin is not None:
        with artefacts.whole_or_absent(stands) as new:
            artefacts.write_json(new, origin)
    begun = _connect(folder, memory_limit)
    if begun is None:
        raise OSError(errno.EIO, "no database can be made here", str(folder))
    return begun


def _connect(folder: Path, memory_limit: str) -> duckdb.DuckDBPyConnection | None:
    """Open the database; None where a kill left none that opens."""
    try:
        return duckdb.connect(
            str(folder / "warehouse.duckdb"),
            config={
                "memory_limit": memory_limit,
                "temp_directory": str(folder / "spill"),
                # Loaded rows are written to the file as they come; folding the log into it would write again.
                "checkpoint_threshold": "1TB",
            },
        )
    except duckdb.Error as error:
        if "lock" in str(error):
            raise ContractError(
                f"{folder} is in use: another rxdraft etl builds this cohort; wait for it, or choose another --out"
            ) from None
        return None
