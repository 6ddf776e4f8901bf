"""Killed at any point, the same command goes on: what was answered is not asked again, and nothing is lost."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from evaluation.judge.judging import judge_units
from evaluation.judge.run import Settings
from tests.etl.outside.fake_server import FakeServer, Reply
from tests.etl.outside.killing import kill_after
from tests.evaluation.judge.opinions import opinion

CONCURRENCY = 4

RUN = """
import sys
from pathlib import Path
from etl.outside.ask import Limits
from evaluation.judge.judging import judge_units
from evaluation.judge.run import Settings
evaluation, cohort, url = sys.argv[1:]
limits = Limits(concurrency=4, first_wait_seconds=0.001)
judge_units(Settings(Path(evaluation), Path(cohort), (("judge-1", url),), rows=("same",), decoys=0.0, limits=limits))
"""


def answered(settings: Settings) -> int:
    if not settings.ledger_path.is_file():
        return 0
    with sqlite3.connect(settings.ledger_path) as con:
        try:
            return int(con.execute("SELECT count(*) FROM verdict").fetchone()[0])
        except sqlite3.OperationalError:  # killed before its first table
            return 0


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_where_it_was(sig: signal.Signals, server: FakeServer, settings: Settings) -> None:
    def answer(body: dict[str, Any]) -> Reply:
        time.sleep(0.01)
        return opinion()

    server.answer = answer
    kept = []
    for killed_after in (20, 70):
        kill_after(killed_after, server, sig, RUN, str(settings.evaluation), str(settings.cohort), server.url)
        kept.append(answered(settings))
    assert 0 < kept[0] < kept[1] < 150
    judged = judge_units(replace(settings, rows=("same",), decoys=0.0))
    assert answered(settings) == 150
    assert judged.tallies[0].stored == kept[1]
    assert judged.tallies[0].asked == 150 - kept[1]
    assert judged.rows["same"].drugs == 150
    times = Counter(server.asked.values())
    assert times[1] + times[2] + times[3] == 150
    # Only what was under way at a kill can have been put twice: its answer never came.
    assert times[2] + 2 * times[3] <= 2 * CONCURRENCY
    assert len(server.questions) == 150 + times[2] + 2 * times[3]
