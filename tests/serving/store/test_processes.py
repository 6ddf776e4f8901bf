"""Several processes on one store, some of them killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from serving.store.drafts import Drafts
from serving.store.engine import open_store
from serving.store.verification import verify

ROOT = Path(__file__).parents[3]


def writer(url: str, name: str, *count: str) -> subprocess.Popen[str]:
    """Start a process that writes."""
    command = [sys.executable, "-m", "tests.serving.store.writer", url, name, *count]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_what_killed_processes_acknowledged_is_there_and_the_chain_is_whole(database_url: str):
    processes = [writer(database_url, f"p{number}") for number in range(3)]
    lines: list[str] = []
    for process in processes:
        assert process.stdout is not None
        lines += [process.stdout.readline() for _ in range(15)]
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
    acknowledged = dict(line.split() for line in lines if line.endswith("\n"))  # the last version of each
    store = open_store(database_url)
    for draft_id, version in acknowledged.items():
        draft = Drafts(store).get(draft_id)
        assert draft is not None
        assert draft.version >= int(version)
        assert len(draft.reviews) == draft.version - 1
    assert len(acknowledged) >= 3 * 7
    assert verify(store).problems == ()
    store.close()


def test_processes_that_start_on_an_empty_store_at_once_lose_and_double_nothing(database_url: str):
    processes = [writer(database_url, f"p{number}", "6") for number in range(4)]
    for process in processes:
        out, _ = process.communicate(timeout=120)
        assert (process.returncode, out.count("\n")) == (0, 12)
    store = open_store(database_url)
    drafts = Drafts(store).list(None, most=100)
    assert sorted(draft.draft_id for draft in drafts) == sorted(f"p{p}-{n}" for p in range(4) for n in range(6))
    verified = verify(store)
    assert (verified.events, verified.problems) == (48, ())
    store.close()
