"""The files with the numbers: an adapter as it was trained, or one model with the adapter added in."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils import logging as hf_logging

from etl import artefacts
from etl.errors import ContractError
from training import base as bases
from training.export.disagreement import Disagreement, Questions
from training.export.origin import vllm_problems
from training.manifest import Manifest

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_ATTENTION = "sdpa"  # of both models that are compared: they shall differ in nothing but their weights


def write_adapter(weights: Path, out: Path, base: str, revision: str | None) -> None:
    """Copy an adapter, naming its base where a loader looks for it.

    Args:
        weights: the checkpoint's adapter/.
        out: an existing folder.
        base: hub id, or the folder's absolute path.
        revision: the hub's commit; None for a folder.

    Raises:
        ContractError: the adapter holds what vLLM does not load; no checkpoint of ours does.
    """
    config = artefacts.read_json(weights / "adapter_config.json", "rxdraft train")
    with safe_open(weights / "adapter_model.safetensors", framework="pt") as file:
        if problems := vllm_problems(config, file.keys()):
            raise ContractError(f"{weights}: {'; '.join(problems)}; wanted a plain LoRA, train it again")
    shutil.copyfile(weights / "adapter_model.safetensors", out / "adapter_model.safetensors")
    config |= {"base_model_name_or_path": base, "revision": revision}
    artefacts.write_json(out / "adapter_config.json", config)


def write_merged(
    weights: Path,
    base: Path,
    out: Path,
    dtype: str,
    tokenizer: PreTrainedTokenizerBase,
    ask: Questions,
    about: Manifest,
) -> Disagreement:
    """Write one model, read it back, and return how far it is from the checkpoint over the base's own weights.

    Args:
        weights: the checkpoint's adapter/ or model/.
        base: the base's folder; the same as `weights` where that is a whole model.
        out: an existing folder.
        dtype: of the weights; float32 or bfloat16.
        tokenizer: of the base.
        ask: what both models are asked.
        about: of the checkpoint.
    """
    model: Any = bases.load_model(base, DTYPES[own_dtype(base)], _ATTENTION)
    if weights != base:
        model = PeftModel.from_pretrained(model, weights).eval()
    expected = ask.logits(model)
    if weights != base:
        model = model.merge_and_unload()  # adds in float32, rounds once
    model = model.to(DTYPES[dtype])
    model.generation_config = _generation(model.generation_config, tokenizer, about)
    hf_logging.disable_progress_bar()
    model.save_pretrained(out)
    del model  # two of them need not fit
    written: Any = bases.load_model(out, DTYPES[dtype], _ATTENTION)
    return ask.compare(expected, ask.logits(written))


def own_dtype(folder: Path) -> str:
    """Return the dtype a model's weights are in, as its config says: bfloat16, or float32 for any other."""
    return "bfloat16" if AutoConfig.from_pretrained(folder).dtype == torch.bfloat16 else "float32"


def _generation(base: GenerationConfig, tokenizer: PreTrainedTokenizerBase, about: Manifest) -> GenerationConfig:
    """Return how drafts are generated: greedily, to the end of the turn."""
    known = base.eos_token_id if isinstance(base.eos_token_id, list) else [base.eos_token_id]
    ends = dict.fromkeys([*known, bases.end_of_turn(tokenizer)])
    return GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[end for end in ends if end is not None],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=about.max_answer_tokens,
    )
