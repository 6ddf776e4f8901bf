"""Write a cohort in the formats others read: chat, Alpaca, Hugging Face datasets, MEDS.

    OUT/...             files of one format; docs/formats.md shows each and how to open it
    OUT/export.json     format, rows per split, digests of the cohort and of the files; written last

Conversations are rendered and written one by one; of the cohort one split's samples are in memory.
Nothing here decides what data mean: texts come from `etl.cohort.read_prompts`, events from `etl.meds`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Any

import duckdb

from etl import artefacts, parquet, prompts
from etl.cohort import SPLITS, read_cohort, read_prompts
from etl.errors import ConfigError
from etl.meds import write_meds

log = logging.getLogger(__name__)

MARKER = "export.json"
"""The file that says a folder is an export, and so may be replaced by another."""

_TOLD_EVERY = 1000

Row = dict[str, Any]


class Format(StrEnum):
    """What an export is written as."""

    CHAT = "chat"
    ALPACA = "alpaca"
    DATASETS = "datasets"
    MEDS = "meds"


def export(
    run: Path,
    out: Path,
    form: Format,
    splits: Sequence[str] = SPLITS,
    on_rows: Callable[[int], None] = lambda rows: None,
) -> dict[str, Any]:
    """Write splits of the cohort `run` to the folder `out`; same cohort, same bytes.

    Args:
        run: a whole cohort, or an imported corpus.
        out: absent, empty, or an earlier export, which is replaced; it appears whole or not at all.
        form: what to write.
        splits: of train, validation and test.
        on_rows: told now and then how many rows are written.

    Returns:
        The content of export.json.

    Raises:
        ConfigError: `out` lies in `run`, or the splits hold no row.
        ContractError: `run` is no whole cohort or lacks what the format needs, or something else stands at `out`.
    """
    read_cohort(run)
    if out.resolve().is_relative_to(run.resolve()):
        raise ConfigError(f"--out {out} lies in the cohort {run}, which is only read; choose a folder outside it")
    artefacts.check_replaceable(out, MARKER, "rxdraft export")
    with artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        names = tuple(dict.fromkeys(splits))
        if form is Format.MEDS:
            sections = write_meds(run, folder, names, on_rows)
        else:
            sections = _write_conversations(run, folder, form, names, on_rows)
        rows = sum(sections["splits"].values())
        if not rows:
            raise ConfigError(f"{run} has nothing in {', '.join(sections['splits'])}; choose another --split")
        exported = {
            "cohort_sha256": artefacts.sha256_file(run / "cohort.json"),
            "format": form.value,
            "outputs": artefacts.sha256_tree(folder),
            **sections,
            "versions": {"duckdb": duckdb.__version__, "prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
        }
        artefacts.write_json(folder / MARKER, exported)
    log.info("%s export of %d rows written", form, rows)
    return exported


# --- conversations ------------------------------------------------------------------------------------


def _write_conversations(
    run: Path, folder: Path, form: Format, splits: Sequence[str], on_rows: Callable[[int], None]
) -> dict[str, Any]:
    """Write each split's conversations; return how many it has, as export.json tells it."""
    write = {Format.CHAT: _write_chat, Format.ALPACA: _write_alpaca, Format.DATASETS: _write_parquet}[form]
    counts = dict.fromkeys(splits, 0)

    def counted(split: str) -> Iterator[Row]:
        for row in read_prompts(run, split):
            yield row
            counts[split] += 1
            if counts[split] % _TOLD_EVERY == 0:
                on_rows(sum(counts.values()))

    for split in splits:
        write(folder, split, counted(split))
    on_rows(sum(counts.values()))
    if form is Format.DATASETS:
        # One empty split among the listed, and load_dataset opens none.
        (folder / "README.md").write_text(_card([split for split in splits if counts[split]]), "utf-8")
    return {"splits": counts}


def _write_chat(folder: Path, split: str, rows: Iterable[Row]) -> None:
    with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_alpaca(folder: Path, split: str, rows: Iterable[Row]) -> None:
    with (folder / f"{split}.json").open("w", encoding="utf-8") as file:
        begin = "[\n"
        for row in rows:
            file.write(begin + json.dumps(to_alpaca(row["messages"]), ensure_ascii=False))
            begin = ",\n"
        file.write("\n]\n" if begin == ",\n" else "[]\n")


def to_alpaca(messages: Sequence[prompts.Message]) -> dict[str, Any]:
    """Return a conversation as an Alpaca item; turns before the last are its history.

    The system text, which is what the user's text is to be read under, becomes the instruction. A conversation
    without one has its last question there.

    >>> to_alpaca([{"role": "user", "content": "Age: 67"}, {"role": "assistant", "content": "aspirin"}])
    {'instruction': 'Age: 67', 'input': '', 'output': 'aspirin'}
    """
    system = [message["content"] for message in messages if message["role"] == "system"]
    texts = [message["content"] for message in messages if message["role"] != "system"]
    *earlier, question, answer = texts
    instruction, given = (system[0], question) if system else (question, "")
    history = [list(pair) for pair in zip(earlier[::2], earlier[1::2], strict=True)]
    return {"instruction": instruction, "input": given, "output": answer, **({"history": history} if history else {})}


def _write_parquet(folder: Path, split: str, rows: Iterable[Row]) -> None:
    """Write a split as the shard that `load_dataset` looks for."""
    _write_chat(folder, split, rows)
    lines = folder / f"{split}.jsonl"
    (folder / "data").mkdir(exist_ok=True)
    with parquet.connect() as con:
        parquet.copy(con, _PARQUET_ROWS, folder / "data" / f"{split}-00000-of-00001.parquet", lines=str(lines))
    lines.unlink()


_PARQUET_ROWS = """
    FROM read_json(
        $lines,
        format = 'newline_delimited',
        columns = {subject_id: 'BIGINT', hadm_id: 'BIGINT', messages: 'STRUCT("role" VARCHAR, content VARCHAR)[]'},
        maximum_object_size = 1 << 30
    )
"""


def _card(splits: Sequence[str]) -> str:
    """Return the README.md that tells `load_dataset` which file is which split."""
    files = "\n".join(f"  - split: {split}\n    path: data/{split}-*.parquet" for split in splits)
    return _CARD.replace("FILES", files)


_CARD = """---
license: other
license_name: terms-of-the-source
task_categories:
- text-generation
configs:
- config_name: default
  data_files:
FILES
dataset_info:
  features:
  - name: subject_id
    dtype: int64
  - name: hadm_id
    dtype: int64
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
---

# Conversations of an rxdraft cohort

One row per conversation; its last message is the answer to learn. Of an admission the question says what is
known, the answer which drugs were prescribed. No `subject_id` stands in two splits. Made by `rxdraft export`;
`export.json` names the cohort.

**Terms.** These rows are under the terms of what they were made from. MIMIC-IV is credentialed: its data use
agreement covers everything derived from it, and does not allow uploading it to a hub.
"""
