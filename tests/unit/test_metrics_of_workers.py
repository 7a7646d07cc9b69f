"""Metrics of worker processes that ended: their counts stay, their files do not."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.metrics import exposition, fold_ended

WORKER = """
from prometheus_client import Counter, Gauge, Histogram
Counter("events", "", ["source"]).labels("a").inc(3)
spread = Histogram("seconds", "", buckets=(1,))
spread.observe(0.5)
spread.observe(2)
Gauge("started", "", multiprocess_mode="max").set(7)
Gauge("held", "", multiprocess_mode="livesum").set(5)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that workers write into."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    return tmp_path


def worker() -> int:
    """Let a process count and end; its pid."""
    with subprocess.Popen((sys.executable, "-c", WORKER), env=dict(os.environ)) as process:
        assert process.wait() == 0
        return process.pid


def copied(folder: Path, pid: int, copies: int) -> list[int]:
    """The files of this process as those of so many others; their pids."""
    for path in list(folder.glob(f"*_{pid}.db")):
        for number in range(copies):
            shutil.copyfile(path, folder / path.name.replace(str(pid), str(10_000_000 + number)))
    return [10_000_000 + number for number in range(copies)]


def shown() -> dict[str, float]:
    lines = (line for line in exposition().decode().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_worker_that_ended_leaves_its_counts(folder: Path) -> None:
    """Folding changes no counter, no histogram and no maximum. The gauges of living workers go."""
    pids = [worker() for _ in range(3)]
    before = shown()
    assert before == {
        'events_total{source="a"}': 9,
        'seconds_bucket{le="1.0"}': 3,
        'seconds_bucket{le="+Inf"}': 6,
        "seconds_count": 6,
        "seconds_sum": 7.5,
        "started": 7,
        "held": 15,
    }
    for pid in pids:
        fold_ended(pid)
    assert shown() == {name: value for name, value in before.items() if name != "held"}


def test_many_ended_workers_leave_three_files(folder: Path) -> None:
    """However many workers ended, there is one file of each type, and no larger than those of a few."""
    pid = worker()
    for copy in copied(folder, pid, 100):
        fold_ended(copy)
    fold_ended(pid)
    assert {path.name for path in folder.glob("*.db")} == {
        "counter_ended.db",
        "histogram_ended.db",
        "gauge_max_ended.db",
    }
    assert shown()['events_total{source="a"}'] == 3 * 101
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


async def test_no_count_goes_back_while_files_are_folded(folder: Path) -> None:
    """Whatever is scraped in the meantime shows each count once."""
    pids = copied(folder, worker(), 50)
    counted = shown()['events_total{source="a"}']

    def fold_all() -> None:
        for pid in pids:
            fold_ended(pid)

    folding = asyncio.create_task(asyncio.to_thread(fold_all))
    scrapes = 0
    while not folding.done():
        found = await asyncio.to_thread(shown)
        assert (found['events_total{source="a"}'], found["seconds_count"]) == (counted, counted / 3 * 2)
        scrapes += 1
    await folding
    assert scrapes
