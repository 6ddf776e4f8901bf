"""A judge of known sensitivity and leniency: the certificate recovers both, and says what it cannot know."""

from __future__ import annotations

import csv
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from etl.errors import ConfigError, ContractError
from evaluation.judge.appropriateness import read_appropriateness
from evaluation.judge.decoys import Kind
from evaluation.judge.equate import equate
from evaluation.judge.items import Unit
from evaluation.judge.judging import judge_lists, judge_units
from evaluation.judge.rehearsal import rehearse
from evaluation.judge.run import Case, Settings, plan_units, read_case
from evaluation.judge.share import export
from tests.etl.outside.fake_server import FakeServer, Reply, completion, is_probe
from tests.evaluation.judge.opinions import NO, OPINION, UNSURE, chance, chart_and_drug, opinion, write_drafts

Quality = dict[str, float]
"""The chance that the judge approves, by why a unit is asked."""


def judge_of(quality: Quality, settings: Settings, case: Case, otherwise: float = 0.8) -> Callable[[Any], Reply]:
    """Answer every decoy with the given chance of approval, whatever the drug; always the same to one question."""
    plan = plan_units(settings, case)
    why = {(case.charts.render(u.hadm_id), u.drug): str(kind) for u, kind in plan.kinds().items() if not u.repeat}
    why |= {(case.charts.render(u.hadm_id), u.drug): kind.value for kind in plan.decoys for u in plan.decoys[kind]}

    def answer(body: dict[str, Any]) -> Reply:
        chart, drug = chart_and_drug(body)
        likely = quality.get(why[chart, drug], otherwise)
        return opinion(OPINION if chance(chart, drug, body["model"]) < likely else NO)

    return answer


@pytest.fixture
def many(settings: Settings) -> Settings:
    """Decoys enough to certify."""
    return replace(settings, rows=("same",), decoys=0.77)


@pytest.fixture
def some(settings: Settings) -> Settings:
    """A few decoys of every kind."""
    return replace(settings, rows=("same",), decoys=0.3)


def test_the_certificate_recovers_what_the_judge_accepts_and_lets_pass(server: FakeServer, many: Settings) -> None:
    case = read_case(many)
    known = {Kind.POSITIVE: 0.9, Kind.CHART_SWAP: 0.4, Kind.FICTITIOUS: 0.02, Kind.SEX: 0.2}
    other = dict.fromkeys((kind.value for kind in Kind), 0.1)
    server.answer = judge_of({**other, **{kind.value: rate for kind, rate in known.items()}}, many, case)
    card = judge_units(many).card
    found = {Kind.POSITIVE: card["s"], **{kind: card["f"][kind.value] for kind in known if kind != Kind.POSITIVE}}
    for kind, rate in known.items():
        lo, hi = found[kind]["ci"]
        assert lo <= rate <= hi, (kind, found[kind])
    assert card["f"]["chart_swap"]["n"] >= 73
    assert card["f_headline"] == "chart_swap"
    assert not card["certified"]
    assert any("true orders" in reason for reason in card["reasons"])


def test_a_good_judge_passes_and_its_figures_need_no_badge(server: FakeServer, many: Settings) -> None:
    good = dict.fromkeys((kind.value for kind in Kind), 0.05) | {Kind.POSITIVE: 1.0, Kind.FICTITIOUS: 0.0}
    server.answer = judge_of(good, many, read_case(many))
    judged = judge_units(many)
    assert judged.card["certified"], judged.card["reasons"]
    assert {row.badge for row in judged.rows.values()} == {""}


def test_a_lenient_judge_ends_not_identified(server: FakeServer, many: Settings) -> None:
    server.answer = judge_of(
        {**dict.fromkeys((kind.value for kind in Kind), 0.9), Kind.FICTITIOUS: 0.0, Kind.POSITIVE: 1.0},
        *(many, read_case(many), 0.98),
    )
    judged = judge_units(many)
    row = judged.rows["same"]
    assert row.status == "not identified"
    assert row.text.endswith("not identified)")
    assert "†" in row.text
    assert row.badge == "UNCERTIFIED JUDGE"
    assert row.hi - row.lo > 0.1


