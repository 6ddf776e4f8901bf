"""Write a synthetic hospital as MIMIC-IV files, from a written disease -> drug model.

The model stands in `etl/synthetic/*.csv`: which diseases there are and how often, their ICD codes, and how
likely each drug is ordered for each. What the files hold is drawn from it and then roughed up as the real
ones are: spellings, diluent orders, outliers, missing measurements, stays without orders. Since the model
is known, so is the chance of every drug in every stay, given what a prompt can tell; `oracle.parquet` keeps
it, and with it the best score anybody could reach.

Hospitals differ by seed in one thing beside their patients: their habits, that is which member of a drug
class they prefer. Nothing here resembles a real person.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import polars as pl

from etl import artefacts
from etl.drugs import normalise_drug
from etl.errors import ContractError

HABIT = 0.88
"""Share of a class's orders that go to the hospital's preferred member; the others share the rest."""
CONTINUED, NOT_CONTINUED = 0.92, 0.3
"""A chronic disease's drug, when the previous stay had it: its chance; when it had not: a factor on its chance."""
PERSISTENCE = 0.95
"""Chance that a chronic disease is coded again at each later stay."""

_COLUMNS = {
    "patients": "subject_id,gender,anchor_age,anchor_year,anchor_year_group,dod",
    "admissions": (
        "subject_id,hadm_id,admittime,dischtime,deathtime,admission_type,admit_provider_id,admission_location,"
        "discharge_location,insurance,language,marital_status,race,edregtime,edouttime,hospital_expire_flag"
    ),
    "diagnoses_icd": "subject_id,hadm_id,seq_num,icd_code,icd_version",
    "d_icd_diagnoses": "icd_code,icd_version,long_title",
    "prescriptions": (
        "subject_id,hadm_id,pharmacy_id,poe_id,poe_seq,order_provider_id,starttime,stoptime,drug_type,drug,"
        "formulary_drug_cd,gsn,ndc,prod_strength,form_rx,dose_val_rx,dose_unit_rx,form_val_disp,form_unit_disp,"
        "doses_per_24_hrs,route"
    ),
    "omr": "subject_id,chartdate,seq_num,result_name,result_value",
}
_RACES = ("WHITE",) * 12 + ("BLACK/AFRICAN AMERICAN",) * 3 + ("HISPANIC/LATINO", "ASIAN", "OTHER", "UNKNOWN")
_ADMISSION_TYPES = ("EW EMER.",) * 6 + ("OBSERVATION ADMIT",) * 3 + ("URGENT",) * 2 + ("ELECTIVE", "DIRECT EMER.")
_DILUENTS = ("0.9% Sodium Chloride", "5% Dextrose", "Iso-Osmotic Dextrose", "SW")


@dataclass(frozen=True, slots=True)
class Disease:
    """A condition: how often, whom, its codes per ICD version, and the drugs it calls for."""

    name: str
    prevalence: float
    chronic: bool
    ages: tuple[int, int]
    sex: str
    codes: dict[int, tuple[list[tuple[str, str]], list[float]]]
    treatments: tuple[tuple[str, float, int], ...]
    """(drug, chance, hours after admission of the first order)."""


@dataclass(frozen=True, slots=True)
class Hospital:
    """The written model, with the habits of one seed's hospital resolved."""

    diseases: tuple[Disease, ...]
    base_orders: tuple[tuple[str, float, int], ...]
    habits: dict[str, str]


@dataclass(slots=True)
class Stay:
    """One admission as drawn: its diseases and the drugs ordered, with the chance each had."""

    diseases: list[Disease]
    chances: dict[str, float]
    hours: dict[str, int]
    drugs: list[str] = field(default_factory=list)


