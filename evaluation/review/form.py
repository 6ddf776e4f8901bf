"""What a rater is asked about one drug, and which answers count. Every sheet, bundle and reader follows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

CRITERIA = ("indication", "effectiveness", "contraindication", "duplication")
VERDICTS = ("appropriate", "inappropriate", "insufficient_information")


@dataclass(frozen=True, slots=True)
class Field:
    """One question of the form.

    Attributes:
        name: of its column.
        question: as the rater reads it.
        answers: what may be answered; () for free words.
    """

    name: str
    question: str
    answers: tuple[str, ...] = ()


_YES_NO = ("Y", "N", "U")
FIELDS = (
    Field("indication", "Does the chart show a condition for which this drug is given?", _YES_NO),
    Field("effectiveness", "Is the drug expected to work for it in this patient?", _YES_NO),
    Field("contraindication", "Does the chart show anything that makes this drug unsafe?", _YES_NO),
    Field("duplication", "Does a drug under “Drugs so far” already do the same?", _YES_NO),
    Field("verdict", "Your verdict on the drug for this patient", VERDICTS),
    Field("confidence", "How sure are you? 1 guess, 5 certain", ("1", "2", "3", "4", "5")),
    Field("comment", "Anything to add"),
)
"""The judgeable part of the Medication Appropriateness Index, Hanlon et al., J Clin Epidemiol 1992;45:1045."""
SHOWN = ("item_id", "chart", "drug")
"""What the rater is shown and must not change."""
COLUMNS = (*SHOWN, *(field.name for field in FIELDS))

ABOUT = ("profession", "years_of_experience", "date_finished", "hours_spent")
"""What TRIPOD-LLM 8b asks of whoever gave the labels; no name."""

Answers = dict[str, str]
"""A rater's answers to one item by field; "" where there is none."""


def read_answers(raw: Mapping[str, Any]) -> tuple[Answers, list[str]]:
    """Read one item's answers, forgiving case and space.

    Returns:
        The answers, and what is wrong, in words that quote nothing: a comment typed into the wrong cell may
        hold a patient's facts.
    """
    answers, wrong = {}, []
    for field in FIELDS:
        said = _text(raw.get(field.name))
        known = {answer.casefold(): answer for answer in field.answers}
        answers[field.name] = known.get(said.casefold(), "") if known else said
        if said and not answers[field.name]:
            wrong.append(f"{field.name} is none of {', '.join(field.answers)}")
    if not answers["verdict"] and any(answers.values()) and not wrong:
        wrong.append("verdict is empty although other cells are filled")
    return answers, wrong


def _text(value: Any) -> str:
    """Return a cell as text: a spreadsheet keeps 4 as 4.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def instructions() -> str:
    """Return the page that raters read first."""
    return (files("evaluation.review") / "instructions.md").read_text("utf-8")