def test_a_judge_that_approves_of_invented_drugs_voids_the_run(server: FakeServer, some: Settings) -> None:
    judged = judge_units(some)  # the server approves of everything
    assert judged.card["void"]
    for row in judged.rows.values():
        assert row.value is None
        assert row.text.startswith("void (100 %")
    assert judged.card["swap_gap"]["est"] == 0.0
    assert judged.card["canary"]["accepted"] == judged.card["canary"]["n"] > 0


def test_a_judge_that_reads_the_patient_has_a_swap_gap(server: FakeServer, settings: Settings) -> None:
    some = replace(settings, rows=("half",), decoys=0.3)
    case = read_case(some)
    true = {
        (case.charts.render(hadm), case.charts.label(drug))
        for hadm, row in case.charts.samples.items()
        for drug in row["drugs"]
    }
    server.answer = lambda body: opinion(OPINION if chart_and_drug(body) in true else NO)
    gap = judge_units(some).card["swap_gap"]
    assert gap["ci"][0] > 0.2


def test_a_judge_that_wavers_has_a_flip_rate(server: FakeServer, some: Settings) -> None:
    seen: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> Reply:
        question = json.dumps(body["messages"])
        seen[question] = seen.get(question, 0) + 1
        return opinion(OPINION if seen[question] == 1 else NO)

    server.answer = answer
    flips = judge_units(some).card["retest_flip"]
    assert flips["est"] == 1.0
    assert flips["n"] >= 5


def test_evidence_and_criteria_that_do_not_fit_are_counted(server: FakeServer, settings: Settings) -> None:
    server.answer = lambda body: opinion({**OPINION, "evidence": "she told me so", "duplication": "Y"})
    card = judge_units(replace(settings, rows=("same",))).card
    assert card["unsupported_evidence"] == 1.0
    assert card["criteria_vs_verdict_disagreement"] == 1.0


def test_abstentions_are_told_by_kind(server: FakeServer, some: Settings) -> None:
    case = read_case(some)
    invented = {unit.drug for unit in plan_units(some, case).decoys[Kind.FICTITIOUS]}
    server.answer = lambda body: opinion(UNSURE if chart_and_drug(body)[1] in invented else OPINION)
    abstention = judge_units(some).card["abstention"]
    assert (abstention["fictitious"], abstention["positive_control"]) == (1.0, 0.0)
    assert 0 < abstention["overall"] < 0.5


def test_an_error_is_no_rejection_and_is_told_by_kind(server: FakeServer, some: Settings) -> None:
    """A judge that breaks off on every other question has approved of all it answered."""
    server.answer = lambda body: opinion() if chance(*chart_and_drug(body)) < 0.5 else completion("{")
    judged = judge_units(some)
    row = judged.rows["same"]
    assert judged.card["s"]["est"] == 1.0
    assert row.raw == 1.0
    assert row.errors + row.drugs == 150
    assert judged.card["errors"]["draft"] == row.errors > 30
    assert sum(judged.card["errors"].values()) == judged.card["states"]["malformed"]
    assert row.if_abstained == pytest.approx((row.drugs / 150, 1.0))


def test_the_card_holds_all_that_a_certificate_must(server: FakeServer, some: Settings) -> None:
    card = judge_units(some).card
    wanted = (
        "protocol_version prompt_sha256 models mode dates n_items n_patients provenance s f canary swap_gap "
        "retest_flip abstention unsupported_evidence criteria_vs_verdict_disagreement raw_rate identification human "
        "usage ledger_sha256"
    )
    assert set(wanted.split()) <= set(card)
    assert card["models"] == [{"requested": "judge-1", "returned": ["judge-1-2026"], "shutdown_date": "2027-01-14"}]
    assert card["provenance"] == "demo"


