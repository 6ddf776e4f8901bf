"""What the judge is asked and how its answer is read. It knows texts and schemas, no patient and no network.

The texts are files of prompts/, named by protocol and version. A protocol's digest covers every character that
reaches the judge but the patient's, and is part of every verdict's key: another text is another judge.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from string import Template
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from etl.artefacts import sha256
from etl.outside.endpoint import Reply
from etl.outside.reading import State, read_shape
from etl.prompts import Message

Answer = Literal["Y", "N", "U"]

MAX_EVIDENCE_WORDS = 20


class Verdict(StrEnum):
    """What the judge thinks of one drug; an error is no opinion, and is never counted as one."""

    APPROPRIATE = "appropriate"
    INAPPROPRIATE = "inappropriate"
    INSUFFICIENT = "insufficient_information"
    ERROR = "error"


class Opinion(BaseModel):
    """The answer to `unit`: the criteria first, so that the verdict follows from them.

    Source: the judgeable part of the Medication Appropriateness Index, Hanlon et al., J Clin Epidemiol 1992;45:1045.
    """

    model_config = ConfigDict(extra="forbid")

    indication: Answer
    effectiveness: Answer
    contraindication: Answer
    duplication: Answer
    evidence: str
    verdict: Literal["appropriate", "inappropriate", "insufficient_information"]

    def derived(self) -> Verdict:
        """Return the verdict that follows from the criteria, whatever was stated."""
        if "N" in (self.indication, self.effectiveness) or "Y" in (self.contraindication, self.duplication):
            return Verdict.INAPPROPRIATE
        asked = (self.indication, self.effectiveness, self.contraindication, self.duplication)
        return Verdict.INSUFFICIENT if "U" in asked else Verdict.APPROPRIATE


class Counts(BaseModel):
    """The answer to `list`: how many drugs of each kind."""

    model_config = ConfigDict(extra="forbid")

    appropriate: int = Field(ge=0)
    inappropriate: int = Field(ge=0)


@dataclass(frozen=True, slots=True)
class Protocol:
    """A question's wording.

    Attributes:
        name: such as "unit-1"; a changed text gets a new version.
        system, user: templates; $chart and $drug are filled in.
        schema: of the answer, as JSON schema.
        digest: SHA-256 of everything that is asked but the patient and the drug.
    """

    name: str
    system: str
    user: str
    schema: dict[str, Any]
    digest: str

    def ask(self, chart: str, drug: str) -> list[Message]:
        """Return the messages; one pass, so that a `$drug` in a chart stays what it is."""
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": Template(self.user).substitute(chart=chart, drug=drug)},
        ]


@cache
def read_protocol(name: str) -> Protocol:
    """Return `unit-1`, one drug and its criteria, or `list-1`, the reference's count over a whole list."""
    folder = files("evaluation.judge") / "prompts"
    system, user = ((folder / f"{name}.{role}.md").read_text("utf-8").strip() for role in ("system", "user"))
    answers: dict[str, type[BaseModel]] = {"unit": Opinion, "list": Counts}
    schema = answers[name.partition("-")[0]].model_json_schema()
    del schema["description"]  # for readers of this module
    said = [name, system, user, json.dumps(schema, sort_keys=True)]
    return Protocol(name, system, user, schema, sha256("\0".join(said).encode()))


UNIT, LIST = "unit-1", "list-1"


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer as read.

    Attributes:
        verdict: None for a count over a list.
        criteria: what else the judge said, as JSON; no word of the chart in it.
        evidence_ok: whether the quote stands in the chart; None: nothing had to be quoted.
    """

    state: State
    verdict: Verdict | None
    criteria: str | None = None
    evidence: str | None = None
    evidence_ok: bool | None = None


def read_opinion(reply: Reply, chart: str) -> Reading:
    """Read an answer to `unit`: exactly the schema, or an error that says what is wrong. Total."""
    opinion = read_shape(reply, Opinion)
    if isinstance(opinion, State):
        return Reading(opinion, Verdict.ERROR)
    quoted = Verdict(opinion.verdict) is not Verdict.INSUFFICIENT or bool(opinion.evidence.strip())
    criteria = opinion.model_dump(exclude={"evidence", "verdict"}) | {"derived": opinion.derived().value}
    return Reading(
        State.ANSWERED,
        Verdict(opinion.verdict),
        json.dumps(criteria, sort_keys=True),
        opinion.evidence,
        is_quote(opinion.evidence, chart) if quoted else None,
    )


def read_counts(reply: Reply, listed: int) -> Reading:
    """Read an answer to `list`; one that does not count every drug once is malformed."""
    counts = read_shape(reply, Counts)
    if isinstance(counts, State):
        return Reading(counts, Verdict.ERROR)
    if counts.appropriate + counts.inappropriate != listed:
        return Reading(State.MALFORMED, Verdict.ERROR)
    return Reading(State.ANSWERED, None, counts.model_dump_json())


def is_quote(quote: str, chart: str) -> bool:
    """Tell whether a quote's words stand in the chart, one after another, and are few enough.

    >>> is_quote("Heart failure", "- Heart failure, unspecified"), is_quote("art", "- Heart failure")
    (True, False)
    """
    words = _words(quote)
    return 0 < len(words) <= MAX_EVIDENCE_WORDS and f" {' '.join(words)} " in f" {' '.join(_words(chart))} "


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())
