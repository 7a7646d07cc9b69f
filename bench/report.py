"""Render the results as a page (REPORT.md), charts and a summary for programs.

    results/*.json --> summary.json, REPORT.md, cpu.svg, batches.svg, latency.svg

    python -m bench.report        render again from the existing results

Invariant: every figure comes from a result file, which also describes its machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.draw import bars, lines
from bench.result import RESULTS

NEEDED: Final = ("micro", "single_post", "pipeline", "steady", "overload")


def trim_micro(folder: Path = RESULTS) -> None:
    """Reduce pytest-benchmark's file to each benchmark's name, median, rounds and extra info."""
    path = folder / "micro.json"
    results = json.loads(path.read_text())
    kept = [
        {"name": result["name"], "median_seconds": result["stats"]["median"], "rounds": result["stats"]["rounds"]}
        | result["extra_info"]
        for result in results["benchmarks"]
    ]
    path.write_text(json.dumps({"measured_at": results["datetime"], "benchmarks": kept}, indent=2) + "\n")


def summarize(results: dict[str, Any]) -> dict[str, Any]:
    """Return the figures that programs read, under stable names."""
    pipeline, steady = results["pipeline"], results["steady"]
    micro = {result["name"]: result for result in results["micro"]["benchmarks"]}
    native = [micro[f"test_parse[{source}-native]"] for source in ("facebook", "tiktok")]
    usual = [micro[f"test_decode_and_let_asyncpg_encode[{source}]"] for source in ("facebook", "tiktok")]
    return {
        "native_speedup": round(
            median(slow["us_per_event"] / fast["us_per_event"] for slow, fast in zip(usual, native, strict=True)), 1
        ),
        "native_mb_per_second": round(median(result["mb_per_second"] for result in native)),
        "pipeline_of_limit": pipeline["pipeline_of_limit"],
        "stored_per_second": pipeline["stored_per_second"],
        "limit_rows_per_second": pipeline["limit_rows_per_second"],
        "ceiling_rows_per_second": pipeline["ceiling_rows_per_second"],
        "pipeline_of_ceiling": pipeline["pipeline_of_ceiling"],
        "cpu_us_per_event": pipeline["cpu_us_per_event"],
        "single_post_of_noop": results["single_post"]["single_post_of_noop"],
        "freshness_p50_seconds": steady["freshness_p50_seconds"],
        "freshness_p99_seconds": steady["freshness_p99_seconds"],
    }


def write_report(folder: Path = RESULTS) -> None:
    """Write summary, page and charts to the folder of the results. Raises FileNotFoundError if a result is missing."""
    results = {name: json.loads((folder / f"{name}.json").read_text()) for name in NEEDED}
    summary = summarize(results)
    pictures = _pictures(results)
    for name, picture in pictures.items():
        (folder / f"{name}.svg").write_text(picture)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (folder / "REPORT.md").write_text(_page(results, summary))


def _pictures(results: dict[str, Any]) -> dict[str, str]:
    single = results["single_post"]
    return {
        "cpu": bars("CPU per event, by stage, at saturation", results["pipeline"]["cpu_us_per_event"], "µs"),
        "batches": lines(
            "Events accepted per second, by events per POST (fsynced)",
            {"events": [(result["events"], result["events_per_second"]) for result in single["batches"]]},
            "events per POST",
            "events per second",
        ),
        "latency": lines(
            "Latency of POSTs of one event, by connections",
            {
                name: [(result["connections"], result[f"{name}_ms"]) for result in single["load"]]
                for name in ("p50", "p99")
            },
            "connections, each with one request in flight",
            "milliseconds",
        ),
    }


def _page(results: dict[str, Any], summary: dict[str, Any]) -> str:
    single, pipeline, steady, overload = (results[name] for name in NEEDED[1:])
    machine = f"{pipeline['cpu']}, {pipeline['cores']} cores, {pipeline['memory_gib']} GiB, Python {pipeline['python']}"
    rows = [
        ("stored by the pipeline", f"{summary['stored_per_second']:,} events per second"),
        ("limit: staged merge and rollups, one connection", f"{summary['limit_rows_per_second']:,} rows per second"),
        ("ceiling: bare COPY, one connection", f"{summary['ceiling_rows_per_second']:,} rows per second"),
        ("pipeline of limit", f"{summary['pipeline_of_limit']:.0%}"),
        ("pipeline of ceiling", f"{summary['pipeline_of_ceiling']:.0%}"),
        ("native parser compared with msgspec and asyncpg", f"{summary['native_speedup']} times less CPU"),
        ("native parser", f"{summary['native_mb_per_second']} MB per second and core"),
        ("single POSTs, 256 connections", f"{single['gateway_per_second']:,} per second"),
        ("no-op handler", f"{single['noop_per_second']:,} per second"),
        ("gateway of no-op handler", f"{summary['single_post_of_noop']:.0%}"),
        ("freshness, median", f"{summary['freshness_p50_seconds']} s"),
        ("freshness, p99", f"{summary['freshness_p99_seconds']} s"),
        ("flood of capacity", f"{overload['flood_of_capacity']:.0%}"),
        ("latency of 503 for small bodies in that flood, p99", f"{overload['small']['rejected_p99_ms']} ms"),
        ("latency of 503 for 4 MB bodies, p99", f"{overload['large']['rejected_p99_ms']} ms"),
    ]
    memory = [
        (name, f"{usage['max_mb']} MB", f"{usage['slope_mb_per_minute']:+} MB per minute")
        for name, usage in steady["memory"].items()
    ]
    micro = [(result["name"], f"{1000 * result['median_seconds']:.3f} ms") for result in results["micro"]["benchmarks"]]
    warning = "" if pipeline["quotable"] else "\n**The machine was disturbed: do not quote these figures.**\n"
    return "\n".join(
        (
            "# Benchmarks",
            "",
            f"Measured {pipeline['measured_at']} on {machine}. fsync is on everywhere (PostgreSQL `fsync`, "
            "`synchronous_commit`, `full_page_writes`; NATS `sync_interval: always`). The JSON files in this folder "
            "contain settings and all rounds. To repeat: `make bench`.",
            warning,
            _table(("measurement", "result"), rows),
            "![CPU per event, by stage](cpu.svg)",
            "",
            "![Events accepted per second, by events per POST](batches.svg)",
            "",
            "![Latency by connections](latency.svg)",
            "",
            f"## Memory over {steady['settings']['seconds']:g} s of the publisher's load",
            "",
            _table(("program", "maximum", "slope over the second half"), memory),
            "## Single steps",
            "",
            _table(("step", "median of a round"), micro),
        )
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    marked = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in marked) + "\n"


if __name__ == "__main__":
    write_report()
