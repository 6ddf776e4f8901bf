"""What a checkpoint knows of drugs and codes: the formulary and the titles it was trained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from etl import artefacts
from etl.domain import Diagnosis, normalise_icd
from etl.errors import ContractError
from training.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The formulary, commonest drug first, and the title of each (icd_code, icd_version)."""

    formulary: tuple[str, ...]
    titles: dict[tuple[str, int], str]

    def coded(self, icd_code: str, icd_version: int) -> Diagnosis:
        """Return a diagnosis with the title training gave its code; None where the dictionary has none."""
        code = normalise_icd(icd_code)
        return Diagnosis(code, icd_version, self.titles.get((code, icd_version)))


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
    titles = pl.read_parquet(paths["icd_titles"]).drop_nulls()
    return Vocabulary(
        formulary=tuple(pl.read_parquet(paths["formulary"])["drug"]),
        titles={(code, icd_version): title for code, icd_version, title in titles.iter_rows()},
    )
