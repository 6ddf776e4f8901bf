"""What drafted a list, as every draft names it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel


class ModelIdentity(BaseModel):
    """A checkpoint."""

    base: str
    adapter_sha256: str
    rank: int
    step: int
    prompt_version: str
    formulary_sha256: str
    objective: str = "list"
    """list: it writes its drugs; labels: it scores every drug of the formulary."""
    calibration_sha256: str | None = None
    """Of what made its scores probabilities; null: nothing did."""
    calibrated_on: int | None = None
    """Validation admissions behind that."""
    model_weight: float | None = None
    """What the language model weighs in the scores; logistic regression on the codes has the rest. Null: all."""


class BaselineIdentity(BaseModel):
    """The baseline that drafted the list, and the cohort it learnt from."""

    name: str
    cohort_sha256: str
    formulary_sha256: str


class RemoteIdentity(ModelIdentity):
    """The checkpoint whose prompts were sent, and who answered. No URL: one may hold a secret."""

    endpoint: str
    """Host of the engine, with its port where its URL has one."""
    served_as: str
    """What the engine calls its model."""
    asked_in: Literal["ids", "messages"]
    """Token ids, or messages that the engine's own chat template renders."""


Identity = RemoteIdentity | ModelIdentity | BaselineIdentity
"""The one that a dict has most fields of is taken for it."""
