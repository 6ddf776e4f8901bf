"""How an admission reads to the model, and how the model's answer is read back.

One text for training, serving and evaluation; `VERSION` changes whenever a rendered character does. The
module knows chat messages, and tokenizers only as the object handed in: no model, no file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from etl.domain import Admission, Diagnosis
from etl.drugs import normalise_drug
from etl.errors import ConfigError

VERSION = "2"
"""Version of everything below that changes a rendered or parsed character."""

TEMPLATE_DATE = "26 Jul 2024"
"""The Llama-3.1 chat template prints today's date unless given one; a prompt must not change overnight."""

SYSTEM = (
    "You draft the drugs prescribed during a hospital admission, for a clinician to review. "
    "Answer with drug names only, one per line."
)

NO_DRUGS = "none"
"""The whole answer where no drug is to be given: an empty list is an answer, an empty text is not."""

Message = dict[str, str]

_DIAGNOSES = "Diagnoses:"
_EARLIER = "Earlier diagnoses:"
_BULLET = "- "


# --- the question -------------------------------------------------------------------------------------


def render_prompt(admission: Admission) -> list[Message]:
    """Render an admission as the system and the user message.

    What is not known is said to be unknown; without an earlier stay, previous drugs are "none known". Drugs so
    far and earlier diagnoses have their lines only where they are given.
    """
    lines = [
        f"Age: {_age(admission.age)}",
        f"Sex: {admission.sex or 'unknown'}",
        f"Height: {_quantity(admission.height_cm, 'cm')}",
        f"Weight: {_quantity(admission.weight_kg, 'kg')}",
        f"BMI: {_quantity(admission.body_mass_index)}",
        f"Blood pressure: {_blood_pressure(admission)}",
        f"Previous drugs: {_names(admission.previous_drugs)}",
        *([] if admission.current_drugs is None else [f"Drugs so far: {_names(admission.current_drugs)}"]),
        *_listed(_DIAGNOSES, admission.diagnoses),
        *([] if admission.earlier_diagnoses is None else _listed(_EARLIER, admission.earlier_diagnoses)),
    ]
    # A text field must not be able to end the turn: the tokenizer would read a special token's spelling as one.
    content = "\n".join(lines).replace("<|", "< |")
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def render_answer(drugs: Sequence[str]) -> str:
    r"""Render the target: one canonical drug per line, in the order given.

    >>> render_answer(["aspirin", "heparin"])
    'aspirin\nheparin'
    """
    return "\n".join(drugs) or NO_DRUGS


def _age(age: int | None) -> str:
    if age is None:
        return "unknown"
    return "over 89" if age > 89 else str(age)


def _quantity(value: float | None, unit: str = "") -> str:
    return "unknown" if value is None else f"{value:.0f} {unit}".rstrip()


def _blood_pressure(admission: Admission) -> str:
    if admission.systolic_mmhg is None or admission.diastolic_mmhg is None:
        return "unknown"
    return f"{admission.systolic_mmhg:.0f}/{admission.diastolic_mmhg:.0f}"


def _names(drugs: Sequence[str] | None) -> str:
    return "; ".join(drugs or ()) or "none known"


def _listed(title: str, diagnoses: Sequence[Diagnosis]) -> list[str]:
    if not diagnoses:
        return [f"{title} none known"]
    return [title, *(_BULLET + _diagnosis(diagnosis) for diagnosis in diagnoses)]


def _diagnosis(diagnosis: Diagnosis) -> str:
    """Return the title on one line; a code without a title stands as itself, with its version."""
    if diagnosis.title:
        return " ".join(diagnosis.title.split())
    return f"ICD-{diagnosis.icd_version} {diagnosis.icd_code}"


# --- the question as token ids ------------------------------------------------------------------------


class TooLongError(ConfigError):
    """Without any diagnosis, a question is still longer than there is room for."""


class ChatTokenizer(Protocol):
    """What is needed of a Hugging Face tokenizer."""

    def apply_chat_template(self, conversation: list[Message], **kwargs: Any) -> Any:
        """Render and tokenise a conversation."""
        ...


def encode(tokenizer: ChatTokenizer, messages: list[Message], *, answered: bool = False) -> list[int]:
    """Tokenise a conversation with the chat template, which writes the one BOS itself.

    Args:
        tokenizer: of the base model.
        messages: system and user, or with the assistant's answer.
        answered: the conversation ends with an answer; otherwise the header of one is appended.
    """
    ids = tokenizer.apply_chat_template(
        messages, tokenize=True, return_dict=False, add_generation_prompt=not answered, date_string=TEMPLATE_DATE
    )
    return list(ids)


