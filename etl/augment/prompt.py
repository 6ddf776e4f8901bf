"""What a model is asked for and how its answer is read. It knows texts and schemas, no seed and no network.

The texts are files of prompts/, named by version. Their digest is part of every request's key.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from etl.artefacts import sha256
from etl.augment.ledger import GIVEN_UP, Asked
from etl.cleaning import clean
from etl.outside.endpoint import Decoding, Reply
from etl.outside.reading import State, read_shape
from etl.prompts import Message

TASKS = "tasks-1"


@dataclass(frozen=True, slots=True)
class Task:
    """One task.

    Attributes:
        input: what the instruction is about; "" where nothing is needed.
    """

    instruction: str
    input: str
    output: str

    @property
    def question(self) -> str:
        """What a trained model is asked, as `rxdraft import` joins it."""
        return f"{self.instruction}\n{self.input}".strip()

    def cleaned(self) -> Task:
        """Return it with every text cleaned."""
        return replace(self, instruction=clean(self.instruction), input=clean(self.input), output=clean(self.output))

    def described(self) -> dict[str, str]:
        """Return it as Alpaca-style files have it."""
        return {"instruction": self.instruction, "input": self.input, "output": self.output}


class _Task(BaseModel):
    model_config = ConfigDict(extra="forbid")

    instruction: str
    input: str
    output: str


class _Tasks(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tasks: list[_Task]


class _Some(BaseModel):
    """The answer as it is read: one task that is none must not take the others with it."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request's wording.

    Attributes:
        name: such as "tasks-1"; a changed text gets a new version.
        system, user: templates.
        schema: of the answer, as JSON schema.
        digest: SHA-256 of everything that is asked but the tasks shown.
    """

    name: str
    system: str
    user: str
    schema: dict[str, Any]
    digest: str

    def ask(self, examples: Sequence[Task], wanted: int, standing: str) -> list[Message]:
        """Return the messages.

        Args:
            examples: tasks to show, in order.
            wanted: new tasks to ask for.
            standing: the system text all tasks are read under; "" where there is none.
        """
        lines = [json.dumps(task.described(), ensure_ascii=False) for task in examples]
        under = f"- Every task is read under this standing instruction; keep to it: {json.dumps(standing)}\n"
        content = Template(self.user).substitute(
            shown=len(lines), examples="\n".join(lines), wanted=wanted, standing=under if standing else ""
        )
        return [{"role": "system", "content": self.system}, {"role": "user", "content": content}]


@cache
def read_prompt(name: str = TASKS) -> Prompt:
    """Return a version of the prompt."""
    folder = files("etl.augment") / "prompts"
    system, user = ((folder / f"{name}.{role}.md").read_text("utf-8").strip() for role in ("system", "user"))
    schema = _Tasks.model_json_schema()
    said = [name, system, user, json.dumps(schema, sort_keys=True)]
    return Prompt(name, system, user, schema, sha256("\0".join(said).encode()))


@dataclass(frozen=True, slots=True)
class Request:
    """One request for new tasks.

    Attributes:
        number: among all requests of a run, from 0; two that show the same tasks are still two.
        expected_tokens: of the answer.
    """

    prompt: Prompt
    messages: list[Message]
    number: int
    provenance: str
    expected_tokens: int

    @property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the answer."""
        return self.prompt.schema

    def key(self, model: str, decoding: Decoding) -> str:
        """Return the digest of everything that could change the answer of `model`, a snapshot's name."""
        said = [self.prompt.digest, model, repr(self.messages), repr(decoding.described()), str(self.number)]
        return sha256("\0".join(said).encode())

    def asked(self, model: str) -> Asked:
        """Return the ledger's words for it."""
        return Asked(self.prompt.name, model, self.prompt.digest, self.number, self.provenance)

    def read(self, reply: Reply) -> str:
        """Return the state of an answer."""
        return read_tasks(reply)[0]


def read_tasks(reply: Reply) -> tuple[str, list[Task | None]]:
    """Read an answer: its state, and its tasks as written; None for one that is not of the form. Total."""
    if reply.finish_reason == GIVEN_UP:
        return GIVEN_UP, []
    found = read_shape(reply, _Some)
    if isinstance(found, State):
        return found.value, []
    return State.ANSWERED.value, [_read_task(item) for item in found.tasks]


def _read_task(item: Any) -> Task | None:
    try:
        task = _Task.model_validate(item, strict=True)
    except ValidationError:
        return None
    return Task(task.instruction, task.input, task.output)
