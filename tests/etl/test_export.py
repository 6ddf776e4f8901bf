"""Exports: every row of the cohort and nothing else, the same bytes each time, opened by who they are for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_type_hints

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import format_commands
from etl.artefacts import sha256_file
from etl.build import build_cohort
from etl.cohort import SPLITS, read_prompts
from etl.dialogues import import_dialogues, read_dialogues
from etl.errors import ConfigError, ContractError
from etl.export import Format, export, to_alpaca
from etl.settings import Codes, CohortSettings, PredictAt

TEXT = st.text(min_size=1, max_size=20)
CONVERSATIONS = st.builds(
    lambda system, turns: (
        [{"role": "system", "content": system}] * bool(system)
        + [
            {"role": role, "content": text}
            for turn in turns
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
    ),
    st.one_of(st.just(""), TEXT),
    st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4),
)
MEDS_SPLITS = {"train": "train", "tuning": "validation", "held_out": "test"}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of(cohort: Path, split: str) -> list[dict[str, Any]]:
    return list(read_prompts(cohort, split))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An imported corpus: two turns each, no system text, nothing in the test split."""
    folder = tmp_path_factory.mktemp("corpus")
    items = [{"instruction": f"q{n}", "output": f"a{n}\n药", "history": [[f"hello {n}", "hi"]]} for n in range(4)]
    (folder / "items.json").write_text(json.dumps(items), encoding="utf-8")
    import_dialogues(folder / "items.json", folder / "run", seed=1)
    assert not rows_of(folder / "run", "test")
    return folder / "run"


@pytest.fixture(params=list(Format))
def form(request: pytest.FixtureRequest) -> Format:
    return request.param


# --- any format ---------------------------------------------------------------------------------------


def test_a_second_export_gives_the_same_bytes(tiny_cohort: Path, tmp_path: Path, form: Format) -> None:
    one = export(tiny_cohort, tmp_path / "one", form)
    assert export(tiny_cohort, tmp_path / "two", form) == one
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_an_export_names_its_cohort_and_every_file(tiny_cohort: Path, tmp_path: Path, form: Format) -> None:
    exported = export(tiny_cohort, tmp_path / "out", form)
    assert json.loads((tmp_path / "out" / "export.json").read_text("utf-8")) == exported
    assert exported["cohort_sha256"] == sha256_file(tiny_cohort / "cohort.json")
    assert exported["outputs"].keys() == bytes_of(tmp_path / "out").keys() - {"export.json"}
    assert all(sha256_file(tmp_path / "out" / name) == digest for name, digest in exported["outputs"].items())


