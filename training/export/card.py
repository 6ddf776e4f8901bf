"""README.md of an export: what it is, whose terms it is under, how it was made and how to load it.

Scores are not in it: `rxdraft report` writes a card with those.

Source: the sections are those of the hub's template for model cards.
"""

from __future__ import annotations

import textwrap

from etl.outside.firewall import Provenance
from training.export.origin import Exported, is_hub_id, vllm_rank

_TERMS = {
    Provenance.CREDENTIALED: """These weights were made from credentialed data and may give parts of them back. They are
        under the same terms: nobody gets them who has not signed the data's use agreement, and PhysioNet asks that
        models made of MIMIC be shared through PhysioNet alone.""",
    Provenance.DEMO: """These weights were made from data that their user declared open (`rxdraft etl --open-data`); the
        terms of those data hold for them too.""",
    Provenance.SYNTHETIC: "These weights were made from synthetic data; there is no patient behind them.",
}
_PROMPTS = """Prompts are rendered with the chat template beside this file and `date_string="{m.template_date}"`, which
    the template takes for today; prompt version {m.prompt_version}. Drafts are greedy (temperature 0), of at most
    {m.max_answer_tokens} tokens."""
_WHOLE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
```"""


def render_card(exported: Exported) -> str:
    """Return README.md: YAML for the hub, then prose. Its licence is a person's to decide, and is left out."""
    from huggingface_hub import ModelCardData

    manifest, base = exported.manifest, exported.base
    front = ModelCardData(
        language="en",
        library_name="transformers" if exported.merged else "peft",
        base_model=base if is_hub_id(base) else None,
        pipeline_tag="text-generation",
        tags=["medical", "prescription", *([] if manifest.method == "full" else ["lora"])],
    )
    return f"---\n{str(front.to_yaml()).rstrip()}\n---\n\n{_prose(exported)}"


def _prose(exported: Exported) -> str:
    manifest = exported.manifest
    kind = "one whole model" if exported.merged else "an adapter"
    losses = ", ".join(f"{split} {loss:.4f}" for split, loss in sorted(manifest.losses.items()) if loss is not None)
    return f"""# rxdraft: {_title(exported)}

Drafts the list of drugs of a hospital admission from patient facts and ICD codes, for a clinician to accept, edit or
reject. This is {kind}, in {exported.dtype}.

## What it is not for

No clinical use without review by a clinician. A draft holds no doses and knows no allergies; it repeats what was
ordered in one hospital, right or wrong.

## Terms

{_paragraph(_TERMS[exported.provenance] + " The licence of the base model holds as well.")}

## How it was made

- Base: {exported.base}, digest {manifest.base_sha256[:12]}{_revision(exported)}.
- Method: {_method(exported)}.
- Parameters that learned: {manifest.trainable_parameters:,}.
- Data: cohort {manifest.cohort_sha256[:12]}, {manifest.samples:,} samples, up to {manifest.max_length:,} tokens each.
- Step {manifest.step:,} of {manifest.steps:,}; mean loss per token: {losses}.
- Weights of the checkpoint: {manifest.weights_sha256[:12]}; rxdraft {manifest.versions["rxdraft"]}.

All settings are in `rxdraft.json`. Scores are not: `rxdraft report` writes a card with those.

## How to load it

{_WHOLE if exported.merged else _adapter(exported)}

{_paragraph(_PROMPTS.format(m=manifest))}
{_measured(exported)}"""


def _title(exported: Exported) -> str:
    manifest = exported.manifest
    rank = f" of rank {manifest.rank}" if manifest.rank else ""
    return f"{manifest.method}{rank}, step {manifest.step}"


def _revision(exported: Exported) -> str:
    revision = exported.manifest.base_revision
    return f", revision {revision}" if revision else ""


def _method(exported: Exported) -> str:
    manifest = exported.manifest
    if not manifest.rank:
        return "full, every parameter learned"
    frozen = f", {' and '.join(manifest.frozen)} frozen as drawn from seed {manifest.a_seed}" if manifest.frozen else ""
    targets = " and ".join(manifest.targets)
    return (
        f"{manifest.method}, rank {manifest.rank} on {targets}{frozen}; "
        f"the update is multiplied by {manifest.scaling:g}"
    )


def _adapter(exported: Exported) -> str:
    rank = exported.manifest.rank
    largest = vllm_rank(rank)
    vllm = (
        f"With vLLM, which takes adapters of this kind by its documentation and was not run here:\n\n```console\n"
        f"vllm serve {exported.base} --enable-lora --max-lora-rank {largest} --lora-modules rxdraft=FOLDER\n```"
        if largest
        else f"vLLM takes no adapter of rank {rank}; export with --merge for it."
    )
    return f"""```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model, tokenizer = AutoPeftModelForCausalLM.from_pretrained(FOLDER), AutoTokenizer.from_pretrained(FOLDER)
```

{vllm}"""


def _measured(exported: Exported) -> str:
    found, manifest = exported.disagreement, exported.manifest
    if found is None:
        return ""
    made = "weights were" if not manifest.rank else "adapter was added in float32 and the sum"
    measured = f"""The {made} rounded to {exported.dtype}. Read back from these files and asked {found.conversations}
        {found.asked} conversations, it has the same token in front as the checkpoint, unmerged, at
        {found.argmax_agreement:.2%} of {found.tokens:,} answer tokens; the largest difference between two logits is
        {found.max_logit_difference:.2g}."""
    if manifest.method == "qlora":
        measured += """ It was trained over the base in 4 bits and is added to the base's own weights; what that
            changes is not in these figures."""
    return f"\n## How far it is from the checkpoint\n\n{_paragraph(measured)}\n"


def _paragraph(words: str) -> str:
    return textwrap.fill(" ".join(words.split()), 118)
