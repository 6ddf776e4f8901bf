"""A checkpoint becomes a folder that plain transformers, PEFT and vLLM read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from etl import artefacts
from etl.errors import ConfigError, ContractError
from training import base as bases
from training.checkpoint import checked_weights
from training.export.card import render_card
from training.export.disagreement import read_questions
from training.export.origin import ORIGIN, Exported, is_hub_id
from training.export.weights import own_dtype, write_adapter, write_merged
from training.manifest import read_manifest

log = logging.getLogger(__name__)


def export_model(
    checkpoint: Path,
    out: Path,
    *,
    merge: bool = False,
    dtype: str = "auto",
    base: str | None = None,
    cohort: Path | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Exported:
    """Write an adapter or a whole model with tokenizer, card and origin; an earlier export at `out` is replaced.

    Args:
        checkpoint: folder made by `rxdraft train`.
        out: the folder; it appears whole or not at all.
        merge: add the adapter to the base. A checkpoint of method full is a whole model in any case.
        dtype: of a whole model: float32, bfloat16, or auto for the base's own. An adapter stays as it was trained.
        base: where the base is, if not where training found it; it must be the same one.
        cohort: whose validation split a whole model is asked; None: synthetic conversations.
        on_stage: told what is being done.

    Raises:
        ConfigError, ContractError: checkpoint, base, cohort and `out` do not fit together.
    """
    manifest = read_manifest(checkpoint)
    if manifest.objective == "labels":
        raise ConfigError(
            f"{checkpoint} has a label head, which no loader of adapters or models knows, and writes no list without; "
            "serve it with `rxdraft serve`, or export one of objective list"
        )
    weights = checked_weights(checkpoint, manifest)
    artefacts.check_replaceable(out, ORIGIN, "rxdraft export-model")
    full = manifest.method == "full"
    named = base or manifest.base
    on_stage("base")
    folder = weights if full else _same_base(named, manifest.base_sha256)
    tokenizer = bases.load_tokenizer(folder)
    merged, wanted = merge or full, own_dtype(folder) if dtype == "auto" else dtype
    disagreement = None
    with artefacts.whole_or_absent(out) as new:
        new.mkdir()
        if merged:
            on_stage("conversations")
            ask = read_questions(tokenizer, manifest.max_length, cohort)
            on_stage("merge")
            disagreement = write_merged(weights, folder, new, wanted, tokenizer, ask, manifest)
        else:
            wanted = "float32"  # what adapters are trained in
            revision = bases.base_revision(folder)
            write_adapter(weights, new, named if is_hub_id(named) else str(folder.resolve()), revision)
        tokenizer.save_pretrained(new)
        exported = Exported(manifest, named if is_hub_id(named) else Path(named).name, merged, wanted, disagreement)
        (new / "README.md").write_text(render_card(exported), "utf-8")
        artefacts.write_json(new / ORIGIN, exported.about())
    log.info("exported step %d of rank %d", manifest.step, manifest.rank)
    return exported


def _same_base(base: str, base_sha256: str) -> Path:
    """Return a base's folder.

    Raises:
        ContractError: it is another than the checkpoint was trained on.
    """
    folder = bases.base_folder(base)
    if (found := bases.base_sha256(folder)) != base_sha256:
        raise ContractError(
            f"base {base} has digest {found[:12]}, the checkpoint was trained on {base_sha256[:12]}; "
            "give the same base with --base"
        )
    return folder
