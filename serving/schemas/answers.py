"""What the API gives beside drafts: codes, drugs, models, probes and problems."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from serving.schemas.identity import Identity


def _unknown(value: Any) -> bool:
    return value is None


class FoundCode(BaseModel):
    """A code of the dictionary that training had."""

    icd_code: str
    """Without its dot."""
    icd_version: int
    title: str
    title_ko: str | None = Field(None, exclude_if=_unknown)
    """Of its category, in our own translation."""


class FoundCodes(BaseModel):
    """The best matches first: the exact code, codes that begin so, then words."""

    codes: list[FoundCode]


class FoundDrug(BaseModel):
    """A drug by a name that may be sent."""

    drug: str
    ingredients: tuple[str, ...] = ()
    atc: tuple[str, ...] = ()
    in_formulary: bool
    """Whether the default model can draft it."""


class FoundDrugs(BaseModel):
    """The best matches first: drugs of the formulary, the commonest first, before others."""

    drugs: list[FoundDrug]


class ServedModel(BaseModel):
    """A model by the name that a request may give."""

    name: str
    state: Literal["loading", "ready", "failed", "open"]
    """open: it has failed often, and is tried again in a moment."""
    default: bool
    identity: Identity | None = None
    """Null until it is loaded."""


class ServedModels(BaseModel):
    """The models, the default first."""

    models: list[ServedModel]
    demo: bool
    """Whether they learnt from synthetic data, and are for a look only."""


class Health(BaseModel):
    """That the process lives, or is ready."""

    status: Literal["ok", "ready"]
