"""The results as a page for people and a summary for programs.

    results/*.json --> summary.json, REPORT.md, cpu.svg, batches.svg, latency.svg

    python -m bench.report        anew from the results that are there

Invariant: every figure comes from a result file, with the machine that it was measured on.
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
    """Keep of pytest-benchmark's file what a reader needs: each benchmark's name, median and facts."""
    path = folder / "micro.json"
    found = json.loads(path.read_text())
    kept = [
        {"name": one["name"], "median_seconds": one["stats"]["median"], "rounds": one["stats"]["rounds"]}
        | one["extra_info"]
        for one in found["benchmarks"]
    ]
    path.write_text(json.dumps({"measured_at": found["datetime"], "benchmarks": kept}, indent=2) + "\n")


def summarize(found: dict[str, Any]) -> dict[str, Any]:
    """The figures that programs read, under names that stay."""
    pipeline, steady = found["pipeline"], found["steady"]
    micro = {one["name"]: one for one in found["micro"]["benchmarks"]}
    native = [micro[f"test_parse[{source}-native]"] for source in ("facebook", "tiktok")]
    usual = [micro[f"test_decode_and_let_asyncpg_encode[{source}]"] for source in ("facebook", "tiktok")]
    return {
        "native_speedup": round(
            median(slow["us_per_event"] / fast["us_per_event"] for slow, fast in zip(usual, native, strict=True)), 1
        ),
        "native_mb_per_second": round(median(one["mb_per_second"] for one in native)),
        "pipeline_of_limit": pipeline["pipeline_of_limit"],
        "stored_per_second": pipeline["stored_per_second"],
        "limit_rows_per_second": pipeline["limit_rows_per_second"],
        "ceiling_rows_per_second": pipeline["ceiling_rows_per_second"],
        "pipeline_of_ceiling": pipeline["pipeline_of_ceiling"],
        "cpu_us_per_event": pipeline["cpu_us_per_event"],
        "single_post_of_noop": found["single_post"]["single_post_of_noop"],
        "freshness_p50_seconds": steady["freshness_p50_seconds"],
        "freshness_p99_seconds": steady["freshness_p99_seconds"],
    }


def write_report(folder: Path = RESULTS) -> None:
    """Write summary, page and pictures beside the results. Raises FileNotFoundError where a result is missing."""
    found = {name: json.loads((folder / f"{name}.json").read_text()) for name in NEEDED}
    summary = summarize(found)
    pictures = _pictures(found)
    for name, picture in pictures.items():
        (folder / f"{name}.svg").write_text(picture)
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    (folder / "REPORT.md").write_text(_page(found, summary))


def _pictures(found: dict[str, Any]) -> dict[str, str]:
    single = found["single_post"]
    return {
        "cpu": bars(
            "CPU an event, by stage, the whole pipeline at saturation", found["pipeline"]["cpu_us_per_event"], "µs"
        ),
        "batches": lines(
            "Accepted a second by size of a POST (fsynced)",
            {"events": [(one["events"], one["events_per_second"]) for one in single["batches"]]},
            "events in a POST",
            "events a second",
        ),
        "latency": lines(
            "Time to the answer of a POST of one event, by connections",
            {name: [(one["connections"], one[f"{name}_ms"]) for one in single["load"]] for name in ("p50", "p99")},
            "connections that always wait for an answer",
            "milliseconds",
        ),
    }


def _page(found: dict[str, Any], summary: dict[str, Any]) -> str:
    single, pipeline, steady, overload = (found[name] for name in NEEDED[1:])
    machine = f"{pipeline['cpu']}, {pipeline['cores']} cores, {pipeline['memory_gib']} GiB, Python {pipeline['python']}"
    rows = [
        ("stored by the whole pipeline", f"{summary['stored_per_second']:,} events a second"),
        ("limit: staged merge and rollups, one connection", f"{summary['limit_rows_per_second']:,} rows a second"),
        ("ceiling: bare COPY, one connection", f"{summary['ceiling_rows_per_second']:,} rows a second"),
        ("pipeline of limit", f"{summary['pipeline_of_limit']:.0%}"),
        ("pipeline of ceiling", f"{summary['pipeline_of_ceiling']:.0%}"),
        ("native parser beside msgspec and asyncpg", f"{summary['native_speedup']} times less CPU"),
        ("native parser", f"{summary['native_mb_per_second']} MB a second and core"),
        ("single POSTs, 256 connections", f"{single['gateway_per_second']:,} a second"),
        ("a handler that does nothing", f"{single['noop_per_second']:,} a second"),
        ("gateway of nothing", f"{summary['single_post_of_noop']:.0%}"),
        ("freshness, median", f"{summary['freshness_p50_seconds']} s"),
        ("freshness, p99", f"{summary['freshness_p99_seconds']} s"),
        ("flood of the capacity", f"{overload['flood_of_capacity']:.0%}"),
        ("503 for small bodies in that flood, p99", f"{overload['small']['rejected_p99_ms']} ms"),
        ("503 for 4 MB bodies, p99", f"{overload['large']['rejected_p99_ms']} ms"),
    ]
    memory = [
        (name, f"{told['most_mb']} MB", f"{told['slope_mb_per_minute']:+} MB a minute")
        for name, told in steady["memory"].items()
    ]
    micro = [(one["name"], f"{1000 * one['median_seconds']:.3f} ms") for one in found["micro"]["benchmarks"]]
    warning = "" if pipeline["quotable"] else "\n**The machine was held up: these figures are not to be quoted.**\n"
    return "\n".join(
        (
            "# Benchmarks",
            "",
            f"Measured {pipeline['measured_at']} on {machine}; fsync on everywhere (PostgreSQL `fsync`, "
            "`synchronous_commit`, `full_page_writes`; NATS `sync_interval: always`). Settings and rounds stand in the "
            "JSON files beside this page. Anew: `make bench`.",
            warning,
            _table(("what", "figure"), rows),
            "![CPU an event, by stage](cpu.svg)",
            "",
            "![Accepted a second by size of a POST](batches.svg)",
            "",
            "![Time to an answer by connections](latency.svg)",
            "",
            f"## Memory over {steady['settings']['seconds']:g} s of the publisher's load",
            "",
            _table(("program", "most", "slope over the second half"), memory),
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
