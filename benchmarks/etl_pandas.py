"""The job of job.py in pandas: needed columns, narrow types, categories for repeated text, PyArrow for lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from job import COLUMNS, MEASUREMENTS, arguments, split_of

from etl.drugs import normalise_drug

TYPES = {
    **dict.fromkeys(["subject_id", "hadm_id"], "int64"),
    **dict.fromkeys(["seq_num", "icd_version", "anchor_age", "anchor_year"], "int32"),
    **dict.fromkeys(["gender", "admission_type", "race", "icd_code"], "category"),
    **dict.fromkeys(["drug_type", "drug", "result_name", "result_value"], "category"),
    "long_title": "str",
}
TIMES = {"admittime", "starttime", "chartdate"}


def read(hosp: Path, table: str) -> pd.DataFrame:
    """Read the job's columns of a table; only an empty field is a missing value."""
    columns = COLUMNS[table]
    return pd.read_csv(
        hosp / f"{table}.csv.gz",
        usecols=columns,
        dtype={name: TYPES[name] for name in columns if name in TYPES},
        parse_dates=[name for name in columns if name in TIMES],
        keep_default_na=False,
        na_values=[""],
    )


def read_stays(hosp: Path) -> pd.DataFrame:
    """Return every stay of a listed patient, in the order of the samples."""
    stays = read(hosp, "admissions").merge(read(hosp, "patients"), on="subject_id")
    stays["age"] = (stays["anchor_age"] + stays["admittime"].dt.year - stays["anchor_year"]).astype("int32")
    stays["sex"] = stays["gender"].where(stays["gender"].isin(["F", "M"]))
    patients = stays["subject_id"].drop_duplicates()
    stays["split"] = stays["subject_id"].map(dict(zip(patients, map(split_of, patients), strict=True)))
    return stays.sort_values(["subject_id", "admittime", "hadm_id"], ignore_index=True)


def as_lists(hadm_id: pd.Series, values: pa.Array) -> tuple[pd.Index, pa.ListArray]:
    """Return the stays and one list each, of rows that are sorted by stay."""
    stays, starts = np.unique(hadm_id.to_numpy(), return_index=True)
    return pd.Index(stays), pa.ListArray.from_arrays(np.append(starts, len(hadm_id)).astype("int32"), values)


def diagnosis_lists(hosp: Path) -> tuple[pd.Index, pa.ListArray]:
    """Return the stays and their codes with titles by rank; a code held twice counts at its better rank."""
    coded = read(hosp, "diagnoses_icd").dropna(subset="icd_code")
    coded = coded.sort_values(["hadm_id", "seq_num", "icd_code", "icd_version"])
    coded = coded.drop_duplicates(["hadm_id", "icd_code", "icd_version"])
    titles = read(hosp, "d_icd_diagnoses").rename(columns={"long_title": "title"})
    titles = titles.astype({"icd_code": "str"})
    coded = coded.astype({"icd_code": "str"}).merge(titles, on=["icd_code", "icd_version"], how="left")
    columns = ["icd_code", "icd_version", "title"]
    return as_lists(coded["hadm_id"], pa.StructArray.from_arrays([pa.array(coded[c]) for c in columns], columns))


def drug_lists(hosp: Path) -> tuple[pd.Index, pa.ListArray]:
    """Return the stays and their normalised drugs by first order; a name is normalised once per spelling."""
    orders = read(hosp, "prescriptions")
    orders = orders[orders["drug_type"] == "MAIN"].drop(columns="drug_type")
    spellings = orders["drug"].cat.categories
    names = dict(zip(spellings, map(normalise_drug, spellings), strict=True))
    vocabulary = sorted(set(names.values()) - {""})
    # by code, so that twenty million names are never text
    code = pd.Series(names).map({name: number for number, name in enumerate(vocabulary)})[spellings].to_numpy("float32")
    orders["drug"] = np.append(code, np.nan)[orders["drug"].cat.codes]  # a missing one has code -1, the last place
    firsts = orders.dropna(subset="drug").groupby(["hadm_id", "drug"], as_index=False, sort=False)["starttime"].min()
    firsts = firsts.sort_values(["hadm_id", "starttime", "drug"])
    drugs = pa.array(vocabulary).take(pa.array(firsts["drug"].astype("int32")))
    return as_lists(firsts["hadm_id"], drugs)