def write_hospital(
    out: Path,
    patients: int,
    seed: int,
    *,
    overwrite: bool = False,
    on_patients: Callable[[int], None] = lambda patients: None,
) -> dict[str, Any]:
    """Write `patients` synthetic patients as `out/hosp/*.csv.gz`, with `oracle.parquet` and `hospital.json`.

    The oracle holds, per admission, every drug that had a chance and the chance, given diagnoses and the
    drugs of the previous stay, before any was drawn; canonical names, likeliest first.

    Args:
        out: appears whole or not at all; the same hospital, if whole, is left as it is.
        patients: at least 1; about 1.9 stays each.
        seed: of everything drawn.
        overwrite: replace another hospital that stands at `out`.
        on_patients: told how many patients were written, now and then.

    Returns:
        The content of hospital.json.

    Raises:
        ContractError: `out` holds something else, or another hospital and `overwrite` was not given.
    """
    artefacts.check_replaceable(out, "hospital.json", "rxdraft synth")
    if (out / "hospital.json").is_file() and not overwrite:
        return _whole(out, {"patients": patients, "seed": seed, "version": version("rxdraft")})
    draw = random.Random(seed)
    hospital = read_hospital(seed)
    oracle: dict[str, list[Any]] = {"hadm_id": [], "drugs": [], "chances": []}
    with artefacts.whole_or_absent(out) as folder:
        folder.mkdir()
        with _tables(folder / "hosp") as tables:
            titles = {(c, v): t for d in hospital.diseases for v, (codes, _) in d.codes.items() for c, t in codes}
            tables["d_icd_diagnoses"].writerows((c, v, titles[c, v]) for c, v in sorted(titles))
            for index in range(patients):
                _write_patient(draw, hospital, 10_000_000 + 37 * index, tables, oracle)
                if index % 250 == 249 or index == patients - 1:
                    on_patients(index + 1)
        pl.DataFrame(oracle, schema_overrides={"hadm_id": pl.Int64}).write_parquet(folder / "oracle.parquet")
        made = {
            "patients": patients,
            "admissions": len(oracle["hadm_id"]),
            "seed": seed,
            "version": version("rxdraft"),
            "habits": hospital.habits,
            "files": artefacts.sha256_tree(folder),
        }
        artefacts.write_json(folder / "hospital.json", made)
    return made


