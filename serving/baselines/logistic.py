"""Logistic regression, one per drug: the bar that a language model must clear.

scikit-learn's `LogisticRegression`, L2 with C = 0.1, for each drug with enough positives; other drugs keep their
popularity. A small cohort takes a second, full MIMIC-IV minutes: the weights are kept beside it, under a digest of
all that decides them, so that what is read back is what would have been fitted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy import sparse
from scipy.special import expit

from etl import artefacts
from etl.domain import Admission, Diagnosis
from etl.icd import categories
from serving.baselines.baseline import Baseline
from serving.baselines.design import Floats, Visits, columns_of, indicators, known_diagnoses
from serving.baselines.saved import Arrays, read, write

log = logging.getLogger(__name__)

C = 0.1
"""Inverse strength of the L2 penalty."""
MIN_POSITIVES = 3
"""Training admissions a drug must have been ordered in to get a regression of its own."""
MAX_ITERATIONS = 1000

_KEY = "weights"
_YEARS = 100.0
"""Age in centuries, so that it is penalised like the other features, which are 0 or 1."""


class Logistic(Baseline):
    """Age, sex and ICD-10 categories; the unknown age or sex stands at the training mean. A score is a probability."""

    name = "logistic"

    def __init__(self, training: Visits, keep: Path | None = None) -> None:
        """Fit it, or read its weights.

        Args:
            training: visits of the training split.
            keep: folder that keeps weights; None: none does.
        """
        super().__init__(training)
        found = [self._names(admission) for admission in training.admissions]
        self._columns = columns_of(found)
        facts = np.array([_facts(admission) for admission in training.admissions])
        self._means = np.array([_mean(column) for column in facts.T])
        positives = np.asarray(training.ordered.sum(axis=0)).ravel()
        self._fitted = np.flatnonzero((positives >= MIN_POSITIVES) & (positives < len(found)))
        targets = training.ordered[:, self._fitted]
        kept = None if keep is None else keep / f"{self.name}.safetensors"
        self._weights = kept_weights(self._features(training.admissions), targets, kept)  # (features + 1, fitted)

    def scores(self, admissions: Sequence[Admission]) -> Floats:
        """Return probabilities; popularity for a drug without a regression."""
        scores = np.tile(self.popularity, (len(admissions), 1))
        scores[:, self._fitted] = expit(self._features(admissions) @ self._weights[:-1] + self._weights[-1])
        return scores

    def save(self, path: Path) -> None:
        """Write what `load` reads: weights, and the names of what they weigh; the folder must be there."""
        write(path, self.name, *self.to_parts())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what was saved, without a cut.

        Raises:
            ContractError: the file is not what `save` wrote.
        """
        return cls.of(*read(path, cls.name))

    def to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        """Return all that it is: arrays, and what JSON can hold."""
        arrays = {_KEY: self._weights, "means": self._means, "fitted": self._fitted, "popularity": self.popularity}
        about = {"formulary": self.formulary, "features": list(self._columns), "usual_length": self.usual_length}
        return arrays, about

    @classmethod
    def of(cls, arrays: Arrays, about: dict[str, Any]) -> Self:
        """Put the parts of `to_parts` together again, without a cut."""
        self = cls.__new__(cls)
        self.formulary, self.usual_length, self.cut = tuple(about["formulary"]), about["usual_length"], None
        self._columns = {name: place for place, name in enumerate(about["features"])}
        self._weights, self._means, self._fitted = arrays[_KEY], arrays["means"], arrays["fitted"]
        self.popularity = arrays["popularity"]
        return self

    def known_categories(self, diagnoses: Iterable[Diagnosis]) -> set[str]:
        """Return the ICD-10 categories of the diagnoses that training knew."""
        return {name for name in categories(diagnoses) if f"dx {name}" in self._columns}

    def _uses(self, diagnosis: Diagnosis) -> bool:
        return bool(self.known_categories([diagnosis]))

    def _names(self, admission: Admission) -> set[str]:
        """Return the admission's features that are there or not."""
        return _marked("dx", categories(known_diagnoses(admission)))

    def _features(self, admissions: Sequence[Admission]) -> sparse.csr_array:
        """Return (admissions, names + 2): the names, age and sex."""
        facts = np.array([_facts(admission) for admission in admissions]).reshape(-1, 2)
        filled = sparse.csr_array(np.where(np.isnan(facts), self._means, facts))
        named = indicators([self._names(admission) for admission in admissions], self._columns)
        return sparse.hstack([named, filled], format="csr")


