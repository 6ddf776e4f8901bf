"""A store with keys, a server on it, and processes of load: what every trial begins with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving_load import ledger
from serving_load.ehr import make_keys
from serving_load.server import Server

from serving.access.keys import make_key
from serving.access.principal import Role
from serving.store.engine import open_store
from serving.store.keys import Keys

GENERATE = Path(__file__).with_name("generate.py")
LOOSE = {"drafts_per_minute": 1_000_000, "calls_per_minute": 1_000_000, "log_level": "WARNING"}
"""Settings of a load: the limits of one person are not what is measured."""
FACTS = ("age", "sex", "height_cm", "weight_kg", "bmi", "systolic_mmhg", "diastolic_mmhg", "previous_drugs")


@dataclass(frozen=True, slots=True)
class Scenery:
    """What all trials share.

    Attributes:
        model: options of `rxdraft serve` that say what is served.
        admissions: bodies of POST /v1/drafts.
        ehrs: clients that fire hooks, beside the clinicians.
    """

    model: tuple[str, ...]
    admissions: list[dict[str, Any]]
    seconds: float
    clients: int
    ehrs: int = 10


@dataclass
class Scene:
    """One trial's folder, store, keys and server.

    Attributes:
        books: what the loads so far were promised.
    """

    scenery: Scenery
    folder: Path
    store: str
    server: Server
    keys: list[str]
    ehr_key: Path
    books: list[Path] = field(default_factory=list)

    def begin(self, seconds: float, clients: int, **more: Any) -> subprocess.Popen[str]:
        """Start a load process; `told` waits for it.

        Args:
            seconds: after which nothing new is begun.
            clients: clinicians at once.
            more: of the plan of `generate`.
        """
        self.books.append(self.folder / f"book-{len(self.books)}.jsonl")
        plan = {
            "url": self.server.url,
            "public_url": self.server.url,
            "seconds": seconds,
            "clients": clients,
            "ehrs": self.scenery.ehrs,
            "keys": self.keys,
            "admissions": self.scenery.admissions,
            "ehr_key": str(self.ehr_key),
            "book": str(self.books[-1]),
            **more,
        }
        path = self.books[-1].with_suffix(".plan")
        path.write_text(json.dumps(plan))
        return subprocess.Popen([sys.executable, str(GENERATE), str(path)], stdout=subprocess.PIPE, text=True)

    def load(self, seconds: float, clients: int, **more: Any) -> dict[str, Any]:
        """Load the server and return what was seen, with the CPU seconds the server took for it."""
        before = self.server.cpu_seconds()
        seen = told(self.begin(seconds, clients, **more))
        seen["server_cpu_seconds"] = round(self.server.cpu_seconds() - before, 2)
        return seen

    def kept(self, wait_seconds: float = 120) -> ledger.Kept:
        """Wait for the queue to be empty, then compare the store with all books."""
        ledger.wait_until_made(self.store, wait_seconds)
        return ledger.check(self.store, [one for book in self.books for one in ledger.read_book(book)])


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a load process and return its summary."""
    out, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load process ended with {process.returncode}")
    seen: dict[str, Any] = json.loads(out)
    return seen


def make_scene(
    scenery: Scenery, folder: Path, store: str, *, workers: int = 1, keys: int = 200, **settings: Any
) -> Scene:
    """Make keys in a store, and a server on it that is not started yet.

    Args:
        scenery: what all trials share.
        folder: for settings, output and books; made.
        store: URL.
        workers: processes of the server.
        keys: clinicians.
        settings: over those of a load.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ehr_key, client = make_keys(folder)
    given = {**LOOSE, "cds_clients": [client], "drain_grace_seconds": 0, **settings}
    server = Server(folder, scenery.model, store, given, workers)
    return Scene(scenery, folder, store, server, new_keys(store, keys), ehr_key)


def new_keys(url: str, count: int) -> list[str]:
    """Make clinicians' keys in a store, which is made where there is none."""
    store = open_store(url)
    made = [make_key(f"load {place}", [Role.CLINICIAN]) for place in range(count)]
    for _, kept in made:
        Keys(store).add(kept)
    store.close()
    return [text for text, _ in made]


def to_bodies(samples: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows of samples.parquet as POST /v1/drafts takes them."""
    return [
        {
            "diagnoses": [{name: one[name] for name in ("icd_code", "icd_version")} for one in sample["diagnoses"]],
            **{name: sample[name] for name in FACTS},
        }
        for sample in samples
    ]