# --- rows -------------------------------------------------------------------------------------------------


def test_a_failed_answer_counts_nothing_in_the_visits_mean_and_is_absent_from_the_pooled_rate(
    server: FakeServer, settings: Settings
) -> None:
    first = next(iter(read_case(settings).charts.samples))
    write_drafts(
        *(settings.evaluation, settings.cohort, "brief"),
        lambda sample: None if sample["hadm_id"] == first else ["aspirin"],
    )
    row = judge_units(replace(settings, rows=("brief",), decoys=0.0)).rows["brief"]
    assert (row.raw, row.drugs) == (1.0, 74)
    assert row.visit_mean == pytest.approx(74 / 75)


def test_the_same_drug_for_the_same_patient_is_asked_once_for_all_rows(server: FakeServer, settings: Settings) -> None:
    judge_units(replace(settings, decoys=0.0))
    assert set(server.asked.values()) == {1}
    case = read_case(settings)
    pairs = case.drafts.drop_nulls("label").select("hadm_id", "label").unique().height
    charts = len({case.charts.render(hadm) for hadm in case.charts.samples})
    assert charts == len(case.charts.samples)
    assert len(server.questions) == pairs


def test_verdicts_stand_beside_the_rows_without_text(server: FakeServer, settings: Settings) -> None:
    judge_units(replace(settings, rows=("same",)))
    table = pl.read_parquet(settings.evaluation / "judge" / "verdicts.parquet")
    assert table.columns == ["row", "subject_id", "hadm_id", "drug", "verdict", "approval", "weight"]
    assert table.filter(pl.col("row") == "same").height == 150
    for path in (settings.evaluation / "judge").glob("*.[jp]*"):
        assert b"Diagnoses:" not in path.read_bytes()


def test_figures_are_read_back_and_only_with_their_card(server: FakeServer, some: Settings) -> None:
    assert read_appropriateness(some.evaluation) is None
    judged = judge_units(some)
    assert read_appropriateness(some.evaluation) == judged.rows
    card = some.evaluation / "judge" / "judge-card.json"
    card.write_text(card.read_text().replace('"demo"', '"credentialed"'))
    with pytest.raises(ContractError, match="not of the card"):
        read_appropriateness(some.evaluation)
    card.unlink()
    assert read_appropriateness(some.evaluation) is None


def test_the_same_answers_give_the_same_bytes_without_asking(server: FakeServer, some: Settings) -> None:
    judge_units(some)
    files = [some.evaluation / "judge" / name for name in ("judge-card.json", "appropriateness.json", "units.parquet")]
    before, asked = [path.read_bytes() for path in files], len(server.questions)
    judge_units(some)
    assert [path.read_bytes() for path in files] == before
    server.close()
    judged = judge_units(replace(some, replay=True))
    assert [path.read_bytes() for path in files] == before
    assert len(server.questions) == asked
    assert judged.tallies == []


def test_a_replay_of_a_judge_nobody_asked_is_one_line(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="no verdict of judge-1"):
        judge_units(replace(settings, replay=True))


# --- panel, labels, parity ----------------------------------------------------------------------------------


def test_a_panels_minority_vetoes_and_its_mean_stands_beside(server: FakeServer, settings: Settings) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        name = body["model"]
        strict = name == "strict" and chart_and_drug(body)[1] == "aspirin"
        return opinion(NO if strict else OPINION, model=name)

    server.probe_is_easy = False
    server.answer = lambda body: opinion(model=body["model"]) if is_probe(body) else answer(body)
    panel = tuple((name, server.url) for name in ("kind", "kinder", "strict"))
    judged = judge_units(replace(settings, models=panel, rows=("same",), decoys=0.0))
    assert judged.rows["same"].raw == 0.5
    assert judged.rows["same"].mean == pytest.approx((2 / 3 + 1) / 2)
    assert set(judged.card["by_model"]) == {"kind", "kinder", "strict"}