def encode_prompt(tokenizer: ChatTokenizer, messages: list[Message], max_tokens: int) -> tuple[list[int], int]:
    """Tokenise a question, dropping diagnoses until it fits: the oldest first, then the last-ranked.

    Args:
        tokenizer: of the base model.
        messages: system and user message, as `render_prompt` makes them.
        max_tokens: the room there is for the question.

    Returns:
        The token ids, and how many diagnoses were dropped.

    Raises:
        TooLongError: even without any diagnosis the question does not fit; nothing of it is quoted.
    """
    ids = encode(tokenizer, messages)
    if len(ids) <= max_tokens:
        return ids, 0
    system, user = messages
    lines = user["content"].split("\n")
    first = next((place for place, line in enumerate(lines, 1) if line.startswith(_DIAGNOSES)), len(lines))
    facts, diagnoses = lines[:first], lines[first:]
    fits, low, high = None, 0, len(diagnoses) - 1
    while low <= high:  # most diagnoses that fit: the length grows with every one of them
        kept = (low + high) // 2
        content = "\n".join([*facts, *diagnoses[:kept]])
        ids = encode(tokenizer, [system, {**user, "content": content}])
        if len(ids) <= max_tokens:
            left_out = sum(line.startswith(_BULLET) for line in diagnoses[kept:])
            fits, low = (ids, left_out), kept + 1
        else:
            high = kept - 1
    if fits is None:
        raise TooLongError(
            f"a question without its diagnoses is longer than {max_tokens} tokens; raise max_length or max_new_tokens"
        )
    return fits


# --- the answer ---------------------------------------------------------------------------------------


class Outcome(StrEnum):
    """What an answer turned out to be; the first that matches, in this order."""

    EMPTY = "empty"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    REPETITION_LOOP = "repetition_loop"
    WRONG_SCHEMA = "wrong_schema"
    PROSE_ONLY = "prose_only"
    OK_EMPTY_LIST = "ok_empty_list"
    OK_WITH_DUPLICATES = "ok_with_duplicates"
    OK = "ok"

    @property
    def well_formed(self) -> bool:
        """Whether the answer is a list: the outcomes `ok*`, an empty list included."""
        return self.value.startswith("ok")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as read: a list of distinct drugs, or the reason why it is none.

    Attributes:
        outcome: the failure class, or one of `ok*`.
        drugs: canonical names in the order given, repeats removed; empty unless well-formed.
        repeats: lines that named a drug once more.
    """

    outcome: Outcome
    drugs: tuple[str, ...] = ()
    repeats: int = 0


MAX_REPEATS = 4
"""A drug named more often than this is a model going round in circles, not a list."""

_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry\b|i can(no|['’])t|i['’]m (un|not )able|i am (un|not )able|as an ai\b)", re.I
)
_LIST_MARK = re.compile(r"^(?:[-*•–]\s|\d{1,3}[.)]\s|[\[{}\]`#<>|])")
_MAX_WORDS, _MAX_CHARACTERS = 12, 120


def parse_answer(text: str, *, truncated: bool = False) -> Answer:
    r"""Read a model's answer: one drug per line and nothing else.

    Total: any text gives an `Answer`. Names are folded to their canonical spelling and otherwise believed;
    whether a formulary knows them is not the parser's question.

    Args:
        text: the decoded answer, special tokens removed.
        truncated: generation stopped at its token limit, so the last line may be half a name.

    >>> parse_answer("Heparin\nASPIRIN").drugs
    ('heparin', 'aspirin')
    >>> parse_answer("Here is the list:\nheparin").outcome
    <Outcome.WRONG_SCHEMA: 'wrong_schema'>
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return Answer(Outcome.EMPTY)
    if _REFUSAL.match(lines[0]):
        return Answer(Outcome.REFUSAL)
    if truncated:
        return Answer(Outcome.TRUNCATED)
    counts: dict[str, int] = {}
    for name in map(normalise_drug, lines):
        counts[name] = counts.get(name, 0) + 1
    if max(counts.values()) > MAX_REPEATS:
        return Answer(Outcome.REPETITION_LOOP)
    items = sum(map(_is_item, lines))
    if items < len(lines):
        return Answer(Outcome.WRONG_SCHEMA if items or _LIST_MARK.match(lines[0]) else Outcome.PROSE_ONLY)
    if list(counts) == [NO_DRUGS]:
        return Answer(Outcome.OK_EMPTY_LIST)
    repeats = len(lines) - len(counts)
    return Answer(Outcome.OK_WITH_DUPLICATES if repeats else Outcome.OK, tuple(counts), repeats)


def _is_item(line: str) -> bool:
    """Tell a drug's name from a sentence or a list item with marks: short, no mark before, no colon behind."""
    return (
        len(line) <= _MAX_CHARACTERS
        and len(line.split()) <= _MAX_WORDS
        and not _LIST_MARK.match(line)
        and line[-1] not in ":?!"
        and bool(normalise_drug(line))
    )
