"""Copies of a run's log in TensorBoard and MLflow: numbers by step, nothing else."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ConfigError

log = logging.getLogger(__name__)

MLFLOW_STORE = "mlflow"
"""Folder beside the runs that holds MLflow's files where MLFLOW_TRACKING_URI names no server."""

_MLFLOW_DEFAULTS = {
    "MLFLOW_ALLOW_FILE_STORE": "true",  # needs no database and takes many writers; MLflow wants to be told
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of 7, through which a step would wait for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, of 120
}
_FLUSH_SECONDS = 5
_LARGEST_BATCH = 1000  # metrics to one call, MLflow's limit


def _scalars(entry: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield an entry's numbers; whatever else stands there goes to no tracker."""
    for name, value in entry.items():
        if name != "step" and isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


class TensorBoard:
    """Event files in RUN/tensorboard; a run that goes on adds a file with all that its log has kept.

    All of it, since a kill also loses the steps that the writer had not yet put to disk. The file begins with the
    mark at which TensorBoard forgets what it has read before; an older file that is removed would halt it.
    """

    def __init__(self, folder: Path, kept: Sequence[Mapping[str, Any]]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise _missing("tensorboard") from None
        self._writer: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=0, flush_secs=_FLUSH_SECONDS)
        for entry in kept:
            self.write(entry)
        self._writer.flush()

    def write(self, entry: Mapping[str, Any]) -> None:
        """Copy an entry's numbers."""
        for name, value in _scalars(entry):
            self._writer.add_scalar(name, value, entry["step"])

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()


class MLflow:
    """One MLflow run, gone on in whenever the run goes on; its id stands in RUN/mlflow.json.

    MLflow takes no value back: a step that was lost and is made again keeps the first value it was given.
    """

    def __init__(self, folder: Path, kept: Sequence[Mapping[str, Any]]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # nothing but the user's own server hears of a run
        for name, value in _MLFLOW_DEFAULTS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise _missing("mlflow") from None
        server = os.environ.get("MLFLOW_TRACKING_URI", "")
        uri = server or (folder.parent / MLFLOW_STORE).resolve().as_uri()
        self._pending: list[tuple[str, float, int]] = []
        self._flushed, self._alive = time.monotonic(), True
        try:
            self._client: Any = MlflowClient(tracking_uri=uri, registry_uri=uri)
            self._run_id = self._find(folder, artefacts.sha256(server.encode()))
            self._known = self._read()
        except (MlflowException, OSError) as error:
            raise ConfigError(
                f"MLflow {'at MLFLOW_TRACKING_URI' if server else f'in {folder.parent / MLFLOW_STORE}'} cannot be "
                f"written to ({type(error).__name__}); start or correct it, or train without --track mlflow"
            ) from None
        for entry in kept:
            self.write(entry)

    def _find(self, folder: Path, server_sha256: str) -> str:
        """Return the id of the folder's run; a new one where this server has none."""
        from mlflow.exceptions import MlflowException

        path = folder / "mlflow.json"
        about = artefacts.read_json(path, "rxdraft train") if path.exists() else {}
        if about.get("server_sha256") == server_sha256:
            try:
                self._client.update_run(about["run_id"], status="RUNNING")
                return str(about["run_id"])
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        run_id = self._begin(folder)
        with artefacts.whole_or_absent(path) as new:
            artefacts.write_json(new, {"server_sha256": server_sha256, "run_id": run_id})
        return run_id

    def _read(self) -> set[tuple[str, int]]:
        """Return what the run already holds, as (name, step)."""
        names = self._client.get_run(self._run_id).data.metrics
        return {(name, one.step) for name in names for one in self._client.get_metric_history(self._run_id, name)}

    def _begin(self, folder: Path) -> str:
        from mlflow.entities import Param

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "rxdraft")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        run_id: str = self._client.create_run(experiment, run_name=folder.name).info.run_id
        settings = [Param(name, str(value)) for name, value in _settings(folder).items()]
        self._client.log_batch(run_id, params=settings)
        return run_id

    def write(self, entry: Mapping[str, Any]) -> None:
        """Copy an entry's numbers, some seconds later."""
        step = entry["step"]
        self._pending += [(name, value, step) for name, value in _scalars(entry) if (name, step) not in self._known]
        if time.monotonic() - self._flushed > _FLUSH_SECONDS or len(self._pending) >= _LARGEST_BATCH:
            self._flush()

    def _flush(self) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value, step in self._pending]
        for start in range(0, len(metrics), _LARGEST_BATCH):
            self._tell(self._client.log_batch, metrics=metrics[start : start + _LARGEST_BATCH])
        self._pending.clear()
        self._flushed = time.monotonic()

    def _tell(self, call: Callable[..., object], **arguments: object) -> None:
        """Call the server about the run. One that fails costs its copy, never the training."""
        if not self._alive:
            return
        try:
            call(self._run_id, **arguments)
        except Exception as error:  # MLflow raises many kinds, also the bare one
            self._alive = False
            log.warning("MLflow failed (%s) and is told no more; log.jsonl goes on", type(error).__name__)

    def __enter__(self) -> MLflow:
        return self

    def __exit__(self, failure: object, *exc: object) -> None:
        self._flush()
        self._tell(self._client.set_terminated, status="FAILED" if failure else "FINISHED")


def _settings(folder: Path) -> dict[str, Any]:
    """Return the run's rank and those of its settings that are a number or a word."""
    path = folder / "run.json"
    about = artefacts.read_json(path, "rxdraft train") if path.exists() else {}
    config = {name: value for name, value in about.get("config", {}).items() if isinstance(value, int | float | str)}
    return config | {name: about[name] for name in ("rank",) if name in about}


def _missing(extra: str) -> ConfigError:
    return ConfigError(f"--track {extra} needs a package that is not installed: pip install 'rxdraft[{extra}]'")
