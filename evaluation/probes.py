"""The same checkpoint asked about altered admissions: does it read the note, and does it read the patient's sex?"""

from __future__ import annotations

import polars as pl

from etl.errors import ConfigError

_KEPT = ("subject_id", "hadm_id", "split", "drugs")
_OTHER = {"F": "M", "M": "F"}


def swap_notes(samples: pl.DataFrame) -> pl.DataFrame:
    """Give every visit the facts of another patient's: what a model still scores, it would score without reading.

    Raises:
        ConfigError: one patient has more than half of the visits, so that no such exchange exists.
    """
    order = samples["subject_id"].arg_sort()
    most = int(samples["subject_id"].value_counts()["count"].max())  # type: ignore[arg-type]
    if 2 * most > samples.height:
        raise ConfigError(
            "note-swap needs visits of several patients, and one has more than half; leave it out of --rows"
        )
    giver = pl.DataFrame({"place": order, "giver": pl.concat([order[most:], order[:most]])}).sort("place")["giver"]
    facts = samples.select(pl.exclude(_KEPT))[giver]
    return pl.concat([samples.select(_KEPT), facts], how="horizontal").select(samples.columns)


def flip_sex(samples: pl.DataFrame) -> pl.DataFrame:
    """Turn F into M and M into F; who is of neither stays as is."""
    return samples.with_columns(pl.col("sex").replace(_OTHER))


PROBES = {"note-swap": swap_notes, "sex-flip": flip_sex}
