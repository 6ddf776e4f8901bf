"""Write a checkpoint whole or not at all, and read its weights and trainer state back."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file, load_model
from torch import nn
from transformers import PreTrainedTokenizerBase

from etl import artefacts
from etl.errors import ContractError
from training.labels import LabelHead, load_head, save_head
from training.manifest import Manifest, read_manifest, write_manifest

VOCABULARY = ("formulary.parquet", "icd_titles.parquet", "evidence.parquet", "drug_map.csv")
"""What serving needs of the cohort; a drug map is there only where the user gave one, evidence where it was counted."""


def save(
    folder: Path,
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    optimizers: Sequence[torch.optim.Optimizer],
    cohort: Path,
    manifest: Manifest,
    head: LabelHead | None = None,
) -> None:
    """Write weights, vocabulary, trainer state and, last, the manifest with the digest of the weights."""
    with artefacts.whole_or_absent(folder) as new:
        weights = new / manifest.weights_folder
        _save_weights(weights, model, tokenizer, manifest)
        if head is not None:
            save_head(head, weights)
        (new / "vocabulary").mkdir()
        for path in (cohort / name for name in VOCABULARY):
            if path.is_file():
                shutil.copyfile(path, new / "vocabulary" / path.name)
        (new / "trainer").mkdir()
        torch.save([optimizer.state_dict() for optimizer in optimizers], new / "trainer" / "optimizers.pt")
        write_manifest(new, replace(manifest, weights_sha256=weights_sha256(weights)))


def _save_weights(weights: Path, model: Any, tokenizer: PreTrainedTokenizerBase, manifest: Manifest) -> None:
    """Write adapter/ or model/, as any loader reads them."""
    if not isinstance(model, PeftModel):
        model.save_pretrained(weights, max_shard_size="1TB")  # one file, as it is read back
        tokenizer.save_pretrained(weights)
        return
    # "auto" would ask the hub whether the embeddings changed; they never do here.
    model.save_pretrained(weights, save_embedding_layers=False)
    (weights / "README.md").unlink(missing_ok=True)
    path = weights / "adapter_config.json"
    config = artefacts.read_json(path, "rxdraft train")
    config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps a set, in another order every process
    # PEFT leaves them empty where the base was built in memory, and a loader looks for the base there.
    config |= {"base_model_name_or_path": manifest.base, "revision": manifest.base_revision}
    artefacts.write_json(path, config)


def weights_sha256(weights: Path) -> str:
    """Return the digest over a weights folder's files."""
    return artefacts.sha256_files([path for path in weights.iterdir() if path.is_file()])


def checked_weights(folder: Path, manifest: Manifest) -> Path:
    """Return a checkpoint's weights folder.

    Raises:
        ContractError: it is missing, or its files are not those the manifest was written for.
    """
    weights = folder / manifest.weights_folder
    if not weights.is_dir() or weights_sha256(weights) != manifest.weights_sha256:
        raise ContractError(
            f"{weights} is not what its manifest was written for; "
            "copy the whole checkpoint, or remove it and train again"
        )
    return weights


def load_weights(model: nn.Module, folder: Path, head: LabelHead | None = None) -> None:
    """Put a checkpoint's weights into a model, and a label head, built for the same run.

    Raises:
        ContractError: the files are not those the manifest was written for.
    """
    weights = checked_weights(folder, read_manifest(folder))
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(weights / "adapter_model.safetensors"))
    else:
        load_model(model, weights / "model.safetensors")  # strict, and knows that a tied head is stored once
    if head is not None:
        head.load_state_dict(load_head(weights).state_dict())


def load_trainer(optimizers: Sequence[torch.optim.Optimizer], folder: Path) -> None:
    """Put the optimisers where the checkpoint left them.

    Raises:
        ContractError: the checkpoint keeps no trainer state, so it cannot be gone on from.
    """
    path = folder / "trainer" / "optimizers.pt"
    if not path.is_file():
        raise ContractError(f"{folder} is the newest checkpoint and has no trainer/; remove it to go on from an older")
    states = torch.load(path, weights_only=True, map_location="cpu")  # each goes to where its weight is
    for optimizer, state in zip(optimizers, states, strict=True):
        optimizer.load_state_dict(state)


def drop_older_trainers(run: Path, newest: Path) -> None:
    """Remove the trainer state of every checkpoint but the newest: nobody goes on from the others."""
    for path in run.glob("step-*/trainer"):
        if path.parent != newest:
            artefacts.remove(path)