def daily_measurements(hosp: Path) -> pd.DataFrame:
    """Return one row per patient and charted day: of each quantity the last plausible reading until then."""
    omr = read(hosp, "omr")
    omr = omr[omr["result_name"].isin([m.result_name for m in MEASUREMENTS])]
    texts = omr["result_value"].cat.categories.to_series()
    parts = texts.str.split("/", n=1, expand=True).reindex(columns=[0, 1]).apply(pd.to_numeric, errors="coerce")
    code = omr["result_value"].cat.codes
    for m in MEASUREMENTS:
        reading = np.append(parts[m.part], np.nan)[code] * m.factor
        omr[m.quantity] = np.where(omr["result_name"] == m.result_name, reading, np.nan)
    for name in {m.result_name for m in MEASUREMENTS}:
        same = [m for m in MEASUREMENTS if m.result_name == name]
        whole = np.logical_and.reduce([omr[m.quantity].between(m.low, m.high) for m in same])
        for m in same:
            omr[m.quantity] = omr[m.quantity].where(whole)
    quantities = [m.quantity for m in MEASUREMENTS]
    omr["result_value"] = omr["result_value"].cat.reorder_categories(sorted(texts), ordered=True)
    omr = omr.sort_values(["subject_id", "chartdate", "seq_num", "result_value"])
    omr[quantities] = omr.groupby("subject_id")[quantities].ffill()
    return omr.drop_duplicates(["subject_id", "chartdate"], keep="last")[["subject_id", "chartdate", *quantities]]


def add_measurements(stays: pd.DataFrame, daily: pd.DataFrame) -> pd.DataFrame:
    """Add what is known by the day of admission, in the order of the samples."""
    stays["chartdate"] = stays["admittime"].dt.normalize()
    known = pd.merge_asof(
        stays.sort_values("chartdate"), daily.sort_values("chartdate"), on="chartdate", by="subject_id"
    )
    return known.sort_values(["subject_id", "admittime", "hadm_id"], ignore_index=True)


def previous_stays(stays: pd.DataFrame, with_drugs: pd.Index) -> pd.Series:
    """Return the patient's last earlier stay that has any drugs, of stays in the order of the samples."""
    candidates = stays["hadm_id"].where(stays["hadm_id"].isin(with_drugs))
    last = candidates.groupby(stays["subject_id"]).ffill()
    return last.groupby(stays["subject_id"]).shift()


def take(lists: tuple[pd.Index, pa.ListArray], hadm_id: pd.Series) -> pa.ListArray:
    """Return each stay's list, null where it has none."""
    place = lists[0].get_indexer(hadm_id)
    return lists[1].take(pa.array(place, mask=place < 0))


def main() -> None:
    """Write samples.parquet."""
    hosp, target = arguments(__doc__)
    drugs, diagnoses = drug_lists(hosp), diagnosis_lists(hosp)
    stays = add_measurements(read_stays(hosp), daily_measurements(hosp))
    stays["previous"] = previous_stays(stays, drugs[0])
    samples = stays[stays["hadm_id"].isin(drugs[0]) & stays["hadm_id"].isin(diagnoses[0])]
    facts = [
        "subject_id",
        "hadm_id",
        "split",
        "age",
        "sex",
        "race",
        "admission_type",
        *(m.quantity for m in MEASUREMENTS),
    ]
    table = pa.Table.from_pandas(samples[facts], preserve_index=False)
    for name, lists, key in (
        ("diagnoses", diagnoses, "hadm_id"),
        ("drugs", drugs, "hadm_id"),
        ("previous_drugs", drugs, "previous"),
    ):
        table = table.append_column(name, take(lists, samples[key]))
    pq.write_table(table, target, compression="zstd")


if __name__ == "__main__":
    main()
