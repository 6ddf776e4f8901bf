"""Where several processes put their metrics. It imports no prometheus_client, which looks for the folder only once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def shared_metrics() -> Iterator[None]:
    """Lend the workers that are started within a folder for their metrics; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="rxdraft-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
