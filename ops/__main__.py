"""The operator's command line: `python -m ops <command>`."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from core import lifecycle
from core.errors import SluiceError
from ops.demo import demo
from ops.up import up


def main() -> None:
    """Parse the command line and run one command. Exit code 0 is success, 1 a failure, 2 a mistake of the caller."""
    parser = argparse.ArgumentParser(prog="python -m ops", description="Run and look after Sluice.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run everything on this machine until Ctrl-C (PUBLISHER=0: without a publisher)")
    shown = commands.add_parser("demo", help="run everything under the publisher's load for a while, and check it")
    shown.add_argument(
        "--seconds",
        type=float,
        default=float(os.environ.get("DEMO_SECONDS") or 30),
        help="how long to publish (default: DEMO_SECONDS, else 30)",
    )
    shown.add_argument("publisher", nargs="*", metavar="-- OPTION", help="options for the publisher (see its --help)")
    options = parser.parse_args()
    code = 0

    async def run(stop: asyncio.Event) -> None:
        nonlocal code
        if options.command == "up":
            await up(stop, with_publisher=os.environ.get("PUBLISHER", "1") != "0")
        else:
            code = await demo(stop, options.seconds, options.publisher)

    try:
        # Not on uvloop: it starts children in a way in which they cannot have a user namespace of their own.
        lifecycle.run(run, asyncio.new_event_loop)
    except SluiceError as error:
        sys.stderr.write(f"sluice: {error}\n")
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
