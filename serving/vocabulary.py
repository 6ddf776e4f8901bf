"""What a checkpoint knows of drugs and codes: the formulary and the titles it was trained with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.domain import Admission, Diagnosis, normalise_icd
from etl.drug_vocabulary import DrugVocabulary, Level, read_drug_vocabulary
from etl.errors import ContractError
from serving.evidence import CohortEvidence
from training.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What training called things.

    Attributes:
        formulary: its drugs, commonest first.
        titles: of each (icd_code, icd_version).
        drugs: what a spelling means; level: what a drug is called; dropped: categories that are no drugs.
        evidence: what the training admissions had; None: nobody counted.
    """

    formulary: tuple[str, ...]
    titles: dict[tuple[str, int], str]
    drugs: DrugVocabulary
    level: Level
    dropped: frozenset[str]
    evidence: CohortEvidence | None = None

    def coded(self, icd_code: str, icd_version: int) -> Diagnosis:
        """Return a diagnosis with the title training gave its code; None where the dictionary has none."""
        code = normalise_icd(icd_code)
        return Diagnosis(code, icd_version, self.titles.get((code, icd_version)))

    def labels(self, spellings: Iterable[str]) -> tuple[str, ...]:
        """Return drugs as training called them, in the order given, repeats and dropped categories left out."""
        kept = (name for name in spellings if self.drugs.look_up(name).category not in self.dropped)
        return tuple(dict.fromkeys(label for name in kept for label in self.drugs.labels(name, self.level)))


class TitleCodes:
    """The codes of diagnoses given in words, for what goes by codes."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._codes = {title.casefold(): code for code, title in vocabulary.titles.items()}

    def coded(self, admission: Admission) -> Admission:
        """Give diagnoses in words their code, where the words are a code's title."""
        earlier = admission.earlier_diagnoses
        return replace(
            admission,
            diagnoses=tuple(map(self._coded, admission.diagnoses)),
            earlier_diagnoses=None if earlier is None else tuple(map(self._coded, earlier)),
        )

    def _coded(self, diagnosis: Diagnosis) -> Diagnosis:
        code = self._codes.get((diagnosis.title or "").casefold()) if diagnosis.icd_code is None else None
        return diagnosis if code is None else Diagnosis(*code, diagnosis.title)


def read_vocabulary(checkpoint: Path, manifest: Manifest) -> Vocabulary:
    """Read a checkpoint's vocabulary.

    Raises:
        ContractError: a file is missing or is not the one the manifest names.
    """
    expected = {"formulary": manifest.formulary_sha256, "icd_titles": manifest.icd_titles_sha256}
    paths = {name: checkpoint / "vocabulary" / f"{name}.parquet" for name in expected}
    wrong = [
        str(path) for name, path in paths.items() if not path.is_file() or artefacts.sha256_file(path) != expected[name]
    ]
    if wrong:
        raise ContractError(f"{', '.join(wrong)}: missing or not what the manifest names; copy the whole checkpoint")
    return vocabulary_of(checkpoint / "vocabulary", manifest.cohort_settings)


def vocabulary_of(folder: Path, settings: Mapping[str, Any]) -> Vocabulary:
    """Read the vocabulary that lies in a folder: a cohort, or what a checkpoint took from one.

    Args:
        folder: holds formulary.parquet, icd_titles.parquet and, where there is one, evidence.parquet and drug_map.csv.
        settings: the cohort's.
    """
    drug_map = folder / "drug_map.csv"
    titles = pl.read_parquet(folder / "icd_titles.parquet").drop_nulls()
    return Vocabulary(
        formulary=tuple(pl.read_parquet(folder / "formulary.parquet")["drug"]),
        drugs=read_drug_vocabulary(drug_map if drug_map.is_file() else None),
        level=Level(settings.get("level", Level.DRUG)),
        dropped=frozenset(settings.get("drop", ())),
        titles={(code, icd_version): title for code, icd_version, title in titles.iter_rows()},
        evidence=CohortEvidence(folder),
    )
