"""Ending: probes see it, running calls finish, new ones are sent away, and nothing stays behind."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import Any

import pytest

from serving.operation.drain import Drain
from serving.problems import ProblemError


class Later(threading.Thread):
    """A call that runs while something else happens."""

    def __init__(self, server: Any, path: str) -> None:
        super().__init__(daemon=True)
        self._server, self._path, self.answer = server, path, (0, "")
        self.start()
        time.sleep(0.3)

    def run(self) -> None:
        self.answer = self._server.get(self._path)


def test_told_to_stop_a_service_says_so_and_finishes_what_runs(small_service):
    server = small_service("drain_grace_seconds=1")
    running = Later(server, "/slow?seconds=1.5")
    server.stop()
    time.sleep(0.2)
    assert server.get("/readyz")[0] == 503
    status, body = server.get("/slow?seconds=0")
    assert (status, json.loads(body)["code"]) == (503, "draining")
    running.join(5)
    assert running.answer == (200, '{"slept":1.5}')
    assert server.process.wait(5) == 0
    assert "Traceback" not in server.output()


def test_told_again_it_ends_at_once(small_service):
    server = small_service("drain_grace_seconds=60")
    server.stop()
    time.sleep(2.2)
    assert server.process.poll() is None
    server.stop()
    assert server.process.wait(2) == -signal.SIGTERM


def test_the_same_signal_forwarded_by_a_supervisor_is_not_a_second_one(small_service):
    server = small_service("drain_grace_seconds=1")
    running = Later(server, "/slow?seconds=1.2")
    for _ in range(3):
        server.stop()
        time.sleep(0.1)
    running.join(5)
    assert running.answer[0] == 200
    assert server.process.wait(5) == 0


def test_workers_finish_what_runs_and_the_parent_ends_well(small_service):
    server = small_service("drain_grace_seconds=0.5", RXDRAFT_TEST_WORKERS="2")
    pids = workers(server)
    running = Later(server, "/slow?seconds=1.5")
    for pid in (*pids, server.process.pid):  # as systemd does it
        os.kill(pid, signal.SIGTERM)
    running.join(8)
    assert running.answer[0] == 200
    assert server.process.wait(8) == 0
    assert all_gone(pids)


def test_told_again_a_parent_kills_its_workers(small_service):
    server = small_service("drain_grace_seconds=60", RXDRAFT_TEST_WORKERS="2")
    pids = workers(server)
    server.stop()
    time.sleep(1.5)
    server.stop()
    server.process.wait(5)
    assert all_gone(pids)


def test_workers_do_not_outlive_a_killed_parent(small_service):
    server = small_service("drain_grace_seconds=0", RXDRAFT_TEST_WORKERS="2")
    pids = workers(server)
    server.process.kill()
    server.process.wait()
    assert all_gone(pids)


def test_metrics_of_workers_are_added_up_and_their_folder_is_gone_at_the_end(small_service, tmp_path):
    server = small_service("drain_grace_seconds=0", RXDRAFT_TEST_WORKERS="2", TMPDIR=str(tmp_path))
    pids = workers(server)
    for _ in range(10):
        server.get("/seen")
    text = json.loads(server.get("/metrics")[1])
    [counted] = [line for line in text.splitlines() if 'requests_total{method="GET",route="/seen"' in line]
    assert float(counted.split()[-1]) == 10
    assert list(tmp_path.glob("rxdraft-metrics-*"))
    server.stop()
    assert server.process.wait(8) == 0
    assert not list(tmp_path.glob("rxdraft-metrics-*"))
    assert all_gone(pids)


def workers(server: Any) -> set[int]:
    """Return the pids of both workers, once both have answered."""
    pids: set[int] = set()
    for _ in range(400):
        pids.add(json.loads(server.get("/readyz")[1])["pid"])
        if len(pids) == 2:
            return pids
        time.sleep(0.02)
    raise AssertionError(f"only {pids} answered")


def all_gone(pids: set[int], seconds: float = 5) -> bool:
    for _ in range(int(seconds * 20)):
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_before_it_is_told_nothing_is_refused():
    drain = Drain()
    drain.refuse()
    drain.begin()
    with pytest.raises(ProblemError, match="draining"):
        drain.refuse()