class LogisticHistory(Logistic):
    """The same with what came before: previous drugs, drugs so far, diagnoses of earlier stays."""

    name = "logistic-history"

    def _names(self, admission: Admission) -> set[str]:
        return (
            super()._names(admission)
            | _marked("previous", admission.previous_drugs or ())
            | _marked("so far", admission.current_drugs or ())
            | _marked("earlier", categories(admission.earlier_diagnoses or ()))
        )


def kept_weights(features: sparse.csr_array, targets: sparse.csr_array, path: Path | None) -> Floats:
    """Return the weights: those kept at `path` if these features and targets gave them, else newly fitted and kept.

    Returns:
        (features + 1, targets); the last row is the intercepts.
    """
    if path is None:
        return fit_weights(features, targets)
    origin = _origin(features, targets)
    weights = _read(path, origin)
    if weights is None:
        weights = fit_weights(features, targets)
        try:
            with artefacts.whole_or_absent(path) as new:
                save_file({_KEY: weights}, new, {_KEY: origin})
        except OSError as error:  # a cohort that may only be read: fitted anew each time
            log.warning("%s is not kept: %s", path.name, error.strerror)
    return weights


def fit_weights(features: sparse.csr_array, targets: sparse.csr_array) -> Floats:
    """Fit one regression per column of targets; shapes as in `kept_weights`."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    began = time.perf_counter()
    log.info("%d regressions on %d admissions", targets.shape[1], targets.shape[0])
    weights = np.empty((features.shape[1] + 1, targets.shape[1]))
    by_column = targets.tocsc()
    with threadpool_limits(1):  # threads on matrices this small only wait for each other
        for place in range(targets.shape[1]):
            target = np.zeros(targets.shape[0], dtype=np.int8)
            target[by_column.indices[by_column.indptr[place] : by_column.indptr[place + 1]]] = 1
            fitted = LogisticRegression(C=C, max_iter=MAX_ITERATIONS).fit(features, target)
            weights[:, place] = *fitted.coef_[0], fitted.intercept_[0]
    log.info("fitted in %.1f s", time.perf_counter() - began)
    return weights


def _origin(features: sparse.csr_array, targets: sparse.csr_array) -> str:
    """Return all that decides the weights, as JSON."""
    digest = hashlib.sha256()
    for matrix in (features, targets):
        for part in (np.array(matrix.shape), matrix.indptr, matrix.indices, matrix.data):
            digest.update(part.tobytes())
    settings = {"C": C, "max_iter": MAX_ITERATIONS, "scikit-learn": version("scikit-learn")}
    return json.dumps({**settings, "training_sha256": digest.hexdigest()}, sort_keys=True)


def _read(path: Path, origin: str) -> Floats | None:
    try:
        with safe_open(path, "np") as file:
            return np.asarray(file.get_tensor(_KEY)) if (file.metadata() or {}).get(_KEY) == origin else None
    except (OSError, SafetensorError):
        return None


def _marked(kind: str, names: Iterable[str]) -> set[str]:
    return {f"{kind} {name}" for name in names}


def _facts(admission: Admission) -> tuple[float, float]:
    """Return age and sex as numbers; NaN where unknown."""
    age = np.nan if admission.age is None else admission.age / _YEARS
    return age, np.nan if admission.sex is None else float(admission.sex == "M")


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is known; 0 where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0