def test_an_export_replaces_an_export_and_nothing_else(tiny_cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(tiny_cohort, out, Format.ALPACA)
    export(tiny_cohort, out, Format.CHAT)
    assert bytes_of(out).keys() == {*(f"{split}.jsonl" for split in SPLITS), "export.json"}
    (out / "export.json").unlink()
    before = bytes_of(out)
    with pytest.raises(ContractError, match="was not made by `rxdraft export`; choose another --out"):
        export(tiny_cohort, out, Format.CHAT)
    assert bytes_of(out) == before


def test_nothing_is_written_into_the_cohort(tiny_cohort: Path) -> None:
    with pytest.raises(ConfigError, match=r"lies in the cohort .* choose a folder outside it"):
        export(tiny_cohort, tiny_cohort / "prompts", Format.CHAT)


def test_a_folder_that_is_no_cohort_is_refused(tmp_path: Path, form: Format) -> None:
    with pytest.raises(ContractError, match=r"cohort\.json is missing"):
        export(tmp_path, tmp_path / "out", form)


def test_an_export_that_fails_leaves_nothing(tiny_cohort: Path, tmp_path: Path, form: Format) -> None:
    def stop(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(tiny_cohort, tmp_path / "out", form, on_rows=stop)
    assert not list(tmp_path.iterdir())


def test_only_the_splits_asked_for_are_written(tiny_cohort: Path, tmp_path: Path, form: Format) -> None:
    exported = export(tiny_cohort, tmp_path / "out", form, ["validation", "validation"])
    assert exported["splits"].keys() == {"validation"}
    others = {"train", "test", "held_out"}
    assert not [
        name for name in exported["outputs"] if others & set(Path(name.replace("-", "/")).with_suffix("").parts)
    ]


def test_splits_without_a_row_are_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has nothing in test; choose another --split"):
        export(corpus, tmp_path / "out", Format.CHAT, ["test"])


def test_the_command_offers_the_formats_there_are() -> None:
    [offered, _] = get_args(get_type_hints(format_commands.export, include_extras=True)["form"])
    assert get_args(offered) == tuple(form.value for form in Format)


# --- chat and Alpaca ----------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_chat_is_every_conversation_in_order(tiny_cohort: Path, tmp_path: Path, split: str) -> None:
    exported = export(tiny_cohort, tmp_path / "out", Format.CHAT)
    lines = (tmp_path / "out" / f"{split}.jsonl").read_text("utf-8").splitlines()
    assert list(map(json.loads, lines)) == rows_of(tiny_cohort, split)
    assert exported["splits"][split] == len(lines)


def test_alpaca_is_system_question_and_answer_in_order(tiny_cohort: Path, tmp_path: Path) -> None:
    export(tiny_cohort, tmp_path / "out", Format.ALPACA)
    items = json.loads((tmp_path / "out" / "train.json").read_text("utf-8"))
    assert [list(item.values()) for item in items] == [
        [message["content"] for message in row["messages"]] for row in rows_of(tiny_cohort, "train")
    ]
    assert all(list(item) == ["instruction", "input", "output"] for item in items)


def test_an_empty_split_is_an_empty_array(corpus: Path, tmp_path: Path) -> None:
    export(corpus, tmp_path / "out", Format.ALPACA)
    assert json.loads((tmp_path / "out" / "test.json").read_text("utf-8")) == []


@given(CONVERSATIONS)
def test_no_text_of_a_conversation_is_lost_or_reordered_in_alpaca(messages: list[dict[str, str]]) -> None:
    item = to_alpaca(messages)
    earlier = [text for pair in item.get("history", []) for text in pair]
    if messages[0]["role"] == "system":
        texts = [item["instruction"], *earlier, item["input"], item["output"]]
    else:
        assert item["input"] == ""
        texts = [*earlier, item["instruction"], item["output"]]
    assert texts == [message["content"] for message in messages]


def test_turns_without_a_system_text_come_back_from_alpaca_word_for_word(corpus: Path, tmp_path: Path) -> None:
    export(corpus, tmp_path / "out", Format.ALPACA)
    back = [item.messages for item in read_dialogues(tmp_path / "out" / "train.json")]
    for messages, row in zip(back, rows_of(corpus, "train"), strict=True):
        assert [m["content"].strip() for m in messages] == [m["content"] for m in row["messages"]]


# --- Hugging Face datasets ----------------------------------------------------------------------------


def load(folder: Path, cache: Path) -> Any:
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    datasets.disable_progress_bars()
    return datasets.load_dataset(str(folder), cache_dir=str(cache))


def test_load_dataset_opens_the_folder_with_every_split_and_row(tiny_cohort: Path, tmp_path: Path) -> None:
    export(tiny_cohort, tmp_path / "out", Format.DATASETS)
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert list(loaded) == list(SPLITS)
    for split in SPLITS:
        assert loaded[split].to_list() == rows_of(tiny_cohort, split)


def test_load_dataset_opens_a_folder_one_of_whose_splits_is_empty(corpus: Path, tmp_path: Path) -> None:
    exported = export(corpus, tmp_path / "out", Format.DATASETS)
    assert exported["splits"]["test"] == 0
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert {split: len(rows) for split, rows in loaded.items()} == {s: n for s, n in exported["splits"].items() if n}


def test_parquet_types_are_those_the_card_declares(tiny_cohort: Path, tmp_path: Path) -> None:
    export(tiny_cohort, tmp_path / "out", Format.DATASETS)
    message = pl.Struct({"role": pl.String, "content": pl.String})
    assert pl.read_parquet_schema(tmp_path / "out" / "data" / "train-00000-of-00001.parquet") == {
        "subject_id": pl.Int64,
        "hadm_id": pl.Int64,
        "messages": pl.List(message),
    }
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "does not allow uploading it to a hub" in " ".join(card.split())


# --- MEDS ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def events(tiny_cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meds") / "out"
    export(tiny_cohort, folder, Format.MEDS)
    return folder


def shards(folder: Path) -> Iterator[tuple[str, pl.DataFrame]]:
    for name, split in MEDS_SPLITS.items():
        yield split, pl.read_parquet(folder / "data" / name / "0.parquet")


def test_events_have_the_columns_of_the_standard(events: Path) -> None:
    """meds 0.4.1, schema.py: DataSchema, CodeMetadataSchema, SubjectSplitSchema."""
    for _, shard in shards(events):
        assert shard.schema == {
            "subject_id": pl.Int64,
            "time": pl.Datetime("us"),
            "code": pl.String,
            "numeric_value": pl.Float32,
            "hadm_id": pl.Int64,
        }
        assert not shard["subject_id"].has_nulls()
        assert not shard["code"].has_nulls()
    codes = pl.read_parquet(events / "metadata" / "codes.parquet")
    assert codes.schema == {"code": pl.String, "description": pl.String, "parent_codes": pl.List(pl.String)}
    subjects = pl.read_parquet(events / "metadata" / "subject_splits.parquet")
    assert subjects.schema == {"subject_id": pl.Int64, "split": pl.String}


def test_each_subject_is_in_one_shard_in_one_piece_and_in_order_of_time(events: Path) -> None:
    subjects: list[tuple[int, str]] = []
    for split, shard in shards(events):
        name = next(meds for meds, ours in MEDS_SPLITS.items() if ours == split)
        subjects += [(subject, name) for subject, _ in groupby(shard["subject_id"])]
        for _, of_subject in shard.group_by("subject_id"):
            assert of_subject["time"].is_sorted(nulls_last=False)
    assert len({subject for subject, _ in subjects}) == len(subjects)
    assert pl.read_parquet(events / "metadata" / "subject_splits.parquet").rows() == sorted(subjects)


Event = tuple[int, datetime | None, str, float | None, int | None]


def facts(sample: dict[str, Any]) -> Iterator[Event]:
    """Yield a sample's events as docs/formats.md has them; numbers rounded, as float32 does."""
    subject, stay = sample["subject_id"], sample["hadm_id"]
    begin, asked, end = sample["admittime"], sample["predict_time"], sample["dischtime"]
    yield subject, None, f"GENDER//{sample['sex']}", None, None
    yield subject, begin, f"HOSPITAL_ADMISSION//{sample['admission_type']}", None, stay
    yield subject, begin, "AGE", sample["age"], stay
    yield subject, begin, f"RACE//{sample['race']}", None, stay
    yield subject, end, "HOSPITAL_DISCHARGE", None, stay
    for drug in sample["current_drugs"] or ():
        yield subject, asked, f"DRUG//{drug}", None, stay
    for drug in sample["drugs"]:
        yield subject, end, f"DRUG//{drug}", None, stay
    coded, known = (sample["diagnoses"], end) if sample["diagnoses"] else (sample["earlier_diagnoses"], begin)
    for code in coded or ():
        yield subject, known, f"DIAGNOSIS//ICD{code['icd_version']}CM//{code['icd_code']}", None, stay
    for name in ("height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg"):
        if sample[name] is not None:
            days = sample["blood_pressure_age_days" if "mmhg" in name else name.split("_")[0] + "_age_days"]
            day = datetime.combine(asked.date() - timedelta(days=days), time())
            yield subject, day, f"OMR//{name}", round(sample[name], 3), None


@pytest.mark.parametrize("asked", [{}, {"predict_at": PredictAt.DAY, "codes": Codes.EARLIER}])
def test_every_fact_of_a_sample_is_one_event_and_every_event_a_fact(
    tiny_hospital: Path, tmp_path: Path, asked: dict[str, Any]
) -> None:
    build_cohort(tiny_hospital, tmp_path / "run", CohortSettings(**asked))
    export(tmp_path / "run", tmp_path / "out", Format.MEDS)
    for split, shard in shards(tmp_path / "out"):
        samples = pl.read_parquet(tmp_path / "run" / "samples.parquet").filter(pl.col("split") == split)
        expected = {fact for sample in samples.iter_rows(named=True) for fact in facts(sample)}
        found = [(*event[:3], event[3] and round(event[3], 3), event[4]) for event in shard.rows()]
        assert len(found) == len(expected)
        assert set(found) == expected


def test_cutting_at_admission_hides_what_a_stay_comes_to(tiny_cohort: Path, events: Path) -> None:
    admittimes = pl.read_parquet(tiny_cohort / "samples.parquet").select("hadm_id", "admittime", "dischtime")
    of_stays = pl.concat(shard for _, shard in shards(events)).join(admittimes, on="hadm_id")
    outcome = of_stays.filter(pl.col("code").str.contains("^(DRUG|DIAGNOSIS)//"))
    assert outcome.filter(pl.col("time") < pl.col("dischtime")).is_empty()
    assert not outcome.is_empty()


def test_every_code_is_described_once_and_diagnoses_by_their_titles(tiny_cohort: Path, events: Path) -> None:
    codes = pl.read_parquet(events / "metadata" / "codes.parquet")
    used = {code for _, shard in shards(events) for code in shard["code"]}
    assert sorted(used) == codes["code"].to_list()
    described = codes.filter(pl.col("code").str.starts_with("DIAGNOSIS//"))
    assert not described["description"].has_nulls()


def test_what_a_stay_without_an_end_came_to_is_left_out_and_counted(tiny_cohort: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_cohort, run)
    samples = pl.read_parquet(run / "samples.parquet")
    stay = samples.row(0, named=True)
    ends = pl.when(pl.col("hadm_id") != stay["hadm_id"]).then("dischtime")
    samples.with_columns(dischtime=ends).write_parquet(run / "samples.parquet")
    exported = export(run, tmp_path / "out", Format.MEDS)
    left_out = {f"DRUG//{drug}" for drug in stay["drugs"]} | {"HOSPITAL_DISCHARGE"}
    left_out |= {f"DIAGNOSIS//ICD{d['icd_version']}CM//{d['icd_code']}" for d in stay["diagnoses"]}
    assert exported["left out: no time is known"] == len(left_out)
    codes = pl.concat(shard for _, shard in shards(tmp_path / "out")).filter(pl.col("hadm_id") == stay["hadm_id"])
    assert not left_out & set(codes["code"])
    assert any(code.startswith("HOSPITAL_ADMISSION//") for code in codes["code"])


def test_an_imported_corpus_has_no_events(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no admissions, which MEDS needs; choose --format chat"):
        export(corpus, tmp_path / "out", Format.MEDS)
