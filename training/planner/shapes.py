"""Which base is planned for: a shape that ships, a folder's, or one of the hub's, by config alone."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Any

from transformers import AutoConfig, LlamaConfig

from etl.errors import ConfigError
from training.tiny import SHAPE


def shipped_shapes() -> dict[str, dict[str, Any]]:
    """Return the shapes that come with the package, by name; `parameters` is what a base of that shape counts."""
    return tomllib.loads((files("training.planner") / "shapes.toml").read_text("utf-8"))


def base_config(base: str) -> Any:
    """Return a base's configuration, as transformers has it; of a hub's base nothing but its config is fetched.

    Args:
        base: a shipped shape, tiny, a folder, or a hub id.

    Raises:
        ConfigError: it is none of these.
    """
    shapes = shipped_shapes()
    if base == "tiny":
        return LlamaConfig(**SHAPE)
    if base in shapes:
        return LlamaConfig(**{key: value for key, value in shapes[base].items() if key != "parameters"})
    try:
        return AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base {base}: no config of it ({type(error).__name__}); "
            f"give a folder, a hub id, tiny, or one of {', '.join(shapes)}"
        ) from None
