"""Load the real service, kill it, and take its disk, database and engine away; see that nothing promised is lost.

A second process is the clinicians and EHRs: they search, ask for drafts (each under an Idempotency-Key; one in ten to
be made later), read them, decide about drugs, finish one in ten, and fire hooks, without a pause. What was acknowledged
is afterwards looked for in the store. Trials: `load` (the mixed load, then nothing but drafts), `overload` (five times
the clients), `kills` (kill -9, twenty times), `faults` (the store's disk full, PostgreSQL restarted, an engine
elsewhere that is slow, wrong or down). Says in its last line, as JSON, all of it; exit status 1 if anything was lost,
doubled, or answered with a 5xx other than a deliberate 503.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from serving_load import trials
from serving_load.endpoint import endpoint_running
from serving_load.figures import table
from serving_load.scene import Scene, Scenery, make_scene, to_bodies

from etl.cohort import read_cohort, read_samples
from etl.errors import RxdraftError
from tests.serving.store.postgres import server as postgres_server

TRIALS = ("load", "overload", "kills", "faults")
KILLED = {"lease_seconds": 3}
"""Settings of a service that is killed often: what its queue had begun is taken up soon."""
DISK_MEBIBYTES = 24


def main() -> int:
    """Run the trials and print what they showed."""
    options = read_options()
    scenery = Scenery(served(options), bodies(options.data), options.seconds, options.clients, options.ehrs)
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="rxdraft-bench-", dir=options.folder) as name, ExitStack() as lent:
        database = lent.enter_context(postgres_server("")) if "postgresql" in options.store else None
        for kind in options.store:
            new_store = store_maker(kind, database, Path(name))
            for title, run in planned(options, scenery, Path(name), kind, new_store, database):
                print(f"{title} ...", file=sys.stderr)
                found[title] = {**run(), "load_average": trials.load_average()}
                show(title, found[title])
    print(json.dumps(found))
    return 0 if all(one["good"] for one in found.values()) else 1


def planned(
    options: argparse.Namespace,
    scenery: Scenery,
    folder: Path,
    kind: str,
    new_store: Callable[[], str],
    database: Any,
) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Yield the trials on one kind of store, each with a new store and server."""

    def scene(title: str, **more: Any) -> Scene:
        return make_scene(scenery, folder / title.replace(" ", "-"), new_store(), **more)

    seconds, clients = options.seconds, options.clients
    for workers in options.workers if "load" in options.trials else ():
        title = f"load {kind} {workers} worker{'s' * (workers > 1)}"
        yield title, partial(trials.plain_load, scene(title, workers=workers), seconds, clients)
    if "overload" in options.trials:
        title = f"overload {kind}"
        yield title, lambda: trials.overload(scene(title), seconds / 2, clients)
    if "kills" in options.trials:
        title = f"kills {kind}"
        yield title, lambda: trials.kills(scene(title, **KILLED), options.kills, max(8, clients // 4))
    if "faults" in options.trials and kind == "sqlite":
        yield "disk full", lambda: disk_full(scenery, folder, clients // 4)
        if options.lists:
            yield "engine fails", lambda: engine_fails(options, scenery, folder, new_store())
    if "faults" in options.trials and kind == "postgresql":
        yield "postgresql restarts", lambda: trials.database_restarts(scene("restarts"), database, clients // 4)


def disk_full(scenery: Scenery, folder: Path, clients: int) -> dict[str, Any]:
    """Run that trial with the store on a small file system of its own, or leave it out where none can be mounted."""
    try:
        with trials.small_disk(folder / "disk", DISK_MEBIBYTES) as disk:
            scene = make_scene(scenery, folder / "disk-full", f"sqlite:///{disk}/rx.sqlite3")
            return trials.disk_full(scene, disk, clients)
    except OSError as error:
        return {"good": True, "left out": str(error)}


def engine_fails(options: argparse.Namespace, scenery: Scenery, folder: Path, store: str) -> dict[str, Any]:
    """Run that trial with a checkpoint whose lists an endpoint of ours writes."""
    with endpoint_running(("furosemide", "heparin")) as endpoint:
        elsewhere = ("--endpoint", endpoint.url, "--endpoint-model", "rx", "--timeout", "2")
        model = ("--model", str(options.lists), *elsewhere)
        outside = Scenery(model, scenery.admissions, scenery.seconds, scenery.clients)
        return trials.engine_fails(make_scene(outside, folder / "engine", store, deadline_seconds=5), endpoint)


def store_maker(kind: str, database: Any, folder: Path) -> Callable[[], str]:
    """Return what makes a new empty store of a kind and returns its URL."""
    count = iter(range(1000))
    if kind == "postgresql":
        return lambda: str(database.new_database())
    return lambda: f"sqlite:///{folder}/rx-{next(count)}.sqlite3"


def show(title: str, one: dict[str, Any]) -> None:
    """Print one trial for eyes."""
    print(f"\n{title}: {'good' if one['good'] else 'BAD'}   (load average {one['load_average']})")
    for name in ("mixed", "drafts_only", "load"):
        if name in one:
            seen = one[name]
            cpu = ", ".join(f"{key[:-12]} {seen[key]} s" for key in seen if key.endswith("_cpu_seconds"))
            print(f"{name}: {seen['calls_per_second']} calls/s answered; CPU: {cpu}; lag {seen['load_lag_seconds']} s")
            print(table(seen))
            refused = {what: count for what, count in seen["answers"].items() if " 2" not in what}
            print(f"else: {refused or 'nothing'}")
    rest = {name: value for name, value in one.items() if name not in ("good", "mixed", "drafts_only", "load")}
    print(json.dumps(rest, indent=1))


def served(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the options of `rxdraft serve` that say what is served."""
    return ("--model", options.model, *(("--data", str(options.data)) if options.model.startswith("baseline:") else ()))


def bodies(data: Path) -> list[dict[str, Any]]:
    """Return admissions of the test split as the API takes them."""
    read_cohort(data)
    return to_bodies(list(read_samples(data, "test").head(300).iter_rows(named=True)))


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except RxdraftError as error:
        sys.exit(f"bench_serve: {error}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo/runs/labels/rank-32/step-000429", help="checkpoint or baseline:NAME")
    parser.add_argument("--data", type=Path, default=Path("demo/cohort"), help="admissions come from its test split")
    parser.add_argument("--lists", type=Path, help="checkpoint that writes lists, for an engine elsewhere")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--ehrs", type=int, default=10, help="clients that fire hooks, beside them")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--store", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="for `load` (default: 1 2)")
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--folder", type=Path, help="where the stores lie; its disk decides how long a commit takes")
    parser.add_argument("--quick", action="store_true", help="5 s, 20 clients, 2 kills, one worker: does it run")
    options = parser.parse_args()
    options.store = ("sqlite", "postgresql") if options.store == "both" else (options.store,)
    if options.quick:
        options.seconds, options.clients, options.kills, options.workers = 5.0, 20, 2, [1]
    return options


if __name__ == "__main__":
    with _told():
        sys.exit(main())
