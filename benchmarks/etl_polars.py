"""The job of job.py in Polars: one lazy plan, run by the streaming engine into samples.parquet."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import polars as pl
from job import COLUMNS, MEASUREMENTS, arguments, split_of

from etl.drugs import normalise_drug

TYPES: dict[str, type[pl.DataType] | pl.DataType] = {
    **dict.fromkeys(["subject_id", "hadm_id"], pl.Int64),
    **dict.fromkeys(["seq_num", "icd_version", "anchor_age", "anchor_year"], pl.Int32),
    **dict.fromkeys(["admittime", "starttime"], pl.Datetime("us")),
    **dict.fromkeys(["gender", "admission_type", "race", "icd_code", "long_title"], pl.String),
    **dict.fromkeys(["drug_type", "drug", "result_name", "result_value"], pl.String),
    "chartdate": pl.Date,
}


def scan(hosp: Path, table: str) -> pl.LazyFrame:
    """Read the job's columns of a table; the others are skipped."""
    return pl.scan_csv(hosp / f"{table}.csv.gz", schema_overrides=TYPES).select(COLUMNS[table])


def read_stays(hosp: Path) -> pl.LazyFrame:
    """Return every stay of a listed patient, in the order of the samples."""
    age = pl.col("anchor_age") + pl.col("admittime").dt.year() - pl.col("anchor_year")
    sex = pl.when(pl.col("gender").is_in(["F", "M"])).then("gender")
    return (
        scan(hosp, "admissions")
        .join(scan(hosp, "patients"), on="subject_id")
        .with_columns(age=age, sex=sex, day=pl.col("admittime").dt.date())
        .sort("subject_id", "admittime", "hadm_id")
    )


def diagnosis_lists(hosp: Path) -> pl.LazyFrame:
    """Return one row per stay: its codes and titles by rank."""
    titles = scan(hosp, "d_icd_diagnoses").rename({"long_title": "title"})
    code = ["icd_code", "icd_version"]
    return (
        scan(hosp, "diagnoses_icd")
        .drop_nulls("icd_code")
        .group_by("hadm_id", *code)
        .agg(pl.col("seq_num").min())
        .join(titles, on=code, how="left")
        .group_by("hadm_id")
        .agg(diagnoses=pl.struct(*code, "title").sort_by("seq_num", *code))
    )


def drug_lists(hosp: Path) -> pl.LazyFrame:
    """Return one row per stay: its normalised drugs by first order; a name is normalised once per spelling."""
    orders = scan(hosp, "prescriptions").filter(pl.col("drug_type") == "MAIN").drop_nulls("drug")
    firsts = orders.group_by("hadm_id", "drug").agg(pl.col("starttime").min()).collect(engine="streaming")
    spellings = firsts["drug"].unique().to_list()
    names = {spelling: normalise_drug(spelling) or None for spelling in spellings}
    return (
        firsts.lazy()
        .with_columns(pl.col("drug").replace_strict(names, return_dtype=pl.String))
        .drop_nulls("drug")
        .group_by("hadm_id", "drug")
        .agg(pl.col("starttime").min())
        .group_by("hadm_id")
        .agg(drugs=pl.col("drug").sort_by("starttime", "drug", nulls_last=True))
    )


def daily_measurements(hosp: Path) -> pl.LazyFrame:
    """Return one row per patient and charted day: of each quantity the last plausible reading until then."""
    names = {m.quantity: m.result_name for m in MEASUREMENTS}
    parts = pl.col("result_value").str.split_exact("/", 1)
    readings = {
        m.quantity: parts.struct.field(f"field_{m.part}").cast(pl.Float64, strict=False) * m.factor
        for m in MEASUREMENTS
    }
    plausible = {m.quantity: readings[m.quantity].is_between(m.low, m.high) for m in MEASUREMENTS}

    def kept(quantity: str) -> pl.Expr:
        name = names[quantity]
        whole = reduce(pl.Expr.__and__, (plausible[q] for q, other in names.items() if other == name))
        return pl.when((pl.col("result_name") == name) & whole).then(readings[quantity])

    return (
        scan(hosp, "omr")
        .filter(pl.col("result_name").is_in(list(names.values())))
        .with_columns(kept(quantity).alias(quantity) for quantity in names)
        .sort("subject_id", "chartdate", "seq_num", "result_value")
        .select("subject_id", "chartdate", *(pl.col(q).forward_fill().over("subject_id") for q in names))
        .unique(["subject_id", "chartdate"], keep="last", maintain_order=True)
    )


def join_samples(
    stays: pl.LazyFrame, diagnoses: pl.LazyFrame, drugs: pl.LazyFrame, daily: pl.LazyFrame
) -> pl.LazyFrame:
    """Put the parts together, previous drugs included."""
    with_drugs = pl.when(pl.col("drugs").is_not_null()).then("hadm_id")
    quantities = [m.quantity for m in MEASUREMENTS]
    return (
        stays.join(drugs, on="hadm_id", how="left", maintain_order="left")
        .with_columns(previous=with_drugs.forward_fill().shift(1).over("subject_id"))
        .join(drugs.rename({"hadm_id": "previous", "drugs": "previous_drugs"}), on="previous", how="left")
        .filter(pl.col("drugs").is_not_null())
        .join(diagnoses, on="hadm_id")
        .sort("day")
        .join_asof(daily.sort("chartdate"), left_on="day", right_on="chartdate", by="subject_id")
        .sort("subject_id", "admittime", "hadm_id")
        .select(
            *("subject_id", "hadm_id"),
            pl.col("subject_id").map_elements(split_of, return_dtype=pl.String).alias("split"),
            *("age", "sex", "race", "admission_type", *quantities, "diagnoses", "drugs", "previous_drugs"),
        )
    )


def main() -> None:
    """Write samples.parquet."""
    hosp, target = arguments(__doc__)
    samples = join_samples(read_stays(hosp), diagnosis_lists(hosp), drug_lists(hosp), daily_measurements(hosp))
    samples.sink_parquet(target, engine="streaming")


if __name__ == "__main__":
    main()
