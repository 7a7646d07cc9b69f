"""Run all benchmarks, one after the other, and write their report.

    python -m bench [--short]

    each benchmark --> results/<name>.json --> results/summary.json, REPORT.md and its pictures

Each benchmark runs alone, in its own process. With --short, each runs for a few seconds and no result is kept: this
only checks that they work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from typing import Final

from bench import report
from bench.result import RESULTS

BENCHMARKS: Final = ("store", "single_post", "pipeline", "distribution", "steady", "tracing", "overload")
MICRO: Final = ("-m", "pytest", "bench/micro", "-q", "-p", "no:cacheprovider")


def main() -> None:
    """Run all benchmarks, even if one fails. The exit code is 1 if any failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="run each for a few seconds, and keep no result")
    short = parser.parse_args().short
    RESULTS.mkdir(exist_ok=True)
    if short:
        commands = {"micro": [*MICRO, "--benchmark-disable"]}
        commands |= {name: ["-m", f"bench.{name}", "--short"] for name in BENCHMARKS}
    else:
        commands = {"micro": [*MICRO, f"--benchmark-json={RESULTS / 'micro.json'}", "--benchmark-columns=median,iqr"]}
        commands |= {name: ["-m", f"bench.{name}"] for name in BENCHMARKS}
    failed = []
    for number, (name, arguments) in enumerate(commands.items(), start=1):
        print(f"\n=== {number}/{len(commands)} {name}", flush=True)
        began = time.monotonic()
        if subprocess.run([sys.executable, *arguments], check=False).returncode:  # noqa: S603 - our own
            failed.append(name)
        print(f"=== {name}: {time.monotonic() - began:.0f} s", flush=True)
    if not short:
        if "micro" not in failed:
            report.trim_micro()
        report.write_report()
        print(f"\n{(RESULTS / 'REPORT.md').read_text()}")
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
