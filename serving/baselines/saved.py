"""Fitted regressions as one file: arrays, and beside them whose they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from etl.errors import ContractError

Arrays = dict[str, NDArray[Any]]

FORMAT = 1
"""Of the file; another number is refused."""
_ABOUT = "about"


def write(path: Path, name: str, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Write what `read` reads; the folder must be there.

    Args:
        path: of the file.
        name: of the baseline.
        arrays: by name.
        about: the rest, as JSON.
    """
    text = json.dumps({"format": FORMAT, "name": name, **about})
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path, {_ABOUT: text})


def read(path: Path, name: str) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of a baseline, and the rest.

    Raises:
        ContractError: the file is damaged, of another format or another baseline's.
    """
    try:
        with safe_open(path, "np") as file:
            about = json.loads(file.metadata()[_ABOUT])
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # it is no dict
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        raise ContractError(f"{path} is no regression that was saved; make it again") from None
    if (found := (about.get("name"), about.get("format"))) != (name, FORMAT):
        told = " of format ".join(map(str, found))
        raise ContractError(f"{path} is a {told}, wanted a {name} of format {FORMAT}; make it again")
    return arrays, about
