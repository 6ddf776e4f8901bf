"""Real processes, killed and starved under load: what was acknowledged is in the store, once. The benchmark, small."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CLIENTS = 8
KILLS = 2


@pytest.fixture(scope="module", autouse=True)
def benchmarks_on_path() -> Iterator[None]:
    """Import as the scripts do, from their own folder."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def scenery(tiny_cohort: Path) -> Any:
    """The quickest drafter there is, and admissions to ask it about."""
    from serving_load.scene import Scenery, to_bodies

    from etl.cohort import read_samples

    bodies = to_bodies(list(read_samples(tiny_cohort, "test").iter_rows(named=True)))
    return Scenery(("--model", "baseline:popularity", "--data", str(tiny_cohort)), bodies, 3.0, CLIENTS, ehrs=1)


@pytest.fixture(scope="module")
def scene(scenery: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service on a store of its own."""
    from serving_load.scene import make_scene

    folder = tmp_path_factory.mktemp("killed")
    return make_scene(scenery, folder, f"sqlite:///{folder}/rx.sqlite3", keys=CLIENTS, lease_seconds=1)


@pytest.fixture(scope="module")
def killed(scene: Any) -> dict[str, Any]:
    """What became of that service, killed twice while clients went on asking."""
    from serving_load import trials

    return trials.kills(scene, KILLS, CLIENTS, alive_seconds=(1.5, 2.5), patience_seconds=8)


def test_the_load_of_a_killed_service_was_one(killed: dict[str, Any]) -> None:
    """Without drafts and reviews in every life, the others would say nothing."""
    assert killed["kept"]["drafts"] > 10 * KILLS
    assert killed["kept"]["reviews"] > 10 * KILLS
    assert any(what.endswith(" none") for what in killed["load"]["answers"])  # the kills did hit calls


def test_every_acknowledged_draft_and_review_outlives_kill_9(killed: dict[str, Any]) -> None:
    lost = {name: count for name, count in killed["kept"].items() if name.startswith("lost_")}
    assert lost == {"lost_drafts": 0, "lost_reviews": 0, "lost_finals": 0}


def test_no_call_is_done_twice_when_clients_ask_again_after_kill_9(killed: dict[str, Any]) -> None:
    assert (killed["kept"]["doubled_drafts"], killed["kept"]["doubled_reviews"]) == (0, 0)


def test_queued_drafts_of_a_killed_service_are_made_by_its_successor(killed: dict[str, Any]) -> None:
    assert (killed["kept"]["unfinished"], killed["kept"]["failed"]) == (0, 0)


def test_the_audit_trail_verifies_after_kill_9(killed: dict[str, Any]) -> None:
    assert (killed["kept"]["damages"], killed["kept"]["unaudited"]) == (0, 0)


def test_a_killed_service_answers_nothing_but_deliberate_refusals(killed: dict[str, Any]) -> None:
    assert killed["load"]["wrong"] == {}


def test_a_promise_that_was_not_kept_would_be_found(scene: Any, killed: dict[str, Any]) -> None:
    from serving_load import ledger

    forged = {"kind": "promised", "draft_id": "no-such-draft", "version": 7, "state": "ready"}
    kept = ledger.check(
        scene.store,
        [
            {**forged, "what": "draft", "key": "a"},
            {**forged, "what": "draft", "key": "a", "draft_id": "its double"},
            {**forged, "what": "review", "item_id": "i1", "decision": "accept"},
            {**forged, "what": "final"},
        ],
    )
    assert (kept.lost_drafts, kept.lost_reviews, kept.lost_finals, kept.doubled_drafts) == (2, 1, 1, 1)
    assert kept.unaudited == 2
    assert not kept.whole


def test_a_full_disk_is_refused_and_got_over(scenery: Any, tmp_path: Path) -> None:
    from serving_load import trials
    from serving_load.scene import make_scene

    try:
        with trials.small_disk(tmp_path / "disk", 8) as disk:
            scene = make_scene(scenery, tmp_path / "scene", f"sqlite:///{disk}/rx.sqlite3", keys=CLIENTS)
            found = trials.disk_full(scene, disk, CLIENTS // 2, patience_seconds=5)
    except OSError as error:
        pytest.skip(str(error))
    assert found["good"], found


def test_an_engine_that_writes_nonsense_is_refused_and_got_over(scenery: Any, checkpoint: Path, tmp_path: Path) -> None:
    from serving_load import trials
    from serving_load.endpoint import endpoint_running
    from serving_load.scene import Scenery, make_scene

    with endpoint_running(("furosemide",)) as endpoint:
        options = ("--endpoint", endpoint.url, "--endpoint-model", "rx", "--timeout", "2")
        outside = Scenery(("--model", str(checkpoint), *options), scenery.admissions, 0, 0)
        scene = make_scene(outside, tmp_path, f"sqlite:///{tmp_path}/rx.sqlite3", keys=1, deadline_seconds=5)
        found = trials.engine_fails(scene, endpoint, ("wrong",))
    assert found["good"], found
    assert found["wrong"]["answers"] == ["503 engine_unavailable"]
