"""Exports: every row of the cohort and nothing else, the same bytes each time, opened by who they are for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import format_commands
from etl.artefacts import sha256_file
from etl.cohort import SPLITS, read_prompts
from etl.dialogues import import_dialogues, read_dialogues
from etl.errors import ConfigError, ContractError
from etl.export import Format, export, to_alpaca

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


def test_an_imported_corpus_has_no_events(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="holds no admissions, which MEDS needs; choose --format chat"):
        export(corpus, tmp_path / "out", Format.MEDS)
