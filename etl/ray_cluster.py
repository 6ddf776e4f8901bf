"""A Ray cluster to work on: one that is there, or this machine alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from etl.errors import ConfigError


@contextmanager
def ray_at(address: str, *, part: str = "ray", own_cpus: int | None = None) -> Iterator[Any]:
    """Connect to a cluster, yield Ray's module, and leave the cluster.

    Args:
        address: of a cluster; auto: the one this node belongs to, or else a Ray of this machine's own.
        part: module of Ray that the work needs.
        own_cpus: CPUs of a Ray of its own; None: all.

    Raises:
        ConfigError: Ray is not installed, or nothing answers at the address.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # a machine with patients' data calls nobody
    try:
        ray = import_module("ray")
        import_module(part)
    except ImportError:
        raise ConfigError(f"--ray needs {part}; pip install 'rxdraft[ray]'") from None
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        ray.init(address=address, **quiet)
    except ConnectionError:
        if address != "auto":
            raise ConfigError(f"no Ray cluster answers at {address}; `ray start --head` begins one") from None
        ray.init(address="local", num_cpus=own_cpus, include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()
