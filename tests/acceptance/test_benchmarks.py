"""Benchmarks run: each of them once, for a moment, so that none of them rots. What they measure is no one's promise."""

import asyncio
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import report
from bench.result import RESULTS, flatness, percentile

SAFETY_SECONDS = 300
RESULTS_OF_A_RUN = {
    "micro": {
        "benchmarks": [
            {"name": f"{test}[{source}{parser}]", "median_seconds": 0.001, "us_per_event": us, "mb_per_second": 500.0}
            for source in ("facebook", "tiktok")
            for test, parser, us in (("test_parse", "-native", 0.7), ("test_decode_and_let_asyncpg_encode", "", 8.4))
        ]
    },
    "single_post": {
        "single_post_of_noop": 0.5,
        "gateway_per_second": 7000,
        "noop_per_second": 14000,
        "batches": [{"events": events, "events_per_second": events * 5000} for events in (1, 10, 100)],
        "load": [{"connections": number, "p50_ms": number, "p99_ms": number * 3} for number in (1, 16, 256)],
    },
    "pipeline": {
        "measured_at": "2026-11-23T00:00:00+00:00",
        "cpu": "a CPU",
        "cores": 2,
        "memory_gib": 24,
        "python": "3.11",
        "quotable": True,
        "pipeline_of_limit": 0.9,
        "stored_per_second": 65000,
        "limit_rows_per_second": 72000,
        "ceiling_rows_per_second": 150000,
        "pipeline_of_ceiling": 0.43,
        "cpu_us_per_event": {"publisher": 2.0, "gateway": 4.0, "nats": 1.0, "collector": 1.5, "postgres": 12.0},
    },
    "steady": {
        "settings": {"seconds": 300},
        "freshness_p50_seconds": 0.2,
        "freshness_p99_seconds": 0.5,
        "memory": {"gateway": {"max_mb": 190.0, "slope_mb_per_minute": 0.1}},
    },
    "overload": {"flood_of_capacity": 2.0, "small": {"rejected_p99_ms": 30.0}, "large": {"rejected_p99_ms": 60.0}},
}


async def run(*arguments: str) -> str:
    """The output of a Python command, which has to end with 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), SAFETY_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
    text = output.decode()
    assert process.returncode == 0, text
    return text


async def test_single_steps() -> None:
    """Every benchmark of bench/micro runs, on real servers."""
    assert "failed" not in await run(
        "-m", "pytest", "bench/micro", "-q", "-p", "no:cacheprovider", "--benchmark-disable"
    )


@pytest.mark.parametrize("name", ["single_post", "pipeline", "distribution", "overload"])
async def test_short_form(name: str) -> None:
    """The short form measures what the long one does, and keeps nothing."""
    path = RESULTS / f"{name}.json"
    before = path.read_bytes() if path.exists() else None
    assert "%" in await run("-m", f"bench.{name}", "--short")
    assert (path.read_bytes() if path.exists() else None) == before


def test_report(tmp_path: Path) -> None:
    """From results come a summary under names that stay, a page, and pictures that are well-formed."""
    for name, result in RESULTS_OF_A_RUN.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    report.write_report(tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary) == [
        "native_speedup",
        "native_mb_per_second",
        "pipeline_of_limit",
        "stored_per_second",
        "limit_rows_per_second",
        "ceiling_rows_per_second",
        "pipeline_of_ceiling",
        "cpu_us_per_event",
        "single_post_of_noop",
        "freshness_p50_seconds",
        "freshness_p99_seconds",
    ]
    assert list(summary["cpu_us_per_event"]) == ["publisher", "gateway", "nats", "collector", "postgres"]
    assert summary["native_speedup"] == 12.0
    assert "65,000 events per second" in (tmp_path / "REPORT.md").read_text()
    for picture in ("cpu", "batches", "latency"):
        ElementTree.fromstring((tmp_path / f"{picture}.svg").read_text())


def test_samples() -> None:
    """A percentile is a sample; a slope is of the second half, whatever the first one did."""
    assert (percentile([3, 1, 2], 50), percentile([3, 1, 2], 99), percentile([], 50)) == (2, 3, 0)
    assert flatness([0, 9 << 20, 5 << 20, 6 << 20], every_seconds=60) == {"max_mb": 9.0, "slope_mb_per_minute": 1.0}
