"""The folder that is grown: a corpus as `rxdraft import` makes it, with the tasks and where they came from.

OUT/pairs.jsonl     the tasks, as Alpaca has them
OUT/cohort.json     of the corpus, and under `augment` who wrote it, from what, and the fate of every task
OUT/prompts/, ...   see etl/dialogues.py
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etl import artefacts
from etl.augment.prompt import Task
from etl.cohort import read_cohort
from etl.dialogues import import_dialogues

COMPLETE = "enough"
"""How a growth ended that need not go on."""


def standing(out: Path, asked: dict[str, Any], *, overwrite: bool) -> dict[str, Any] | None:
    """Return the cohort.json of a corpus that was asked for in the same words and is complete; None: make it.

    Raises:
        ContractError: something else stands at `out`; what differs is named.
    """
    artefacts.check_replaceable(out, "cohort.json", "rxdraft augment")
    if overwrite or not (out / "cohort.json").exists():
        return None
    corpus = read_cohort(out)
    artefacts.check_same(out, corpus.get("augment", {}), {"asked": asked}, within="asked")
    return corpus if corpus["augment"]["ended"] == COMPLETE else None


def write(
    out: Path,
    tasks: Sequence[Task],
    system: str,
    origin: dict[str, Any],
    *,
    tokenizer: Path | None,
    max_length: int,
    open_data: bool,
) -> dict[str, Any]:
    """Write the corpus, whole or not at all; return the content of cohort.json."""
    with artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        pairs, imported = folder / "pairs.jsonl", folder / "imported"
        under = {"system": system} if system else {}
        lines = [json.dumps({**task.described(), **under}, ensure_ascii=False) + "\n" for task in tasks]
        pairs.write_text("".join(lines), encoding="utf-8")
        corpus = import_dialogues(pairs, imported, tokenizer=tokenizer, max_length=max_length)
        (imported / "cohort.json").unlink()
        for path in sorted(imported.iterdir()):
            path.rename(folder / path.name)
        imported.rmdir()
        outputs = artefacts.sha256_tree(folder)
        made = {**corpus, "augment": origin, "outputs": outputs, "settings": {"open_data": open_data}}
        artefacts.write_json(folder / "cohort.json", made)
    return made
