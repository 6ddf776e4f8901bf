"""Turn a file of dialogues into a corpus that trains like a cohort: cleaned, distinct, short enough.

    OUT/prompts/SPLIT.jsonl    one conversation per line; the last message is the answer to learn
    OUT/formulary.parquet      without rows: nobody knows which drugs these texts name
    OUT/icd_titles.parquet     without rows
    OUT/cohort.json            the fate of every item, digests, versions; written last

Read are Alpaca-style items and chats, as a JSON array or one item a line. All texts are held in memory. What an
item says is nobody's business here: errors and logs name positions and keys, never values.
"""

from __future__ import annotations

import html
import json
import logging
import math
import re
import unicodedata
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from etl import artefacts, prompts
from etl.cohort import FORMAT, SPLITS, read_cohort
from etl.errors import ConfigError, ContractError, SourceDataError

log = logging.getLogger(__name__)

MAX_LENGTH = 1024
"""Tokens per conversation, as the shipped training configs have it."""

Count = Callable[[list[prompts.Message]], int]
"""Tells how many tokens an answered conversation has."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One item, or a part of it.

    Attributes:
        number: the item's line, or its place in the array; from 1.
        system: what the turns are to be read under; "" where there is nothing.
        turns: question and answer, in order.
    """

    number: int
    system: str
    turns: tuple[tuple[str, str], ...]

    @property
    def messages(self) -> list[prompts.Message]:
        """The dialogue as chat messages."""
        texts = [("system", self.system)] if self.system else []
        for question, answer in self.turns:
            texts += [("user", question), ("assistant", answer)]
        return [{"role": role, "content": content} for role, content in texts]

    @property
    def folded(self) -> tuple[str, ...]:
        """The turns' texts without case, compatibility characters and white space; what makes two items the same."""
        return tuple(fold(text) for turn in self.turns for text in turn)


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
        tokenizer: folder of the base model, whose tokens count; None: `estimate_tokens`.
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
        raise SourceDataError(f"{source} is no file; {_WANTED}")
    artefacts.check_replaceable(out, "cohort.json", "rxdraft import")
    count_tokens = token_counter(tokenizer)
    origin = {
        "format": FORMAT,
        "inputs": {"dialogues": artefacts.sha256_file(source)},
        "kind": "dialogues",
        "max_length": max_length,
        "seed": seed,
        "tokenizer_sha256": tokenizer and artefacts.sha256_files(_tokenizer_files(tokenizer)),
        "versions": {"prompt": prompts.VERSION, "rxdraft": version("rxdraft")},
    }
    if (out / "cohort.json").exists() and not overwrite:
        return _whole(out, origin)
    on_stage("reading")
    items = read_dialogues(source)
    conversations, fates = sift(items, lambda part: count_tokens(part.messages) <= max_length, on_stage)
    with artefacts.whole_or_absent(out) as folder:
        on_stage("writing")
        folder.mkdir()
        splits = _write_prompts(folder, conversations, seed)
        _write_empty_vocabulary(folder)
        written = sorted(path for path in folder.rglob("*") if path.is_file())
        corpus = {
            **origin,
            "items": fates,
            "outputs": {path.relative_to(folder).as_posix(): artefacts.sha256_file(path) for path in written},
            "splits": splits,
        }
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
        "an empty question or answer": lambda items: [i for i in map(clean, items) if all(map(all, i.turns))],
        "the same as an earlier item": distinct,
        "nearly the same as an earlier item": dissimilar,
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


# --- reading ------------------------------------------------------------------------------------------

_WANTED = (
    "wanted is a JSON array, or one object a line, of {instruction, input?, output, history?, system?} "
    "or {messages: [system?, user, assistant, ...]}"
)
_SHOWN = 5


def read_dialogues(source: Path) -> list[Dialogue]:
    """Read a file's items as they are written.

    Raises:
        SourceDataError: see `import_dialogues`; all problems are named, each with its first positions.
    """
    problems = defaultdict[str, list[int]](list)
    items = []
    try:
        for number, item in _numbered(source):
            fault = "no JSON" if item is _NO_JSON else _fault(item)
            if fault:
                problems[fault].append(number)
            else:
                items.append(_to_dialogue(number, item))
    except UnicodeDecodeError:
        raise SourceDataError(f"{source} is not UTF-8; convert it to UTF-8") from None
    if problems:
        told = "; ".join(f"item {_positions(numbers)}: {fault}" for fault, numbers in problems.items())
        raise SourceDataError(f"{source}: {told}; {_WANTED}")
    if not items:
        raise SourceDataError(f"{source} holds no items; {_WANTED}")
    return items


_NO_JSON = object()


def _numbered(source: Path) -> Iterator[tuple[int, Any]]:
    """Yield each item with its line or its place in the array; `_NO_JSON` for a line that is none."""
    with source.open(encoding="utf-8-sig") as file:
        first = next((line for line in file if line.strip()), "")
        file.seek(0)
        if first.lstrip().startswith("["):
            yield from enumerate(_array(source, file.read()), 1)
            return
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield number, json.loads(line)
                except (ValueError, RecursionError):
                    yield number, _NO_JSON