def write_gold(path: Path, case: Case, units: list[Unit], verdict: Callable[[Unit], str], probability: float) -> Path:
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["item_id", "hadm_id", "drug", "verdict", "inclusion_probability"])
        lines.writerows([u.item_id, u.hadm_id, u.drug, verdict(u), probability] for u in units)
    return path


def test_human_labels_correct_a_lenient_judge(server: FakeServer, settings: Settings, tmp_path: Path) -> None:
    """The judge approves of 95 %, the humans of about 60 %: the row says 60."""
    case = read_case(replace(settings, rows=("half",)))
    plan = plan_units(replace(settings, rows=("half",)), case)
    right = {unit: chance("human", unit) < 0.6 for unit in plan.drafted}
    server.answer = lambda body: opinion(OPINION if chance(*chart_and_drug(body)) < 0.95 and "zeb" not in body else NO)
    some = sorted(plan.drafted, key=lambda unit: chance("pick", unit))[:200]
    words = {True: "appropriate", False: "inappropriate"}
    gold = write_gold(tmp_path / "gold.csv", case, some, lambda u: words[right[u]], 200 / len(plan.drafted))
    judged = judge_units(replace(settings, rows=("half",), decoys=0.0, gold=gold))
    row = judged.rows["half"]
    true = float(np.mean(list(right.values())))
    assert row.status == "corrected"
    assert row.lo <= true <= row.hi
    assert row.hi - row.lo < 0.25
    assert row.text.endswith("corrected, n=200")
    assert judged.card["human"]["n"] == 200
    assert judged.card["human"]["ppi"]["ci"][0] <= true <= judged.card["human"]["ppi"]["ci"][1]


@pytest.mark.parametrize(
    ("column", "value"),
    [("verdict", "yes"), ("inclusion_probability", "0"), ("inclusion_probability", "x"), ("hadm_id", "7")],
)
def test_a_wrong_line_of_labels_is_named_without_its_values(
    column: str, value: str, settings: Settings, tmp_path: Path
) -> None:
    case = read_case(settings)
    units = plan_units(settings, case).drafted[:3]
    path = write_gold(tmp_path / "gold.csv", case, units, lambda unit: "appropriate", 0.5)
    lines = list(csv.DictReader(path.open()))
    lines[1][column] = value
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(ContractError, match="lines 3 ") as stopped:
        read_case(replace(settings, gold=path))
    assert str(units[1].hadm_id) not in str(stopped.value)


def test_the_reference_protocol_averages_counts_over_lists_and_wears_its_badge(
    server: FakeServer, settings: Settings
) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        drugs = body["messages"][1]["content"].partition("\nDraft:\n")[2].splitlines()
        return completion(json.dumps({"appropriate": len(drugs) - 1, "inappropriate": 1}))

    server.answer = answer
    judged = judge_lists(settings)
    same = judged.rows["same"]
    assert (same.value, same.text, same.visits) == (0.5, "50.0‡", 75)
    assert {row.badge for row in judged.rows.values()} == {"PAPER-PARITY: no decoys, not identified"}
    assert not judged.card["certified"]
    assert read_appropriateness(settings.evaluation, paper_parity=True) == judged.rows
    assert read_appropriateness(settings.evaluation) is None
    lists = {body["messages"][1]["content"] for body in server.questions}
    assert len(lists) == len(server.questions) == 75 + 74


def test_a_count_that_leaves_a_drug_out_is_unscored_in_the_reference_protocol(
    server: FakeServer, settings: Settings
) -> None:
    server.answer = lambda body: completion('{"appropriate": 1, "inappropriate": 0}')
    row = judge_lists(replace(settings, rows=("same",))).rows["same"]
    assert (row.value, row.text, row.errors) == (None, "nothing judged", 75)


