"""All benchmarks, one after the other, and their report.

    python -m bench [--short]

    each benchmark --> results/<name>.json --> results/summary.json, REPORT.md and its pictures

Each runs in a process of its own, with nothing else beside it, and says what it does. In short form each runs for a
moment and nothing is kept: it shows that they run.
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
    """Run all, whatever one of them does. The exit code is 1 where one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--short", action="store_true", help="a moment of each, and no result is kept")
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