def _array(source: Path, text: str) -> list[Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
    except RecursionError:
        where = "some item, which is nested too deeply"
    raise SourceDataError(f"{source} is no JSON from {where} on; {_WANTED}")


def _positions(numbers: list[int]) -> str:
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return ", ".join(map(str, numbers[:_SHOWN])) + more


def _fault(item: Any) -> str | None:
    """Say what is wrong with an item's form, in keys and never in values."""
    if not isinstance(item, dict):
        return "no object"
    if "messages" in item:
        return None if _is_chat(item["messages"]) else "messages are not texts of system?, user and assistant in turn"
    if missing := [key for key in ("instruction", "output") if key not in item]:
        return f"lacks {', '.join(missing)}"
    if wrong := [key for key in ("instruction", "input", "output", "system") if not _is_text(item.get(key))]:
        return f"{', '.join(wrong)} is no text"
    pairs = item.get("history") or []
    if not isinstance(pairs, list) or not all(_is_list(pair) and len(pair) == 2 for pair in pairs):
        return "history is no list of [question, answer]"
    return None


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_chat(messages: Any) -> bool:
    """Tell whether messages are a system text or none, then questions and answers in turn."""
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        return False
    roles = [message.get("role") for message in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    return (
        bool(turns)
        and turns == ["user", "assistant"] * (len(turns) // 2)
        and all(isinstance(message.get("content"), str) for message in messages)
    )


def _to_dialogue(number: int, item: dict[str, Any]) -> Dialogue:
    """Return an item without fault; instruction and input together are its last question."""
    if "messages" in item:
        first, *others = item["messages"]
        system, rest = (first["content"], others) if first["role"] == "system" else ("", [first, *others])
        texts = [message["content"] for message in rest]
        return Dialogue(number, system, tuple(zip(texts[::2], texts[1::2], strict=True)))
    question = f"{item['instruction'] or ''}\n{item.get('input') or ''}"
    pairs = [*(item.get("history") or []), (question, item["output"])]
    return Dialogue(number, item.get("system") or "", tuple((asked or "", answer or "") for asked, answer in pairs))


# --- cleaning -----------------------------------------------------------------------------------------

_TAGS = (
    "a|abbr|address|article|aside|b|blockquote|body|br|button|center|cite|code|dd|del|details|div|dl|dt|em|figure|font|"
    "footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|main|mark|meta|nav|ol|option|p|"
    "pre|q|s|samp|section|select|small|span|strike|strong|sub|summary|sup|table|tbody|td|textarea|tfoot|th|thead|"
    "title|tr|tt|u|ul|var|video"
)
_BLOCKS = "address|article|blockquote|br|dd|div|dl|dt|h[1-6]|hr|li|ol|p|pre|section|table|tr|ul"
_ATTRIBUTES = r"(?:\s[^<>]*=[^<>]*)?\s*/?>"
_HIDDEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.I | re.S)
_BLOCK = re.compile(rf"</?(?:{_BLOCKS}){_ATTRIBUTES}", re.I)
_INLINE = re.compile(rf"</?(?:{_TAGS}){_ATTRIBUTES}", re.I)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.I)
_SPECIAL = re.compile(r"<[|｜][^<>]{0,60}?[|｜]>|\[/?INST\]|<</?SYS>>")
_FENCE = re.compile(r"^\s*(?:```|~~~)[\w+-]*\s*$", re.M)


def clean(item: Dialogue) -> Dialogue:
    """Return an item with every text cleaned."""
    turns = tuple((clean_text(question), clean_text(answer)) for question, answer in item.turns)
    return Dialogue(item.number, clean_text(item.system), turns)


def clean_text(text: str) -> str:
    """Return a text as plain lines: no markup, no entities, nothing invisible, nothing a tokenizer would obey.

    Only HTML's own tags with nothing but attributes in them go, for in clinical text "<" is a number's sign.
    Fence lines go and their content stays. Line breaks stay, since an answer may be one item a line. It goes
    round until nothing changes, so that what was escaped twice or hidden in itself does not come back.

    >>> clean_text("<p>K&nbsp;&lt;3.5 and Na>150:<br/>give&#8203; <b>KCl</b></p><|eot_id|>")
    'K <3.5 and Na>150:\\ngive KCl'
    """
    while (cleaner := _clean_once(text)) != text:
        text = cleaner
    # As in a rendered prompt: what still begins like a special token must not become one.
    return text.replace("<|", "< |")


def _clean_once(text: str) -> str:
    text = _INLINE.sub("", _BLOCK.sub("\n", _HIDDEN.sub(" ", text)))
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    text = _FENCE.sub("", _SPECIAL.sub(" ", text))
    lines = (" ".join(_visible(line).split()) for line in text.splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _visible(line: str) -> str:
    """Drop control, format and unassigned characters and halves of surrogate pairs; white space stays."""
    return line if line.isprintable() else "".join(c for c in line if c.isprintable() or c.isspace())


# --- repeats ------------------------------------------------------------------------------------------

SIMILAR_PERCENT = 85
"""Jaccard index of two items' shingles, in percent, from which the later one is left out."""

SHINGLE_WORDS = 5

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힯]|[^\W぀-ヿ㐀-鿿가-힯]+")
"""A word; where Chinese, Japanese or Korean is written without spaces, a character."""

_WEIGHTS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)
_TABLE_BITS = 25


