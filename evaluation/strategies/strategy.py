"""Prompting strategies: other ways to put the served question and to read the answers. Knows no model.

A strategy changes the system message, shows examples, lets the model think before its list, or asks several times
and takes a vote. `strategies.toml` holds those that ship; a user's file has the same form.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from etl import prompts
from etl.cohort import to_admission
from etl.errors import ConfigError
from etl.prompts import Answer, ChatTokenizer, Message, Outcome

Side = Literal["base", "tuned"]
"""Who is asked: the base alone, or with the checkpoint's adapter."""

Sample = dict[str, Any]
"""One row of samples.parquet."""


class Strategy(BaseModel):
    """One way to ask; the defaults are the prompt that is served."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    """Of the row and its file: small letters, digits and hyphens."""
    system: str = Field(default=prompts.SYSTEM, min_length=1)
    """The system message."""
    shots: int = Field(default=0, ge=0)
    """Examples shown; fewer where they do not fit into the checkpoint's max_length."""
    marker: str | None = Field(default=None, min_length=1)
    """The line after which the list is read; None: the whole answer is the list."""
    reasoning_tokens: int = Field(default=0, ge=0)
    """Tokens for what stands before the marker, on top of the checkpoint's max_length."""
    samples: int = Field(default=1, ge=1)
    """Answers to each question."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the samples; 0: the greedy answer."""
    seed: int = 0
    """Of the samples."""
    on: tuple[Side, ...] = Field(default=("base", "tuned"), min_length=1)
    """Who is asked."""

    @model_validator(mode="after")
    def _fits_together(self) -> Strategy:
        if self.samples > 1 and not self.temperature:
            raise ValueError("several samples need a temperature above 0, or they are all the same")
        if self.reasoning_tokens and not self.marker:
            raise ValueError("reasoning_tokens need a marker, or nobody knows where the list begins")
        return self

    @property
    def is_served(self) -> bool:
        """Whether this is what the service asks: its answers by the checkpoint are the checkpoint's own row."""
        return self.model_dump(exclude={"name", "on", "seed"}) == _SERVED


_SERVED = Strategy(name="served").model_dump(exclude={"name", "on", "seed"})


def read_strategies(path: Path | None = None) -> list[Strategy]:
    """Read a file of strategies, in its order.

    Args:
        path: TOML, a table for each strategy; None: those that ship.

    Raises:
        ConfigError: the file is missing, no TOML, empty or has wrong settings; every problem is named.
    """
    if path is not None and not path.is_file():
        raise ConfigError(f"{path} is no file; give a TOML of strategies, or leave it out for those that ship")
    text = (path or files("evaluation.strategies") / "strategies.toml").read_text("utf-8")
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    strategies: list[Strategy] = []
    problems = [] if tables else ["it holds no strategy; wanted a table [name] for each"]
    for name, table in tables.items():
        if not isinstance(table, dict):
            problems.append(f"{name} is no table; wanted [{name}] and its settings under it")
            continue
        try:
            strategies.append(Strategy.model_validate({**table, "name": name}))
        except ValidationError as error:
            problems += [f"[{name}] {_describe(dict(detail))}" for detail in error.errors()]
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    return strategies


def _describe(detail: dict[str, Any]) -> str:
    where, message = ".".join(map(str, detail["loc"])), detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{where} is no setting; known are {', '.join(sorted(set(Strategy.model_fields) - {'name'}))}"
    return f"{where} = {detail['input']!r}: {message}" if where else message


# --- the question ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """A question as token ids, the examples it shows, and how many diagnoses it lost to its length."""

    ids: list[int]
    shots: int = 0
    dropped_diagnoses: int = 0


def encode_question(
    strategy: Strategy, tokenizer: ChatTokenizer, sample: Sample, examples: Sequence[Sample], max_tokens: int
) -> Question:
    """Put an admission to the model as the strategy has it.

    Where all examples do not fit, the farthest are left out first; only a question that shows none loses
    diagnoses, as the served one does.

    Args:
        strategy: how.
        tokenizer: of the base.
        sample: the admission.
        examples: solved admissions, the nearest first; the nearest is shown last, right before the question.
        max_tokens: the room there is for the question.

    Raises:
        ConfigError: the question does not fit even without examples and diagnoses.
    """
    _, user = prompts.render_prompt(to_admission(sample))
    system = {"role": "system", "content": strategy.system}
    for shots in range(len(examples), 0, -1):
        shown = [message for example in reversed(examples[:shots]) for message in _solved(example)]
        ids = prompts.encode(tokenizer, [system, *shown, user])
        if len(ids) <= max_tokens:
            return Question(ids, shots)
    ids, dropped = prompts.encode_prompt(tokenizer, [system, user], max_tokens)
    return Question(ids, dropped_diagnoses=dropped)


def _solved(example: Sample) -> list[Message]:
    _, user = prompts.render_prompt(to_admission(example))
    return [user, {"role": "assistant", "content": prompts.render_answer(example["drugs"])}]


# --- the answer -----------------------------------------------------------------------------------------


def read_list(strategy: Strategy, text: str, *, truncated: bool) -> Answer:
    r"""Read the list of an answer: what follows the last marker, or all of it where there is none.

    >>> thinking = Strategy(name="thinking", marker="Final list:")
    >>> read_list(thinking, "Sepsis: antibiotics.\n**Final list:**\nvancomycin", truncated=False).drugs
    ('vancomycin',)
    """
    if strategy.marker:
        *_, text = re.split(rf"^[^\w\n]*{re.escape(strategy.marker)}[^\w\n]*", text, flags=re.I | re.M)
    return prompts.parse_answer(text, truncated=truncated)


@dataclass(frozen=True, slots=True)
class Vote:
    """What several answers to one question come to.

    Attributes:
        answer: the drugs that more than half of all answers name; where no more than half are lists, none: its
            outcome is then the commonest failure.
        candidates: every drug that an answer names, the one with most votes first.
        shares: of each candidate, the answers that name it over all answers, in (0, 1]; malformed ones count as
            answers that name nothing.
    """

    answer: Answer
    candidates: tuple[str, ...]
    shares: tuple[float, ...]


def vote(answers: Sequence[Answer]) -> Vote:
    """Count the votes for each drug.

    Args:
        answers: to one question, at least one; ties keep the order of first mention.
    """
    votes = Counter(drug for answer in answers for drug in answer.drugs).most_common()
    candidates, shares = tuple(drug for drug, _ in votes), tuple(count / len(answers) for _, count in votes)
    failures = Counter(answer.outcome for answer in answers if not answer.outcome.well_formed)
    if 2 * failures.total() >= len(answers):
        return Vote(Answer(failures.most_common(1)[0][0]), candidates, shares)
    kept = tuple(drug for drug, count in votes if 2 * count > len(answers))
    return Vote(Answer(Outcome.OK if kept else Outcome.OK_EMPTY_LIST, kept), candidates, shares)
