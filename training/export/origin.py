"""What an exported folder is and where it came from: `rxdraft.json`, and the terms its data are under."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from etl.outside.firewall import Provenance
from training.export.disagreement import Disagreement
from training.manifest import Manifest

ORIGIN = "rxdraft.json"
"""Marks a folder as an export, which the next may replace."""

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` takes. Source: vLLM, vllm/config/lora.py."""

_OF_MANIFEST = (
    *("base_revision", "base_sha256", "method", "rank", "alpha", "scaling", "targets", "frozen", "a_seed", "step"),
    *("trainable_parameters", "weights_sha256", "cohort_sha256", "cohort_settings", "prompt_version"),
    *("template_date", "max_length", "max_answer_tokens", "losses", "samples", "config", "versions"),
)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        manifest: of the checkpoint.
        base: the base as a reader elsewhere knows it: the hub's id, or a folder's name without its path.
        merged: one whole model, and no adapter.
        dtype: of the weights.
        disagreement: with the checkpoint as it is served unmerged; None for an adapter, which is the checkpoint's.
    """

    manifest: Manifest
    base: str
    merged: bool
    dtype: str
    disagreement: Disagreement | None

    @property
    def provenance(self) -> Provenance:
        """Whose terms the weights are under."""
        return provenance(self.manifest)

    def about(self) -> dict[str, Any]:
        """Return the content of `rxdraft.json`; no path of this machine is in it."""
        kept = {name: value for name, value in asdict(self.manifest).items() if name in _OF_MANIFEST}
        return {
            "base": self.base,
            "checkpoint": kept,
            "data_terms": self.provenance.value,
            "disagreement": asdict(self.disagreement) if self.disagreement else None,
            "dtype": self.dtype,
            "merged": self.merged,
        }


def provenance(manifest: Manifest) -> Provenance:
    """Return whose terms a checkpoint is under: demo where its cohort was made as open data, else credentialed."""
    return Provenance.DEMO if manifest.cohort_settings.get("open_data") is True else Provenance.CREDENTIALED


def is_hub_id(base: str) -> bool:
    """Tell whether a base is the hub's name of one and no folder."""
    return not Path(base).is_dir() and base.count("/") == 1 and base[0] not in "./~"


def vllm_rank(rank: int) -> int | None:
    """Return the least `--max-lora-rank` that takes an adapter; None where vLLM takes none of its rank."""
    return next((allowed for allowed in VLLM_RANKS if allowed >= rank), None)


def vllm_problems(config: dict[str, Any], weights: Iterable[str]) -> list[str]:
    """Return what keeps vLLM from loading an adapter; empty where nothing that its documentation names does.

    Args:
        config: content of adapter_config.json.
        weights: names in adapter_model.safetensors.

    Source: vLLM, features/lora.md and vllm/lora/peft_helper.py.
    """
    found = {
        f"rank {config['r']} is above {VLLM_RANKS[-1]}": vllm_rank(config["r"]) is None,
        "it has modules_to_save": bool(config.get("modules_to_save")),
        "it has biases": config.get("bias", "none") != "none",
        "it is DoRA": bool(config.get("use_dora")),
        "it holds more than lora_A and lora_B": any(
            not name.endswith((".lora_A.weight", ".lora_B.weight")) for name in weights
        ),
    }
    return [problem for problem, is_there in found.items() if is_there]
