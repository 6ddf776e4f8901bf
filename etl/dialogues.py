"""Turn a file of dialogues into a corpus that trains like a cohort: cleaned, distinct, short enough.

    OUT/prompts/SPLIT.jsonl    one conversation per line; the last message is the answer to learn
    OUT/formulary.parquet      without rows: nobody knows which drugs these texts name
    OUT/icd_titles.parquet     without rows
    OUT/cohort.json            the fate of every item, digests, versions; written last

All texts are held in memory. What an item says is nobody's business here: errors and logs name positions and keys,
never values.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts, prompts
from etl.chat_files import WANTED, Dialogue, read_dialogues
from etl.cleaning import clean
from etl.cohort import FORMAT, SPLITS, check_same
from etl.errors import ConfigError, SourceDataError
from etl.near_duplicates import dissimilar, distinct, fold
from etl.token_counter import token_counter, tokenizer_sha256

log = logging.getLogger(__name__)

MAX_LENGTH = 1024
"""Tokens per conversation, as the shipped training configs have it."""


def import_dialogues(
    source: Path,
    out: Path,
    *,
    tokenizer: Path | None = None,
    max_length: int = MAX_LENGTH,
    seed: int = 0,
    overwrite: bool = False,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Make the corpus `out` of the file `source`, or find it whole and leave it; same input, same bytes.

    Args:
        source: a JSON array or JSON lines, UTF-8.
        out: the corpus' folder; it appears whole or not at all.
        tokenizer: folder of the base model, whose tokens count; None: estimated.
        max_length: tokens of the longest conversation; longer ones are split between turns.
        seed: of the split, with the item's text.
        overwrite: replace a corpus or cohort that came from something else.
        on_stage: told the name of each stage when it begins.

    Returns:
        The content of cohort.json. The fates under `items` add up to the items read.

    Raises:
        SourceDataError: the file is missing, no UTF-8, no JSON, or items lack keys; their positions are named.
        ConfigError: the tokenizer cannot be used, or no item is left; the fates are told.
        ContractError: `out` holds something else; nothing is touched.
    """
    if not source.is_file():
        raise SourceDataError(f"{source} is no file; {WANTED}")
    artefacts.check_replaceable(out, "cohort.json", "rxdraft import")
    count_tokens = token_counter(tokenizer)
    origin = {
        "format": FORMAT,
        "inputs": {"dialogues": artefacts.sha256_file(source)},
        "kind": "dialogues",
        "max_length": max_length,
        "seed": seed,
        "tokenizer_sha256": tokenizer and tokenizer_sha256(tokenizer),
        "versions": {"prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
    }
    if (out / "cohort.json").exists() and not overwrite:
        return check_same(out, origin)
    on_stage("reading")
    items = read_dialogues(source)
    conversations, fates = sift(items, lambda part: count_tokens(part.messages) <= max_length, on_stage)
    with artefacts.whole_or_absent(out) as folder:
        on_stage("writing")
        folder.mkdir()
        splits = _write_prompts(folder, conversations, seed)
        _write_empty_vocabulary(folder)
        corpus = {**origin, "items": fates, "outputs": artefacts.sha256_tree(folder), "splits": splits}
        artefacts.write_json(folder / "cohort.json", corpus)
    log.info("corpus of %d conversations written", len(conversations))
    return corpus


def sift(
    items: list[Dialogue], fits: Callable[[Dialogue], bool], on_stage: Callable[[str], None] = lambda stage: None
) -> tuple[list[Dialogue], dict[str, int]]:
    """Clean the items, leave out what is empty, repeated or too long, and split what is long.

    Args:
        items: as read.
        fits: tells whether a dialogue is short enough.
        on_stage: told the name of each stage when it begins.

    Returns:
        The conversations, parts of an item one after another, and the fate of every item.

    Raises:
        ConfigError: nothing is left.
    """
    stages: dict[str, Callable[[list[Dialogue]], list[Dialogue]]] = {
        "an empty question or answer": lambda items: [i for i in map(cleaned, items) if all(i.texts)],
        "the same as an earlier item": _distinct,
        "nearly the same as an earlier item": _dissimilar,
        "a turn longer than max_length": lambda items: [part for i in items for part in split_turns(i, fits)],
    }
    fates, left = {"read": len(items)}, len(items)
    for reason, stage in stages.items():
        on_stage(reason)
        items = stage(items)
        before, left = left, len({item.number for item in items})
        fates[f"left out: {reason}"] = before - left
    fates["kept"] = left
    if not items:
        raise ConfigError(f"no item is left ({'; '.join(f'{fate}: {n}' for fate, n in fates.items())})")
    return items, fates


def cleaned(item: Dialogue) -> Dialogue:
    """Return an item with every text cleaned."""
    turns = tuple((clean(question), clean(answer)) for question, answer in item.turns)
    return Dialogue(item.number, clean(item.system), turns)


def _distinct(items: list[Dialogue]) -> list[Dialogue]:
    return [items[place] for place in distinct([_digest(item) for item in items])]


def _dissimilar(items: list[Dialogue]) -> list[Dialogue]:
    return [items[place] for place in dissimilar([" ".join(item.texts) for item in items])]


def _digest(item: Dialogue) -> str:
    """Return a digest of the folded turns: it makes two items the same, and decides an item's split."""
    return artefacts.sha256(json.dumps([fold(text) for text in item.texts]).encode())


def split_turns(item: Dialogue, fits: Callable[[Dialogue], bool]) -> list[Dialogue]:
    """Split an item between turns into as few parts as fit, each under the system text.

    Returns:
        The parts, in order; none where a turn alone does not fit.
    """
    if fits(item):
        return [item]
    parts: list[Dialogue] = []
    for turn in item.turns:
        longer = replace(parts[-1], turns=(*parts[-1].turns, turn)) if parts else None
        alone = replace(item, turns=(turn,))
        if longer and fits(longer):
            parts[-1] = longer
        elif fits(alone):
            parts.append(alone)
        else:
            return []
    return parts


# --- the corpus ---------------------------------------------------------------------------------------


def _write_prompts(folder: Path, conversations: list[Dialogue], seed: int) -> dict[str, dict[str, int]]:
    """Write each split's conversations in the order of their items; return how many it has, of how many items.

    An item stands in for the patient: its position is the subject_id, and all its parts are in one split. The
    conversation's place among all is the hadm_id.
    """
    (folder / "prompts").mkdir()
    lines: dict[str, list[str]] = {split: [] for split in SPLITS}
    items = dict.fromkeys(SPLITS, 0)
    hadm_id = 0
    for number, parts in groupby(conversations, key=lambda part: part.number):
        first, *others = parts
        split = _split_of(first, seed)
        items[split] += 1
        for part in (first, *others):
            hadm_id += 1
            row = {"subject_id": number, "hadm_id": hadm_id, "messages": part.messages}
            lines[split].append(json.dumps(row, ensure_ascii=False) + "\n")
    for split in SPLITS:
        (folder / "prompts" / f"{split}.jsonl").write_text("".join(lines[split]), encoding="utf-8")
    return {split: {"conversations": len(lines[split]), "items": items[split]} for split in SPLITS}


def _split_of(item: Dialogue, seed: int) -> str:
    """Return a split by a hash of the texts and the seed: 90 % train, 5 % validation, 5 % test."""
    place = int(artefacts.sha256(f"{_digest(item)}:{seed}".encode())[:8], 16) / 2**32
    return SPLITS[0 if place < 0.9 else 1 if place < 0.95 else 2]


def _write_empty_vocabulary(folder: Path) -> None:
    """Write the tables that a checkpoint takes along, with the columns of sql/ and no row."""
    formulary: dict[str, Any] = {"drug": pl.String, "admissions": pl.Int64, "spellings": pl.List(pl.String)}
    icd_titles: dict[str, Any] = {"icd_code": pl.String, "icd_version": pl.Int32, "title": pl.String}
    pl.DataFrame(schema=formulary).write_parquet(folder / "formulary.parquet")
    pl.DataFrame(schema=icd_titles).write_parquet(folder / "icd_titles.parquet")