# --- equating, sharing, rehearsing --------------------------------------------------------------------------


def test_two_judges_are_compared_on_the_decoys_and_the_new_one_is_asked_nothing_else(
    server: FakeServer, some: Settings
) -> None:
    many = replace(some, decoys=0.5)
    server.probe_is_easy = False
    lenient = {"old": 0.3, "new": 0.6}
    server.answer = lambda body: opinion(
        OPINION if chance(body["messages"]) < lenient[body["model"]] else NO, model=body["model"]
    )
    judge_units(replace(many, models=(("old", server.url),)))
    before = len(server.questions)
    found = equate(replace(many, models=(("new", server.url),)), "old")
    case = read_case(many)
    known = plan_units(many, case).known
    assert len(server.questions) - before == len(known) == found["n"]
    lo, hi = found["drift"]["ci"]
    assert lo <= 0.3 <= hi
    assert found["agreement"] == pytest.approx(0.7, abs=0.12)
    assert 0.15 < found["kappa"] < 0.75
    assert json.loads((many.evaluation / "judge" / "equating.json").read_text()) == found


def test_what_is_shared_has_no_text_and_no_identifier_and_gives_the_figures_back(
    server: FakeServer, some: Settings, tmp_path: Path
) -> None:
    server.answer = lambda body: opinion(OPINION if chance(*chart_and_drug(body)) < 0.7 else NO)
    judged = judge_units(some)
    export(some.evaluation, None, tmp_path / "shared")
    shared = pl.read_csv(tmp_path / "shared" / "rows.csv")
    approved = (shared["verdict"] == "appropriate").cast(pl.Float64)
    rates = shared.with_columns(approved).group_by("row").agg(pl.col("verdict").mean())
    assert dict(rates.iter_rows()) == pytest.approx({name: row.raw for name, row in judged.rows.items()})
    samples = read_case(some).charts.samples.values()
    text = "".join(path.read_text() for path in (tmp_path / "shared").iterdir())
    numbers = set(text.replace(",", "\n").splitlines())
    assert not numbers & {str(sample[name]) for sample in samples for name in ("subject_id", "hadm_id")}
    titles = {entry["title"] for sample in samples for entry in sample["diagnoses"] if entry["title"]}
    assert not [title for title in titles if title in text]
    assert "Sex: F" not in text


def test_a_rehearsal_sends_nothing_writes_nothing_and_tells_all(
    server: FakeServer, some: Settings, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('["judge-1"]\ninput_usd_per_million = 30\noutput_usd_per_million = 60\n')
    told = rehearse(replace(some, prices=prices))
    assert server.headers == []
    assert not (some.evaluation / "judge").exists()
    for word in ("provenance: demo", "0 stored", "tokens in", "$", server.url, "this machine", "nothing was sent"):
        assert word in told
    judge_units(some)
    assert "0 to ask" in rehearse(some)


def test_a_rehearsal_with_credentialed_data_prints_what_would_have_to_be_signed(
    settings: Settings, tiny_cohort: Path, tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_socket(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", no_socket)
    monkeypatch.setattr(socket, "getaddrinfo", no_socket)
    write_drafts(tmp_path / "closed", tiny_cohort, "row", lambda sample: ["aspirin"])
    closed = replace(
        settings, evaluation=tmp_path / "closed", cohort=tiny_cohort, models=(("gpt", "https://api.openai.com/v1"),)
    )
    told = rehearse(closed)
    assert "refused: endpoint api.openai.com" in told
    assert 'person = ""' in told
    with pytest.raises(ConfigError, match="not on this machine"):
        judge_units(closed)
    with pytest.raises(ConfigError, match="not on this machine"):  # nor does one allowed judge let another pass
        judge_units(replace(closed, models=(("here", server.url), *closed.models)))
    assert server.headers == []
    assert not (tmp_path / "closed" / "judge" / "ledger.sqlite").exists()