def fold(text: str) -> str:
    """Return a text without case, compatibility characters and runs of white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def distinct(items: list[Dialogue]) -> list[Dialogue]:
    """Return the first of all items whose turns fold to the same texts, in order."""
    first: dict[str, Dialogue] = {}
    for item in items:
        first.setdefault(_digest(item), item)
    return list(first.values())


def _digest(item: Dialogue) -> str:
    return artefacts.sha256(json.dumps(item.folded).encode())


def dissimilar(items: list[Dialogue]) -> list[Dialogue]:
    """Return the items, in order, without those whose turns are nearly those of an earlier one that stays.

    Nearly is a Jaccard index of `SIMILAR_PERCENT` or more between their sets of shingles. The join is exact: sorted
    by one order, sets so similar share an element among the first n - ⌈0.85 n⌉ + 1. Rare shingles come first, so
    that a template's words, which all items have, are hardly ever looked up.

    Source: Bayardo, Ma and Srikant, Scaling up all pairs similarity search, WWW 2007.
    """
    sets = [shingles(" ".join(item.folded)) for item in items]
    items_with = np.zeros(1 << _TABLE_BITS, np.uint32)  # by hash: two shingles in one place only look less rare
    for found in sets:
        items_with[_place(found)] += 1
    holders = defaultdict[int, list[int]](list)
    kept = []
    for i, found in enumerate(sets):
        frequency = items_with[_place(found)]
        prefix = np.lexsort((found, frequency))[: len(found) - _least_common(len(found)) + 1]
        looked_up = found[prefix[frequency[prefix] > 1]].tolist()  # what one item alone has joins it to none
        if any(_similar(found, sets[j]) for j in {j for shingle in looked_up for j in holders.get(shingle, ())}):
            continue
        kept.append(items[i])
        for shingle in looked_up:
            holders[shingle].append(i)
    return kept


def shingles(text: str) -> np.ndarray:
    """Return the hashes of all runs of `SHINGLE_WORDS` words, sorted, each once; of a shorter text the whole.

    Args:
        text: folded.
    """
    words = _WORD.findall(text)
    hashes = np.fromiter((zlib.crc32(word.encode()) for word in words), np.uint64, len(words))
    if not words:
        return hashes
    width = min(SHINGLE_WORDS, len(words))
    runs = np.lib.stride_tricks.sliding_window_view(hashes, width)  # (words - width + 1, width)
    return np.unique((runs * _WEIGHTS[:width]).sum(axis=1, dtype=np.uint64))


def _place(found: np.ndarray) -> np.ndarray:
    return found >> np.uint64(64 - _TABLE_BITS)


def _least_common(size: int) -> int:
    """Return how many of a set's elements any set so similar must have: ⌈0.85 size⌉, without rounding errors."""
    return -(-size * SIMILAR_PERCENT // 100)


def _similar(a: np.ndarray, b: np.ndarray) -> bool:
    if min(len(a), len(b)) < _least_common(max(len(a), len(b))):
        return False
    common = len(np.intersect1d(a, b, assume_unique=True))
    return common * 100 >= SIMILAR_PERCENT * (len(a) + len(b) - common)


# --- length -------------------------------------------------------------------------------------------


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


def estimate_tokens(messages: list[prompts.Message]) -> int:
    """Guess a conversation's tokens without a tokenizer: a fourth of its ASCII characters, all others, and marks.

    32 for the template's own words and 8 for each message are more than Llama 3.1 needs.
    """
    texts = [message["content"] for message in messages]
    ascii_characters = sum(character < "\x80" for text in texts for character in text)
    others = sum(map(len, texts)) - ascii_characters
    return 32 + 8 * len(messages) + math.ceil(ascii_characters / 4) + others


def token_counter(folder: Path | None) -> Count:
    """Return what counts a conversation's tokens: the tokenizer of a base's folder, or `estimate_tokens`.

    Raises:
        ConfigError: there is no tokenizer in the folder, or it has no chat template.
    """
    if folder is None:
        return estimate_tokens
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError):
        raise ConfigError(f"--tokenizer {folder} holds no tokenizer; give the folder of the base model") from None
    if not tokenizer.chat_template:
        raise ConfigError(f"--tokenizer {folder} has no chat template; give the folder of an -Instruct model")
    return lambda messages: len(prompts.encode(tokenizer, messages, answered=True))


def _tokenizer_files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(("tokenizer", "special_tokens", "chat_template"))]


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


def _whole(out: Path, origin: dict[str, Any]) -> dict[str, Any]:
    """Return the corpus that stands at `out` if it is the one asked for."""
    corpus = read_cohort(out)
    other = [name for name in origin if corpus.get(name) != origin[name]]
    if other:
        raise ContractError(
            f"{out} holds a corpus or cohort that differs in {', '.join(other)}; "
            "choose another --out, or replace it with --overwrite"
        )
    log.info("corpus is whole, nothing to do")
    return corpus
