"""What a checkpoint is and where it came from: `manifest.json`, written last, read by everybody.

STEP/adapter/            adapter_model.safetensors, adapter_config.json: plain LoRA to any loader;
                         label_head.safetensors beside them where the objective is labels
STEP/model/              instead of adapter/, where every parameter was trained
STEP/vocabulary/         formulary.parquet, icd_titles.parquet and evidence.parquet of the cohort it was trained on, and
                         its drug_map.csv where it had one
STEP/blend/              the regression that its scores are blended with, where `rxdraft calibrate` found that it helps
STEP/trainer/            the optimisers' state; only the newest checkpoint of a run keeps it. Nothing else is needed
                         to go on: the order of the data and the label head's dropout follow from seed and step
STEP/manifest.json       this
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.errors import ContractError

FORMAT = 4
"""Version of the folder's layout and of the fields below."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Where a checkpoint came from.

    Attributes:
        format: see `FORMAT`.
        base: folder or hub id of the base model.
        base_revision: the hub's commit of it; None for a folder.
        base_sha256: over the base's config, tokenizer, template and weights.
        objective: list, the model writes its drugs; labels, a head gives every drug of the formulary a probability.
        method: of `training.methods`.
        rank, alpha, scaling: of the adapter, whose B A is multiplied by scaling; 0 where there is no adapter.
        scaling_kind: alpha or rslora, as the config has it; empty where there is no adapter.
        targets: layers with an adapter; frozen: its matrices that did not learn; a_seed: what A was drawn from.
        step, steps: optimiser steps done, and those of the whole run.
        best: whether the validation loss is lower than at every earlier look, so that a run's best checkpoint is the
            last of which this is true; None without validation rows.
        trainable_parameters: how many learned.
        weights_sha256: over the files of adapter/ or model/.
        cohort_sha256: of the cohort.json it was trained on.
        cohort_settings: what that cohort was asked to be; empty for an imported corpus.
        prompt_version: of `etl.prompts`; template_date: what the chat template took for today.
        formulary_sha256, icd_titles_sha256: of the files in vocabulary/.
        max_length: tokens of prompt and answer together.
        max_answer_tokens: the longest answer in training, with a third more; the room left for an answer, which a
            label head needs none of.
        losses: train, mean per response token, or per drug under objective labels, since the previous checkpoint;
            validation, None without rows.
        samples: rows trained on; shortened: those whose prompt lost diagnoses to max_length.
        calibration: what makes its scores probabilities and where lists are cut, see `serving.probabilities`; None
            until `rxdraft calibrate`, which alone writes it.
        config: all settings of the run.
        machine: what else decides the last bits: device, dtype and attention as they were resolved, processes, and
            whether torch was held to deterministic kernels.
        versions: of rxdraft and of the libraries that decide a number.
    """

    format: int
    base: str
    base_revision: str | None
    base_sha256: str
    objective: str
    method: str
    rank: int
    alpha: float
    scaling: float
    scaling_kind: str
    targets: list[str]
    frozen: list[str]
    a_seed: int
    step: int
    steps: int
    best: bool | None
    trainable_parameters: int
    weights_sha256: str
    cohort_sha256: str
    cohort_settings: dict[str, Any]
    prompt_version: str
    template_date: str
    formulary_sha256: str
    icd_titles_sha256: str
    max_length: int
    max_answer_tokens: int
    losses: dict[str, float | None]
    samples: int
    shortened: int
    calibration: dict[str, Any] | None
    config: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]

    @property
    def weights_folder(self) -> str:
        """Name of the folder that holds the weights: adapter or model."""
        return "model" if self.method == "full" else "adapter"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `folder/manifest.json`; from then on the checkpoint counts as whole."""
    artefacts.write_json(folder / "manifest.json", asdict(manifest))


def read_manifest(folder: Path) -> Manifest:
    """Read a checkpoint's manifest.

    Raises:
        ContractError: none is there, it is of another format, or fields are missing or unknown.
    """
    content = artefacts.read_json(folder / "manifest.json", "rxdraft train")
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ContractError(f"{folder}/manifest.json has another format, wanted {FORMAT}; train again")
    names = {field.name for field in fields(Manifest)}
    if content.keys() != names:
        odd = ", ".join(sorted(content.keys() ^ names))
        raise ContractError(f"{folder}/manifest.json does not fit this version: {odd}; train again")
    return Manifest(**content)


def find_checkpoints(runs: Path) -> list[Path]:
    """Return every whole checkpoint at or below `runs`, by rank and step."""
    found = {
        path.parent: read_manifest(path.parent)
        for path in runs.rglob("manifest.json")
        if not any(part.startswith(".") for part in path.relative_to(runs).parts)
    }
    return sorted(found, key=lambda path: (found[path].rank, found[path].step, str(path)))
