"""The operator's command line: `python -m ops <command>`.

Exit codes: 0 all is well, 1 something is wrong, 2 a mistake of the caller, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

import structlog

from core import lifecycle
from core.errors import SluiceError
from core.settings import unknown_variables
from ops.cli.connection import local_folder, operator_settings
from ops.command_line import command_line, from_a_checkout
from ops.settings import EVERY

INTERRUPTED = 130
STACK_COMMANDS = frozenset({"up", "demo", "reset-data"})
"""They run or change the stack of this checkout, and read .env."""


def main() -> None:
    """Parse the command line and run one command."""
    code = INTERRUPTED
    for name, nearest in unknown_variables(*EVERY).items():
        meant = f": {nearest} is the nearest one" if nearest else ""
        sys.stderr.write(f"sluice: {name} is no setting{meant}\n")

    async def run(stop: asyncio.Event) -> None:
        nonlocal code
        if options.command in STACK_COMMANDS:
            code = await _run_stack(stop, options)
        else:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # told in words
            code = await lifecycle.unless_stopped(stop, options.run(operator_settings(), options))

    try:
        if set(sys.argv[1:2]) & STACK_COMMANDS:  # before the command line: its defaults come from the environment
            with from_a_checkout():
                from ops.local.env_file import read_env_file  # noqa: PLC0415
            read_env_file(Path(".env"), os.environ)
        options = command_line().parse_args()
        # Not on uvloop: it starts children in a way in which they cannot have a user namespace of their own.
        lifecycle.run(run, asyncio.new_event_loop)
    except SluiceError as error:
        sys.stderr.write(f"sluice: {error}\n")
        code = 1
    except BrokenPipeError:  # `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


async def _run_stack(stop: asyncio.Event, options: argparse.Namespace) -> int:
    with from_a_checkout():
        from ops.local.demo import demo  # noqa: PLC0415
        from ops.local.reset import reset_data  # noqa: PLC0415
        from ops.local.up import up  # noqa: PLC0415

    if options.command == "reset-data":
        sys.stdout.write(reset_data(local_folder()))
        return 0
    distribution = [] if options.values == "publisher" else ["--values", options.values]
    if options.command == "demo":
        return await demo(stop, options.seconds, [*distribution, *options.publisher])
    await up(stop, with_publisher=os.environ.get("PUBLISHER", "1") != "0", publisher_options=distribution)
    return 0


if __name__ == "__main__":
    main()
