"""A yes or no for every drug: the questions that a model learns from, and what it then says of a whole formulary.

Yes is the drug's name, no is the end of the turn: what the tiny base writes anyway. With the words themselves the loss
stayed at 2.0 nats a token in the two settings tried; perhaps because their embeddings, tied to the output, never were a
target. That was not tested.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from transformers import DynamicCache

from etl import artefacts, prompts
from etl.cohort import FORMAT, read_samples, to_admission
from etl.domain import Admission
from serving.probabilities.curves import to_probabilities
from serving.probabilities.cut import Floats
from serving.recommenders.engine import Engine

NO = ""
PAIRS = 1
"""Questions of each kind about an admission: one drug that was ordered, one that was not."""


def ask(admission: Admission, drug: str) -> list[prompts.Message]:
    """Render a question about one drug; the drug stands last, so that all that is before it is read once."""
    system, user = prompts.render_prompt(admission)
    return [system, {**user, "content": f"{user['content']}\nOrdered: {drug}?"}]


# --- what it learns from ----------------------------------------------------------------------------------


def write_corpus(cohort: Path, out: Path, seed: int) -> None:
    """Write questions about a cohort's train and validation splits as a corpus that trains; one that stands is left.

    Drugs that were not ordered are drawn by popularity: nobody learns from being asked about what is never given. So
    the answer tells how this patient differs from others, and `read_yes_no` adds the popularity again.
    """
    if out.exists():
        return
    formulary = pl.read_parquet(cohort / "formulary.parquet")
    with artefacts.whole_or_absent(out) as new:
        (new / "prompts").mkdir(parents=True)
        for split in ("train", "validation"):
            rows = _questions(read_samples(cohort, split), formulary, random.Random(f"{seed}:{split}"))
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (new / "prompts" / f"{split}.jsonl").write_text("".join(lines), "utf-8")
        for name in ("formulary", "icd_titles"):
            pl.read_parquet(cohort / f"{name}.parquet").clear().write_parquet(new / f"{name}.parquet")
        about = {"format": FORMAT, "kind": "dialogues", "seed": seed, "outputs": artefacts.sha256_tree(new)}
        cohort_sha256 = artefacts.sha256_file(cohort / "cohort.json")
        artefacts.write_json(new / "cohort.json", {**about, "inputs": {"cohort": cohort_sha256}})


def _questions(samples: pl.DataFrame, formulary: pl.DataFrame, draw: random.Random) -> Iterator[dict[str, Any]]:
    names, counts = formulary["drug"].to_list(), formulary["admissions"].to_list()
    known = set(names)
    for sample in samples.iter_rows(named=True):
        ordered = [drug for drug in sample["drugs"] if drug in known]
        left = [(drug, count) for drug, count in zip(names, counts, strict=True) if drug not in ordered]
        asked = [(drug, drug) for drug in draw.sample(ordered, min(PAIRS, len(ordered)))]
        asked += [(drug, NO) for drug in draw.choices(*zip(*left, strict=True), k=PAIRS)]
        for drug, answer in asked:
            messages = [*ask(to_admission(sample), drug), {"role": "assistant", "content": answer}]
            yield {"subject_id": sample["subject_id"], "hadm_id": sample["hadm_id"], "messages": messages}


# --- what it says -----------------------------------------------------------------------------------------


class YesNo:
    """Asks one checkpoint about every drug of a formulary; an admission's facts are read once for all of them."""

    def __init__(self, engine: Engine, adapter: str | None, formulary: Sequence[str], popularity: Floats) -> None:
        """Tokenise what differs between drugs.

        Args:
            engine: with the adapter added.
            adapter: its name; None: the base alone is asked.
            formulary: drugs to ask about.
            popularity: share of the training admissions that had each, (formulary,).
        """
        self._engine, self._adapter, self._first = engine, adapter, formulary[0]
        self._prior = np.log(popularity)
        whole = [prompts.encode(engine.tokenizer, ask(Admission(()), drug)) for drug in formulary]
        same = next(i for i, tokens in enumerate(zip(*whole, strict=False)) if len(set(tokens)) > 1)
        self._ends = [ids[same:] for ids in whole]
        self._names = [engine.tokenizer.encode(drug, add_special_tokens=False)[0] for drug in formulary]

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return a score in [0, 1] for every drug, (admissions, formulary): odds of a yes, times the popularity."""
        with self._engine.turned_to(self._adapter):
            said = np.array([self._read(admission) for admission in admissions])
        return to_probabilities(said[:, :, 1] - said[:, :, 0] + self._prior)

    @torch.inference_mode()
    def _read(self, admission: Admission) -> Any:
        """Return the logits of no and yes, (formulary, 2): of the end of the turn, and of the name's first token."""
        model = self._engine.causal
        ids = prompts.encode(self._engine.tokenizer, ask(admission, self._first))
        before, device = ids[: -len(self._ends[0])], model.device
        read = model.model(input_ids=torch.tensor([before], device=device), use_cache=True).past_key_values
        spread = [tuple(x.expand(len(self._ends), -1, -1, -1) for x in (one.keys, one.values)) for one in read.layers]
        longest = max(map(len, self._ends))
        rest = torch.tensor([[*end, *[0] * (longest - len(end))] for end in self._ends], device=device)
        cache = DynamicCache(spread, config=model.config)
        states = model.model(input_ids=rest, past_key_values=cache, use_cache=True).last_hidden_state
        last = states[torch.arange(len(rest)), [len(end) - 1 for end in self._ends]]  # (formulary, hidden)
        logits = model.lm_head(last).float().cpu().numpy()
        return np.stack([logits[:, self._engine.end], logits[np.arange(len(rest)), self._names]], axis=1)
