"""Which checkpoints are scored, of which cohort, and which of them validation chose."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ConfigError, ContractError
from evaluation.predict import cell_name
from serving.probabilities.calibration import Calibration
from training.manifest import Manifest, find_checkpoints, read_manifest

Checkpoint = tuple[Path, Manifest]


def find_all(runs: Path | Sequence[Path]) -> list[Checkpoint]:
    """Return the checkpoints below folders in the table's order: by objective, labels first, then rank and step.

    Raises:
        ContractError: there is none, or several would be one row; all of them are named.
    """
    folders = [runs] if isinstance(runs, Path) else runs
    checkpoints = [(path, read_manifest(path)) for folder in folders for path in find_checkpoints(folder)]
    checkpoints.sort(key=lambda found: (found[1].objective, found[1].rank, found[1].step))
    if not checkpoints:
        raise ContractError(f"{', '.join(map(str, folders))} holds no checkpoint; train one with `rxdraft train`")
    by_name: dict[str, list[str]] = {}
    for path, manifest in checkpoints:
        by_name.setdefault(cell_name(manifest), []).append(str(path))
    twins = [f"{name}: {', '.join(paths)}" for name, paths in by_name.items() if len(paths) > 1]
    if twins:
        raise ContractError(f"one row, several checkpoints ({'; '.join(twins)}); give --runs a folder with one of each")
    return checkpoints


def choose(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """Return the checkpoint to go on with, as validation has it; of equals the one trained longest.

    The highest F1 out of fold where all are calibrated, as lists are then cut as they are served. Else the lowest
    loss: of the first objective alone, as the loss of a written list and that of labels are different things.
    """
    known = {str(path): _calibration(manifest) for path, manifest in checkpoints}
    if all(found is not None and found.fitted is not None for found in known.values()):
        return min(checkpoints, key=lambda one: (-_f1(known[str(one[0])]), -one[1].step))
    comparable = [one for one in checkpoints if one[1].objective == checkpoints[0][1].objective]
    return min(comparable, key=lambda one: (_loss(one[1]), -one[1].step))


def takes_votes(manifest: Manifest) -> bool:
    """Tell whether a checkpoint's lists are served by votes."""
    found = _calibration(manifest)
    return found is not None and found.votes is not None


def describe(path: Path, manifest: Manifest) -> dict[str, Any]:
    """Return what evaluation.json says of a checkpoint."""
    return {
        "path": str(path),
        "objective": manifest.objective,
        "method": manifest.method,
        "seed": manifest.config.get("seed", 0),
        "scaling": manifest.scaling,
        "losses": manifest.losses,
        "calibrated": manifest.calibration is not None,
        "weights_sha256": manifest.weights_sha256,
        "base_sha256": manifest.base_sha256,
    }


def recorded_cohort(checkpoint: Path) -> Path:
    """Return where the cohort lay that a checkpoint was trained on."""
    run = artefacts.read_json(checkpoint.parent / "run.json", "rxdraft train")
    return Path(run["cohort"])


def check_cohort(folder: Path, checkpoints: Sequence[Checkpoint]) -> str:
    """Return the cohort's digest, having seen that all checkpoints were trained on it.

    Raises:
        ContractError: some were not; they and both digests are named.
    """
    found = artefacts.sha256_file(folder / "cohort.json")
    if other := {m.cohort_sha256[:12]: cell_name(m) for _, m in checkpoints if m.cohort_sha256 != found}:
        trained = ", ".join(f"{name} was trained on {digest}" for digest, name in other.items())
        raise ContractError(
            f"{folder} is cohort {found[:12]}; {trained}, "
            "so its test patients may be known to them; give the cohort they were trained on with --data"
        )
    return found


def check_oracle(settings: dict[str, Any]) -> None:
    """See that the cohort's answers are what the oracle knows the chances of: a whole stay's drugs, by name.

    Raises:
        ConfigError: they are not; the settings that differ are named.
    """
    known = {"level": "drug", "within_hours": None}
    other = [f"{name} {settings[name]}" for name, value in known.items() if settings.get(name, value) != value]
    other += ["predict_at 24h"] if settings.get("predict_at") == "24h" else []
    if other:
        raise ConfigError(
            f"the oracle knows the drugs of whole stays by name, the cohort has {', '.join(other)}; leave --oracle out"
        )


def _calibration(manifest: Manifest) -> Calibration | None:
    return None if manifest.calibration is None else Calibration.from_json(manifest.calibration)


def _f1(calibration: Calibration | None) -> float:
    return -inf if calibration is None or calibration.fitted is None else calibration.fitted.after.f1


def _loss(manifest: Manifest) -> float:
    loss = manifest.losses.get("validation")
    return inf if loss is None else loss
