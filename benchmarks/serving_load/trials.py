"""The trials: plain load, five times too much, kill -9, a full disk, a database that restarts, an engine that fails."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from serving_load.endpoint import Endpoint, Mode
from serving_load.probe import Probe, seconds_until
from serving_load.scene import Scene, told
from serving_load.server import running

Result = dict[str, Any]


def plain_load(scene: Scene, seconds: float, clients: int) -> Result:
    """Everybody at work, then nothing but drafts; nobody gets another 5xx than a deliberate 503."""
    with running(scene.server):
        mixed = scene.load(seconds, clients)
        drafts = scene.load(seconds / 2, clients, only="drafts", ehrs=0)
        kept = scene.kept()
    good = kept.whole and not mixed["wrong"] and not drafts["wrong"]
    return {"good": good, "mixed": mixed, "drafts_only": drafts, "kept": asdict(kept)}


def overload(scene: Scene, seconds: float, clients: int) -> Result:
    """Five times the clients: the server sheds by 503, and is as quick as before some seconds later."""
    with running(scene.server):
        probe = Probe(scene)
        alone = probe.seconds_of_a_draft()
        seen = scene.load(seconds, 5 * clients, patience_seconds=30)
        recovered = seconds_until(lambda: probe.seconds_of_a_draft() < max(0.5, 3 * alone), 60)
        kept = scene.kept()
    good = kept.whole and not seen["wrong"] and recovered is not None
    return {"good": good, "load": seen, "seconds_alone": alone, "seconds_to_recover": recovered, "kept": asdict(kept)}


def kills(
    scene: Scene,
    times: int,
    clients: int,
    alive_seconds: tuple[float, float] = (1.0, 4.0),
    patience_seconds: float = 30,
) -> Result:
    """kill -9 of every process of the server under load, again and again; the clients go on asking."""
    starts = [scene.server.start()]
    process = scene.begin(3600.0, clients, until_file=str(scene.folder / "enough"), patience_seconds=patience_seconds)
    try:
        for _ in range(times):
            time.sleep(random.uniform(*alive_seconds))
            scene.server.kill()
            starts.append(scene.server.start())
        time.sleep(alive_seconds[1])
    finally:
        (scene.folder / "enough").touch()
    seen = told(process)
    kept = scene.kept()
    scene.server.stop()
    good = kept.whole and not seen["wrong"]
    return {"good": good, "kills": times, "slowest_start_seconds": max(starts), "load": seen, "kept": asdict(kept)}


def disk_full(scene: Scene, disk: Path, clients: int, patience_seconds: float = 60) -> Result:
    """Fill the store's disk under load, and free it again: 503 store_unavailable meanwhile, work as before after.

    Args:
        scene: its store lies on the disk.
        disk: a small file system's folder.
        clients: clinicians.
        patience_seconds: of theirs; what nobody waits for long enough is unsure, not wrong.
    """
    with running(scene.server):
        enough = scene.folder / "enough"
        probe = Probe(scene)
        process = scene.begin(3600.0, clients, until_file=str(enough), patience_seconds=patience_seconds)
        time.sleep(3)
        with filled(disk):
            refused = seconds_until(lambda: probe.draft().code == "store_unavailable", 30)
            read = probe.ask("POST /v1/icd", {"q": "heart"}).status
            alive = probe.ask("GET /livez").status
            ready = probe.ask("GET /readyz").status
        back = seconds_until(lambda: probe.draft().status == 200, 30)
        enough.touch()
        seen, kept = told(process), scene.kept()
    good = kept.whole and not seen["wrong"] and None not in (refused, back) and (read, alive, ready) == (200, 200, 503)
    return {
        "good": good,
        "seconds_to_refuse": refused,
        "search": read,
        "livez": alive,
        "readyz": ready,
        "seconds_to_recover": back,
        "load": seen,
        "kept": asdict(kept),
    }


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a small file system in memory; needs root.

    Raises:
        OSError: it cannot be mounted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    mount = ["/usr/bin/mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        raise OSError("no small file system can be mounted here; it needs root")
    try:
        yield folder
    finally:
        subprocess.run(["/usr/bin/umount", "-l", str(folder)], check=False)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no byte free on a disk while the block runs."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            for size in (2**20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
            yield
        finally:
            ballast.unlink()


def database_restarts(scene: Scene, database: Any, clients: int) -> Result:
    """Stop PostgreSQL under load as if its machine lost power, and start it again some seconds later."""
    with running(scene.server):
        probe, process = Probe(scene), scene.begin(3600.0, clients, until_file=str(scene.folder / "enough"))
        time.sleep(3)
        database.stop("immediate")
        refused = seconds_until(lambda: probe.draft().code == "store_unavailable", 30)
        ready = probe.ask("GET /readyz").status
        database.start()
        back = seconds_until(lambda: probe.draft().status == 200, 30)
        (scene.folder / "enough").touch()
        seen, kept = told(process), scene.kept()
    good = kept.whole and not seen["wrong"] and None not in (refused, back) and ready == 503
    return {
        "good": good,
        "seconds_to_refuse": refused,
        "readyz": ready,
        "seconds_to_recover": back,
        "load": seen,
        "kept": asdict(kept),
    }


def engine_fails(
    scene: Scene, endpoint: Endpoint, modes: Sequence[Mode] = ("slow", "wrong", "error", "down")
) -> Result:
    """An engine elsewhere is slow, answers nonsense, then is not there: each a defined answer, all else works."""
    found: Result = {}
    with running(scene.server):
        probe = Probe(scene)
        old = probe.draft().json()["draft_id"]
        for mode in modes:
            endpoint.mode = mode
            answers = [probe.draft() for _ in range(6)]
            found[mode] = {
                "answers": sorted({f"{answer.status} {answer.code or ''}".rstrip() for answer in answers}),
                "slowest_seconds": round(max(answer.seconds for answer in answers), 2),
                "others": [
                    probe.ask(route, body).status
                    for route, body in ((f"GET /v1/drafts/{old}", None), ("POST /v1/screen", {"drugs": ["warfarin"]}))
                ],
            }
            queued = probe.draft(Prefer="respond-async").json()
            endpoint.mode = "well"
            found[mode]["seconds_to_recover"] = seconds_until(lambda: probe.draft().status == 200, 40)
            ended = lambda asked=queued: probe.ask(f"GET /v1/drafts/{asked['draft_id']}").json()["state"]  # noqa: E731
            seconds_until(lambda: ended() not in ("queued", "running"), 90)  # noqa: B023
            found[mode]["queued_became"] = ended()
        kept = scene.kept()
    refused = ({"200"}, {"503 engine_unavailable"}, {"504 late"}, {"503 engine_unavailable", "504 late"})
    good = kept.whole and all(
        set(one["answers"]) in refused and one["others"] == [200, 200] and one["seconds_to_recover"] is not None
        for one in found.values()
    )
    return {"good": good, **found, "kept": asdict(kept)}


def load_average() -> float:
    """Return how many processes wanted a core in the last minute: much more than our own, and figures say little."""
    return round(os.getloadavg()[0], 1)