def _whole(out: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the hospital that stands at `out` if it is the one asked for."""
    made: dict[str, Any] = artefacts.read_json(out / "hospital.json", "rxdraft synth")
    artefacts.check_same(out, made, wanted)
    gone = [name for name in made["files"] if not (out / name).is_file()]
    if gone:
        raise ContractError(f"{out} lacks {', '.join(gone)}; make it again with `rxdraft synth --overwrite`")
    return made


def read_hospital(seed: int) -> Hospital:
    """Read the written model and resolve its drug classes by the habits of this seed's hospital."""
    members: dict[str, list[str]] = {}
    for row in _rows("classes"):
        members.setdefault(row["drug_class"], []).append(row["drug"])
    choose = random.Random(f"habits {seed}")
    habits = {drug_class: choose.choice(drugs) for drug_class, drugs in sorted(members.items())}

    def resolve(drug: str, chance: float, hours: int) -> Iterator[tuple[str, float, int]]:
        drug_class = drug.removeprefix("class:")
        if drug == drug_class:
            yield normalise_drug(drug), chance, hours
            return
        others = len(members[drug_class]) - 1
        for member in members[drug_class]:
            share = HABIT if member == habits[drug_class] else (1 - HABIT) / others
            yield normalise_drug(member), chance * share, hours

    treatments: dict[str, list[tuple[str, float, int]]] = {}
    for row in _rows("treatments"):
        resolved = resolve(row["drug"], float(row["probability"]), int(row["hours"]))
        treatments.setdefault(row["disease"], []).extend(resolved)
    codes: dict[str, dict[int, tuple[list[tuple[str, str]], list[float]]]] = {}
    for row in _rows("codes"):
        pairs, weights = codes.setdefault(row["disease"], {}).setdefault(int(row["icd_version"]), ([], []))
        pairs.append((row["icd_code"], row["long_title"]))
        weights.append(float(row["weight"]))
    diseases = tuple(
        Disease(
            row["disease"],
            float(row["prevalence"]),
            row["chronic"] == "1",
            (int(row["min_age"]), int(row["max_age"])),
            row["sex"],
            codes[row["disease"]],
            tuple(treatments.get(row["disease"], ())),
        )
        for row in _rows("diseases")
    )
    return Hospital(diseases, tuple(treatments["any"]), habits)


def chances(hospital: Hospital, diseases: list[Disease], previous: list[str] | None) -> dict[str, float]:
    """Return each drug's chance in a stay: any of its causes suffices (noisy or), then what went before.

    A drug of a chronic disease goes on with `CONTINUED` where the previous stay had it, and starts with
    `NOT_CONTINUED` of its chance where that stay had not; without a previous stay its chance stands.
    """
    misses: dict[str, float] = {}
    for causes in (hospital.base_orders, *(disease.treatments for disease in diseases)):
        for drug, chance, _ in causes:
            misses[drug] = misses.get(drug, 1.0) * (1 - chance)
    result = {drug: 1 - miss for drug, miss in misses.items()}
    if previous is not None:
        for drug in {drug for disease in diseases if disease.chronic for drug, _, _ in disease.treatments}:
            result[drug] = max(CONTINUED, result[drug]) if drug in previous else result[drug] * NOT_CONTINUED
    return result


def _draw_stay(
    draw: random.Random, hospital: Hospital, chronic: list[Disease], age: int, sex: str, previous: list[str] | None
) -> Stay:
    def eligible(disease: Disease) -> bool:
        return disease.ages[0] <= age <= disease.ages[1] and disease.sex in ("any", sex)

    diseases = [disease for disease in chronic if eligible(disease) and draw.random() < PERSISTENCE]
    diseases += [
        disease
        for disease in hospital.diseases
        if not disease.chronic and eligible(disease) and draw.random() < disease.prevalence
    ]
    if not diseases:
        diseases = [next(disease for disease in hospital.diseases if disease.name == "fall")]
    draw.shuffle(diseases)
    diseases.sort(key=lambda disease: disease.chronic)  # what brought the patient in is coded first
    stay = Stay(diseases, chances(hospital, diseases, previous), {})
    for causes in (hospital.base_orders, *(disease.treatments for disease in diseases)):
        for drug, _, hours in causes:
            stay.hours[drug] = min(hours, stay.hours.get(drug, hours))
    stay.drugs = [drug for drug, chance in stay.chances.items() if draw.random() < chance]
    return stay


def _write_patient(
    draw: random.Random, hospital: Hospital, subject_id: int, tables: dict[str, Any], oracle: dict[str, list[Any]]
) -> None:
    sex = draw.choice("FM")
    age = min(91, max(18, round(draw.gauss(63, 17))))
    anchor_year, real_year = draw.randrange(2110, 2200), draw.randrange(2008, 2020)
    group = real_year - (real_year - 2008) % 3
    tables["patients"].writerow((subject_id, sex, age, anchor_year, f"{group} - {group + 2}", ""))
    chronic = [disease for disease in hospital.diseases if disease.chronic and draw.random() < disease.prevalence]
    race = draw.choice(_RACES)
    height, weight = draw.gauss(177 if sex == "M" else 163, 7) / 2.54, draw.gauss(182, 40)
    admitted = datetime(anchor_year, 1, 1) + timedelta(minutes=draw.randrange(300 * 24 * 60))
    previous: list[str] | None = None
    measured = draw.random() < 0.8
    for number in range(1 + min(19, int(draw.expovariate(0.75)))):
        hadm_id = subject_id * 2 + number
        discharged = admitted + timedelta(hours=20 + draw.expovariate(1 / 90))
        now = age + admitted.year - anchor_year
        stay = _draw_stay(draw, hospital, chronic, now, sex, previous)
        observed_only = draw.random() < 0.06
        kind = "EU OBSERVATION" if observed_only else draw.choice(_ADMISSION_TYPES)
        tables["admissions"].writerow(
            (
                *(subject_id, hadm_id, admitted, discharged.replace(microsecond=0), "", kind, ""),
                *("EMERGENCY ROOM", "HOME", "Other", "ENGLISH", "", race, "", "", 0),
            )
        )
        _write_diagnoses(draw, stay, subject_id, hadm_id, 9 if real_year + number < 2016 else 10, tables)
        if measured:
            _write_measurements(draw, subject_id, admitted.date(), height, weight, tables)
        if not observed_only:
            _write_orders(draw, stay, subject_id, hadm_id, admitted, tables)
            likeliest = sorted(stay.chances.items(), key=lambda item: (-item[1], item[0]))
            oracle["hadm_id"].append(hadm_id)
            oracle["drugs"].append([drug for drug, _ in likeliest])
            oracle["chances"].append([chance for _, chance in likeliest])
            previous = stay.drugs or previous
        admitted = (discharged + timedelta(days=5 + draw.expovariate(1 / 200))).replace(second=0, microsecond=0)
        weight *= draw.gauss(1, 0.03)


def _write_diagnoses(
    draw: random.Random, stay: Stay, subject_id: int, hadm_id: int, icd_version: int, tables: dict[str, Any]
) -> None:
    codes = []
    for disease in stay.diseases:
        pairs, weights = disease.codes[icd_version]
        codes.append(draw.choices(pairs, weights)[0][0])
    if draw.random() < 0.02:
        codes.append(codes[0])  # coded twice, as happens
    rows = ((subject_id, hadm_id, rank, code, icd_version) for rank, code in enumerate(codes, 1))
    tables["diagnoses_icd"].writerows(rows)


def _write_orders(
    draw: random.Random, stay: Stay, subject_id: int, hadm_id: int, admitted: datetime, tables: dict[str, Any]
) -> None:
    rows = []
    for drug in stay.drugs:
        start = admitted.replace(minute=0) + timedelta(hours=stay.hours[drug])
        while True:
            rows.append((start, "MAIN", misspell(draw, drug)))
            if draw.random() < 0.15:
                rows.append((start, "BASE", draw.choice(_DILUENTS)))
            if draw.random() < 0.7:
                break
            start += timedelta(hours=draw.randrange(1, 48))
    draw.shuffle(rows)
    for start, drug_type, drug in rows:
        stop = "" if draw.random() < 0.01 else start + timedelta(hours=draw.randrange(1, 96))
        tables["prescriptions"].writerow(
            (subject_id, hadm_id, "", "", "", "", start, stop, drug_type, drug, *("",) * 11)
        )


def misspell(draw: random.Random, drug: str) -> str:
    """Spell a canonical name as one of many hands might; `normalise_drug` undoes it."""
    chance = draw.random()
    if chance < 0.7:
        return drug.title()
    if chance < 0.8:
        return drug
    if chance < 0.86:
        return drug.upper()
    if chance < 0.92:
        return drug.title().replace(" ", "  ", 1)
    if chance < 0.98:
        return f"{drug.capitalize()} "
    return f"*NF* {drug.title()}"


def _write_measurements(
    draw: random.Random, subject_id: int, day: date, height: float, weight: float, tables: dict[str, Any]
) -> None:
    charted = day - timedelta(days=draw.randrange(0, 60))
    outlier = draw.random()
    inches = 5 if outlier < 0.004 else round(height)
    pounds = round(weight * 10) if 0.004 <= outlier < 0.008 else max(70, round(weight, 1))
    results = [
        ("Height (Inches)", inches),
        ("Weight (Lbs)", pounds),
        ("BMI (kg/m2)", round(pounds / inches**2 * 703, 1)),
        ("Blood Pressure", f"{draw.randrange(95, 170)}/{draw.randrange(50, 100)}"),
    ]
    for name, value in results:
        if draw.random() < 0.9:
            tables["omr"].writerow((subject_id, charted, 1, name, "ERROR" if draw.random() < 0.002 else value))


@contextmanager
def _tables(folder: Path) -> Iterator[dict[str, Any]]:
    """Open a writer per table; the gz headers hold no clock and no name, so bytes repeat."""
    folder.mkdir()
    with ExitStack() as stack:
        writers = {}
        for table, columns in _COLUMNS.items():
            raw = stack.enter_context((folder / f"{table}.csv.gz").open("wb"))
            packed = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0))
            text = stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8", newline=""))
            writers[table] = csv.writer(text, lineterminator="\n")
            writers[table].writerow(columns.split(","))
        yield writers


def _rows(table: str) -> list[dict[str, str]]:
    text = (files("etl") / "synthetic" / f"{table}.csv").read_text("utf-8")
    return list(csv.DictReader(io.StringIO(text)))
